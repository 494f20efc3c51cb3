"""The pass that searches rates layer by layer: allocations are tried out, the best one is kept.

What AMC (He et al., 2018) and NetAdapt (Yang et al., 2018) are for, without learning and without
labels: every group's errors are weighed, the weights say how error curves share the cut, and a
weight is kept where the recovered model then agrees better with the original on held-out data. All
trials have the same budget. First come weights that concern all groups (how much the reach of an
error counts; early layers against late ones), then single groups, those first whose channels cost
most; steps shrink where none helps. The same data gives the same removal.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from prunecvt_passes.budget import Budget, Removal
from prunecvt_passes.errors import UsageError
from prunecvt_passes.fold import fold_batch_norms
from prunecvt_passes.graph import Graph, index
from prunecvt_passes.groups import Groups
from prunecvt_passes.model import Array
from prunecvt_passes.normalise import Dense
from prunecvt_passes.recovery.allocate import allocate
from prunecvt_passes.recovery.calibration import Calibration, samples_of, walkable
from prunecvt_passes.recovery.curve import Curves
from prunecvt_passes.recovery.measure import output_error, outputs_of
from prunecvt_passes.recovery.normal import Floats
from prunecvt_passes.recovery.prices import prices
from prunecvt_passes.recovery.refit import Effort, refit
from prunecvt_passes.score import Scores
from prunecvt_passes.shapes import infer
from prunecvt_passes.slice import remove

log = logging.getLogger("prunecvt")
TRIALS = 32
IMAGES = 256  # that a trial is fitted on,
TRIAL = Effort(rounds=0, rows=1 << 13)  # with so much done for it
_POWERS = (1.5, 2.0, 0.5)  # of the curves' weights
_TILTS = (2.0, 0.5)  # weight of the last group over that of the first
_FACTORS = (2.0, 2.0**0.5, 2.0**0.25)  # of a single group


@dataclass(frozen=True)
class Searched:
    """What the search chose.

    Attributes:
        removal: what goes.
        trials: allocations that were tried out.
        before, after: held-out error of the outputs by the plain error curves, and of the best.
    """

    removal: Removal
    trials: int
    before: float
    after: float


def search(
    dense: Dense,
    groups: Groups,
    scores: Scores,
    curves: Curves,
    budget: Budget,
    calibration: Calibration,
) -> Searched:
    """Tries allocations out.

    Raises:
        UsageError: E212, E213, E217 as ``allocate``; E224, there is too little data.
    """
    if not calibration or not walkable(dense.graph):
        raise UsageError(
            "E224",
            "--scope search tries models out on calibration data, two batches or more",
            where=dense.graph.model.source,
            help="give some with --calib, or use --scope error",
        )
    trials = _Trials(dense, groups, scores, replace(budget, scope="error"), calibration)
    weights = np.ones(len(groups.groups))
    first = least = trials.error(weights)
    for wider in _wide(groups, curves):
        if trials.fresh(wider) and (found := trials.error(wider)) < least:
            weights, least = wider, found
    for factor in _FACTORS:
        moved = True
        while moved and trials.left:
            weights, least, moved = _round(trials, groups, weights, least, factor)
    return Searched(trials.removal(weights), len(trials.seen), first, least)


def take(searched: Searched) -> Removal:
    """The removal that was found."""
    return searched.removal


@dataclass
class _Trials:
    """Allocations that were tried out: the bytes of a removal -> its error."""

    dense: Dense
    groups: Groups
    scores: Scores
    budget: Budget
    calibration: Calibration
    seen: dict[bytes, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        model = fold_batch_norms(self.dense.graph.model)
        self.original: Graph = index(model, infer(model, self.dense.sizes)[0])
        self.expected: list[Array] = outputs_of(model, self.calibration.held_out)
        each = max(samples_of(self.calibration.fit[:1]), 1)
        fit = self.calibration.fit[: max(1, -(-IMAGES // each))]
        self.part = Calibration(fit, self.calibration.held_out)

    @property
    def left(self) -> int:
        """How many may be tried yet."""
        return TRIALS - len(self.seen)

    def removal(self, weights: Floats) -> Removal:
        """What goes by error curves with these weights by group."""
        values = self.scores.values.copy()
        for group in self.groups.groups:
            values[group.classes] *= weights[group.id]
        scores = replace(self.scores, values=values)
        return allocate(self.dense, self.groups, scores, self.budget)

    def fresh(self, weights: Floats) -> bool:
        """Whether that allocation is new and may still be tried."""
        return self.left > 0 and self.removal(weights).removed.tobytes() not in self.seen

    def error(self, weights: Floats) -> float:
        """Held-out error of the outputs of the cut model, refitted on a part of the data."""
        removal = self.removal(weights)
        cut = fold_batch_norms(remove(self.groups, removal)).copy()
        slim = index(cut, infer(cut, self.dense.sizes)[0])
        fitted = refit(self.original, slim, self.groups, removal, self.part, effort=TRIAL)
        found = output_error(self.expected, outputs_of(fitted, self.part.held_out))
        self.seen[removal.removed.tobytes()] = found
        log.info("search %3d: output error %.5f", len(self.seen), found)
        return found


def _wide(groups: Groups, curves: Curves) -> Iterator[Floats]:
    """Weights that concern all groups."""
    reach = np.ones(len(groups.groups))
    for number, curve in curves.by_group.items():
        reach[number] = max(curve.weight, 1e-12)
    if np.ptp(reach):
        yield from (reach ** (power - 1) for power in _POWERS)
    depth = np.linspace(-0.5, 0.5, len(groups.groups))
    yield from (tilt**depth for tilt in _TILTS)


def _round(
    trials: _Trials, groups: Groups, weights: Floats, least: float, factor: float
) -> tuple[Floats, float, bool]:
    """Tries every group with more and with less weight; says whether any of that helped."""
    moved = False
    for number in _dearest(groups, trials.budget):
        for step in (factor, 1 / factor):
            changed = weights.copy()
            changed[number] *= step
            if trials.fresh(changed) and (found := trials.error(changed)) < least:
                weights, least, moved = changed, found, True
                break
    return weights, least, moved


def _dearest(groups: Groups, budget: Budget) -> list[int]:
    """The groups, those first that cost most."""
    model_of = prices(groups, budget.target.currency if budget.target else "macs")
    terms = model_of.terms()
    saved = [model_of.saved(model_of.sizes, g.id, g.size, terms[g.id]) for g in groups.groups]
    return [int(k) for k in np.argsort(-np.array(saved), kind="stable")]
