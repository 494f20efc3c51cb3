"""Operators on quantised numbers: the rule of their plain counterpart, at other input places.

QLinearConv is Conv with scales and zero points between its inputs, and so on. The counterpart's
rule walks a view of the node that has the plain inputs alone; what it records is then put back to
the places of the node itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from prunecvt_passes.flow import Axes, Axis, Count, Flow, Rule, unknown
from prunecvt_passes.graph import Node
from prunecvt_passes.quantization import FACTORS, MICROSOFT
from prunecvt_passes.rules.contraction import conv, gemm, matmul, produce
from prunecvt_passes.rules.elementwise import elementwise, quantize
from prunecvt_passes.rules.movement import concat
from prunecvt_passes.rules.reduction import pool

_ODD_SCALE = "is quantised by more than one scale where one is known of"


def _viewed(flow: Flow, node: Node, rule: Rule, places: Sequence[int]) -> list[Axes]:
    """Labels by ``rule`` on the inputs at ``places``, with all records at the node's own places."""
    view = replace(node, inputs=tuple(node.input(place) for place in places))
    reads, uses = len(flow.reads), len(flow.uses)
    made = rule(flow, view)
    zeros = {
        operand.data: node.input(operand.zero)
        for operand in FACTORS.get(node.kind, ())
        if operand.zero >= 0
    }
    for k in range(reads, len(flow.reads)):
        place = places[flow.reads[k].place]
        flow.reads[k] = replace(flow.reads[k], node=node, place=place, zero=zeros.get(place, ""))
    for k in range(uses, len(flow.uses)):
        flow.uses[k] = replace(flow.uses[k], node=node)
    return list(made)


def _single(flow: Flow, node: Node, places: Sequence[int]) -> bool:
    """Whether the scales and zero points at ``places`` are one number each."""
    return all(int(np.prod(flow.shape(node.input(place)))) <= 1 for place in places)


def _contraction(
    flow: Flow, node: Node, rule: Rule, extra: Sequence[int], others: Sequence[int], axis: int
) -> list[Axes]:
    """A contraction with one scale for its data and one, or one per channel, for its weight.

    Args:
        flow: the walk.
        node: the contraction.
        rule: of its plain counterpart.
        extra: places of the counterpart's inputs beyond the factors.
        others: places of further scales and zero points, which have to be single.
        axis: of the output, where its channels are.
    """
    data, weight = FACTORS[node.kind]
    if not _single(flow, node, [p for p in (data.scale, data.zero, *others) if p >= 0]):
        unknown(flow, node, _ODD_SCALE, "blocked-scale")
        return [flow.plain(name) for name in node.outputs]
    made = _viewed(flow, node, rule, (data.data, weight.data, *extra))
    for place in (weight.scale, weight.zero):
        name = node.input(place) if place >= 0 else ""
        shape = flow.shape(name) if name else ()
        if int(np.prod(shape)) > 1:
            made[0][axis] = _per_channel(flow, node, name, made[0][axis])
    return made


def _per_channel(flow: Flow, node: Node, name: str, channels: Axis) -> Axis:
    """Ties a vector with one entry per channel; a larger parameter keeps all it belongs to."""
    axes = flow.axes_of(name)
    if len(axes) == 1:
        if channels is None and axes[0] is None:
            return None
        return flow.tie(channels, axes[0], node)
    flow.pin_tensor(name, node, "blocked-scale", _ODD_SCALE)
    flow.pin(channels, node, "blocked-scale", _ODD_SCALE)
    return None


def qlinear_conv(flow: Flow, node: Node) -> list[Axes]:
    """Labels of QLinearConv and ConvInteger."""
    if node.attributes.get("channels_last", 0):
        return _channels_last(flow, node)
    plain = node.op == "ConvInteger"
    return _contraction(flow, node, conv, () if plain else (8,), () if plain else (6, 7), 1)


def qlinear_matmul(flow: Flow, node: Node) -> list[Axes]:
    """Labels of QLinearMatMul, MatMulInteger and MatMulIntegerToFloat."""
    bias = {"MatMulIntegerToFloat": 6, "DynamicQuantizeMatMul": 4}.get(node.op, -1)
    others = (6, 7) if node.op == "QLinearMatMul" else ()
    if min(len(flow.shape(node.inputs[operand.data])) for operand in FACTORS[node.kind]) < 2:
        unknown(flow, node, "multiplies a vector", "vector-product")
        return [flow.plain(name) for name in node.outputs]
    made = _contraction(flow, node, matmul, (), others, -1)
    if bias >= 0 and node.input(bias) and int(np.prod(flow.shape(node.input(bias)))) > 1:
        made[0][-1] = _per_channel(flow, node, node.input(bias), made[0][-1])
    return made


def dynamic_quantize_matmul(flow: Flow, node: Node) -> list[Axes]:
    """Labels of DynamicQuantizeMatMul, a reader of all of its data as ``dynamic_quantize`` is."""
    made = qlinear_matmul(flow, node)
    for axis in range(len(flow.shape(node.inputs[0])) - 1):
        flow.reading(node, 0, axis)
    return made


def qgemm(flow: Flow, node: Node) -> list[Axes]:
    """Labels of QGemm."""
    return _contraction(flow, node, gemm, (6,), (7, 8), -1)


