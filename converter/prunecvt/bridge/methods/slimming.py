"""Network Slimming: sparse scales of BatchNormalization (Liu et al., 2017).

"Learning efficient convolutional networks through network slimming" adds lambda * sum |gamma| to
the loss, by its subgradient: lambda * sign(gamma), 0 at 0. What follows is no part of training:

    prunecvt slim trained.onnx --criterion bn --scope global --ratio 0.5 --no-fold-bn

and ``fit`` again on what is left.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from prunecvt.bridge.methods.fit import Hook
from prunecvt.bridge.starts import origin_of
from prunecvt.bridge.weights import loaded
from prunecvt.errors import UsageError
from prunecvt.loading.load import Loadable
from prunecvt_passes.flow import trace
from prunecvt_passes.graph import index
from prunecvt_passes.groups import solve
from prunecvt_passes.model import Model
from prunecvt_passes.normalise import Source, inline_functions, normalise
from prunecvt_passes.rules import RULES
from prunecvt_passes.units import Units


def prunable_scales(model: Loadable | Model, units: Units | None = None) -> tuple[str, ...]:
    """Finds the scales of every BatchNormalization behind channels that can be cut.

    Args:
        model: what the module is made from.
        units: what goes as one; as for ``slim`` where it is left out.

    Returns:
        Names of initializers, in the order of the graph; those of layers whose channels all have
        to stay are left out.
    """
    taken = loaded(model)
    groups = solve(trace(normalise(Source(taken)).graph, RULES, units or Units()))
    behind = set()
    for use in groups.channels.uses:
        axes = groups.channels.axes.get(use.tensor)
        labels = axes[use.axis] if axes else None
        if use.role != "scale" or use.node.op != "BatchNormalization" or labels is None:
            continue
        if (groups.group_of[groups.class_of[labels]] >= 0).any():
            behind.add(use.node.outputs[0])
    graph = index(inline_functions(taken))
    found = [
        origin_of(graph, node.inputs[1])
        for node in graph.nodes
        if node.op == "BatchNormalization" and node.outputs[0] in behind
    ]
    return tuple(dict.fromkeys(found))


class Slimming(Hook):
    """Adds lambda * sign(gamma) to the gradients of scales, before each step.

    Attributes:
        scales: names of the scales, of ``prunable_scales``.
        strength: lambda. The paper has 1e-4 for 62,000 steps; a short run needs more: what counts
            is the sum of the learning rates times lambda, over 1 - momentum.
    """

    def __init__(self, scales: Sequence[str], strength: float) -> None:
        """Takes the names and lambda.

        Raises:
            UsageError: E258, there is no scale, or lambda is below 0.
        """
        if not scales or strength < 0:
            raise UsageError(
                "E258",
                "slimming needs a scale or more, and a strength of 0 or more",
                help="export with BatchNormalization kept; prunable_scales() names its scales",
            )
        self.scales, self.strength = tuple(scales), strength

    def before_step(self, module: nn.Module) -> None:
        """Adds the subgradient to what the loss left."""
        for name in self.scales:
            scale = module.tensor(name)
            if scale.grad is not None:
                scale.grad.add_(scale.detach().sign(), alpha=self.strength)


def sizes(module: nn.Module, scales: Sequence[str]) -> torch.Tensor:
    """Absolute values of all scales in one vector, in the order of the names."""
    return torch.cat([module.tensor(name).detach().abs().flatten() for name in scales])
