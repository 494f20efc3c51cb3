"""Kernels, pads and weights of convolutions and products, as the cuts here need them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prunecvt_passes.graph import DEFAULT_DOMAINS, Graph, Node
from prunecvt_passes.model import Array

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
    rank = weight.ndim - 2
    way = node.attributes.get("auto_pad", "NOTSET")
    if way == "VALID":
        return [0] * rank, [0] * rank
    if way in ("NOTSET", ""):
        pads = list(node.attributes.get("pads", [0] * 2 * rank))
        return pads[:rank], pads[rank:]
    if node.op != "Conv":
        return None
    strides, dilations = (steps_of(node, name, rank) for name in ("strides", "dilations"))
    shape, dynamic = graph.shape(node.inputs[0]), graph.dynamic(node.inputs[0])
    first, second = [], []
    for axis in range(rank):
        reach = dilations[axis] * (weight.shape[2 + axis] - 1)
        if strides[axis] == 1:
            total = reach
        elif shape is None or dynamic[2 + axis]:
            return None
        else:
            size, stride = shape[2 + axis], strides[axis]
            total = max((-(-size // stride) - 1) * stride + reach + 1 - size, 0)
        less, more = total // 2, total - total // 2
        first.append(less if way == "SAME_UPPER" else more)
        second.append(more if way == "SAME_UPPER" else less)
    return first, second


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
        if node.op == "Gemm":
            rows = weight if node.attributes.get("transB", 0) else weight.T
            with np.errstate(all="ignore"):
                plain = (rows * node.attributes.get("alpha", 1.0))[None].astype(np.float64)
            return Taps(np.abs(plain), plain)
        if node.op == "MatMul":
            plain = weight.T[None].astype(np.float64)
            return Taps(np.abs(plain), plain)
        flat = weight.reshape(*weight.shape[:2], -1).astype(np.float64)
        blocks = node.attributes.get("group", 1)
        split = flat.reshape(blocks, -1, *flat.shape[1:])
        if node.op == "ConvTranspose":
            split = split.swapaxes(1, 2)
        with np.errstate(all="ignore"):  # weights may be NaN or infinite
            return Taps(np.abs(split).max(-1), split.sum(-1))
