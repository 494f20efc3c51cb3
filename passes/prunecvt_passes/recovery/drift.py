"""How far every layer of a slimmed model is from the original's, before and after recovery."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from prunecvt_passes.budget import Removal
from prunecvt_passes.graph import Graph
from prunecvt_passes.groups import Bools, Groups
from prunecvt_passes.model import Array
from prunecvt_passes.recovery.aim import Aim, aim_of
from prunecvt_passes.recovery.calibration import Feed
from prunecvt_passes.recovery.linear import linear_nodes, others
from prunecvt_passes.recovery.walk import Walk

ROWS = "how many rows it has follows from the data"
RENAMED = "the original makes no tensor of that name"


@dataclass(frozen=True)
class Drift:
    """What a node with weights feeds, against the original's.

    Attributes:
        node: its title.
        weight: its weight.
        before, after: squared error of the cut model and of the recovered one over the variance of
            the original's, within the range that a Relu or a Clip behind lets through; not a number
            where there is a reason.
        reason: why recovery left the node as it was; "" where it did not.
    """

    node: str
    weight: str
    before: float = math.nan
    after: float = math.nan
    reason: str = ""


def drifts(
    dense: Graph,
    cut: Graph,
    recovered: Graph,
    groups: Groups,
    removal: Removal,
    feeds: Sequence[Feed],
) -> tuple[Drift, ...]:
    """Runs the models and compares what every linear node feeds.

    Args:
        dense: the original, with BatchNormalization folded as it is in the others.
        cut, recovered: the slimmed model before and after recovery.
        groups, removal: what was cut.
        feeds: the data to run on, which nothing was fitted on.
    """
    every = [aim_of(cut, linear, grow=False) for linear in linear_nodes(cut)]
    aims = [aim for aim in every if aim.tensor in dense.producer]
    kept = ~removal.removed[groups.class_of]
    wanted = [aim.tensor for aim in aims]
    found = [Drift(node.title, node.inputs[1], reason=reason) for node, reason in others(cut)]
    found += [_left(aim, RENAMED) for aim in every if aim.tensor not in dense.producer]
    changed = [recovered] if recovered.model is not cut.model else []
    with ExitStack() as stack:
        original, *slim = (
            stack.enter_context(Walk(graph, feeds, wanted)) for graph in (dense, cut, *changed)
        )
        for aim in aims:
            for walk in (original, *slim):
                walk.past(aim.tensor)
            errors = [_drift(original, walk, aim, groups, kept) for walk in slim]
            told = [error for error in errors if error is not None]
            node, weight = aim.linear.node.title, aim.linear.weight
            whole = len(told) == len(errors)
            found.append(Drift(node, weight, told[0], told[-1]) if whole else _left(aim, ROWS))
            for walk in (original, *slim):
                walk.release([aim.tensor])
    return tuple(found)


def _left(aim: Aim, reason: str) -> Drift:
    return Drift(aim.linear.node.title, aim.linear.weight, reason=reason)


def _drift(original: Walk, slim: Walk, aim: Aim, groups: Groups, kept: Bools) -> float | None:
    """The error; None where the two give different numbers of rows, which follow from the data."""
    gap, sums, squares, count = 0.0, np.zeros(0), np.zeros(0), 0
    for batch in range(original.batches):
        goal = without_removed(groups, kept, aim.tensor, original.get(batch, aim.tensor))
        if goal.shape != slim.get(batch, aim.tensor).shape:
            return None
        goal = _rows(np.clip(goal, aim.low, aim.high), aim)
        found = _rows(np.clip(slim.get(batch, aim.tensor), aim.low, aim.high), aim)
        gap += float(((found - goal) ** 2).sum())
        sums = goal.sum(0) + (sums if count else 0.0)
        squares = (goal**2).sum(0) + (squares if count else 0.0)
        count += len(goal)
    variance = float((squares - sums**2 / max(count, 1)).sum())
    return gap / (max(variance, 0.0) + 1e-30)


def _rows(values: Array, aim: Aim) -> Array:
    """[rows, channels] in double precision."""
    last = np.moveaxis(values, 1, -1) if aim.linear.spatial else values
    return last.reshape(-1, last.shape[-1]).astype(np.float64)


def without_removed(groups: Groups, kept: Bools, tensor: str, values: Array) -> Array:
    """A tensor of the original without the removed channels; ``kept`` is by label."""
    for axis, labels in enumerate(groups.channels.axes.get(tensor, ())):
        if labels is not None and labels.size == values.shape[axis]:
            keep = kept[labels]
            if not keep.all():
                values = np.compress(keep, values, axis=axis)
    return values
