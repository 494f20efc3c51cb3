"""What may be cut and how much of it: budgets, floors, width steps, and what goes in the end."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from prunecvt_passes.errors import UsageError
from prunecvt_passes.groups import Bools, Group, Groups
from prunecvt_passes.score import Floats
from prunecvt_passes.target import Target

Scope = Literal["auto", "layer", "global", "erk", "lamp", "error", "search"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
STEP = 8  # channels; both runtimes' kernels step by 8, and onnxruntime's blocked path needs 4 or 8


@dataclass(frozen=True)
class Budget:
    """How much to cut and where.

    Attributes:
        ratio: share of the channels that can be cut, 0 to below 1; rounded down to whole channels,
            to the nearest number of whole heads or other units of ``STEP`` channels and more.
        scope: how the groups share it (``widths.py``): ``layer``, ``global``, ``erk``, ``lamp``; by
            what it costs (``recovery/allocate.py``): ``error``, and ``search``, which tries it out
            (``recovery/search.py``). ``auto`` is ``error`` under a target, else ``layer``.
        round_to: ``auto``, or the multiple that widths are rounded up to.
        min_channels: no group goes below it, unless it is smaller.
        max_ratio_per_layer: no group loses a larger share, unless ``ratios`` says so.
        keep: patterns of names (node or tensor) whose groups stay whole.
        only: where given, groups that match none of these patterns stay whole.
        target: what may be left, instead of ``ratio``.
        fold: whether BatchNormalization will be folded, which saves parameters too.
        threshold: channels that score less go, instead of ``ratio`` and ``target``.
        ratios: (pattern, ratio) of groups that lose just that; the last that matches counts.
    """

    ratio: float = 0.4
    scope: Scope = "auto"
    round_to: Literal["auto"] | int = "auto"
    min_channels: int = 1
    max_ratio_per_layer: float = 0.9
    keep: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    target: Target | None = None
    fold: bool = True
    threshold: float | None = None
    ratios: tuple[tuple[str, float], ...] = ()

    @property
    def way(self) -> Scope:
        """The scope that is meant."""
        if self.scope != "auto":
            return self.scope
        return "layer" if self.target is None else "error"

    @property
    def by_cost(self) -> bool:
        """Whether what is saved has to be worked out to choose."""
        return self.target is not None or self.way in ("error", "search")


@dataclass(frozen=True)
class Removal:
    """What goes.

    Attributes:
        removed: class -> whether it goes.
        reasons: group id -> why a group that could be cut is whole; cut groups are absent.
    """

    removed: Bools
    reasons: dict[int, str]


def check_ranges(budget: Budget) -> None:
    """Refuses shares and multiples that make no sense for any model.

    Raises:
        UsageError: E212.
    """
    for name, value, fits in (
        ("--ratio", budget.ratio, 0 <= budget.ratio < 1),
        *(("--ratio-of", ratio, 0 <= ratio < 1) for _, ratio in budget.ratios),
        ("--max-ratio-per-layer", budget.max_ratio_per_layer, 0 <= budget.max_ratio_per_layer <= 1),
    ):
        if not fits:
            raise UsageError(
                "E212", f"{name} {value} is out of range", help="give a share such as 0.4"
            )
    if budget.round_to != "auto" and budget.round_to < 1:
        raise UsageError("E212", f"--round-to {budget.round_to} is out of range", help="1 or more")


def check(groups: Groups, budget: Budget) -> None:
    """Refuses a budget that makes no sense for these groups.

    Raises:
        UsageError: E212, a ratio out of range; E213, a pattern that matches nothing.
    """
    check_ranges(budget)
    names = {name for group in groups.groups for name in _names(groups, group)}
    names |= {name for f in groups.fixed for name in (f.producer.node.name, f.producer.tensor)}
    source, some = groups.channels.graph.model.source, ", ".join(sorted(names)[:6])
    for pattern in (*budget.keep, *budget.only, *(pattern for pattern, _ in budget.ratios)):
        if not fnmatch.filter(names, pattern):
            raise UsageError(
                "E213",
                f"no layer matches the pattern '{pattern}'",
                where=f"{source}: it has {some} ...",
                help="'prunecvt inspect --json' lists the names in full",
            )


def open_groups(groups: Groups, budget: Budget, reasons: dict[int, str]) -> list[Group]:
    """The groups that the budget lets be cut; ``reasons`` gets why the others are not."""
    return [group for group in groups.groups if _is_open(groups, group, budget, reasons)]


def _is_open(groups: Groups, group: Group, budget: Budget, reasons: dict[int, str]) -> bool:
    names = _names(groups, group)
    kept = _matches(names, budget.keep)
    if kept:
        reasons[group.id] = f"kept: it matches --keep {kept}"
    elif budget.only and not _matches(names, budget.only):
        reasons[group.id] = "kept: it matches no --only pattern"
    elif group.size < 2:
        reasons[group.id] = "it has one channel"
    return group.id not in reasons


def _names(groups: Groups, group: Group) -> set[str]:
    producer = groups.channels.graph.producer
    return {name for tensor in group.members for name in (tensor, producer[tensor].name) if name}


def _matches(names: set[str], patterns: Sequence[str]) -> str:
    return next((p for p in patterns if fnmatch.filter(names, p)), "")


def stated_ratio(groups: Groups, group: Group, budget: Budget) -> float | None:
    """The ratio that a pattern states for the group; None where none does."""
    names = _names(groups, group) if budget.ratios else set()
    found = [ratio for pattern, ratio in budget.ratios if fnmatch.filter(names, pattern)]
    return found[-1] if found else None


def floor_of(group: Group, budget: Budget, stated: float | None = None) -> int:
    """Fewest classes the group may keep, also where a ratio is stated for it."""
    step = STEP if group.per_group else -(-STEP // group.channels)  # a class may be a whole head
    least = max(1, budget.min_channels, step if budget.round_to == "auto" else 1)
    most = max(budget.max_ratio_per_layer, stated or 0.0)
    capped = group.size - math.floor(most * group.size + 1e-9)
    return min(group.size, max(least, capped))


def share_of(group: Group, ratio: float) -> int:
    """Classes that a ratio takes: the nearest count where a class is a head or a group."""
    exact = ratio * group.size
    if group.channels < STEP:
        return math.floor(exact + 1e-9)
    return max(math.floor(exact + 1e-9), math.ceil(exact - 0.5 - 1e-9))


def step_of(group: Group, round_to: Literal["auto"] | int) -> int:
    """Step in classes such that every width the group decides is a multiple of ``round_to``.

    The blocked convolutions want the multiple within each group of a grouped convolution.
    """
    multiple = STEP if round_to == "auto" else round_to
    if group.per_group:
        return multiple
    return multiple // math.gcd(multiple, group.channels)


def rounded(group: Group, count: int, budget: Budget) -> int:
    """Classes to keep instead of ``count`` so that widths are multiples."""
    step = step_of(group, budget.round_to)
    return min(group.size, -(-count // step) * step)


def without_empty(groups: Groups, values: Floats, removed: Bools) -> Bools:
    """Gives the best channel back to any labelled axis that would lose all of its channels.

    ``values`` says which is best, of equals the first: one number per class.
    """
    removed = removed.copy()
    for axes in groups.channels.axes.values():
        for labels in axes:
            if labels is not None:
                classes = groups.class_of[labels]
                if removed[classes].all():
                    removed[classes[np.argmax(values[classes])]] = False
    return removed
