"""How many channels each group keeps under a ratio or a threshold, before rounding.

``layer`` takes the same share of every group; ``global`` one threshold over the scores of all
(Network Slimming; Liu et al., 2017); ``lamp`` one over layer-adaptive magnitudes (Lee et al.,
2021); ``erk`` keeps shares in proportion to the Erdos-Renyi-kernel densities (Mocanu et al., 2018;
Evci et al., 2020). The last two give counts only; which channels go is up to the scores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prunecvt_passes.budget import Budget, floor_of, share_of, stated_ratio
from prunecvt_passes.criteria.evidence import Evidence
from prunecvt_passes.criteria.lamp import lamp
from prunecvt_passes.groups import Group, Groups, Ints
from prunecvt_passes.score import Scores

Floats = npt.NDArray[np.float64]
_HALVINGS = 100


@dataclass(frozen=True)
class Sharing:
    """How groups share what goes.

    Attributes:
        budget: its scope, its threshold and its floors.
        given: group id -> channels to keep, for the groups whose ratio is stated.
        free: the other groups that may be cut.
        values: what the scope goes by: a number per class; per group of ``free`` for ``erk``.
        candidates: for each group of ``free`` the classes that may go, lowest value first.
    """

    budget: Budget
    given: dict[int, int]
    free: tuple[Group, ...]
    values: Floats
    candidates: tuple[Ints, ...]

    def widths(self, ratio: float) -> dict[int, int]:
        """Group id -> channels to keep, so that ``ratio`` of those of ``free`` go."""
        if self.budget.threshold is not None:
            return {**self.given, **self._above(self.budget.threshold)}
        found = {"layer": self._equal, "erk": self._dense}.get(self.budget.way, self._highest)
        return {**self.given, **found(ratio)}

    def _equal(self, ratio: float) -> dict[int, int]:
        return {g.id: _left(g, ratio, floor_of(g, self.budget)) for g in self.free}

    def _highest(self, ratio: float) -> dict[int, int]:
        """One threshold over all groups."""
        taken = np.zeros(self.values.size, bool)
        if self.candidates:
            pool = np.concatenate(self.candidates)
            count = math.floor(ratio * sum(g.size for g in self.free) + 1e-9)
            taken[pool[np.argsort(self.values[pool], kind="stable")[:count]]] = True
        return {g.id: g.size - int(taken[g.classes].sum()) for g in self.free}

    def _above(self, threshold: float) -> dict[int, int]:
        gone = [int((self.values[classes] < threshold).sum()) for classes in self.candidates]
        return {g.id: g.size - count for g, count in zip(self.free, gone, strict=True)}

    def _dense(self, ratio: float) -> dict[int, int]:
        """Kept shares in proportion to the densities, none above 1 or below its floor.

        The factor of proportion is the one that keeps as many channels as the ratio leaves.
        """
        sizes = np.array([g.size for g in self.free], np.float64)
        floors = np.array([floor_of(g, self.budget) for g in self.free], np.float64)
        wanted, each = (1 - ratio) * sizes.sum(), self.values * sizes
        low, high = 0.0, float((1 / np.maximum(self.values, 1e-300)).max(initial=0.0))
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            fits = np.clip(middle * each, floors, sizes).sum() >= wanted - 1e-9
            low, high = (low, middle) if fits else (middle, high)
        counts = np.ceil(np.clip(high * each, floors, sizes) - 1e-6)
        return {g.id: int(count) for g, count in zip(self.free, counts, strict=True)}


def sharing(groups: Groups, opened: Sequence[Group], scores: Scores, budget: Budget) -> Sharing:
    """Works out what the scope goes by.

    Args:
        groups: all groups.
        opened: those that may be cut.
        scores: class -> what it is worth.
        budget: its scope or threshold, floors and stated ratios.
    """
    given, free = {}, []
    for group in opened:
        stated = stated_ratio(groups, group, budget)
        if stated is None:
            free.append(group)
        else:
            given[group.id] = _left(group, stated, floor_of(group, budget, stated))
    if budget.way == "erk":
        return Sharing(budget, given, tuple(free), densities(groups, free), ())
    values = lamp(Evidence(groups)) if budget.way == "lamp" else scores.values
    candidates = tuple(_candidates(group, values, budget) for group in free)
    return Sharing(budget, given, tuple(free), values, candidates)


def _left(group: Group, ratio: float, floor: int) -> int:
    return max(group.size - share_of(group, ratio), floor)


def _candidates(group: Group, values: Floats, budget: Budget) -> Ints:
    order = np.argsort(values[group.classes], kind="stable")
    return group.classes[order[: group.size - floor_of(group, budget)]]


def densities(groups: Groups, free: Sequence[Group]) -> Floats:
    """Sum of the dimensions of the weights that make a group's channels over their product.

    That of an average group where no weight is known.
    """
    above, below = np.zeros(len(groups.groups)), np.zeros(len(groups.groups))
    weights = groups.channels.graph.model.weights
    seen: set[tuple[str, int]] = set()
    for use in groups.channels.uses:
        labels = groups.channels.axes[use.tensor][use.axis]
        if use.role != "weight_out" or labels is None or use.tensor not in weights:
            continue
        shape = weights[use.tensor].shape
        owners = {int(g) for g in np.unique(groups.group_of[groups.class_of[labels]]) if g >= 0}
        fresh = [owner for owner in owners if (use.tensor, owner) not in seen]
        seen.update((use.tensor, owner) for owner in fresh)
        above[fresh] += sum(shape)
        below[fresh] += math.prod(shape)
    places = [group.id for group in free]
    known = below[places] > 0
    found = above[places] / np.maximum(below[places], 1)
    return np.where(known, found, found[known].mean() if known.any() else 1.0)
