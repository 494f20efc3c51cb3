"""Operators that look entries up or put them in place: what they index stays, the rest goes on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prunecvt_passes.flow import Axes, Axis, Flow
from prunecvt_passes.graph import Node
from prunecvt_passes.rules.resizing import count_entries


def _pinned(flow: Flow, node: Node, labels: Axis) -> None:
    flow.pin(labels, node, "indexed", "looks single entries of it up")


def _along(node: Node, rank: int, default: int = 0) -> int:
    return int(node.attributes.get("axis", default)) % rank


def _together(flow: Flow, node: Node, names: Sequence[str], axis: int) -> Axis:
    """Ties one axis of tensors that are walked in step; pins them where one is shorter."""
    met = [flow.axes_of(name)[axis] for name in names]
    if len({flow.shape(name)[axis] for name in names}) > 1:
        for labels in met:
            _pinned(flow, node, labels)
        return None
    carried = met[0]
    for labels in met[1:]:
        if carried is not None or labels is not None:
            carried = flow.tie(carried, labels, node)
    return carried


def by_element(flow: Flow, node: Node) -> list[Axes]:
    """Labels of GatherElements, ScatterElements and Scatter: entry by entry along one axis.

    Data, indices and, where some are put in place, updates share the other axes.
    """
    rank = len(flow.shape(node.inputs[0]))
    along = _along(node, rank)
    for name in node.inputs:
        _pinned(flow, node, flow.axes_of(name)[along])
    return [[None if k == along else _together(flow, node, node.inputs, k) for k in range(rank)]]


def scatter_nd(flow: Flow, node: Node) -> list[Axes]:
    """Labels of ScatterND: the axes that are put in place whole carry on, tied to the updates'."""
    data, indices, updates = node.inputs[:3]
    depth, axes, new = flow.shape(indices)[-1], flow.axes_of(data), flow.axes_of(updates)
    flow.pin_tensor(indices, node, "indexed", "takes indices from it")
    lead = len(new) - (len(axes) - depth)
    for labels in (*axes[:depth], *new[:lead]):
        _pinned(flow, node, labels)
    made: Axes = [None] * depth
    for kept, put in zip(axes[depth:], new[lead:], strict=True):
        made.append(None if kept is None and put is None else flow.tie(kept, put, node))
    return [made]


def tensor_scatter(flow: Flow, node: Node) -> list[Axes]:
    """Labels of TensorScatter: cache and update share all axes but the batch and the sequence."""
    names = node.inputs[:2]
    rank = len(flow.shape(names[0]))
    fixed = {0, _along(node, rank, -2)}
    for name in names:
        for k in fixed:
            _pinned(flow, node, flow.axes_of(name)[k])
    return [[None if k in fixed else _together(flow, node, names, k) for k in range(rank)]]


def compress(flow: Flow, node: Node) -> list[Axes]:
    """Labels of Compress: a constant condition is cut with the axis that it selects from."""
    axes = flow.axes_of(node.inputs[0])
    condition, chosen = flow.graph.constant(node.inputs[1]), flow.axes_of(node.inputs[1])[0]
    if "axis" not in node.attributes:
        for labels in (*axes, chosen):
            _pinned(flow, node, labels)
        return [[None]]
    along = _along(node, len(axes))
    labels = axes[along]
    if condition is None or labels is None or chosen is None or condition.size != labels.size:
        for fixed in (labels, chosen):
            _pinned(flow, node, fixed)
        axes[along] = None
    else:
        flow.tie(labels, chosen, node)
        axes[along] = labels[condition]
    return [axes]


def one_hot(flow: Flow, node: Node) -> list[Axes]:
    """Labels of OneHot: those of the indices, with an axis of its own between them."""
    axes = flow.axes_of(node.inputs[0])
    axes.insert(_along(node, len(axes) + 1, -1), None)
    for name in node.inputs[1:]:
        flow.pin_tensor(name, node, "indexed", "takes its values from it")
    return [axes]


def reverse_sequence(flow: Flow, node: Node) -> list[Axes]:
    """Labels of ReverseSequence: time and batch stay, the others carry on."""
    axes = flow.axes_of(node.inputs[0])
    for name, default in (("time_axis", 0), ("batch_axis", 1)):
        axis = node.attributes.get(name, default)
        flow.pin(axes[axis], node, "mixed-axis", "works across this axis, so all of it stays")
        axes[axis] = None
    flow.pin_tensor(node.inputs[1], node, "indexed", "takes lengths from it")
    return [axes]


def matrices(flow: Flow, node: Node) -> list[Axes]:
    """Labels of an operator on matrices (Det, Trilu): the last two axes stay."""
    axes = flow.axes_of(node.inputs[0])
    for labels in axes[-2:]:
        flow.pin(labels, node, "mixed-axis", "works across this axis, so all of it stays")
    for name in filter(None, node.inputs[1:]):
        flow.pin_tensor(name, node, "indexed", "takes its diagonal from it")
    rank = len(flow.shape(node.outputs[0]))
    return [[*axes[:-2], None, None][:rank]]


def grid_sample(flow: Flow, node: Node) -> list[Axes]:
    """Labels of GridSample: channels carry on, positions and the batch stay."""
    axes = flow.axes_of(node.inputs[0])
    for labels in (axes[0], *axes[2:]):
        flow.pin(labels, node, "interpolated", "interpolates along this axis")
    flow.pin_tensor(node.inputs[1], node, "pooled", "takes its regions from it")
    return [[None, axes[1], *[None] * (len(axes) - 2)]]


def center_crop_pad(flow: Flow, node: Node) -> list[Axes]:
    """Labels of CenterCropPad: axes that it leaves out or as they are carry on."""
    before, after = flow.shape(node.inputs[0]), flow.shape(node.outputs[0])
    axes = flow.axes_of(node.inputs[0])
    named = [k % len(axes) for k in node.attributes.get("axes", range(len(axes)))]
    for axis in named:
        if before[axis] != after[axis]:
            flow.pin(axes[axis], node, "padded", "crops or pads this axis around its middle")
            axes[axis] = None
    count_entries(flow, node, 1, [axes[axis] for axis in named])
    counted = flow.sizes.get(node.inputs[1], [None] * len(named))
    if flow.graph.constant(node.inputs[1]) is None:  # only sizes of the very labels leave them be
        for axis, labels in zip(named, counted, strict=True):
            axes[axis] = None if labels is None else axes[axis]
    return [axes]


def col2im(flow: Flow, node: Node) -> list[Axes]:
    """Labels of Col2Im: the entries of one channel's block live and die together."""
    axes = flow.axes_of(node.inputs[0])
    made = flow.plain(node.outputs[0])
    made[0], labels = axes[0], axes[1]
    flow.pin(axes[2], node, "mixed-axis", "works across this axis, so all of it stays")
    if labels is None:
        return [made]
    rows = labels.reshape(flow.shape(node.outputs[0])[1], -1)
    if rows.shape[0] == 1:
        flow.pin(labels, node, "spread", "spreads all channels over space")
        return [made]
    flow.ties.append((np.repeat(rows[:, 0], rows.shape[1]), labels))
    made[1] = np.ascontiguousarray(rows[:, 0])
    return [made]
