"""Operators that repeat or interpolate: Expand, Tile, Resize, Upsample."""

from __future__ import annotations

import numpy as np

from prunecvt_passes.flow import Axes, Count, Flow
from prunecvt_passes.graph import Node, integers


def count_entries(
    flow: Flow, node: Node, place: int, axes: Axes, skip: tuple[int, ...] = ()
) -> None:
    """Ties the entries of a size parameter to the labelled axes they state.

    A constant entry is rewritten to the count that is kept; an entry computed at run time has to be
    the size of the very same labels, else the axis is pinned. Entries in ``skip`` speak for
    themselves (a copied or an inferred size).
    """
    values = integers(flow.graph, node.inputs[place])
    counted = flow.sizes.get(node.inputs[place], [None] * len(axes))
    for position, labels in enumerate(axes):
        if values is not None:
            if labels is not None and values[position] not in skip:
                flow.counts.append(Count(node, place, values, position, labels))
            continue
        sized = counted[position] if position < len(counted) else None
        if sized is None and labels is None:
            continue
        if sized is None or labels is None or not np.array_equal(sized, labels):
            what = "takes a size that is computed at run time"
            flow.pin(labels, node, "computed-size", what)
            flow.pin(sized, node, "computed-size", what)


def expand(flow: Flow, node: Node) -> list[Axes]:
    """Labels of Expand: equal sizes carry on, an axis of one that grows makes new labels."""
    name, made = node.inputs[0], node.outputs[0]
    before, after, axes = flow.shape(name), flow.shape(made), flow.axes_of(name)
    target = integers(flow.graph, node.inputs[1])
    offset, grown = len(after) - len(before), flow.plain(made)
    for axis, size in enumerate(after):
        place = axis - offset
        if place >= 0 and before[place] == size:
            grown[axis] = axes[place]
        elif target is not None and not flow.graph.dynamic(made)[axis]:
            grown[axis] = flow.fresh(made, axis, size)
    stated = flow.shape(node.inputs[1])[0]  # a target shorter than the data is right-aligned
    count_entries(flow, node, 1, grown[len(after) - stated :], skip=(1,))
    return [grown]


def tile(flow: Flow, node: Node) -> list[Axes]:
    """Labels of Tile: repeated with the data; an axis of one that grows makes new labels."""
    name, made = node.inputs[0], node.outputs[0]
    before, axes = flow.shape(name), flow.axes_of(name)
    repeats = integers(flow.graph, node.inputs[1])
    if repeats is None:
        for labels in axes:
            flow.pin(labels, node, "computed-size", "repeats it a computed number of times")
        return [flow.plain(made)]
    tiled: Axes = []
    for axis, (size, times) in enumerate(zip(before, repeats, strict=True)):
        labels = axes[axis]
        if labels is not None:
            tiled.append(np.tile(labels, times))
        elif size == 1 and times > 1:
            fresh = flow.fresh(made, axis, times)
            tiled.append(fresh)
            if fresh is not None:
                flow.counts.append(Count(node, 1, repeats, axis, fresh))
        else:
            tiled.append(None)
    return [tiled]


def resize(flow: Flow, node: Node) -> list[Axes]:
    """Labels of Resize: an axis that keeps its size carries on, one that changes is pinned."""
    axes = _unscaled(flow, node, 2 if flow.graph.opset >= 11 else 1)
    if flow.graph.opset >= 11 and node.input(3):
        named = node.attributes.get("axes", range(len(axes)))
        count_entries(flow, node, 3, [axes[axis] for axis in named])
        counted = flow.sizes.get(node.inputs[3], [None] * len(axes))
        if integers(flow.graph, node.inputs[3]) is None:
            for position, axis in enumerate(named):
                axes[axis] = None if counted[position] is None else axes[axis]
    if node.attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        for labels in axes:
            flow.pin(labels, node, "interpolated", "crops a region of it")
        return [flow.plain(node.outputs[0])]
    return [axes]


def upsample(flow: Flow, node: Node) -> list[Axes]:
    """Labels of Upsample, the Resize of opset 9 and before."""
    return [_unscaled(flow, node, 1)]


def _unscaled(flow: Flow, node: Node, place: int) -> Axes:
    """Labels of the axes that keep their size and are scaled by one; the others are pinned."""
    before, after = flow.shape(node.inputs[0]), flow.shape(node.outputs[0])
    scales = node.attributes.get("scales")
    if node.input(place):
        scales = flow.graph.constant(node.inputs[place])
    named = [axis % len(before) for axis in node.attributes.get("axes", range(len(before)))]
    stretched = set()
    if scales is not None and len(scales) == len(named):
        stretched = {axis for axis, scale in zip(named, scales, strict=True) if scale != 1}
    axes = flow.axes_of(node.inputs[0])
    for axis, labels in enumerate(axes):
        if before[axis] != after[axis] or axis in stretched:
            flow.pin(labels, node, "interpolated", "interpolates along this axis")
            axes[axis] = None
    return axes
