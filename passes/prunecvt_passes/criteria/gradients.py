"""Criteria of gradients by gates (``gated.py``), in units of the loss: they need no normalising."""

from __future__ import annotations

import numpy as np

from prunecvt_passes.criteria.evidence import Evidence, Floats


def taylor(given: Evidence) -> Floats:
    """Mean square of what the loss changes by to first order (Molchanov et al., 2019).

    The gate form: the sum over all readers and positions is squared for each sample. The labels of
    the loss are the model's own answers.
    """
    found: Floats = np.square(given.statistics.gradients, dtype=np.float64).mean(0)
    return found


def fisher(given: Evidence) -> Floats:
    """Half of what Fisher's matrix says of a channel and all that went before it in its group.

    The matrix is by the classes' gates: the readers of coupled channels are summed before squaring
    (group Fisher; Liu et al., 2021; Theis et al., 2018). Those take its diagonal; here the whole
    block of a group counts, so that channels that make up for one another go together. The loss is
    half the squared error of the outputs over their square (of a normal distribution around them,
    the logarithm), of which this is the second-order term.
    """
    groups = given.groups
    found = np.full(groups.total, np.nan)
    for group in groups.groups:
        gradients = given.statistics.gradients[:, group.classes].astype(np.float64)
        known = np.flatnonzero(np.isfinite(gradients).all(0))
        if known.size:
            found[group.classes[known]] = eliminated(gradients[:, known]) / 2
    return found


def eliminated(gradients: Floats) -> Floats:
    """Greedily takes the channel with the least mean square of the sum over all that are taken.

    Args:
        gradients: [samples, channels].

    Returns:
        The mean square at which each channel goes; rises strictly along the order.
    """
    samples, size = gradients.shape
    own, shared = (gradients**2).mean(0), np.zeros(size)  # shared with the sum of what has gone
    order, errors, error = np.zeros(size, np.int64), np.zeros(size), 0.0
    for place in range(size):
        costs = error + 2 * shared + own
        costs[order[:place]] = np.inf
        channel = int(costs.argmin())
        order[place], errors[place] = channel, costs[channel]
        error = float(costs[channel])
        shared += gradients.T @ gradients[:, channel] / samples
    errors = np.maximum.accumulate(errors)
    found = np.empty(size)
    found[order] = errors + np.arange(size) * 1e-9 * max(float(errors[-1]), 1e-30)
    return found
