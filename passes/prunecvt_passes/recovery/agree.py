"""The pass that finds the smallest model that still agrees with the original.

Each trial is cut as it would be for a share of the multiply-accumulates, recovered by a shorter
refit (or not at all where recovery was refused), and judged on held-out data.
"""

from __future__ import annotations

from dataclasses import dataclass

from prunecvt_passes.budget import Budget
from prunecvt_passes.errors import UsageError
from prunecvt_passes.fold import fold_batch_norms
from prunecvt_passes.graph import index
from prunecvt_passes.groups import Groups
from prunecvt_passes.normalise import Dense
from prunecvt_passes.recovery.calibration import Calibration, walkable
from prunecvt_passes.recovery.cuts import Cuts
from prunecvt_passes.recovery.measure import outputs_of
from prunecvt_passes.recovery.recover import Remedy, judge
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
    return smallest(probes)


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
        self.reference = fold_batch_norms(dense.graph.model)
        self.original = index(self.reference, infer(self.reference, dense.sizes)[0])
        self.expected = outputs_of(self.reference, self.calibration.held_out)
        self.made: dict[bytes, Probe] = {}

    def __call__(self, share: float) -> Probe | None:
        """The trial at a share of the multiply-accumulates."""
        cut = self.cuts.at(share)
        if cut is None:
            return None
        key = cut.removal.removed.tobytes()
        if key not in self.made:
            model = fold_batch_norms(cut.model).copy()
            if self.remedy.method not in ("none", "bias"):
                slim = index(model, infer(model, self.cuts.dense.sizes)[0])
                given = self.original, slim, self.cuts.groups, cut.removal, self.calibration
                model = refit(*given, self.remedy.grow, effort=TRIAL)
            agreement = judge(self.expected, model, self.calibration).agreement or 0.0
            level = (1 - agreement) / max(self.allowed, 1e-9)
            self.made[key] = Probe(cut.removal, cut.macs, level, agreement)
        return self.made[key]
