"""Where operators on quantised numbers take scales and zero points, and what weights stand for.

A quantised number q stands for (q - zero point) * scale (Jacob et al., 2018), so a channel that is
to count as zero holds its zero point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prunecvt_passes.graph import Graph, Node
from prunecvt_passes.model import Array

MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class Operand:
    """Input places of a quantised tensor, of its scale and of its zero point; -1 for none."""

    data: int
    scale: int = -1
    zero: int = -1


# Factors of each contraction: the data, then the weight.
FACTORS: dict[str, tuple[Operand, Operand]] = {
    "ConvInteger": (Operand(0, zero=2), Operand(1, zero=3)),
    "MatMulInteger": (Operand(0, zero=2), Operand(1, zero=3)),
    "QLinearConv": (Operand(0, 1, 2), Operand(3, 4, 5)),
    "QLinearMatMul": (Operand(0, 1, 2), Operand(3, 4, 5)),
    f"{MICROSOFT}:DynamicQuantizeMatMul": (Operand(0), Operand(1, 2, 3)),
    f"{MICROSOFT}:MatMulIntegerToFloat": (Operand(0, 2, 4), Operand(1, 3, 5)),
    f"{MICROSOFT}:QGemm": (Operand(0, 1, 2), Operand(3, 4, 5)),
}
# Places of biases in 32-bit integers: data, although such vectors elsewhere are sizes.
INTEGER_BIASES = {"QLinearConv": 8, f"{MICROSOFT}:QGemm": 6}


def factors(node: Node) -> tuple[Operand, Operand]:
    """Where a contraction takes its two factors."""
    return FACTORS.get(node.kind, (Operand(0), Operand(1)))


def channel_axis(node: Node, rank: int) -> int:
    """Axis of a contraction's weight along which it may have one scale per channel."""
    if "Conv" in node.op:
        return 0
    return 0 if node.attributes.get("transB", 0) else rank - 1


def weight_values(graph: Graph, node: Node, name: str) -> Array | None:
    """Returns what the weight ``name`` stands for where ``node`` reads it.

    Args:
        graph: the index.
        node: the reader; of a quantised operator, its scale and zero point apply.
        name: a tensor.

    Returns:
        its values in float32 or float64, also where it is dequantised, cast or transposed in
        between; None where it does not follow from initializers in these ways.
    """
    values = _followed(graph, name)
    if values is None:
        return None
    for operand in factors(node):
        if node.input(operand.data) == name and (operand.scale >= 0 or operand.zero >= 0):
            axis = channel_axis(node, values.ndim)
            scale = graph.constant(node.input(operand.scale)) if operand.scale >= 0 else None
            zero = graph.constant(node.input(operand.zero)) if operand.zero >= 0 else None
            return _dequantized(values, scale, zero, axis)
    return values


def _followed(graph: Graph, name: str) -> Array | None:
    """Values of an initializer, or of what is made from one."""
    makers: list[Node] = []
    while not graph.is_initializer(name):
        maker = graph.producer.get(name)
        if maker is None or maker.op not in ("DequantizeLinear", "Cast", "Transpose", "Identity"):
            return None
        makers.append(maker)
        name = maker.inputs[0]
    values = graph.constant(name)
    if values is None or values.dtype == object:
        return None
    values = widened(values)
    for maker in reversed(makers):
        if maker.op == "Transpose":
            values = values.transpose(maker.attributes.get("perm"))
        elif maker.op == "DequantizeLinear":
            scale, zero = (graph.constant(maker.input(place)) for place in (1, 2))
            if scale is None:
                return None
            axis = maker.attributes.get("axis", 1)
            values = _dequantized(values, scale, zero, axis, maker.attributes.get("block_size", 0))
    return values


def widened(values: Array) -> Array:
    """Numbers of any type as float32, where they are not float32 or float64 already.

    Sums of squares overflow in half precision, and the least 8-bit integer has no absolute value.
    """
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float32)


def _dequantized(
    values: Array, scale: Array | None, zero: Array | None, axis: int, block: int = 0
) -> Array:
    """(values - zero) * scale, each one number, one per index of ``axis`` or one per block."""
    if zero is not None:
        values = values - _spread(widened(zero), values.shape, axis, block)
    if scale is not None:
        values = values * _spread(widened(scale), values.shape, axis, block)
    return values


def _spread(parameter: Array, shape: tuple[int, ...], axis: int, block: int) -> Array:
    if parameter.size == 1:
        return parameter.reshape(())
    axis %= len(shape)
    if parameter.ndim == 1:
        return parameter.reshape([-1 if k == axis else 1 for k in range(len(shape))])
    if block:
        return np.repeat(parameter, block, axis)[(slice(None),) * axis + (slice(shape[axis]),)]
    return parameter
