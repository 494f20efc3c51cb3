"""Cuts of one model to any share of what it costs, for those who try them out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from prunecvt_passes.budget import Budget, Removal
from prunecvt_passes.cost import cost
from prunecvt_passes.errors import UsageError
from prunecvt_passes.groups import Groups
from prunecvt_passes.model import Model
from prunecvt_passes.normalise import Dense
from prunecvt_passes.recovery.allocate import allocate, allocate_within
from prunecvt_passes.recovery.normal import Floats
from prunecvt_passes.recovery.prices import Prices
from prunecvt_passes.recovery.reach import amount
from prunecvt_passes.score import Scores
from prunecvt_passes.seek import Probe, Try
from prunecvt_passes.slice import remove
from prunecvt_passes.target import Target


@dataclass(frozen=True)
class Cut:
    """What goes, the model without it, and the share of the multiply-accumulates left."""

    removal: Removal
    model: Model
    macs: float


@dataclass(frozen=True)
class Cuts:
    """A model, its scores, and a budget whose target says nothing of the amount.

    Attributes:
        dense, groups, scores, budget: as ``allocate`` takes them.
        cost_of: prices that shares are of; None for multiply-accumulates, counted.
    """

    dense: Dense
    groups: Groups
    scores: Scores
    budget: Budget
    cost_of: Prices | None = None

    def at(self, share: float) -> Cut | None:
        """The cut that leaves most and no more than ``share``; None where none leaves so little.

        Raises:
            UsageError: E212, E213 as ``allocate``.
        """
        removal = self._removal(min(max(share, 1e-6), 1.0))
        return None if removal is None else self.of(removal)

    def whole(self) -> Cut:
        """The model with all its channels, as a cut of it."""
        return self.of(Removal(np.zeros(self.groups.total, bool), {}))

    def of(self, removal: Removal) -> Cut:
        """The cut that a removal makes."""
        model = remove(self.groups, removal)
        whole = cost(self.dense.graph, self.dense.batch).macs
        return Cut(removal, model, amount(self.dense, model, "macs", False) / max(whole, 1))

    def kept(self, cut: Cut) -> Floats:
        """[groups] classes that a cut leaves."""
        gone = cut.removal.removed
        return np.array([(~gone[each.classes]).sum() for each in self.groups.groups], np.float64)

    def _removal(self, share: float) -> Removal | None:
        given = self.groups, self.scores
        if self.cost_of is not None:
            return allocate_within(*given, self.budget, self.cost_of, share)
        budget = replace(self.budget, target=Target("macs", share))
        try:
            return allocate(self.dense, *given, budget)
        except UsageError as error:
            if error.code != "E217":
                raise
            return None

    def trying(self, measure: Callable[[Cut], Probe], known: Sequence[Probe] = ()) -> Try:
        """What ``seek`` tries: cuts to a share, each measured once however often it comes up.

        ``known`` are trials that were made already.
        """
        made = {probe.removal.removed.tobytes(): probe for probe in known}

        def attempt(share: float) -> Probe | None:
            cut = self.at(share)
            if cut is None:
                return None
            key = cut.removal.removed.tobytes()
            if key not in made:
                made[key] = measure(cut)
            return made[key]

        return attempt

    def unreachable(self) -> UsageError:
        """What to say where no cut comes near the target at all."""
        target = self.budget.target
        return UsageError(
            "E217",
            f"--target {target.text if target else ''} cannot be reached",
            where=f"{self.dense.graph.model.source}: no cut leaves so little",
            help="ask for less, raise --max-ratio-per-layer, lower --round-to or --min-channels",
        )