def dynamic_quantize(flow: Flow, node: Node) -> list[Axes]:
    """Labels of DynamicQuantizeLinear: a reader of the whole tensor, which takes its range.

    The range is widened to hold zero, by the operator's definition: a channel of zeros changes
    neither scale nor zero point, and becomes the zero point, so that it is as good as gone.
    """
    axes = flow.axes_of(node.inputs[0])
    for axis in range(len(axes)):
        flow.reading(node, 0, axis)
    return [axes, [], []]


def qlinear_elementwise(flow: Flow, node: Node) -> list[Axes]:
    """Labels of QLinearAdd, QLinearMul, QLinearSigmoid, QLinearLeakyRelu and QLinearWhere."""
    places = {"QLinearAdd": (0, 3), "QLinearMul": (0, 3), "QLinearWhere": (0, 1, 4)}
    data = places.get(node.op, (0,))
    return _unscaled(flow, node, elementwise, data)


def qlinear_concat(flow: Flow, node: Node) -> list[Axes]:
    """Labels of QLinearConcat: the output's scale and zero point, then three per input."""
    return _unscaled(flow, node, concat, range(2, len(node.inputs), 3))


def qlinear_pool(flow: Flow, node: Node) -> list[Axes]:
    """Labels of QLinearAveragePool and QLinearGlobalAveragePool."""
    if node.attributes.get("channels_last", 0):
        return _channels_last(flow, node)
    return _unscaled(flow, node, pool, (0,))


def qlinear_softmax(flow: Flow, node: Node) -> list[Axes]:
    """Labels of QLinearSoftmax, which before opset 13 works across all axes from its own on."""
    axes = flow.axes_of(node.inputs[0])
    before = node.attributes.get("opset", 13) < 13
    axis = node.attributes.get("axis", 1 if before else -1) % len(axes)
    for k in range(axis, len(axes) if before else axis + 1):
        flow.pin(axes[k], node, "mixed-axis", "works across this axis, so all of it stays")
        axes[k] = None
    return [axes]


def _unscaled(flow: Flow, node: Node, rule: Rule, data: Sequence[int]) -> list[Axes]:
    """The counterpart's labels, where all scales and zero points are single numbers."""
    rest = [place for place in range(len(node.inputs)) if place not in data and node.input(place)]
    if _single(flow, node, rest):
        return _viewed(flow, node, rule, data)
    unknown(flow, node, _ODD_SCALE, "blocked-scale")
    return [flow.plain(name) for name in node.outputs]


def _channels_last(flow: Flow, node: Node) -> list[Axes]:
    unknown(flow, node, "has its channels last, which is not followed", "channels-last")
    return [flow.plain(name) for name in node.outputs]


def matmul_bits(flow: Flow, node: Node) -> list[Axes]:
    """Labels of MatMulNBits: rows of packed bytes are its channels; what it sums over is whole.

    Scales and zero points hold as many entries per row as there are blocks, flat or in a matrix.
    """
    width = int(node.attributes["N"])
    data, out = flow.axes_of(node.inputs[0]), flow.axes_of(node.inputs[1])[0]
    flow.pin(data[-1], node, "blocked-scale", "reads its input in packed blocks")
    prepacked = node.attributes.get("weight_prepacked", 0)
    if (
        prepacked
        or flow.shape(node.inputs[1])[0] != width
        or any(
            flow.shape(name) and np.prod(flow.shape(name)) % width
            for name in map(node.input, _PER_ROW)
            if name
        )
    ):
        unknown(flow, node, "packs its weight in a way that is not followed", "blocked-scale")
        return [flow.plain(node.outputs[0])]
    for name in filter(None, map(node.input, _PER_ROW)):
        first, size = flow.axes_of(name)[0], flow.shape(name)[0]
        if first is None or out is None:
            flow.pin(first if out is None else out, node, "fixed-partner", "meets fixed values")
            out = None
        else:
            flow.tie(first, np.repeat(out, size // width), node)
    if out is not None:
        flow.counts.append(Count(node, "N", (width,), 0, out))
    produce(flow, node, width, out)
    return [[*data[:-1], out]]


_PER_ROW = (2, 3, 5)  # scales, zero points, bias

QUANTIZED: dict[str, Rule] = {
    "ConvInteger": qlinear_conv,
    "DynamicQuantizeLinear": dynamic_quantize,
    "MatMulInteger": qlinear_matmul,
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_matmul,
    **{
        f"{MICROSOFT}:{op}": rule
        for rule, ops in (
            (quantize, "DequantizeLinear QuantizeLinear"),
            (dynamic_quantize_matmul, "DynamicQuantizeMatMul"),
            (qlinear_matmul, "MatMulIntegerToFloat"),
            (matmul_bits, "MatMulNBits"),
            (qgemm, "QGemm"),
            (qlinear_concat, "QLinearConcat"),
            (qlinear_elementwise, "QLinearAdd QLinearLeakyRelu QLinearMul QLinearSigmoid"),
            (qlinear_elementwise, "QLinearWhere"),
            (qlinear_pool, "QLinearAveragePool QLinearGlobalAveragePool"),
            (qlinear_softmax, "QLinearSoftmax"),
        )
        for op in ops.split()
    },
}
