"""The criterion ``lamp``: layer-adaptive magnitudes, made for one threshold over all layers.

With the channels of a group sorted by their energy w^2, a channel's score is w_u^2 over the sum of
w_v^2 of all that are no smaller (Lee et al., 2021, with channels in the place of weights): the
error that it adds, given that all smaller ones have gone. The largest of each group scores 1, so
that no group is emptied.
"""

from __future__ import annotations

import numpy as np

from prunecvt_passes.criteria.evidence import Evidence, Floats, summed
from prunecvt_passes.criteria.norms import weight_norms

_TINY = float(np.finfo(float).tiny)


def lamp(given: Evidence) -> Floats:
    """Energy of the folded filters over that of all channels of the group with no less of it."""
    groups = given.groups
    norms = weight_norms(groups, 2, "weight_out")
    energy = summed(groups, [(use, values**2) for use, values in norms])
    found = np.zeros(groups.total)
    for group in groups.groups:
        order = group.classes[np.argsort(energy[group.classes], kind="stable")]
        found[order] = energy[order] / np.maximum(np.cumsum(energy[order][::-1])[::-1], _TINY)
    return found
