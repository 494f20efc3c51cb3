"""Second-order elimination: the order in which channels go, and the error each step costs.

Optimal Brain Surgeon (Hassibi and Stork, 1993) by channel: with H the covariance of a reader's
patches and W its weights, taking the columns p of a channel away and refitting the rest raises the
reader's squared error by tr(W_p' [H^-1_pp]^-1 W_p). The channel with the smallest sum over its
readers goes, W and H^-1 are updated, and so on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from prunecvt_passes.groups import Group, Groups, Ints
from prunecvt_passes.recovery.curve import Curve
from prunecvt_passes.recovery.normal import Floats
from prunecvt_passes.recovery.observe import Reader

DAMPING = 1e-4  # of the mean variance of the columns


@dataclass(frozen=True)
class Halved:
    """The weight [o, d] of one block of a reader, refitted without half of a group's channels."""

    reader: Reader
    block: int
    weight: Floats


@dataclass
class _State:
    """One block of a reader under elimination.

    Attributes:
        inverse: [d, d] of the covariance.
        weight: [d, o].
        columns: [present, width] of the channels it reads.
        row: place in the group -> row of ``columns``, -1 where the block does not read it.
    """

    reader: Reader
    block: int
    inverse: Floats
    weight: Floats
    columns: Ints
    row: Ints


def eliminate(
    groups: Groups, group: Group, readers: Sequence[Reader]
) -> tuple[Curve, list[Halved]] | None:
    """Eliminates every channel of a group, one after the other.

    Returns:
        The curve, and its readers' weights at half of the channels; None where it is not known how
        the group is read.
    """
    states = [state for reader in readers for state in _states(groups, group, reader)]
    if not states or min(max(s.row[k] for s in states) for k in range(group.size)) < 0:
        return None
    alive, halved = np.ones(group.size, bool), []
    order, errors = np.zeros(group.size, np.int64), np.zeros(group.size + 1)
    for number in range(group.size):
        if number == group.size // 2:
            halved = [Halved(s.reader, s.block, s.weight.T.copy()) for s in states]
        places = np.flatnonzero(alive)
        losses = np.zeros(places.size)
        for state in states:
            losses += _losses(state, places) / max(state.reader.variance, 1e-30)
        first = int(np.argmin(losses))
        order[number] = places[first]
        errors[number + 1] = errors[number] + max(float(losses[first]), 0.0)
        alive[places[first]] = False
        for state in states:
            _take(state, int(state.row[places[first]]))
    return Curve(order, errors), halved


def _states(groups: Groups, group: Group, reader: Reader) -> list[_State]:
    """The blocks of a reader that read the group; none where they read channels unevenly often."""
    place = np.full(groups.total, -1)
    place[group.classes] = np.arange(group.size)
    if (place[reader.classes] < 0).all():
        return []
    found = []
    covariance = reader.normal.covariance()
    for block, owner in enumerate(place[reader.classes].reshape(len(reader.weight), -1)):
        channels = np.flatnonzero(owner >= 0)
        present, counts = np.unique(owner[channels], return_counts=True)
        if not present.size:
            continue
        if counts.min() != counts.max():
            return []
        channels = channels[np.argsort(owner[channels], kind="stable")]
        columns = channels[:, None] * reader.taps + np.arange(reader.taps)
        row = np.full(group.size, -1)
        row[present] = np.arange(present.size)
        found.append(
            _State(
                reader,
                block,
                _inverse(covariance[block]),
                reader.weight[block].T.copy(),
                columns.reshape(present.size, -1),
                row,
            )
        )
    return found


def _inverse(covariance: Floats) -> Floats:
    size = len(covariance)
    damping = DAMPING * np.trace(covariance) / size + 1e-30
    found: Floats = scipy.linalg.inv(covariance + damping * np.eye(size))
    return found


def _losses(state: _State, places: Ints) -> Floats:
    """What each of these channels costs the block if it goes next; 0 for those it does not read."""
    rows = state.row[places]
    read = rows >= 0
    columns = state.columns[rows[read]]
    blocks = state.inverse[columns[:, :, None], columns[:, None, :]]
    weights = state.weight[columns]
    found = np.zeros(places.size)
    found[read] = np.einsum("cbo,cbo->c", weights, np.linalg.solve(blocks, weights))
    return found


def _take(state: _State, row: int) -> None:
    """Takes a channel's columns away and refits the rest."""
    if row < 0:
        return
    columns = state.columns[row]
    block = state.inverse[np.ix_(columns, columns)]
    across = state.inverse[:, columns]
    both = np.concatenate([state.weight[columns], across.T], axis=1)
    step = np.linalg.solve(block, both)
    outputs = state.weight.shape[1]
    state.weight -= across @ step[:, :outputs]
    state.inverse -= across @ step[:, outputs:]
    state.weight[columns] = 0.0
