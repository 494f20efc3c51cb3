"""Operators that move data: run on the labels as they run on the data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prunecvt_passes.flow import Axes, Axis, Count, Flow, Labels, Remap
from prunecvt_passes.graph import Node, integers


def transpose(flow: Flow, node: Node) -> list[Axes]:
    """Labels of Transpose."""
    axes = flow.axes_of(node.inputs[0])
    order = node.attributes.get("perm") or range(len(axes))[::-1]
    return [[axes[axis] for axis in order]]


def concat(flow: Flow, node: Node) -> list[Axes]:
    """Labels of Concat: end to end along its axis, tied along the others."""
    shape = flow.shape(node.outputs[0])
    along = node.attributes.get("axis", 1) % len(shape)
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
    for position, piece in enumerate(np.split(labels, np.cumsum(sizes)[:-1])):
        made[position][along] = piece
        flow.counts.append(Count(node, slot, sizes, position, piece, unless="num_outputs"))
    return made


def slice_(flow: Flow, node: Node) -> list[Axes]:
    """Labels of Slice: a run of them; its bounds become the numbers kept before them."""
    axes = flow.axes_of(node.inputs[0])
    starts, ends, named, steps = _bounds(flow, node)
    if named is None:
        return _pinned_slice(flow, node, axes, range(len(axes)))
    slots: tuple[int | str, int | str] = (
        ("starts", "ends") if "starts" in node.attributes else (1, 2)
    )
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
        first, last = tuple(node.attributes["starts"]), tuple(node.attributes["ends"])
        return first, last, tuple(node.attributes.get("axes", range(len(first)))), (1,) * len(first)
    starts, ends, axes, steps = (integers(flow.graph, node.input(k)) for k in (1, 2, 3, 4))
    count = flow.shape(node.inputs[1])[0]
    if not node.input(3):
        axes = tuple(range(count))
    if not node.input(4):
        steps = (1,) * count
    return starts, ends, axes, steps


def _pinned_slice(flow: Flow, node: Node, axes: Axes, which: Sequence[int]) -> list[Axes]:
    for axis in which:
        flow.pin(
            axes[axis], node, "strided-slice", "takes steps or computed bounds along this axis"
        )
        axes[axis] = None
    return [axes]


def gather(flow: Flow, node: Node) -> list[Axes]:
    """Labels of Gather: constant indices pick labels and are renumbered; others pin the axis."""
    axes = flow.axes_of(node.inputs[0])
    axis = node.attributes.get("axis", 0) % len(axes)
    picked = flow.shape(node.inputs[1])
    labels, indices = axes[axis], flow.graph.constant(node.inputs[1])
    inner: Axes = [None] * len(picked)
    flow.pin_tensor(node.inputs[1], node, "indexed", "takes indices from it")
    if labels is not None:
        if indices is not None and indices.ndim == 1:
            inner = [labels[indices]]
            flow.remaps.append(Remap(node, 1, labels))
        else:
            flow.pin(labels, node, "indexed", "looks single entries of it up")
    return [[*axes[:axis], *inner, *axes[axis + 1 :]]]


def gather_nd(flow: Flow, node: Node) -> list[Axes]:
    """Labels of GatherND: the axes that whole entries are taken of carry on, the others stay."""
    axes, picked = flow.axes_of(node.inputs[0]), flow.shape(node.inputs[1])
    looked_up = node.attributes.get("batch_dims", 0) + picked[-1]
    for labels in axes[:looked_up]:
        flow.pin(labels, node, "indexed", "looks single entries of it up")
    flow.pin_tensor(node.inputs[1], node, "indexed", "takes indices from it")
    return [[*[None] * (len(picked) - 1), *axes[looked_up:]]]


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
            amounts = (
                None if pads is None or named is None else _amounts(pads, named, axis, len(axes))
            )
            if amounts != (0, 0):
                flow.pin(labels, node, "padded", "pads this axis in a way that cannot be cut")
                axes[axis] = None
            continue
        axes[axis] = _padded(
            flow, node, slot, pads, [k % len(axes) for k in named].index(axis), labels, axis
        )
    return [axes]


def _amounts(
    pads: tuple[int, ...], named: tuple[int, ...], axis: int, rank: int
) -> tuple[int, int]:
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
            fresh = flow.fixed(
                node.outputs[0], axis, amount, "padding", f"{node.title} pads by one"
            )
        flow.counts.append(Count(node, slot, pads, position, fresh))
        parts.insert(0 if first else len(parts), fresh)
    return np.concatenate(parts)


def depth_to_space(flow: Flow, node: Node) -> list[Axes]:
    """Labels of DepthToSpace: the channels that fill one block live and die together."""
    flow.pin_across(node, 2)
    axes = flow.axes_of(node.inputs[0])
    labels, size = axes[1], node.attributes["blocksize"] ** 2
    made: Axes = [axes[0], None, None, None]
    if labels is None:
        return [made]
    rows = labels.reshape(size, -1)
    if node.attributes.get("mode", "DCR") == "CRD":
        rows = labels.reshape(-1, size).T
    if rows.shape[1] == 1:
        flow.pin(labels, node, "spread", "spreads all channels over space")
        return [made]
    first: Labels = np.broadcast_to(rows[:1], rows[1:].shape).ravel()
    flow.ties.append((first, rows[1:].ravel()))
    made[1] = np.ascontiguousarray(rows[0])
    return [made]


def space_to_depth(flow: Flow, node: Node) -> list[Axes]:
    """Labels of SpaceToDepth: the channels repeat once per position of the block."""
    flow.pin_across(node, 2)
    axes = flow.axes_of(node.inputs[0])
    labels = axes[1]
    tiled = None if labels is None else np.tile(labels, node.attributes["blocksize"] ** 2)
    return [[axes[0], tiled, None, None]]
