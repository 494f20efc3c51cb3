"""Operators that repeat, fill or interpolate: Expand, ConstantOfShape, Tile, Resize, Upsample."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from prunecvt_passes.flow import Axes, Axis, Count, Flow
from prunecvt_passes.graph import Node, integers


def count_entries(
    flow: Flow, node: Node, place: int, axes: Axes, skip: tuple[int, ...] = ()
) -> None:
    """Ties the entries of a size parameter to the labelled axes they state.

    A constant entry is rewritten to the count that is kept; an entry computed at run time has to be
    the size of as many labels, then tied, else the axis is pinned. Entries in ``skip`` speak for
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
        if sized is not None and labels is not None and sized.size == labels.size:
            flow.tie(sized, labels, node)
        else:
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
    # a target shorter than the data is right-aligned; onnxruntime takes a single number too
    stated = math.prod(flow.shape(node.inputs[1]))
    counted = list(grown)
    if target is None:
        for axis, count in enumerate(_written(flow, node, 1), len(after) - stated):
            if axis < offset or before[axis - offset] != after[axis]:
                grown[axis] = _filled(flow, made, axis, count)
            elif _is_one(flow, node.inputs[1], axis - len(after) + stated):
                counted[axis] = None
    count_entries(flow, node, 1, counted[len(after) - stated :], skip=(1,))
    return [grown]


def _is_one(flow: Flow, name: str, position: int) -> bool:
    """Whether an entry of a computed vector of sizes is 1, whatever the inputs."""
    known = flow.known.get(name)
    return known is not None and bool(known.value[position] == 1 and not known.tainted[position])


def constant_of_shape(flow: Flow, node: Node) -> list[Axes]:
    """Labels of ConstantOfShape: all its values are the same, so axes of a stated size shrink."""
    made = node.outputs[0]
    return [[_filled(flow, made, k, count) for k, count in enumerate(_written(flow, node, 0))]]


def _filled(flow: Flow, made: str, axis: int, count: Count | None) -> Axis:
    """New labels for an axis of equal values, counted where its size is written down."""
    size = flow.shape(made)[axis]
    if count is None or flow.graph.dynamic(made)[axis] or count.values[count.position] != size:
        return None
    labels = flow.fresh(made, axis, size)
    if labels is not None:
        flow.counts.append(replace(count, labels=labels))
    return labels


def _written(flow: Flow, node: Node, place: int) -> list[Count | None]:
    """Where each entry of a vector of sizes is written as a constant; None where it is computed.

    A vector that others read too is left alone, as they would have to lose the same channels.
    """
    name, none = node.inputs[place], np.zeros(0, np.int64)
    maker = flow.graph.producer.get(name)
    parts = [(node, place, name)]
    if maker is not None and maker.op == "Concat" and flow.graph.only_reader(name):
        parts = [(maker, slot, part) for slot, part in enumerate(maker.inputs)]
    found: list[Count | None] = []
    for owner, slot, part in parts:
        values = integers(flow.graph, part)
        for position in range(math.prod(flow.shape(part))):
            found.append(None if values is None else Count(owner, slot, values, position, none))
    return found


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
    if node.attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        flow.pin_tensor(node.inputs[0], node, "interpolated", "scales it as its other axes")
        return [flow.plain(node.outputs[0])]
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
