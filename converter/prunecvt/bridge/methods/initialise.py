"""Fresh weights for a graph, as if it had not been trained.

A graph does not say how its weights were drawn. What reads them says which distribution is usual:
normal with the variance of He et al. (2015) or Glorot and Bengio (2010) for the weights of
convolutions and products, ones and zeros for what normalises, zeros for biases.
"""

from __future__ import annotations

import math
from typing import Literal

import torch

from prunecvt.bridge.methods.masks import maskable
from prunecvt.bridge.methods.training import generator
from prunecvt.bridge.module import GraphModule
from prunecvt.errors import UsageError
from prunecvt_passes.graph import Node

Initialisation = Literal["he", "glorot"]
_NORMALISING = ("BatchNormalization", "InstanceNormalization", "GroupNormalization")
_SCALES = (*_NORMALISING, "LayerNormalization", "RMSNormalization")


def initialise(module: GraphModule, seed: int, kind: Initialisation = "he") -> None:
    """Draws all weights of a module anew, in place; running statistics become 0 and 1.

    Args:
        module: changed in place.
        seed: of the random numbers; they are the same on every device.
        kind: ``he`` has the variance 2 / fan-in, ``glorot`` 2 / (fan-in + fan-out).

    Raises:
        UsageError: E271, nothing is known of how a weight starts; nothing was changed.
    """
    drawn = {name: _fans(module, name) for name in maskable(module)}
    constants = {**_vectors(module), **_statistics(module)}
    unknown = [n for n in module.roles.trainable if n not in drawn and n not in constants]
    if unknown:
        raise UsageError(
            "E271",
            f"it is not known how '{unknown[0]}' starts",
            help="give the state of an untrained model instead of new weights",
        )
    draw = generator(seed)
    with torch.no_grad():
        for name, (given, made) in drawn.items():
            weight = module.tensor(name)
            variance = 2 / given if kind == "he" else 2 / (given + made)
            values = torch.randn(weight.shape, generator=draw) * math.sqrt(variance)
            weight.copy_(values)
        for name, value in constants.items():
            module.tensor(name).fill_(value)


def _fans(module: GraphModule, name: str) -> tuple[int, int]:
    """Numbers that one output sums over, and outputs that one input goes into."""
    shape = module.tensor(name).shape
    node = next(node for node in module.graph.nodes if node.input(1) == name)
    if node.op == "MatMul" or (node.op == "Gemm" and not node.attributes.get("transB", 0)):
        return shape[0], shape[1]
    kernel = math.prod(shape[2:])
    each = shape[0] // int(node.attributes.get("group", 1))
    if node.op == "ConvTranspose":
        return each * kernel, shape[1] * kernel
    return shape[1] * kernel, (each if node.op == "Conv" else shape[0]) * kernel


def _vectors(module: GraphModule) -> dict[str, float]:
    """Where scales, shifts and biases start, by what reads them."""
    found: dict[str, float] = {}
    for node in module.graph.nodes:
        for place, name in enumerate(node.inputs):
            if name in module.roles.trainable and (start := _start(node, place)) is not None:
                found[name] = start
    return found


def _start(node: Node, place: int) -> float | None:
    if node.op in _SCALES and place in (1, 2):
        return 1.0 if place == 1 else 0.0
    if node.op in ("Conv", "ConvTranspose", "Gemm") and place == 2:
        return 0.0
    return {"Add": 0.0, "PRelu": 0.25}.get(node.op)


def _statistics(module: GraphModule) -> dict[str, float]:
    """Where running means and variances start."""
    own = set(module.roles.statistics)
    norms = [node for node in module.graph.nodes if node.op == "BatchNormalization"]
    return {
        name: start
        for node in norms
        for name, start in zip(node.inputs[3:5], (0.0, 1.0), strict=True)
        if name in own
    }
