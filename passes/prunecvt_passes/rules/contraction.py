"""Operators that make channels: each sums over its input's channels and makes fresh ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prunecvt_passes.flow import Axes, Axis, Count, Flow, Labels, Producer, Product, Use
from prunecvt_passes.graph import Node
from prunecvt_passes.rules.elementwise import broadcast

_FIXED_INPUT = "sums over an input axis that is not cut"


def contract(flow: Flow, node: Node, data: int, axis: int, weight: Axis) -> None:
    """Ties the summed axis of input ``data`` to the weight's and records the read."""
    labels = flow.axes_of(node.inputs[data])[axis]
    if labels is None and weight is None:
        return
    flow.tie(labels, weight, node, _FIXED_INPUT)
    flow.reading(node, data, axis)


def produce(flow: Flow, node: Node, width: int, labels: Axis) -> None:
    """Records that the node's weight makes the channels ``labels`` of its first output."""
    flow.producers.append(Producer(node, node.outputs[0], width, labels))


def bias(flow: Flow, node: Node, place: int, labels: Axis) -> None:
    """Ties a vector with one entry per channel to the channels."""
    name = node.input(place)
    if name and flow.shape(name)[-1] > 1:
        flow.uses.append(Use(node, name, 0, "bias"))
        flow.tie(flow.axes_of(name)[0], labels, node)


def conv(flow: Flow, node: Node) -> list[Axes]:
    """Labels of Conv: plain, depthwise (output tied to input), grouped (equal counts per group)."""
    flow.pin_across(node, 2)
    weight = node.inputs[1]
    shape, groups = flow.shape(weight), node.attributes.get("group", 1)
    out, inner = flow.axes_of(weight)[:2]
    flow.uses.append(Use(node, weight, 0, "weight_out"))
    flow.uses.append(Use(node, weight, 1, "weight_in"))
    if groups == 1:
        contract(flow, node, 0, 1, inner)
    elif shape[1] == 1:
        out = _depthwise(flow, node, out, groups)
    elif flow.units.grouped == "group":
        flow.pin(inner, node, "whole-groups", "keeps the groups that stay whole")
        made = whole_groups(flow, node, groups, shape[0])
        out = flow.tie(made, out, node)
    else:
        _grouped_input(flow, node, inner, groups)
        out = _grouped_output(flow, node, out, groups)
    bias(flow, node, 2, out)
    produce(flow, node, shape[0], out)
    return [[flow.axes_of(node.inputs[0])[0], out, *[None] * (len(shape) - 2)]]


