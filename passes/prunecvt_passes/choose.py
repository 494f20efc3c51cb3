"""Allocation: which classes go, under a ratio, with floors, patterns and width steps.

Removes the lowest scores first; equal scores by the order of the groups and of their channels, so
that the same model always gives the same plan.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from prunecvt_passes.errors import UsageError
from prunecvt_passes.groups import Bools, Group, Groups, Ints
from prunecvt_passes.score import Scores
from prunecvt_passes.target import Target

Scope = Literal["layer", "global", "error"]
STEP = 8  # channels; both runtimes' kernels step by 8, and onnxruntime's blocked path needs 4 or 8


@dataclass(frozen=True)
class Budget:
    """How much to cut and where.

    Attributes:
        ratio: share of the channels that can be cut, 0 to below 1; rounded down to whole channels,
            to the nearest number of whole heads or other units of ``STEP`` channels and more.
        scope: ``layer`` takes that share of every group, ``global`` one threshold over all of them
            (Network Slimming; Liu et al., 2017), ``error`` what costs least (``allocate.py``).
        round_to: ``auto``, or the multiple that widths are rounded up to.
        min_channels: no group goes below it, unless it is smaller.
        max_ratio_per_layer: no group loses a larger share.
        keep: patterns of names (node or tensor) whose groups stay whole.
        only: where given, groups that match none of these patterns stay whole.
        target: what may be left, instead of ``ratio``; it is taken as by ``error``.
        fold: whether BatchNormalization will be folded, which saves parameters too.
    """

    ratio: float = 0.4
    scope: Scope = "layer"
    round_to: Literal["auto"] | int = "auto"
    min_channels: int = 1
    max_ratio_per_layer: float = 0.9
    keep: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    target: Target | None = None
    fold: bool = True


@dataclass(frozen=True)
class Removal:
    """What goes.

    Attributes:
        removed: class -> whether it goes.
        reasons: group id -> why a group that could be cut is whole; cut groups are absent.
    """

    removed: Bools
    reasons: dict[int, str]


def choose(groups: Groups, scores: Scores, budget: Budget) -> Removal:
    """Turns scores into a removal.

    Raises:
        UsageError: E212, a ratio out of range; E213, a pattern that matches nothing.
    """
    check(groups, budget)
    reasons: dict[int, str] = {}
    open_groups = [g for g in groups.groups if is_open(groups, g, budget, reasons)]
    wanted = _wanted(groups, open_groups, scores, budget)
    removed = np.zeros(groups.total, bool)
    for group in open_groups:
        count, reason = _rounded(group, wanted[group.id], budget)
        if count == group.size:
            reasons[group.id] = reason
            continue
        order = np.argsort(scores.values[group.classes], kind="stable")
        removed[group.classes[order[: group.size - count]]] = True
    removed = without_empty(groups, scores, removed)
    for group in open_groups:
        if not removed[group.classes].any():
            reasons.setdefault(group.id, "its channels are the last ones of a tensor")
    return Removal(removed, reasons)


def check(groups: Groups, budget: Budget) -> None:
    """Refuses a budget that makes no sense for these groups."""
    for name, value, fits in (
        ("--ratio", budget.ratio, 0 <= budget.ratio < 1),
        ("--max-ratio-per-layer", budget.max_ratio_per_layer, 0 <= budget.max_ratio_per_layer <= 1),
    ):
        if not fits:
            raise UsageError(
                "E212", f"{name} {value} is out of range", help="give a share such as 0.4"
            )
    if budget.round_to != "auto" and budget.round_to < 1:
        raise UsageError("E212", f"--round-to {budget.round_to} is out of range", help="1 or more")
    names = {name for group in groups.groups for name in _names(groups, group)}
    names |= {name for f in groups.fixed for name in (f.producer.node.name, f.producer.tensor)}
    source, some = groups.channels.graph.model.source, ", ".join(sorted(names)[:6])
    for pattern in (*budget.keep, *budget.only):
        if not fnmatch.filter(names, pattern):
            raise UsageError(
                "E213",
                f"no layer matches the pattern '{pattern}'",
                where=f"{source}: it has {some} ...",
                help="'prunecvt inspect --json' lists the names in full",
            )


def _names(groups: Groups, group: Group) -> set[str]:
    producer = groups.channels.graph.producer
    return {name for tensor in group.members for name in (tensor, producer[tensor].name) if name}


def _matches(names: set[str], patterns: Sequence[str]) -> str:
    return next((p for p in patterns if fnmatch.filter(names, p)), "")


def is_open(groups: Groups, group: Group, budget: Budget, reasons: dict[int, str]) -> bool:
    """Whether the budget lets the group be cut; if not, ``reasons`` gets why."""
    names = _names(groups, group)
    kept = _matches(names, budget.keep)
    if kept:
        reasons[group.id] = f"kept: it matches --keep {kept}"
    elif budget.only and not _matches(names, budget.only):
        reasons[group.id] = "kept: it matches no --only pattern"
    elif group.size < 2:
        reasons[group.id] = "it has one channel"
    return group.id not in reasons


def floor_of(group: Group, budget: Budget) -> int:
    """Fewest classes the group may keep."""
    step = STEP if group.per_group else -(-STEP // group.channels)  # a class may be a whole head
    least = max(1, budget.min_channels, step if budget.round_to == "auto" else 1)
    capped = group.size - math.floor(budget.max_ratio_per_layer * group.size + 1e-9)
    return min(group.size, max(least, capped))


def _wanted(
    groups: Groups, open_groups: list[Group], scores: Scores, budget: Budget
) -> dict[int, int]:
    """Group id -> channels to keep before rounding."""
    if budget.scope == "layer":
        return {
            g.id: max(g.size - _share(g, budget.ratio), floor_of(g, budget)) for g in open_groups
        }
    taken = _lowest(groups, open_groups, scores, budget)
    return {g.id: g.size - int(taken[g.classes].sum()) for g in open_groups}


def _share(group: Group, ratio: float) -> int:
    """Classes that the ratio takes: the nearest count where a class is a head or a group."""
    exact = ratio * group.size
    if group.channels < STEP:
        return math.floor(exact + 1e-9)
    return max(math.floor(exact + 1e-9), math.ceil(exact - 0.5 - 1e-9))


def _lowest(groups: Groups, open_groups: list[Group], scores: Scores, budget: Budget) -> Bools:
    """Class -> whether one threshold over all groups takes it, no group below its floor."""
    taken = np.zeros(groups.total, bool)
    candidates: list[Ints] = []
    for group in open_groups:
        order = np.argsort(scores.values[group.classes], kind="stable")
        candidates.append(group.classes[order[: group.size - floor_of(group, budget)]])
    if candidates:
        pool = np.concatenate(candidates)
        count = math.floor(budget.ratio * sum(g.size for g in open_groups) + 1e-9)
        lowest = np.argsort(scores.values[pool], kind="stable")[:count]
        taken[pool[lowest]] = True
    return taken


def step_of(group: Group, round_to: Literal["auto"] | int) -> int:
    """Step in classes such that every width the group decides is a multiple of ``round_to``.

    The blocked convolutions want the multiple within each group of a grouped convolution.
    """
    multiple = STEP if round_to == "auto" else round_to
    if group.per_group:
        return multiple
    return multiple // math.gcd(multiple, group.channels)


def _rounded(group: Group, count: int, budget: Budget) -> tuple[int, str]:
    """Channels to keep after rounding up, and why the group is whole if that is all of them."""
    step = step_of(group, budget.round_to)
    rounded = min(group.size, -(-count // step) * step)
    if count == group.size:
        floor = floor_of(group, budget)
        if floor == group.size:
            return count, f"it has {group.size} channels, and {floor} must stay"
        return count, "the ratio takes none of its channels"
    return rounded, f"keeps {count} of {group.size}, which rounds up to all by steps of {step}"


def without_empty(groups: Groups, scores: Scores, removed: Bools) -> Bools:
    """Gives the best channel back to any labelled axis that would lose all of its channels."""
    removed = removed.copy()
    for axes in groups.channels.axes.values():
        for labels in axes:
            if labels is not None:
                classes = groups.class_of[labels]
                if removed[classes].all():
                    removed[classes[np.argmax(scores.values[classes])]] = False
    return removed
