"""Criteria of how large activations are, where readers of a channel see them.

Averages are over samples and positions of the tensor that is read, padding left out.
"""

from __future__ import annotations

import numpy as np

from prunecvt_passes.criteria.evidence import Evidence, Floats, averaged, lost
from prunecvt_passes.criteria.norms import norms_of, reader_norms
from prunecvt_passes.criteria.zeros import zeroing
from prunecvt_passes.errors import UsageError
from prunecvt_passes.flow import Read
from prunecvt_passes.fold import fold_batch_norms
from prunecvt_passes.graph import index
from prunecvt_passes.groups import Groups
from prunecvt_passes.recovery.observe import readers_of


def apoz(given: Evidence) -> Floats:
    """One less the average share of zeros (APoZ; Hu et al., 2016), mean over the readers.

    Where a Clip has an upper bound, values that are saturated there count as zeros do: they tell as
    little. Readers in front of which nothing makes zeros say nothing of a channel.

    Raises:
        UsageError: E211, a channel that can be cut has no other readers.
    """
    groups = given.groups
    graph = groups.channels.graph
    makes, told, seen = zeroing(graph), [], np.zeros(groups.total, bool)
    for read, idle in _seen(given):
        seen[groups.class_of[read.labels]] = True
        if read.node.input(read.place) in makes:
            told.append((read, 1 - idle))
    found = averaged(groups, told)
    lacking = [g for g in groups.groups if (seen & np.isnan(found))[g.classes].any()]
    if lacking:
        raise UsageError(
            "E211",
            "criterion 'apoz' needs a Relu or a Clip behind every channel that can be cut",
            where=f"{graph.model.source}: nothing makes zeros behind {lacking[0].titles[0]}",
            help="use --criterion wanda or obs",
        )
    return found


def mean_activation(given: Evidence) -> Floats:
    """Mean absolute activation, as a reader sees it (Molchanov et al., 2017), over the readers."""
    return lost(given.groups, _seen(given))


def wanda(given: Evidence) -> Floats:
    """Norm of the weights that read a channel times the norm of the channel, over the readers.

    The root of the sum over outputs and taps of W^2 E[x^2]: Wanda's |W| ||x|| (Sun et al., 2024) by
    channel. W has the BatchNormalization behind the reader folded in where it is a convolution or a
    product with a weight of its own; a product of two activations counts with W = 1.
    """
    groups = given.groups
    squares, norms = _reading_squares(groups), reader_norms(groups)
    found = []
    for read, energy in _seen(given):
        weights = squares.get(read.node.input(1)) if read.place == 0 else None
        if weights is None:
            known = norms_of(groups, read, norms)
            weights = None if known is None else known**2
        if weights is not None and weights.size == energy.size:
            energy = weights * energy
        found.append((read, energy))
    return lost(groups, found, root=True)


def _seen(given: Evidence) -> list[tuple[Read, Floats]]:
    """Each read of channels that is known, and what it sees of them."""
    found = []
    for read in given.groups.channels.reads:
        values = given.statistics.of(read)
        if values is not None and values.size == read.labels.size:
            found.append((read, values))
    return found


def _reading_squares(groups: Groups) -> dict[str, Floats]:
    """Weight -> squared norm, over outputs and taps, of what reads each channel; folded."""
    graph = groups.channels.graph
    folded = index(fold_batch_norms(graph.model), graph.shapes)
    return {
        reader.aim.linear.weight: (reader.weight**2).sum(1).reshape(-1, reader.taps).sum(1)
        for reader in readers_of(folded, groups)
    }
