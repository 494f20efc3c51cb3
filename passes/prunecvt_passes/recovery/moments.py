"""Every layer's means and deviations brought back to the original's, where that helps.

What re-estimating BatchNormalization on the slimmed model does (EagleEye; Li et al., 2020), for
folded ones too: a row of the weight is scaled by the ratio of the deviations and its bias moved, in
the order of the graph, with inputs from the slimmed model and targets from the original. It needs
far less data than a least-squares fit: two numbers per channel.
"""

from __future__ import annotations

import numpy as np

from prunecvt_passes.recovery.fit import Fit, Sample, Setting, error, outputs
from prunecvt_passes.recovery.normal import Floats

SCALES = (0.5, 2.0)  # of a row
_SILENT = 1e-3  # a deviation below this share of the layer's says nothing


def matched(fitted: Sample, held_out: Sample, before: Fit, setting: Setting) -> tuple[Fit, float]:
    """The node with the goal's moments, or as it was where held-out data likes that better.

    Args:
        fitted, held_out: what the moments are of, and what judges.
        before: the node as it is.
        setting: whether there is a bias to move; without one nothing is changed.

    Returns:
        The fit and its held-out error.
    """
    least = error(held_out, before, setting)
    if not setting.intercept:
        return before, least
    other = fitted.other.astype(np.float64)
    goal, own = fitted.goal - other, outputs(fitted, before) - other
    ratio = _ratio(goal.std(1), own.std(1))
    bias = goal.mean(1) - ratio * (own.mean(1) - before.bias)
    fit = Fit(before.weight * ratio[..., None], bias, 0.0)
    found = error(held_out, fit, setting)
    return (fit, found) if found < least else (before, least)


def _ratio(goal: Floats, own: Floats) -> Floats:
    """[g, o]: what rows are scaled by; 1 where the data says nothing of a channel."""
    told = np.minimum(goal, own) > _SILENT * max(float(goal.mean()), 1e-30)
    return np.where(told, np.clip(goal / np.where(told, own, 1.0), *SCALES), 1.0)
