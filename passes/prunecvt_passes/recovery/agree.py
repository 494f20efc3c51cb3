"""The pass that finds the smallest model that still agrees with the original.

Each trial is cut as it would be for a share of the multiply-accumulates, recovered by a shorter
refit (by what was asked for, where that is no refit), and judged on held-out data. What is taken is
then recovered in full, as the model that is written will be; where that does not agree enough, the
next larger trial is looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from prunecvt_passes.budget import Budget, Removal
from prunecvt_passes.errors import UsageError
from prunecvt_passes.fold import fold_batch_norms
from prunecvt_passes.graph import index
from prunecvt_passes.groups import Groups
from prunecvt_passes.model import Model
from prunecvt_passes.normalise import Dense
from prunecvt_passes.recovery.calibration import ENOUGH, Calibration, walkable
from prunecvt_passes.recovery.cuts import Cut, Cuts
from prunecvt_passes.recovery.measure import outputs_of
from prunecvt_passes.recovery.recover import METHODS, Remedy, judge, try_recovery
from prunecvt_passes.recovery.refit import TRIAL, refit
from prunecvt_passes.score import Scores
from prunecvt_passes.seek import Probe, Probed, seek_least, smallest
from prunecvt_passes.shapes import infer
from prunecvt_passes.slice import remove

START = 0.5  # of the multiply-accumulates


def probe_agreement(
    dense: Dense,
    groups: Groups,
    scores: Scores,
    budget: Budget,
    calibration: Calibration,
    remedy: Remedy,
) -> Probed:
    """Tries cuts until the smallest that agrees enough is found.

    Raises:
        UsageError: E212, E213 as ``allocate``; E225, there is too little data, the model cannot be
            run part by part, or its first output is no vector of classes; E217, nothing can go.
    """
    where = dense.graph.model.source
    if budget.target is None or not calibration or not walkable(dense.graph):
        raise _no_data(where)
    trials = _Trials(dense, groups, calibration, remedy, 1 - budget.target.amount)
    if judge(trials.expected, trials.reference, calibration).agreement is None:
        raise UsageError(
            "E225",
            "--target agreement compares classes, and the first output holds none",
            where=where,
            help="use a target of macs, params, bytes, speedup or latency",
        )
    cuts = Cuts(dense, groups, scores, budget)
    probes = seek_least(cuts.trying(trials.tried), START)
    if not probes:
        raise cuts.unreachable()
    failed = []
    for probe in sorted((each for each in probes if each.level <= 1), key=lambda each: each.macs):
        full = trials.in_full(probe)
        if full.level <= 1:
            return Probed(full, tuple(probes), True)
        failed.append(full)
    best = smallest(failed or [trials.in_full(smallest(probes).best)]).best
    return Probed(best, tuple(probes), False)


def _no_data(where: str) -> UsageError:
    return UsageError(
        "E225",
        f"--target agreement tries models out on calibration data, {ENOUGH}",
        where=f"{where}: there is none, or it holds sequences or optional values",
        help="give some with --calib, or use another target",
    )


@dataclass
class _Trials:
    """Recovers cuts and judges them."""

    dense: Dense
    groups: Groups
    calibration: Calibration
    remedy: Remedy
    allowed: float

    def __post_init__(self) -> None:
        self.reference = self._folded(self.dense.graph.model)
        self.original = index(self.reference, infer(self.reference, self.dense.sizes)[0])
        self.expected = outputs_of(self.reference, self.calibration.held_out)

    def tried(self, cut: Cut) -> Probe:
        """A cut recovered by a shorter refit in the place of a whole one."""
        model = self._folded(cut.model)
        if self.remedy.method != "none" and cut.removal.removed.any():
            slim = index(model.copy(), infer(model, self.dense.sizes)[0])
            given = self.original, slim, self.groups, cut.removal, self.calibration
            shorter: dict[str, Callable[..., Model]] = {
                **METHODS,
                "refit": partial(refit, effort=TRIAL),
            }
            method = "refit" if self.remedy.method == "auto" else self.remedy.method
            model = shorter[method](*given, self.remedy.grow)
        return self._judged(cut.removal, cut.macs, model)

    def in_full(self, probe: Probe) -> Probe:
        """The trial as it will be written."""
        model = self._folded(remove(self.groups, probe.removal))
        given = self.dense, self.groups, probe.removal, model, self.calibration, self.remedy
        return self._judged(probe.removal, probe.macs, try_recovery(*given).model)

    def _folded(self, model: Model) -> Model:
        return fold_batch_norms(model) if self.remedy.folded else model

    def _judged(self, removal: Removal, macs: float, model: Model) -> Probe:
        agreement = judge(self.expected, model, self.calibration).agreement or 0.0
        return Probe(removal, macs, (1 - agreement) / max(self.allowed, 1e-9), agreement)
