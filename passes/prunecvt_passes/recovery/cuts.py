"""Cuts of one model to any share of its multiply-accumulates, for those who try them out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from prunecvt_passes.budget import Budget, Removal
from prunecvt_passes.cost import cost
from prunecvt_passes.errors import UsageError
from prunecvt_passes.groups import Groups
from prunecvt_passes.model import Model
from prunecvt_passes.normalise import Dense
from prunecvt_passes.recovery.allocate import allocate
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
    """A model, its scores, and a budget whose target says nothing of the amount."""

    dense: Dense
    groups: Groups
    scores: Scores
    budget: Budget

    def at(self, share: float) -> Cut | None:
        """The cut that leaves most and no more than ``share``; None where none leaves so little.

        Raises:
            UsageError: E212, E213 as ``allocate``.
        """
        budget = replace(self.budget, target=Target("macs", min(max(share, 1e-6), 1.0)))
        try:
            removal = allocate(self.dense, self.groups, self.scores, budget)
        except UsageError as error:
            if error.code != "E217":
                raise
            return None
        model = remove(self.groups, removal)
        whole = cost(self.dense.graph, self.dense.batch).macs
        return Cut(removal, model, amount(self.dense, model, "macs", False) / max(whole, 1))

    def trying(self, measure: Callable[[Cut], Probe]) -> Try:
        """What ``seek`` tries: cuts to a share, each measured once however often it comes up."""
        made: dict[bytes, Probe] = {}

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
