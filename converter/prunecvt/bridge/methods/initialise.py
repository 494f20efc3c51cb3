"""Fresh weights for a graph, as if it had not been trained.

Which distribution is usual is said by what reads a weight (``bridge/starts.py``).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from prunecvt.bridge.methods.training import generator
from prunecvt.bridge.module import GraphModule
from prunecvt.bridge.starts import Start, start_of, statistics_of
from prunecvt.errors import UsageError

Initialisation = Literal["he", "glorot"]


def initialise(module: GraphModule, seed: int, kind: Initialisation = "he") -> None:
    """Draws all weights of a module anew, in place; running statistics become 0 and 1.

    Args:
        module: changed in place.
        seed: of the random numbers; they are the same on every device.
        kind: filters and matrices have the variance 2 / fan-in (``he``) or 2 / (fan-in + fan-out)
            (``glorot``).

    Raises:
        UsageError: E271, nothing is known of how a weight starts; nothing was changed.
    """
    starts, unknown = dict[str, Start](), []
    for name in module.roles.trainable:
        start = start_of(module.graph, module.roles.values, name)
        if start is None:
            unknown.append(name)
        else:
            starts[name] = start
    if unknown:
        raise UsageError(
            "E271",
            f"it is not known how '{unknown[0]}' starts",
            help="give the state of an untrained model instead of new weights",
        )
    draw = generator(seed)
    with torch.no_grad():
        for name, start in starts.items():
            weight = module.tensor(name)
            weight.copy_(_values(start, weight.shape, kind, draw))
        for name, value in statistics_of(module.graph).items():
            if name in module.roles.statistics:
                module.tensor(name).fill_(value)


def _values(start: Start, shape: torch.Size, kind: Initialisation, draw: torch.Generator) -> Tensor:
    """Values of a weight that starts so, on the CPU."""
    if start.kind == "constant":
        return torch.full(shape, start.size)
    if start.kind == "uniform":
        return (torch.rand(shape, generator=draw) * 2 - 1) * start.size
    glorot = kind == "glorot" and start.fans is not None
    size = math.sqrt(2 / sum(start.fans or ())) if glorot else start.size
    return torch.randn(shape, generator=draw) * size
