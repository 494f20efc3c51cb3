"""Operators that lay data out anew: labels repeat where axes merge and tie where they split."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from prunecvt_passes.flow import Axes, Axis, Count, Flow, Labels, Split
from prunecvt_passes.graph import Node, integers
from prunecvt_passes.repeats import folded
from prunecvt_passes.rules.normalisation import normalised_across
from prunecvt_passes.rules.resizing import count_entries

_FLAT = 1 << 22  # labels of a joint array; beyond it the axes are pinned


def reshape(flow: Flow, node: Node) -> list[Axes]:
    """Labels of Reshape; its target is rewritten where it states a labelled size."""
    axes = reshaped(flow, node)
    if flow.graph.opset >= 5:
        count_entries(flow, node, 1, _stated(flow, node, axes), skip=(-1,))
        if integers(flow.graph, node.inputs[1]) is None:
            counted = flow.sizes.get(node.inputs[1], [None] * len(axes))
            axes = [
                None if size is None else labels for size, labels in zip(counted, axes, strict=True)
            ]
    else:
        values = tuple(node.attributes["shape"])
        for position, labels in enumerate(axes):
            if labels is not None and values[position] != -1:
                flow.counts.append(Count(node, "shape", values, position, labels))
    return [axes]


def _stated(flow: Flow, node: Node, axes: Axes) -> Axes:
    """The labels whose number the target may state: a zero copies one that changes size."""
    values, name = integers(flow.graph, node.inputs[1]), node.outputs[0]
    if values is None or not any((name, axis) in flow.repeating for axis in range(len(axes))):
        return axes
    stated, given = list(axes), flow.axes_of(node.inputs[0])
    for axis, labels in enumerate(axes):
        if labels is not None and (name, axis) in flow.repeating and values[axis] == 0:
            copied = given[axis] if axis < len(given) else None
            if copied is None or not np.array_equal(copied, labels):
                flow.pin(labels, node, "dynamic-axis", "copies a size that does not follow it")
            stated[axis] = None
    return stated


def squeeze(flow: Flow, node: Node) -> list[Axes]:
    """Labels of Squeeze and Unsqueeze: a Reshape that states no size."""
    return [reshaped(flow, node)]


def flatten(flow: Flow, node: Node) -> list[Axes]:
    """Labels of Flatten: a Reshape that states no size."""
    return [reshaped(flow, node)]


def reshaped(flow: Flow, node: Node) -> Axes:
    """Labels after the data of input 0 was laid out anew in the shape of output 0."""
    name, target = node.inputs[0], node.outputs[0]
    before, moving, axes = folded(flow, name)
    after, changing, made = flow.shape(target), flow.graph.dynamic(target), flow.plain(target)
    if 0 in before:
        flow.pin_tensor(name, node, "empty", "lays out a tensor without elements")
        return made
    for inside, outside in blocks(before, after, moving, changing):
        carried = [k for k in inside if axes[k] is not None]
        wide = [k for k in outside if after[k] > 1]
        if not carried:
            continue
        repeats = any(moving[k] for k in inside) and not any(
            moving[k] for k in range(carried[0], inside[-1] + 1)
        )
        if repeats:
            flow.repeating.update((target, k) for k in outside if changing[k])
        if len(wide) == 1 and len([k for k in inside if before[k] > 1]) == 1:
            made[wide[0]] = axes[carried[0]]
        elif not _steady(before, inside, moving, carried[0], after, outside, changing):
            for k in carried:
                flow.pin(axes[k], node, "mixed-axis", "mixes it with an axis of changing size")
        else:
            joint = _joint(flow, node, axes, before, inside, carried)
            if joint is not None:
                shaped = joint.reshape([after[k] for k in wide])
                mixed = normalised_across(flow, target)
                barred = [(changing[k] and not repeats) or k in mixed for k in wide]
                spread = divided(flow, node, shaped, barred, wide[0])
                for k, labels in zip(wide, spread, strict=True):
                    made[k] = labels
    return made


def _joint(
    flow: Flow,
    node: Node,
    axes: Axes,
    before: Sequence[int],
    inside: Sequence[int],
    carried: Sequence[int],
) -> Axis:
    """The labels of one axis, repeated over the axes that a Reshape merges it with."""
    sizes = [before[k] for k in inside]
    first = axes[carried[0]]
    for k in carried[1:]:
        flow.pin(axes[k], node, "merged-axes", "merges two axes that could both be cut")
    if first is None or int(np.prod(sizes)) > _FLAT:
        flow.pin(first, node, "too-large", "joins it with too many other entries")
        return None
    shape = [before[k] if k == carried[0] else 1 for k in inside]
    return np.broadcast_to(first.reshape(shape), sizes)


def _steady(
    before: Sequence[int],
    inside: Sequence[int],
    moving: Sequence[bool],
    carried: int,
    after: Sequence[int],
    outside: Sequence[int],
    changing: Sequence[bool],
) -> bool:
    """Whether a block of a Reshape lays its labels out alike at every size of its dynamic axes.

    With the dynamic axes merged into one, both sides are [outer, dynamic, inner]; labels keep their
    pattern where these sizes divide one another.
    """
    first, second = _around(before, inside, moving), _around(after, outside, changing)
    if first is None or second is None:
        return first is second
    (outer, between, inner), (new_outer, new_between, new_inner) = first, second
    if max(between, new_between) > 1:
        return False
    if outer % new_outer == 0 and inner % new_inner == 0:
        return True
    if carried > max(k for k in inside if moving[k]):
        return new_inner % inner == 0
    return new_outer % outer == 0


def _around(
    sizes: Sequence[int], axes: Sequence[int], dynamic: Sequence[bool]
) -> tuple[int, int, int] | None:
    """Products of the fixed sizes before, between and after the dynamic axes; None without any."""
    places = [k for k in axes if dynamic[k]]
    if not places:
        return None
    fixed = [k for k in axes if not dynamic[k]]
    return (
        math.prod(sizes[k] for k in fixed if k < places[0]),
        math.prod(sizes[k] for k in fixed if places[0] < k < places[-1]),
        math.prod(sizes[k] for k in fixed if k > places[-1]),
    )


def blocks(
    before: Sequence[int],
    after: Sequence[int],
    moving: Sequence[bool] = (),
    changing: Sequence[bool] = (),
) -> list[tuple[list[int], list[int]]]:
    """Pairs the smallest runs of axes with equal products on both sides of a Reshape.

    A run with an axis of changing size pairs only with another such run: sizes that are equal at
    the probed size alone pair nothing.
    """
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
            alike = any(moving[k] for k in inside if moving) == any(
                changing[k] for k in outside if changing
            )
            if left == right and inside and outside and alike:
                break
            if i >= len(before) and j >= len(after):
                break
        found.append((inside, outside))
    return found


def divided(flow: Flow, node: Node, joint: Labels, barred: Sequence[bool], place: int = 0) -> Axes:
    """Labels by axis of a joint array: the axis along which they vary carries on.

    Where they vary along several, one carries on and the labels are tied across the others: the
    innermost that is not barred (a channel shuffle), if the walk was not told otherwise (the heads
    of an attention).

    Args:
        flow: the walk.
        node: the Reshape.
        joint: labels, laid out as the data is.
        barred: for each axis, whether its labels would be lost: it changes size, or a normalisation
            works across it.
        place: the first of the axes in the output.
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
    order = [k for k in reversed(varies) if not barred[k]] or varies[-1:]
    key = (node.index, place)
    axis = flow.carrying.get(key, order[0])
    axis = axis if axis in varies else order[0]
    rows = np.moveaxis(joint, axis, -1).reshape(-1, joint.shape[axis])
    carried: Labels = np.ascontiguousarray(rows[0])
    if len(varies) > 1:
        first: Labels = np.broadcast_to(rows[:1], rows[1:].shape).ravel()
        flow.ties.append((first, rows[1:].ravel()))
        flow.splits.append(Split(key, tuple(order), joint.ravel(), carried))
    made[axis] = carried
    return made
