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

from prunecvt_passes.budget import Budget, Removal, floor_of, open_groups, stated_ratio
from prunecvt_passes.errors import UsageError
from prunecvt_passes.fold import fold_batch_norms
from prunecvt_passes.graph import Graph, index
from prunecvt_passes.groups import Groups
from prunecvt_passes.model import Array
from prunecvt_passes.normalise import Dense
from prunecvt_passes.recovery.allocate import allocate
from prunecvt_passes.recovery.calibration import ENOUGH, Calibration, samples_of, walkable
from prunecvt_passes.recovery.curve import Curves
from prunecvt_passes.recovery.measure import output_error, outputs_of
from prunecvt_passes.recovery.normal import Floats
from prunecvt_passes.recovery.prices import prices
from prunecvt_passes.recovery.recover import Remedy
from prunecvt_passes.recovery.refit import TRIAL, refit
from prunecvt_passes.score import Scores
from prunecvt_passes.shapes import infer
from prunecvt_passes.slice import remove

log = logging.getLogger("prunecvt")
TRIALS = 32
IMAGES = 256  # that a trial is fitted on
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
    remedy: Remedy,
) -> Searched:
    """Tries allocations out, each recovered by a refit whatever ``remedy`` asks for afterwards.

    Raises:
        UsageError: E212, E213, E217 as ``allocate``; E224, there is too little data, or the model
            cannot be run part by part.
    """
    budget = replace(budget, scope="error")
    if not groups.groups:
        return Searched(allocate(dense, groups, scores, budget), 0, 0.0, 0.0)
    if not calibration or not walkable(dense.graph):
        raise _no_trials(dense)
    trials = _Trials(dense, groups, scores, budget, calibration, remedy.grow)
    even = np.ones(len(groups.groups))
    first = best = trials.judged(even, trials.removal(even))
    for wider in _wide(groups, curves):
        best = min(best, trials.run(wider) or best, key=lambda trial: trial.error)
    for factor in _FACTORS:
        moved = True
        while moved and trials.left:
            found = _round(trials, best, factor)
            best, moved = found, found is not best
    return Searched(best.removal, len(trials.seen), first.error, best.error)


def _no_trials(dense: Dense) -> UsageError:
    where = dense.graph.model.source
    if not walkable(dense.graph):
        return UsageError(
            "E224",
            "--scope search runs the model part by part",
            where=f"{where}: it holds sequences or optional values",
            help="use --scope layer",
        )
    return UsageError(
        "E224",
        f"--scope search tries models out on calibration data, {ENOUGH}",
        where=where,
        help="give some with --calib or --noise, or use --scope error",
    )


def take(searched: Searched) -> Removal:
    """The removal that was found."""
    return searched.removal


@dataclass(frozen=True)
class _Trial:
    """Weights by group, what goes by them, and the held-out error of the outputs then."""

    weights: Floats
    removal: Removal
    error: float


@dataclass
class _Trials:
    """Allocations that were tried out (``seen``: the bytes of their removals)."""

    dense: Dense
    groups: Groups
    scores: Scores
    budget: Budget
    calibration: Calibration
    grow: bool
    seen: set[bytes] = field(default_factory=set)

    def __post_init__(self) -> None:
        model = fold_batch_norms(self.dense.graph.model)
        self.original: Graph = index(model, infer(model, self.dense.sizes)[0])
        self.expected: list[Array] = outputs_of(model, self.calibration.held_out)
        each = max(samples_of(self.calibration.fit[:1]), 1)
        fit = self.calibration.fit[: max(1, -(-IMAGES // each))]
        self.part = Calibration(fit, self.calibration.held_out)
        self.movable = _dearest(self.groups, self.budget)

    @property
    def left(self) -> int:
        """How many may be tried yet."""
        return TRIALS - len(self.seen)

    def run(self, weights: Floats) -> _Trial | None:
        """Tries the error curves with these weights by group; None if that was tried, or enough."""
        if self.left <= 0:
            return None
        removal = self.removal(weights)
        if removal.removed.tobytes() in self.seen:
            return None
        return self.judged(weights, removal)

    def removal(self, weights: Floats) -> Removal:
        """What goes by the error curves with these weights by group."""
        values = self.scores.values.copy()
        for group in self.groups.groups:
            values[group.classes] *= weights[group.id]
        scores = replace(self.scores, values=values)
        return allocate(self.dense, self.groups, scores, self.budget)

    def judged(self, weights: Floats, removal: Removal) -> _Trial:
        """The trial, with the held-out error of the model cut so and refitted on a part."""
        self.seen.add(removal.removed.tobytes())
        cut = fold_batch_norms(remove(self.groups, removal)).copy()
        slim = index(cut, infer(cut, self.dense.sizes)[0])
        given = self.original, slim, self.groups, removal, self.part, self.grow
        fitted = refit(*given, effort=TRIAL)
        error = output_error(self.expected, outputs_of(fitted, self.part.held_out))
        log.info("search %3d: output error %.5f", len(self.seen), error)
        return _Trial(weights, removal, error)


def _wide(groups: Groups, curves: Curves) -> Iterator[Floats]:
    """Weights that concern all groups."""
    reach = np.ones(len(groups.groups))
    for number, curve in curves.by_group.items():
        reach[number] = max(curve.weight, 1e-12)
    if np.ptp(reach):
        yield from (reach ** (power - 1) for power in _POWERS)
    depth = np.linspace(-0.5, 0.5, len(groups.groups))
    yield from (tilt**depth for tilt in _TILTS)


def _round(trials: _Trials, best: _Trial, factor: float) -> _Trial:
    """Tries every group with more and with less weight."""
    for number in trials.movable:
        for step in (factor, 1 / factor):
            changed = best.weights.copy()
            changed[number] *= step
            found = trials.run(changed)
            if found is not None and found.error < best.error:
                best = found
                break
    return best


def _dearest(groups: Groups, budget: Budget) -> list[int]:
    """The groups whose rates are open, those first that cost most."""
    opened = open_groups(groups, budget, {})
    free = [
        g
        for g in opened
        if stated_ratio(groups, g, budget) is None and floor_of(g, budget) < g.size
    ]
    model_of = prices(groups, budget.target.counted if budget.target else "macs")
    terms = model_of.terms()
    saved = [model_of.saved(model_of.sizes, g.id, g.size, terms[g.id]) for g in free]
    return [free[k].id for k in np.argsort(-np.array(saved), kind="stable")]
