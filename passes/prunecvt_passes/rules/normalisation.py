"""Operators that normalise: across channels, across groups of channels, or each channel alone.

What works across channels keeps them all, unless the user allows inexact cuts: then it works on
what is left, and its groups are marked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from prunecvt_passes.flow import Axes, Axis, Count, Flow, Labels, Narrowed
from prunecvt_passes.graph import Node
from prunecvt_passes.rules.elementwise import broadcast

_ACROSS = "works across this axis, so all of it stays (--allow-inexact cuts it)"
_PLAINLY = "works across this axis, so all of it stays"


def normalization(flow: Flow, node: Node) -> list[Axes]:
    """Labels of what normalises across axes: LayerNormalization, Softmax and the like."""
    shape = flow.shape(node.inputs[0])
    scales = [place for place in (1, 2) if node.input(place)]
    operands = [(flow.shape(node.inputs[k]), flow.axes_of(node.inputs[k])) for k in (0, *scales)]
    axes = broadcast(flow, node, operands, shape)
    mixed = _mixed(flow, node, len(shape))
    axes = across(flow, node, axes, mixed, scales)
    statistics: Axes = [None if k in mixed else labels for k, labels in enumerate(axes)]
    return [axes, *(statistics for _ in node.outputs[1:])]


def _mixed(flow: Flow, node: Node, rank: int) -> set[int]:
    if node.op == "MeanVarianceNormalization":
        return {axis % rank for axis in node.attributes.get("axes", (0, 2, 3))}
    flattens = node.op.endswith("Softmax") and flow.graph.opset < 13
    axis = node.attributes.get("axis", 1 if flattens else -1) % max(rank, 1)
    return {axis} if node.op.endswith("Softmax") and not flattens else set(range(axis, rank))


def normalised_across(flow: Flow, name: str) -> set[int]:
    """Axes of a tensor that a normalisation of it works across, so they had better not be cut."""
    rank, found = len(flow.shape(name)), set[int]()
    for node, place in flow.graph.readers.get(name, ()):
        if place or flow.units.inexact:
            continue
        if node.op == "InstanceNormalization":
            found.update(range(2, rank))
        elif node.op in ("LayerNormalization", "MeanVarianceNormalization", "RMSNormalization"):
            found |= _mixed(flow, node, rank)
    return found


def across(
    flow: Flow,
    node: Node,
    axes: Axes,
    mixed: Iterable[int],
    scales: Sequence[int] = (),
    code: str = "mixed-axis",
) -> Axes:
    """Labels after a node that works across the axes ``mixed`` of its first input.

    They are pinned, or with inexact cuts recorded: the node then works on what is left of them.

    Args:
        axes: the labels of input 0, to which those of the other inputs are tied.
        scales: places of inputs that broadcast to input 0.
        code: of the pins.

    Returns:
        ``axes``, also what is pinned: what it meets later then stays for the same reason.
    """
    for axis in mixed:
        labels = axes[axis]
        if labels is None:
            continue
        if (node.inputs[0], axis) in flow.repeating:  # how many are left follows from the input
            flow.pin(labels, node, code, _PLAINLY)
            continue
        if not flow.units.inexact:
            flow.pin(labels, node, code, _ACROSS)
            continue
        behind = len(axes) - axis
        places = [(0, axis)]
        for place in scales:
            shape = flow.shape(node.inputs[place])
            if len(shape) >= behind and shape[-behind] == labels.size:
                places.append((place, len(shape) - behind))
        narrow(flow, node, labels, places, axis)
    return axes


def narrow(
    flow: Flow, node: Node, labels: Labels, places: Sequence[tuple[int, int]], axis: int
) -> None:
    """Records that ``node`` works on what is left of ``labels``.

    Args:
        labels: channels of the inputs.
        places: (place, axis) of the inputs that hold them.
        axis: the axis that holds them in every output of the first input's shape.
    """
    shape = flow.shape(node.inputs[0])
    made = [k for k, name in enumerate(node.outputs) if name and flow.shape(name) == shape]
    flow.narrowed.append(
        Narrowed(
            node,
            tuple((*place, labels) for place in places),
            tuple((place, axis, labels) for place in made),
        )
    )


def lp_normalization(flow: Flow, node: Node) -> list[Axes]:
    """Labels of LpNormalization: exact, as a channel of zeros adds nothing to the norm."""
    axes = flow.axes_of(node.inputs[0])
    flow.reading(node, 0, node.attributes.get("axis", -1) % len(axes))
    return [axes]


def instance_normalization(flow: Flow, node: Node) -> list[Axes]:
    """Labels of InstanceNormalization: one scale and bias per channel, positions are mixed."""
    axes = flow.axes_of(node.inputs[0])
    for place in (1, 2):
        _per_channel(flow, node, place, axes[1])
    return [across(flow, node, axes, range(2, len(axes)))]


def _per_channel(flow: Flow, node: Node, place: int, labels: Axis) -> None:
    """Ties a vector of parameters to what it has one entry for."""
    parameter = flow.axes_of(node.inputs[place])[0]
    if labels is not None or parameter is not None:
        flow.tie(labels, parameter, node)


def group_normalization(flow: Flow, node: Node) -> list[Axes]:
    """Labels of GroupNormalization: whole groups go, which is exact.

    With inexact cuts the same channels of every group go, and each group is normalised over what is
    left of it. Scale and bias have an entry per channel, before opset 21 one per group.
    """
    axes, groups = flow.axes_of(node.inputs[0]), node.attributes["num_groups"]
    for axis in range(2, len(axes)):
        flow.pin(axes[axis], node, "mixed-axis", _PLAINLY)
        axes[axis] = None
    labels, grouped = axes[1], flow.graph.opset < 21
    if labels is None:
        for place in (1, 2):
            _per_channel(flow, node, place, None)
        return [axes]
    rows = labels.reshape(groups, -1)
    if flow.units.inexact and rows.shape[1] > 1:
        for place in (1, 2):
            _per_channel(flow, node, place, None if grouped else labels)
        _tie_rows(flow, rows)
        narrow(flow, node, labels, [(0, 1), *([] if grouped else [(1, 0), (2, 0)])], 1)
    elif groups == 1:
        axes = across(flow, node, axes, [1])
    else:
        for place in (1, 2):
            _per_channel(flow, node, place, rows[:, 0].copy() if grouped else labels)
        _tie_rows(flow, rows.T)
        flow.counts.append(Count(node, "num_groups", (groups,), 0, rows[:, 0].copy()))
    return [axes]


def _tie_rows(flow: Flow, rows: Labels) -> None:
    """Ties every row of a matrix of labels to its first."""
    first: Labels = np.broadcast_to(rows[:1], rows[1:].shape).ravel()
    flow.ties.append((first, rows[1:].ravel()))


def local_response(flow: Flow, node: Node) -> list[Axes]:
    """Labels of LRN, which sums over neighbouring channels: what is left has other neighbours."""
    axes = flow.axes_of(node.inputs[0])
    flow.pin(axes[1], node, "mixed-axis", _PLAINLY)
    axes[1] = None
    return [axes]
