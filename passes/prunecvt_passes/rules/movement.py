"""Operators that move data: run on the labels as they run on the data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prunecvt_passes.flow import Axes, Axis, Count, Flow, Labels, Remap
from prunecvt_passes.graph import Node, integers
from prunecvt_passes.rules.resizing import count_entries

_FLAT = 1 << 22  # labels of a joint array; beyond it the axes are pinned


def transpose(flow: Flow, node: Node) -> list[Axes]:
    """Labels of Transpose."""
    axes = flow.axes_of(node.inputs[0])
    order = node.attributes.get("perm") or range(len(axes))[::-1]
    return [[axes[axis] for axis in order]]


def reshape(flow: Flow, node: Node) -> list[Axes]:
    """Labels of Reshape; its target is rewritten where it states a labelled size."""
    axes = reshaped(flow, node)
    if flow.graph.opset >= 5:
        count_entries(flow, node, 1, axes, skip=(-1,))
        if integers(flow.graph, node.inputs[1]) is None:
            counted = flow.sizes.get(node.inputs[1], [None] * len(axes))
            axes = [None if size is None else labels for size, labels in zip(counted, axes, strict=True)]
    else:
        values = tuple(node.attributes["shape"])
        for position, labels in enumerate(axes):
            if labels is not None and values[position] != -1:
                flow.counts.append(Count(node, "shape", values, position, labels))
    return [axes]


def squeeze(flow: Flow, node: Node) -> list[Axes]:
    """Labels of Squeeze and Unsqueeze: a Reshape that states no size."""
    return [reshaped(flow, node)]


def flatten(flow: Flow, node: Node) -> list[Axes]:
    """Labels of Flatten: a Reshape that states no size."""
    return [reshaped(flow, node)]


def reshaped(flow: Flow, node: Node) -> Axes:
    """Labels after the data of input 0 was laid out anew in the shape of output 0."""
    before, after = flow.shape(node.inputs[0]), flow.shape(node.outputs[0])
    axes = flow.axes_of(node.inputs[0])
    made = flow.plain(node.outputs[0])
    if 0 in before:
        return made
    changing = flow.graph.dynamic(node.outputs[0])
    for inside, outside in blocks(before, after):
        carried = [k for k in inside if axes[k] is not None]
        if not carried:
            continue
        wide = [k for k in outside if after[k] > 1]
        if len(wide) == 1 and len([k for k in inside if before[k] > 1]) == 1:
            made[wide[0]] = axes[carried[0]]
            continue
        joined = int(np.prod([before[k] for k in inside]))
        if joined > _FLAT:
            for k in carried:
                flow.pin(axes[k], node, "too-large", "joins it with too many other entries")
            continue
        for k in carried[1:]:
            flow.pin(axes[k], node, "merged-axes", "merges two axes that could both be cut")
        first = axes[carried[0]]
        shape = [before[k] if k == carried[0] else 1 for k in inside]
        joint = np.broadcast_to(np.reshape(first, shape), [before[k] for k in inside])
        spread = divided(
            flow, node, joint.reshape([after[k] for k in wide]), [changing[k] for k in wide]
        )
        for k, labels in zip(wide, spread, strict=True):
            made[k] = labels
    return made


def blocks(
    before: Sequence[int], after: Sequence[int]
) -> list[tuple[list[int], list[int]]]:
    """Pairs the smallest runs of axes with equal products on both sides of a Reshape."""
    found = []
    i = j = 0
    while i < len(before) or j < len(after):
        inside, outside, left, right = [], [], 1, 1
        while True:
            if i < len(before) and (left <= right or j >= len(after)):
                left *= before[i]
                inside.append(i)
                i += 1
            elif j < len(after):
                right *= after[j]
                outside.append(j)
                j += 1
            if left == right and inside and outside or (i >= len(before) and j >= len(after)):
                break
        found.append((inside, outside))
    return found


def divided(flow: Flow, node: Node, joint: Labels, changing: Sequence[bool]) -> Axes:
    """Labels by axis of a joint array: the axis along which they vary carries on.

    Where they vary along several, the innermost of fixed size carries on and the labels are tied
    across the others (a channel shuffle).
    """
    varies = [
        axis
        for axis in range(joint.ndim)
        if not np.array_equal(joint, np.broadcast_to(np.take(joint, [0], axis), joint.shape))
    ]
    made: Axes = [None] * joint.ndim
    if not varies:
        flow.pin(joint, node, "spread", "spreads one channel over an axis")
        return made
    axis = next((k for k in reversed(varies) if not changing[k]), varies[-1])
    rows = np.moveaxis(joint, axis, -1).reshape(-1, joint.shape[axis])
    if len(varies) > 1:
        first: Labels = np.broadcast_to(rows[:1], rows[1:].shape).ravel()
        flow.ties.append((first, rows[1:].ravel()))
    made[axis] = np.ascontiguousarray(rows[0])
    return made


def concat(flow: Flow, node: Node) -> list[Axes]:
    """Labels of Concat: end to end along its axis, tied along the others."""
    shape = flow.shape(node.outputs[0])
    along = node.attributes["axis"] % len(shape)
    parts = [(name, flow.axes_of(name)) for name in node.inputs if name]
    made: Axes = []
    for axis in range(len(shape)):
        met = [axes[axis] for _, axes in parts]
        if all(labels is None for labels in met):
            made.append(None)
        elif axis == along:
            made.append(np.concatenate([_part(flow, node, *part, axis) for part in parts]))
        else:
            made.append(_tied(flow, node, met))
    return [made]


def _part(flow: Flow, node: Node, name: str, axes: Axes, axis: int) -> Labels:
    labels = axes[axis]
    if labels is not None:
        return labels
    size = flow.shape(name)[axis]
    return flow.fixed(name, axis, size, "fixed-partner", f"{node.title} joins it uncut")


def _tied(flow: Flow, node: Node, met: list[Axis]) -> Axis:
    carried = met[0]
    for labels in met[1:]:
        carried = flow.tie(carried, labels, node) if carried is not labels else carried
    return carried


def split(flow: Flow, node: Node) -> list[Axes]:
    """Labels of Split: each part takes its own, and the sizes are rewritten."""
    axes = flow.axes_of(node.inputs[0])
    along = node.attributes.get("axis", 0) % len(axes)
    sizes = tuple(flow.shape(name)[along] for name in node.outputs)
    labels = axes[along]
    made = [list(axes) for _ in node.outputs]
    if labels is None:
        return made
    if node.input(1) and integers(flow.graph, node.inputs[1]) is None:
        flow.pin(labels, node, "computed-size", "takes sizes that are computed at run time")
        for part in made:
            part[along] = None
        return made
    slot: int | str = 1 if flow.graph.opset >= 13 else "split"
    for position, part in enumerate(np.split(labels, np.cumsum(sizes)[:-1])):
        made[position][along] = part
        flow.counts.append(Count(node, slot, sizes, position, part, unless="num_outputs"))
    return made


def slice_(flow: Flow, node: Node) -> list[Axes]:
    """Labels of Slice: a run of them; its bounds become the numbers kept before them."""
    axes = flow.axes_of(node.inputs[0])
    starts, ends, named, steps = _bounds(flow, node)
    if named is None:
        return _pinned_slice(flow, node, axes, range(len(axes)))
    slots: tuple[int | str, int | str] = ("starts", "ends") if "starts" in node.attributes else (1, 2)
    for position, axis in enumerate(k % len(axes) for k in named):
        labels = axes[axis]
        if labels is None:
            continue
        if starts is None or ends is None or steps is None or steps[position] != 1:
            _pinned_slice(flow, node, axes, [axis])
            continue
        begin, end, _ = slice(starts[position], ends[position]).indices(labels.size)
        end = max(begin, end)
        flow.counts.append(Count(node, slots[0], starts, position, labels[:begin]))
        flow.counts.append(Count(node, slots[1], ends, position, labels[:end]))
        axes[axis] = labels[begin:end]
    return [axes]


Integers = tuple[int, ...] | None


def _bounds(flow: Flow, node: Node) -> tuple[Integers, Integers, Integers, Integers]:
    """Starts, ends, axes and steps of a Slice of any opset; None for what is not constant."""
    if "starts" in node.attributes:
        starts, ends = tuple(node.attributes["starts"]), tuple(node.attributes["ends"])
        axes = tuple(node.attributes.get("axes", range(len(starts))))
        return starts, ends, axes, (1,) * len(starts)
    starts, ends, axes, steps = (integers(flow.graph, node.input(k)) for k in (1, 2, 3, 4))
    count = flow.shape(node.inputs[1])[0]
    if not node.input(3):
        axes = tuple(range(count))
    if not node.input(4):
        steps = (1,) * count
    return starts, ends, axes, steps


def _pinned_slice(flow: Flow, node: Node, axes: Axes, which: Sequence[int]) -> list[Axes]:
    for axis in which:
        flow.pin(axes[axis], node, "strided-slice", "takes steps or computed bounds along this axis")
        axes[axis] = None
    return [axes]


def gather(flow: Flow, node: Node) -> list[Axes]:
    """Labels of Gather: constant indices pick labels and are renumbered; others pin the axis."""
    axes = flow.axes_of(node.inputs[0])
    axis = node.attributes.get("axis", 0) % len(axes)
    picked = flow.shape(node.inputs[1])
    labels, indices = axes[axis], flow.graph.constant(node.inputs[1])
    inner: Axes = [None] * len(picked)
    if labels is not None:
        if indices is not None and indices.ndim == 1:
            inner = [labels[indices]]
            flow.remaps.append(Remap(node, 1, labels))
        else:
            flow.pin(labels, node, "indexed", "looks single entries of it up")
    return [[*axes[:axis], *inner, *axes[axis + 1 :]]]


def pad(flow: Flow, node: Node) -> list[Axes]:
    """Labels of Pad: padding along a labelled axis gets labels of its own, so it shrinks too."""
    axes = flow.axes_of(node.inputs[0])
    old = "pads" in node.attributes
    pads = tuple(node.attributes["pads"]) if old else integers(flow.graph, node.input(1))
    named = integers(flow.graph, node.input(3)) if node.input(3) else tuple(range(len(axes)))
    slot: int | str = "pads" if old else 1
    constant = node.attributes.get("mode", "constant") == "constant"
    for axis, labels in enumerate(list(axes)):
        if labels is None or (named is not None and axis not in {k % len(axes) for k in named}):
            continue
        if pads is None or named is None or not constant:
            amounts = None if pads is None or named is None else _amounts(pads, named, axis, len(axes))
            if amounts != (0, 0):
                flow.pin(labels, node, "padded", "pads this axis in a way that cannot be cut")
                axes[axis] = None
            continue
        axes[axis] = _padded(flow, node, slot, pads, [k % len(axes) for k in named].index(axis), labels, axis)
    return [axes]


def _amounts(pads: tuple[int, ...], named: tuple[int, ...], axis: int, rank: int) -> tuple[int, int]:
    place = [k % rank for k in named].index(axis)
    return pads[place], pads[place + len(named)]


def _padded(
    flow: Flow,
    node: Node,
    slot: int | str,
    pads: tuple[int, ...],
    place: int,
    labels: Labels,
    axis: int,
) -> Axis:
    before, after = pads[place], pads[place + len(pads) // 2]
    if (before, after) == (0, 0):
        return labels
    if before < 0 or after < 0:
        flow.pin(labels, node, "padded", "crops this axis by negative padding")
        return None
    parts = [labels]
    for amount, position, first in ((before, place, True), (after, place + len(pads) // 2, False)):
        if amount == 0:
            continue
        fresh = flow.fresh(node.outputs[0], axis, amount)
        if fresh is None:
            fresh = flow.fixed(node.outputs[0], axis, amount, "padding", f"{node.title} pads by one")
        flow.counts.append(Count(node, slot, pads, position, fresh))
        parts.insert(0 if first else len(parts), fresh)
    return np.concatenate(parts)


def depth_to_space(flow: Flow, node: Node) -> list[Axes]:
    """Labels of DepthToSpace: the channels that fill one block live and die together."""
    axes = flow.axes_of(node.inputs[0])
    labels, size = axes[1], node.attributes["blocksize"] ** 2
    if labels is None:
        return [[axes[0], None, None, None]]
    rows = labels.reshape(size, -1)
    if node.attributes.get("mode", "DCR") == "CRD":
        rows = labels.reshape(-1, size).T
    first: Labels = np.broadcast_to(rows[:1], rows[1:].shape).ravel()
    flow.ties.append((first, rows[1:].ravel()))
    if rows.shape[1] == 1:
        flow.pin(labels, node, "spread", "spreads all channels over space")
        return [[axes[0], None, None, None]]
    return [[axes[0], np.ascontiguousarray(rows[0]), None, None]]


def space_to_depth(flow: Flow, node: Node) -> list[Axes]:
    """Labels of SpaceToDepth: the channels repeat once per position of the block."""
    axes = flow.axes_of(node.inputs[0])
    labels = axes[1]
    tiled = None if labels is None else np.tile(labels, node.attributes["blocksize"] ** 2)
    return [[axes[0], tiled, None, None]]