def _depthwise(flow: Flow, node: Node, out: Axis, groups: int) -> Axis:
    """One input channel per group: it lives and dies with the outputs made from it."""
    data = flow.axes_of(node.inputs[0])[1]
    if data is None or out is None:
        flow.pin(out, node, "fixed-input", "filters each channel of an input that is not cut")
        flow.pin(data, node, "fixed-partner", "has a weight that is not cut")
        return None
    repeated = np.repeat(data, out.size // groups)
    flow.tie(repeated, out, node)
    flow.counts.append(Count(node, "group", (groups,), 0, data))
    return repeated


def whole_groups(flow: Flow, node: Node, groups: int, width: int) -> Axis:
    """A group of a grouped convolution takes all its inputs and outputs along.

    Returns:
        labels of the outputs, ``width`` of them; None where the input is not cut.
    """
    data = flow.axes_of(node.inputs[0])[1]
    if data is None:
        return None
    firsts = np.ascontiguousarray(data.reshape(groups, -1)[:, 0])
    flow.ties.append((np.repeat(firsts, data.size // groups), data))
    flow.counts.append(Count(node, "group", (groups,), 0, firsts))
    return np.repeat(firsts, width // groups)


def _grouped_input(flow: Flow, node: Node, inner: Axis, groups: int) -> None:
    data = flow.axes_of(node.inputs[0])[1]
    if inner is None:
        flow.pin(data, node, "fixed-partner", _FIXED_INPUT)
        return
    flow.tie(data, np.tile(inner, groups), node, _FIXED_INPUT)
    flow.reading(node, 0, 1)
    if data is not None:
        flow.per_group.append(data)


def _grouped_output(flow: Flow, node: Node, out: Axis, groups: int) -> Axis:
    """Every group keeps as many channels as the next: the j-th of each group are tied."""
    if out is None:
        return None
    rows = out.reshape(groups, -1)
    if rows.shape[1] == 1:
        flow.pin(out, node, "one-per-group", "makes a single channel per group")
        return out
    first: Labels = np.broadcast_to(rows[:1], rows[1:].shape).ravel()
    flow.ties.append((first, rows[1:].ravel()))
    flow.per_group.append(out)
    return out


def conv_transpose(flow: Flow, node: Node) -> list[Axes]:
    """Labels of ConvTranspose, whose weight is [inputs, outputs per group, ...]."""
    flow.pin_across(node, 2)
    weight = node.inputs[1]
    shape, groups = flow.shape(weight), node.attributes.get("group", 1)
    inner, out = flow.axes_of(weight)[:2]
    flow.uses.append(Use(node, weight, 1, "weight_out"))
    flow.uses.append(Use(node, weight, 0, "weight_in"))
    data = flow.axes_of(node.inputs[0])[1]
    if groups == 1:
        contract(flow, node, 0, 1, inner)
    elif shape[0] == groups:  # depthwise: out labels repeat per group, so they go with the input
        flow.tie(data, inner, node, _FIXED_INPUT)
        out = None if data is None else np.repeat(data, shape[1])
        flow.pin(flow.axes_of(weight)[1], node, "one-per-group", "makes the same outputs per group")
        if data is not None:
            flow.counts.append(Count(node, "group", (groups,), 0, data))
    elif flow.units.grouped == "group":
        flow.tie(data, inner, node, _FIXED_INPUT)
        flow.pin(out, node, "whole-groups", "keeps the groups that stay whole")
        out = whole_groups(flow, node, groups, shape[1] * groups)
    else:
        contract(flow, node, 0, 1, inner)
        _grouped_output(flow, node, inner, groups)
        out = None if out is None else np.tile(out, groups)
    bias(flow, node, 2, out)
    produce(flow, node, shape[1] * groups, out)
    return [[flow.axes_of(node.inputs[0])[0], out, *[None] * (len(shape) - 2)]]


def gemm(flow: Flow, node: Node) -> list[Axes]:
    """Labels of Gemm: alpha * A' B' + beta * C, where C broadcasts."""
    a_sum = 0 if node.attributes.get("transA", 0) else 1
    b_sum = 1 if node.attributes.get("transB", 0) else 0
    made = _product(flow, node, (a_sum, 1 - a_sum), (b_sum, 1 - b_sum))
    name = node.input(2)
    if not name:
        return [made]
    shape, added = flow.shape(node.outputs[0]), flow.shape(name)
    if added and added[-1] > 1:
        flow.uses.append(Use(node, name, len(added) - 1, "bias"))
    return [broadcast(flow, node, [(shape, made), (added, flow.axes_of(name))], shape)]


def matmul(flow: Flow, node: Node) -> list[Axes]:
    """Labels of MatMul: the summed axes tie, batch axes tie as they broadcast."""
    a_rank, b_rank = (len(flow.shape(name)) for name in node.inputs)
    operands = [(flow.shape(name)[:-2], flow.axes_of(name)[:-2]) for name in node.inputs]
    shape = flow.shape(node.outputs[0])
    kept = min(a_rank - 1, 1) + min(b_rank - 1, 1)
    batch = broadcast(flow, node, operands, shape[: len(shape) - kept])
    a_axes = (a_rank - 1, a_rank - 2 if a_rank > 1 else -1)
    b_axes = (max(b_rank - 2, 0), b_rank - 1 if b_rank > 1 else -1)
    if not any(is_weight(flow, name) for name in node.inputs):
        multiplies(
            flow,
            [axes for _, batch_axes in operands for axes in batch_axes],
            [axes for name in node.inputs for axes in flow.axes_of(name)[-2:]],
        )
    return [[*batch, *_product(flow, node, a_axes, b_axes)]]


def multiplies(flow: Flow, batch: Sequence[Axis], matrix: Sequence[Axis]) -> None:
    """Records a product of two activations: from it follows what the heads of an attention are.

    Args:
        flow: the walk.
        batch: labels of the axes along which the matrices are multiplied one by one.
        matrix: labels of rows, columns and summed axes.
    """
    flow.products.append(
        Product(
            tuple(labels for labels in batch if labels is not None),
            tuple(labels for labels in matrix if labels is not None),
        )
    )


def _product(flow: Flow, node: Node, a_axes: tuple[int, int], b_axes: tuple[int, int]) -> Axes:
    """Labels of rows and columns; each pair of axes is (summed, kept), -1 where there is none."""
    names, axes = node.inputs[:2], (a_axes, b_axes)
    left = is_weight(flow, names[0]) and not is_weight(flow, names[1])
    data, weight = (1, 0) if left else (0, 1)
    contract(flow, node, data, axes[data][0], flow.axes_of(names[weight])[axes[weight][0]])
    summed, made = axes[weight]
    if is_weight(flow, names[weight]) and made >= 0:
        flow.uses.append(Use(node, names[weight], made, "weight_out"))
        flow.uses.append(Use(node, names[weight], summed, "weight_in"))
        labels = flow.axes_of(names[weight])[made]
        produce(flow, node, flow.shape(names[weight])[made], labels)
    return [flow.axes_of(n)[kept] for n, (_, kept) in zip(names, axes, strict=True) if kept >= 0]


def is_weight(flow: Flow, name: str) -> bool:
    """Whether a tensor follows from initializers alone (one that is dequantised counts)."""
    while not flow.graph.is_initializer(name):
        maker = flow.graph.producer.get(name)
        if maker is None or maker.op not in ("DequantizeLinear", "Cast", "Transpose", "Identity"):
            return False
        name = maker.inputs[0]
    return True
