"""The pass that finds the smallest model that still agrees with the original.

Each trial is cut as it would be for a share of the multiply-accumulates, recovered by a shorter
refit (by what was asked for, where that is no refit), and judged on held-out data. What is taken is
then recovered in full, as the model that is written will be; where that does not agree enough, the
next larger trial is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from prunecvt_passes.budget import Budget
from prunecvt_passes.errors import UsageError
from prunecvt_passes.fold import fold_batch_norms
from prunecvt_passes.graph import index
from prunecvt_passes.groups import Groups
from prunecvt_passes.model import Model
from prunecvt_passes.normalise import Dense
from prunecvt_passes.recovery.calibration import Calibration, walkable
from prunecvt_passes.recovery.cuts import Cut, Cuts
from prunecvt_passes.recovery.measure import outputs_of
from prunecvt_passes.recovery.recover import METHODS, Remedy, judge, try_recovery
from prunecvt_passes.recovery.refit import Effort, refit
from prunecvt_passes.score import Scores
from prunecvt_passes.seek import Probe, Probed, seek_least, smallest
from prunecvt_passes.shapes import infer

TRIAL = Effort(rounds=0, rows=1 << 13)
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
    trials = _Trials(
        Cuts(dense, groups, scores, budget), calibration, remedy, 1 - budget.target.amount
    )
    if judge(trials.expected, trials.reference, calibration).agreement is None:
        raise UsageError(
            "E225",
            "--target agreement compares classes, and the first output holds none",
            where=where,
            help="use a target of macs, params, bytes, speedup or latency",
        )
    probes = seek_least(trials, START)
    if not probes:
        raise trials.cuts.unreachable()
    meeting = sorted((probe for probe in probes if probe.level <= 1), key=lambda each: each.macs)
    for probe in meeting:
        full = trials.in_full(probe)
        if full.level <= 1:
            return Probed(full, tuple(probes), True)
    best = smallest(probes).best
    return Probed(trials.in_full(best), tuple(probes), False)


def _no_data(where: str) -> UsageError:
    return UsageError(
        "E225",
        "--target agreement tries models out on calibration data, two batches or more",
        where=f"{where}: there is none, or it holds sequences or optional values",
        help="give some with --calib, or use another target",
    )


@dataclass
class _Trials:
    """Cuts, recovers and judges."""

    cuts: Cuts
    calibration: Calibration
    remedy: Remedy
    allowed: float

    def __post_init__(self) -> None:
        dense = self.cuts.dense
        self.reference = dense.graph.model
        if self.remedy.folded:
            self.reference = fold_batch_norms(self.reference)
        self.original = index(self.reference, infer(self.reference, dense.sizes)[0])
        self.expected = outputs_of(self.reference, self.calibration.held_out)
        self.made: dict[bytes, tuple[Probe, Cut]] = {}

    def __call__(self, share: float) -> Probe | None:
        """The trial at a share of the multiply-accumulates."""
        cut = self.cuts.at(share)
        if cut is None:
            return None
        key = cut.removal.removed.tobytes()
        if key not in self.made:
            self.made[key] = self._probe(cut, self._recovered(cut)), cut
        return self.made[key][0]

    def in_full(self, probe: Probe) -> Probe:
        """The trial as it will be written."""
        _, cut = self.made[probe.removal.removed.tobytes()]
        given = self.cuts.dense, self.cuts.groups, cut.removal, self._folded(cut)
        return self._probe(cut, try_recovery(*given, self.calibration, self.remedy).model)

    def _folded(self, cut: Cut) -> Model:
        return fold_batch_norms(cut.model) if self.remedy.folded else cut.model

    def _recovered(self, cut: Cut) -> Model:
        """By a shorter refit in the place of a whole one."""
        method = METHODS.get(self.remedy.method, partial(refit, effort=TRIAL))
        if method is refit:
            method = partial(refit, effort=TRIAL)
        if self.remedy.method == "none" or not cut.removal.removed.any():
            return self._folded(cut)
        model = self._folded(cut).copy()
        slim = index(model, infer(model, self.cuts.dense.sizes)[0])
        given = self.original, slim, self.cuts.groups, cut.removal, self.calibration
        return method(*given, self.remedy.grow)

    def _probe(self, cut: Cut, model: Model) -> Probe:
        agreement = judge(self.expected, model, self.calibration).agreement or 0.0
        level = (1 - agreement) / max(self.allowed, 1e-9)
        return Probe(cut.removal, cut.macs, level, agreement)
