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
import numpy.typing as npt
from scipy.special import ndtr

from prunecvt_passes.flow import Read, Use
from prunecvt_passes.groups import Groups

Floats = npt.NDArray[np.float64]
_TINY = float(np.finfo(float).tiny)


Norms = dict[int, list[tuple[Use, Floats]]]


def shares(groups: Groups, reader_norms: Norms, fallback: Floats) -> Floats:
    """Scores every class.

    Args:
        groups: classes and who reads them.
        reader_norms: node index -> weights' axes that it sums over, and the norm of what reads each
            channel, for the readers whose weights are known.
        fallback: class -> energy where neither BatchNormalization nor a reader's weights tell it
            (products of two activations).

    Returns:
        class -> sum of its shares.
    """
    energy = batch_norm_energy(groups)
    total = np.zeros(groups.total)
    for read in groups.channels.reads:
        classes = groups.class_of[read.labels]
        values = energy[classes]
        known = np.isfinite(values)
        norms = _reading(groups, read, reader_norms.get(read.node.index, []))
        if known.any():
            values = np.where(known, values, values[known].mean())
        else:
            values = np.ones(classes.size) if norms is not None else fallback[classes]
        if norms is not None and norms.size == classes.size:
            values = values * norms**2
        np.add.at(total, classes, values / max(float(values.sum()), _TINY))
    return total


def _reading(groups: Groups, read: Read, candidates: list[tuple[Use, Floats]]) -> Floats | None:
    """Norms of the axis that a read is about: of several the one with the same classes."""
    if len(candidates) > 1:
        classes = groups.class_of[read.labels]
        for use, norms in candidates:
            labels = groups.channels.axes[use.tensor][use.axis]
            if labels is not None and np.array_equal(groups.class_of[labels], classes):
                return norms
        return None
    return candidates[0][1] if candidates else None


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
