"""Kernels, pads and weights of convolutions and products, as the cuts here need them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prunecvt_passes.graph import DEFAULT_DOMAINS, Graph, Node
from prunecvt_passes.model import Array
from prunecvt_passes.recovery.linear import Linear, matrix
from prunecvt_passes.recovery.patches import padding

Floats = npt.NDArray[np.float64]
CONVOLUTIONS = ("Conv", "ConvTranspose")
WEIGHTED = (*CONVOLUTIONS, "Gemm", "MatMul")


def is_float(values: Array | None) -> bool:
    """Whether these are numbers of 32 or 64 bits: what is proven here is proven of them."""
    return values is not None and values.dtype in (np.float32, np.float64)


def weight_of(graph: Graph, node: Node) -> Array | None:
    """The constant weight of a convolution or product; None where it has none of floats."""
    if node.op not in WEIGHTED or node.domain not in DEFAULT_DOMAINS or len(node.inputs) < 2:
        return None
    weight = graph.constant(node.inputs[1])
    if weight is None or not is_float(weight) or graph.is_initializer(node.inputs[0]):
        return None
    fits = weight.ndim > 2 if node.op in CONVOLUTIONS else weight.ndim == 2
    return weight if fits else None


def pads_of(graph: Graph, node: Node, weight: Array) -> tuple[list[int], list[int]] | None:
    """Zeros before and after each axis of a convolution; None where they follow from the input."""
    rank, given = weight.ndim - 2, node.inputs[0]
    strides, dilations = (steps_of(node, name, rank) for name in ("strides", "dilations"))
    size: Sequence[int] = [1] * rank  # plays no part where pads are stated
    way = node.attributes.get("auto_pad", "NOTSET")
    if way.startswith("SAME") or "output_shape" in node.attributes:
        shape = graph.shape(given)
        if node.op != "Conv" or shape is None:
            return None
        steps = zip(strides, graph.dynamic(given)[2:], strict=True)
        if any(stride > 1 and moves for stride, moves in steps):
            return None
        size = shape[2:]
    out = [-(-length // stride) for length, stride in zip(size, strides, strict=True)]
    return padding(node, size, out, weight.shape[2:], strides, dilations)


def steps_of(node: Node, name: str, rank: int) -> list[int]:
    """Strides or dilations."""
    return list(node.attributes.get(name, [1] * rank))


@dataclass(frozen=True)
class Taps:
    """A weight as one number per pair of output and input channel of a block.

    Attributes:
        largest: [g, o, i], the largest absolute value over the kernel.
        total: [g, o, i], the sum over the kernel.
    """

    largest: Floats
    total: Floats

    @staticmethod
    def of(graph: Graph, node: Node) -> Taps | None:
        """The taps of a node with a constant weight; None where it has none."""
        weight = weight_of(graph, node)
        if weight is None or node.attributes.get("transA", 0):
            return None
        linear = Linear(node, node.inputs[1], node.attributes.get("group", 1))
        rows, scale = matrix(linear, weight.astype(np.float64)), node.attributes.get("alpha", 1.0)
        with np.errstate(all="ignore"):  # weights may be NaN or infinite
            rows = rows if scale == 1 else rows * scale
            if weight.ndim == 2:
                return Taps(np.abs(rows), rows)
            split = rows.reshape(*rows.shape[:2], -1, math.prod(weight.shape[2:]))
            return Taps(np.abs(split).max(-1), split.sum(-1))
