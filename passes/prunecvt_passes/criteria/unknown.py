"""Scores of channels of which a criterion knows nothing.

They are read where nothing can be measured: inside of If, Loop and Scan, by integers, or by weights
that are not followed. Such a channel gets what ``share`` says of it within its group, on the scale
that is usual: the mean of the group's known scores, or where there are none the median of all. It
is never 0, which would be taken first.
"""

from __future__ import annotations

import numpy as np

from prunecvt_passes.criteria.evidence import Evidence, Floats
from prunecvt_passes.criteria.share import share


def filled(given: Evidence, values: Floats) -> Floats:
    """Class -> score, with a score in the place of everything that is not a finite number."""
    groups = given.groups
    free, known = groups.group_of >= 0, np.isfinite(values)
    if known[free].all():
        return values
    usual = float(np.median(values[free & known])) if (free & known).any() else 1.0
    found, shares = np.array(values), share(given)
    for group in groups.groups:
        told = known[group.classes]
        if told.all():
            continue
        own = float(values[group.classes[told]].mean()) if told.any() else usual
        relative = shares[group.classes] / max(float(shares[group.classes].mean()), 1e-30)
        found[group.classes[~told]] = own * relative[~told]
    return found
