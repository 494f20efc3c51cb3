"""The criterion ``share``: of what a channel's readers sum up, how much comes from that channel.

For a node that sums over channels c, the expected energy of its sum is about the sum over c of
||W[:, c]||^2 * E[x_c^2], channels taken as uncorrelated. A channel's score is its share of that,
added up over all its readers. Without data, E[x_c^2] follows from BatchNormalization: what leaves
it is taken as normal with mean beta and variance gamma^2, and what is read stands behind a Relu.

The energy a reader loses is what ThiNet (Luo et al., 2017) measures on data; the normal
approximation of activations from beta and gamma is used as in data-free distillation work.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from prunecvt_passes.criteria.evidence import Evidence, Floats
from prunecvt_passes.criteria.norms import l2, norms_of, reader_norms
from prunecvt_passes.groups import Groups

_TINY = float(np.finfo(float).tiny)


def share(given: Evidence) -> Floats:
    """Share of what the readers sum up that comes from the channel, added up over the readers.

    Where neither BatchNormalization nor a reader's weights tell a channel's energy (products of two
    activations), it is that of the channel's filters.
    """
    groups = given.groups
    energy, fallback, known = batch_norm_energy(groups), l2(given) ** 2, reader_norms(groups)
    total = np.zeros(groups.total)
    for read in groups.channels.reads:
        classes = groups.class_of[read.labels]
        values = energy[classes]
        told = np.isfinite(values)
        norms = norms_of(groups, read, known)
        if told.any():
            values = np.where(told, values, values[told].mean())
        else:
            values = np.ones(classes.size) if norms is not None else fallback[classes]
        if norms is not None and norms.size == classes.size:
            values = values * norms**2
        np.add.at(total, classes, values / max(float(values.sum()), _TINY))
    return total


def batch_norm_energy(groups: Groups) -> Floats:
    """Class -> E[relu(x)^2] for x normal; not a number where no BatchNormalization scales it.

    Where a residual stream sums several, their means and variances add up.
    """
    graph = groups.channels.graph
    mean, variance = np.zeros(groups.total), np.zeros(groups.total)
    known = np.zeros(groups.total, bool)
    for use in groups.channels.uses:
        labels = groups.channels.axes[use.tensor][use.axis]
        if use.role != "scale" or use.node.op != "BatchNormalization" or labels is None:
            continue
        gamma, beta = (graph.constant(use.node.inputs[place]) for place in (1, 2))
        if gamma is not None and beta is not None:
            classes = groups.class_of[labels]
            np.add.at(mean, classes, np.asarray(beta, np.float64))
            np.add.at(variance, classes, np.asarray(gamma, np.float64) ** 2)
            known[classes] = True
    deviation = np.sqrt(np.maximum(variance, _TINY))
    ratio = mean / deviation
    density = np.exp(-(ratio**2) / 2) / np.sqrt(2 * np.pi)
    energy = (mean**2 + variance) * ndtr(ratio) + mean * deviation * density
    return np.where(known, np.maximum(energy, 0.0), np.nan)
