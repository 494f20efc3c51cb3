"""The criterion ``bn``: the scale of the BatchNormalization behind a channel."""

from __future__ import annotations

import numpy as np

from prunecvt_passes.criteria.evidence import Evidence, Floats, spread
from prunecvt_passes.errors import UsageError


def bn(given: Evidence) -> Floats:
    """Mean |gamma| of every BatchNormalization that scales the channel (Liu et al., 2017).

    Raises:
        UsageError: E211, a channel that can be cut has none.
    """
    groups = given.groups
    graph = groups.channels.graph
    total, count = np.zeros(groups.total), np.zeros(groups.total)
    for use in groups.channels.uses:
        gamma = graph.constant(use.tensor)
        if use.role == "scale" and use.node.op == "BatchNormalization" and gamma is not None:
            found = spread(groups, use, np.abs(np.asarray(gamma, np.float64)))
            if found is not None:
                np.add.at(total, found[0], found[1])
                np.add.at(count, found[0], 1)
    lacking = [g for g in groups.groups if not count[g.classes].all()]
    if lacking:
        raise UsageError(
            "E211",
            "criterion 'bn' needs a BatchNormalization behind every channel that can be cut",
            where=f"{graph.model.source}: no BatchNormalization scales {lacking[0].titles[0]}",
            help="use --criterion l2, or export with BatchNormalization kept",
        )
    return np.asarray(total / np.maximum(count, 1))
