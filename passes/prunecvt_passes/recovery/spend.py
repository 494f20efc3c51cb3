"""Allocation by error curves: the cheapest error for what it saves goes first.

Greedy on the lower convex hulls of the curves, which is optimal for a separable cost up to the last
step (Everett, 1963; used for bit allocation by Shoham and Gersho, 1988). The last jump is then
taken back and made in single steps, and steps that still fit are given back, dearest error first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from prunecvt_passes.groups import Ints
from prunecvt_passes.recovery.curve import Curve
from prunecvt_passes.recovery.normal import Floats
from prunecvt_passes.recovery.prices import Prices


@dataclass(frozen=True)
class Offer:
    """What may go of one group: a curve, and the counts that may be removed, rising.

    The first has to go.
    """

    curve: Curve
    counts: Ints


class _Purse:
    """Counts removed so far, and what the next step of each group would cost."""

    def __init__(self, offers: Mapping[int, Offer], prices: Prices) -> None:
        self.prices, self.kept = prices, prices.sizes.copy()
        self.errors = {g: o.curve.weight * o.curve.errors for g, o in offers.items()}
        self.gone = {group: int(offer.counts[0]) for group, offer in offers.items()}
        for group, count in self.gone.items():
            self.kept[group] -= count
        self.terms = prices.terms()
        self.total = prices.total(self.kept)
        touched = prices.each.any(1)
        self.near = (touched.T.astype(np.float32) @ touched.astype(np.float32)) > 0

    def slope(self, group: int, count: int) -> float:
        """Error for what is saved, on the way from what is gone to ``count``."""
        step = count - self.gone[group]
        saved = self.prices.saved(self.kept, group, step, self.terms[group])
        error = float(self.errors[group][count] - self.errors[group][self.gone[group]])
        if step < 0:
            saved, error = -saved, -error
        return error / saved if saved > 0 else np.inf

    def after(self, group: int, count: int) -> float:
        """The total with ``count`` classes of one group gone."""
        step = count - self.gone[group]
        return self.total - self.prices.saved(self.kept, group, step, self.terms[group])

    def move(self, group: int, count: int) -> None:
        """Takes a group to ``count`` classes gone."""
        self.total = self.after(group, count)
        self.kept[group] -= count - self.gone[group]
        self.gone[group] = count


def spend(offers: Mapping[int, Offer], prices: Prices, goal: float) -> dict[int, int]:
    """Chooses how many classes of each group go so that at most ``goal`` is left.

    Args:
        offers: group id -> what may go.
        prices: what that saves.
        goal: in the currency of the prices.

    Returns:
        group id -> classes that go; all that may where the goal is out of reach.
    """
    purse = _Purse(offers, prices)
    slack = 1e-9 * max(purse.total, 1.0)
    hulls = {g: offer.counts[hull(purse.errors[g], offer.counts)] for g, offer in offers.items()}
    last = _descend(purse, hulls, goal + slack)
    if last is not None:
        purse.move(*last)
        _descend(purse, {g: offer.counts for g, offer in offers.items()}, goal + slack)
    _return(purse, offers, goal + slack)
    return purse.gone


def hull(errors: Floats, counts: Ints) -> Ints:
    """Places in ``counts`` of the corners of the lower convex hull of the errors there."""
    corners: list[int] = []
    for place, count in enumerate(counts):
        while len(corners) >= 2:
            a, b = counts[corners[-2]], counts[corners[-1]]
            rise = (errors[b] - errors[a]) * (count - a)
            if rise < (errors[count] - errors[a]) * (b - a):
                break
            corners.pop()
        corners.append(place)
    return np.array(corners, np.int64)


def _next(counts: Ints, gone: int) -> int:
    """The next count, -1 where there is none."""
    place = int(np.searchsorted(counts, gone, "right"))
    return int(counts[place]) if place < counts.size else -1


def _before(counts: Ints, gone: int) -> int:
    place = int(np.searchsorted(counts, gone, "left"))
    return int(counts[place - 1]) if place > 0 else -1


def _descend(purse: _Purse, counts: Mapping[int, Ints], goal: float) -> tuple[int, int] | None:
    """Takes the cheapest steps until ``goal``; says where the last one came from."""
    slopes = np.full(purse.prices.sizes.size, np.inf)
    stale = list(counts)
    last = None
    while purse.total > goal:
        for group in stale:
            count = _next(counts[group], purse.gone[group])
            slopes[group] = purse.slope(group, count) if count >= 0 else np.inf
        if not np.isfinite(slopes).any():
            return last
        best = int(np.argmin(slopes))
        last = best, purse.gone[best]
        purse.move(best, _next(counts[best], purse.gone[best]))
        stale = [int(g) for g in np.flatnonzero(purse.near[best]) if int(g) in counts]
    return last


def _return(purse: _Purse, offers: Mapping[int, Offer], goal: float) -> None:
    """Gives single steps back as long as the total stays within the goal."""
    while True:
        best, most = None, -np.inf
        for group, offer in offers.items():
            count = _before(offer.counts, purse.gone[group])
            if count >= 0 and purse.after(group, count) <= goal:
                slope = purse.slope(group, count)
                if slope > most:
                    best, most = (group, count), slope
        if best is None:
            return
        purse.move(*best)
