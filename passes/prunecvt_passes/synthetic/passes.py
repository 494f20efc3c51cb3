"""The passes that measure and recover on noise: the usual ones, run on the matched model."""

from __future__ import annotations

from dataclasses import replace

from prunecvt_passes.budget import Budget, Removal
from prunecvt_passes.criteria.gather import gather
from prunecvt_passes.criteria.statistics import Statistics
from prunecvt_passes.criteria.table import Criterion
from prunecvt_passes.fold import fold_batch_norms
from prunecvt_passes.graph import index
from prunecvt_passes.model import Model
from prunecvt_passes.normalise import Dense
from prunecvt_passes.recovery.calibration import Calibration
from prunecvt_passes.recovery.curve import Curves
from prunecvt_passes.recovery.measure import measure
from prunecvt_passes.recovery.recover import Recovery, Remedy, try_recovery
from prunecvt_passes.recovery.search import Searched, search
from prunecvt_passes.score import Scores
from prunecvt_passes.shapes import infer
from prunecvt_passes.slice import remove
from prunecvt_passes.synthetic.carry import carry_back
from prunecvt_passes.synthetic.match import Matched


def measure_matched(matched: Matched, calibration: Calibration, criterion: Criterion) -> Curves:
    """Error curves of the matched model."""
    return measure(matched.dense, matched.groups, calibration, criterion)


def gather_matched(matched: Matched, calibration: Calibration, criterion: Criterion) -> Statistics:
    """Activations of the matched model."""
    return gather(matched.dense, matched.groups, calibration, criterion)


def search_matched(
    matched: Matched,
    scores: Scores,
    curves: Curves,
    budget: Budget,
    calibration: Calibration,
    remedy: Remedy,
) -> Searched:
    """Tries allocations of the matched model out."""
    return search(matched.dense, matched.groups, scores, curves, budget, calibration, remedy)


def try_recovery_matched(
    dense: Dense,
    matched: Matched,
    removal: Removal,
    model: Model,
    calibration: Calibration,
    remedy: Remedy,
) -> Recovery:
    """Recovers the matched model and carries what was found back to the slimmed one.

    The errors are those of the matched model on noise.
    """
    cut = remove(matched.groups, removal)
    if remedy.folded:
        cut = fold_batch_norms(cut)
    found = try_recovery(matched.dense, matched.groups, removal, cut, calibration, remedy)
    if found.model is cut:
        return replace(found, model=model)
    shapes = infer(model, dense.sizes)[0]
    graphs = (index(each, shapes) for each in (model, cut, found.model))
    return replace(found, model=carry_back(*graphs))
