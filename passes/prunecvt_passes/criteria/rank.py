"""The criterion ``hrank``: the rank of the maps of a channel."""

from __future__ import annotations

import numpy as np

from prunecvt_passes.criteria.evidence import Evidence, Floats, averaged


def hrank(given: Evidence) -> Floats:
    """Mean rank of a channel's maps over the largest possible (HRank; Lin et al., 2020).

    On 500 samples at most, mean over the readers. Where maps have one row or one value, or all
    channels of a tensor have the same mean rank, ranks tell nothing: there the score is the mean
    nuclear norm (the sum of the singular values) over the largest of the tensor's channels.
    """
    found = []
    for read in given.groups.channels.reads:
        values = given.statistics.of(read)
        if values is None or values.shape[-1] != read.labels.size:
            continue
        ranks, nuclear = values
        if not np.ptp(ranks) > 0:
            ranks = nuclear / max(float(nuclear.max()), np.finfo(float).tiny)
        found.append((read, ranks))
    return averaged(given.groups, found)
