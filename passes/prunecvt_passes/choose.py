"""The pass that chooses under a ratio or a threshold: widths by group, and which channels go.

Removes the lowest scores first; equal scores by the order of the groups and of their channels, so
that the same model always gives the same plan.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prunecvt_passes.budget import (
    Budget,
    Removal,
    check,
    floor_of,
    open_groups,
    rounded,
    stated_ratio,
    step_of,
    without_empty,
)
from prunecvt_passes.groups import Bools, Group, Groups
from prunecvt_passes.score import Scores
from prunecvt_passes.widths import sharing


def choose(groups: Groups, scores: Scores, budget: Budget) -> Removal:
    """Turns scores into a removal.

    Raises:
        UsageError: E212, a ratio out of range; E213, a pattern that matches nothing.
    """
    check(groups, budget)
    reasons: dict[int, str] = {}
    opened = open_groups(groups, budget, reasons)
    wanted = sharing(groups, opened, scores, budget).widths(budget.ratio)
    removed = lowest(groups, opened, scores, budget, wanted)
    for group in opened:
        if not removed[group.classes].any():
            reasons[group.id] = _why_whole(groups, group, wanted[group.id], budget)
    return Removal(removed, reasons)


def lowest(
    groups: Groups, opened: Sequence[Group], scores: Scores, budget: Budget, wanted: dict[int, int]
) -> Bools:
    """Class -> whether it goes, with ``wanted`` channels of each group left, rounded up."""
    removed = np.zeros(groups.total, bool)
    for group in opened:
        gone = group.size - rounded(group, wanted[group.id], budget)
        order = np.argsort(scores.values[group.classes], kind="stable")
        removed[group.classes[order[:gone]]] = True
    return without_empty(groups, scores.values, removed)


def _why_whole(groups: Groups, group: Group, count: int, budget: Budget) -> str:
    """Why a group is whole that should keep ``count`` of its channels."""
    stated = stated_ratio(groups, group, budget)
    floor = floor_of(group, budget, stated)
    if count < group.size and rounded(group, count, budget) < group.size:
        return "its channels are the last ones of a tensor"
    if count < group.size:
        step = step_of(group, budget.round_to)
        return f"keeps {count} of {group.size}, which rounds up to all by steps of {step}"
    if floor == group.size:
        return f"it has {group.size} channels, and {floor} must stay"
    if stated is not None:
        return f"the ratio stated for it, {stated:g}, takes none of its channels"
    if budget.threshold is not None:
        return "none of its channels scores below the threshold"
    return "the ratio takes none of its channels"
