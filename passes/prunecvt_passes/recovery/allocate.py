"""The pass that chooses by what is saved: under a target, or where channels cost least error.

``error`` takes channels where their error is small for what it saves. The scores of a cumulative
criterion (``obs``, ``thinet``, ``lasso``) are errors already, and are the curves; those of any
other are added up in the order of the channels. What a group passes on is the share that is left of
its sum, and groups follow each other: shares left multiply, so that their logarithms add up, and a
group's error is -log(share left) by its sum. A plain sum would take one group to its floor before
it touched the next. Under a target, every other scope takes the smallest ratio that meets it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from prunecvt_passes.budget import (
    Budget,
    Removal,
    check,
    floor_of,
    open_groups,
    share_of,
    stated_ratio,
    step_of,
    without_empty,
)
from prunecvt_passes.choose import lowest
from prunecvt_passes.groups import Bools, Group, Groups, Ints
from prunecvt_passes.normalise import Dense
from prunecvt_passes.recovery.curve import Curve
from prunecvt_passes.recovery.normal import Floats
from prunecvt_passes.recovery.prices import Prices, prices
from prunecvt_passes.recovery.reach import reached
from prunecvt_passes.recovery.spend import Offer, spend
from prunecvt_passes.score import Scores
from prunecvt_passes.widths import Sharing, sharing

_HALVINGS = 20
_FINITE = 1.001  # of a group's sum: the error of all that it has stays a number


def allocate(dense: Dense, groups: Groups, scores: Scores, budget: Budget) -> Removal:
    """Turns scores into a removal that is small in error, or in ratio, for what it saves.

    Raises:
        UsageError: E212, E213 as ``choose``; E217, a target that cannot be reached.
    """
    asked, reasons = _asked(groups, scores, budget)
    if budget.target is None:
        cost_of = prices(groups, "channels")
        removed = asked.removed(cost_of, cost_of.total(cost_of.sizes) - asked.channels())
    else:
        removed = reached(dense, groups, budget.target, budget.fold, asked.removed)
    return asked.because(removed, reasons)


def allocate_within(
    groups: Groups, scores: Scores, budget: Budget, cost_of: Prices, share: float
) -> Removal | None:
    """The removal that leaves most and no more than a share of what the model costs.

    Args:
        groups, scores: as for ``allocate``.
        budget: floors, steps and the scope; its target says nothing.
        cost_of: prices in any currency.
        share: of what the whole model costs by them.

    Returns:
        None where no removal leaves so little.

    Raises:
        UsageError: E212, E213 as ``choose``.
    """
    asked, reasons = _asked(groups, scores, budget)
    goal = share * cost_of.total(cost_of.sizes)
    removed = asked.removed(cost_of, goal)
    if cost_of.total(asked.kept(removed)) > goal * (1 + 1e-6):
        return None
    return asked.because(removed, reasons)


def _asked(groups: Groups, scores: Scores, budget: Budget) -> tuple[_Asked, dict[int, str]]:
    """What is asked for, and why some groups may not be cut."""
    check(groups, budget)
    reasons: dict[int, str] = {}
    return _Asked(groups, open_groups(groups, budget, reasons), scores, budget), reasons


@dataclass(frozen=True)
class _Asked:
    """What may go and what it is worth."""

    groups: Groups
    opened: list[Group]
    scores: Scores
    budget: Budget

    def channels(self) -> int:
        """Channels that the ratio takes, and those that stated ratios take beside."""
        free, given = 0, 0
        for group in self.opened:
            if stated_ratio(self.groups, group, self.budget) is None:
                free += group.size
            else:
                given += int(self._counts(group, group.size)[0])
        return math.floor(self.budget.ratio * free + 1e-9) + given

    def removed(self, model_of: Prices, goal: float) -> Bools:
        """What goes so that no more than ``goal`` is left; all that may go if none does."""
        way = self.by_error if self.budget.way == "error" else self.by_ratio
        return way(model_of, goal)

    def because(self, removed: Bools, reasons: dict[int, str]) -> Removal:
        """The removal, and why those groups stay whole that might have been cut."""
        for group in self.opened:
            if not removed[group.classes].any():
                reasons[group.id] = _why_whole(self.groups, group, self.budget)
        return Removal(removed, reasons)

    def by_error(self, model_of: Prices, goal: float) -> Bools:
        """Spends; a channel that is the last of a tensor is kept, and it is spent anew without."""
        protected = np.zeros(self.groups.total, bool)
        while True:
            offers = {g.id: self._offer(g, protected) for g in self.opened}
            removed = np.zeros(self.groups.total, bool)
            for group, count in spend(offers, model_of, goal).items():
                classes = self.groups.groups[group].classes
                removed[classes[offers[group].curve.order[:count]]] = True
            back = removed & ~without_empty(self.groups, self.scores.values, removed)
            if not back.any():
                return removed
            protected |= back

    def by_ratio(self, model_of: Prices, goal: float) -> Bools:
        """The smallest ratio of the scope that leaves no more; all that may go if none does."""
        shared = sharing(self.groups, self.opened, self.scores, self.budget)
        low, high = 0.0, 1.0 - 2.0**-_HALVINGS
        best = self._at(shared, high)
        for _ in range(_HALVINGS):
            ratio = (low + high) / 2
            removed = self._at(shared, ratio)
            if model_of.total(self.kept(removed)) <= goal * (1 + 1e-9):
                high, best = ratio, removed
            else:
                low = ratio
        return best

    def _at(self, shared: Sharing, ratio: float) -> Bools:
        wanted = shared.widths(ratio)
        return lowest(self.groups, self.opened, self.scores, self.budget, wanted)

    def kept(self, removed: Bools) -> Floats:
        """[groups] classes that are left."""
        return np.array([(~removed[g.classes]).sum() for g in self.groups.groups], np.float64)

    def _offer(self, group: Group, protected: Bools) -> Offer:
        """A group's curve, and the counts that its floor and its step allow."""
        values = self.scores.values[group.classes]
        stays = protected[group.classes]
        order = np.lexsort((values, stays))
        errors = values[order] if self.scores.cumulative else _added(values[order])
        counts = self._counts(group, group.size - int(stays.sum()))
        return Offer(Curve(order, np.concatenate([[0.0], np.maximum.accumulate(errors)])), counts)

    def _counts(self, group: Group, most: int) -> Ints:
        """How many may go, of which ``most`` are not the last of a tensor."""
        stated = stated_ratio(self.groups, group, self.budget)
        step = step_of(group, self.budget.round_to)
        most = min(most, group.size - floor_of(group, self.budget, stated))
        counts: Ints = np.arange(most + 1)
        allowed = (counts == 0) | ((group.size - counts) % step == 0)
        if stated is not None:
            allowed &= counts <= share_of(group, stated)
        found: Ints = counts[allowed]
        return found if stated is None else found[-1:]


def _added(values: Floats) -> Floats:
    """The error once each of these channels went too, from what each is worth by itself."""
    gone: Floats = np.cumsum(values)
    total = _FINITE * float(gone[-1])
    return -total * np.log1p(-gone / total) if total > 0 else gone


def _why_whole(groups: Groups, group: Group, budget: Budget) -> str:
    stated = stated_ratio(groups, group, budget)
    floor, step = floor_of(group, budget, stated), step_of(group, budget.round_to)
    if floor == group.size:
        return f"it has {group.size} channels, and {floor} must stay"
    if group.size - floor < (group.size % step or step):
        return f"no width below {group.size} is a multiple of {step} and leaves {floor}"
    if stated is not None:
        return f"the ratio stated for it, {stated:g}, takes none of its channels"
    if budget.way != "error":
        return "the ratio that meets the target takes none of its channels"
    return "its channels cost more error for what they save than others' do"
