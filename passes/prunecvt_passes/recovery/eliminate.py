"""Second-order elimination: the order in which channels go, and the error each step costs.

Optimal Brain Surgeon (Hassibi and Stork, 1993) by channel: with H the covariance of a reader's
patches and W its weights, taking the columns p of a channel away and refitting the rest raises the
reader's squared error by tr(W_p' [H^-1_pp]^-1 W_p). The channel with the smallest sum over its
readers goes, W and H^-1 are updated, and so on.

That is the error on the rows that W was fitted to: with few rows for its columns a reader makes up
for anything there. The errors of the curve are those of the same weights on held-out rows, and H is
damped as much as helps there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from scipy.linalg.blas import dgemm

from prunecvt_passes.groups import Bools, Group, Groups, Ints
from prunecvt_passes.model import Array
from prunecvt_passes.recovery.curve import Curve
from prunecvt_passes.recovery.normal import Floats
from prunecvt_passes.recovery.observe import Reader

DAMPINGS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of the mean variance of the columns
_CHECKS = 32  # widths at which a curve is checked on held-out rows; straight lines between
_WIDE = 1024  # columns above which errors are summed in single precision: six digits are plenty
_DENSE = 0.8  # of a state's columns at least are alive; else the others are left out


@dataclass(frozen=True)
class Halved:
    """The weight [o, d] of one block of a reader, refitted without half of a group's channels."""

    reader: Reader
    block: int
    weight: Floats


@dataclass(frozen=True)
class _Judge:
    """Moments of held-out rows of one block, of the fitted ones where none were held out.

    Attributes:
        covariance: [d, d] of the rows, in single precision where they are wide.
        drift: [d], their mean less that of the fitted rows, which the bias makes up for.
        whole: [d, o], the original's weight.
        scale: variance that errors are relative to.
    """

    covariance: Array
    drift: Floats
    whole: Floats
    scale: float

    def error(self, weight: Floats) -> float:
        """Mean squared error of ``weight`` [d, o] with the best bias on the fitted rows."""
        gap = self.whole - weight
        moved = float(((self.drift @ gap) ** 2).sum())
        gap = gap.astype(self.covariance.dtype, copy=False)
        squared = np.einsum("do,do->", gap, self.covariance @ gap, dtype=np.float64)
        return (float(squared) + moved) / max(self.scale, 1e-30)


@dataclass
class _State:
    """One block of a reader under elimination; of d columns, a are held.

    Columns that have gone are left out now and then: an update costs a^2.

    Attributes:
        judge: what its weights are worth.
        held: [a], columns of the reader.
        inverse: [a, a] of the covariance, Fortran order.
        weight: [a, o].
        columns: [present, width] of the channels it reads, as places in ``held``.
        row: place in the group -> row of ``columns``, -1 where the block does not read it.
    """

    reader: Reader
    block: int
    judge: _Judge
    held: Ints
    inverse: Floats
    weight: Floats
    columns: Ints
    row: Ints

    def whole(self) -> Floats:
        """The weight [d, o], zero where columns were left out."""
        found: Floats = np.zeros_like(self.judge.whole)
        found[self.held] = self.weight
        return found

    def error(self) -> float:
        """What the weight is worth by now."""
        return self.judge.error(self.whole())


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
    order = np.zeros(group.size, np.int64)
    checks = np.unique(np.linspace(0, group.size, _CHECKS + 1).round().astype(int))
    checked = np.zeros(checks.size)
    for number in range(group.size):
        if number in checks:
            checked[checks == number] = sum(state.error() for state in states)
        if number == group.size // 2:
            halved = [Halved(s.reader, s.block, s.whole().T) for s in states]
        places = np.flatnonzero(alive)
        losses = np.zeros(places.size)
        for state in states:
            losses += _losses(state, places) / max(state.reader.variance, 1e-30)
        first = int(np.argmin(losses))
        order[number] = places[first]
        alive[places[first]] = False
        for state in states:
            _take(state, int(state.row[places[first]]))
            _leave_out(state, alive)
    checked[-1] = sum(state.error() for state in states)
    errors = np.interp(np.arange(group.size + 1), checks, checked)
    errors[0] = 0.0
    return Curve(order, np.maximum.accumulate(errors)), halved


def _states(groups: Groups, group: Group, reader: Reader) -> list[_State]:
    """The blocks of a reader that read the group; none where they read channels unevenly often."""
    place = np.full(groups.total, -1)
    place[group.classes] = np.arange(group.size)
    if (place[reader.classes] < 0).all():
        return []
    found = []
    covariance = reader.normal.covariance()
    moments = reader.check if reader.check.count else reader.normal
    held_out, drift = moments.covariance(), moments.mean() - reader.normal.mean()
    for block, owner in enumerate(place[reader.classes].reshape(len(reader.weight), -1)):
        channels = np.flatnonzero(owner >= 0)
        present, counts = np.unique(owner[channels], return_counts=True)
        if not present.size:
            continue
        if counts.min() != counts.max():
            return []
        channels = channels[np.argsort(owner[channels], kind="stable")]
        columns = channels[:, None] * reader.taps + np.arange(reader.taps)
        columns = columns.reshape(present.size, -1)
        row = np.full(group.size, -1)
        row[present] = np.arange(present.size)
        whole = reader.weight[block].T
        size = len(whole)
        precise = held_out[block].astype(np.float32 if size > _WIDE else np.float64, copy=False)
        judge = _Judge(precise, drift[block], whole, reader.variance)
        damping = _damping(covariance[block], columns, judge) if reader.check.count else DAMPINGS[0]
        inverse = scipy.linalg.inv(_damped(covariance[block], damping), overwrite_a=True)
        inverse, held = np.asfortranarray(inverse), np.arange(size)
        found.append(_State(reader, block, judge, held, inverse, whole.copy(), columns, row))
    return found


def _damped(covariance: Floats, damping: float) -> Floats:
    size = len(covariance)
    found: Floats = covariance + (damping * np.trace(covariance) / size + 1e-30) * np.eye(size)
    return found


def _damping(covariance: Floats, columns: Ints, judge: _Judge) -> float:
    """What helps most on held-out rows when a random half of the channels has gone."""
    gone = np.random.default_rng(0).permutation(len(columns))[: len(columns) // 2]
    left = np.setdiff1d(np.arange(len(covariance)), columns[gone].ravel())
    across = np.delete(covariance, left, 1)[left] @ np.delete(judge.whole, left, 0)
    best, least = DAMPINGS[0], np.inf
    for damping in DAMPINGS:
        own = _damped(covariance, damping)[np.ix_(left, left)]
        weight = np.zeros_like(judge.whole)
        step = scipy.linalg.solve(own, across, assume_a="pos", overwrite_a=True)
        weight[left] = judge.whole[left] + step
        error = judge.error(weight)
        if error < least:
            best, least = damping, error
    return best


def _losses(state: _State, places: Ints) -> Floats:
    """What each of these channels costs the block if it goes next; 0 for those it does not read."""
    rows = state.row[places]
    read = rows >= 0
    columns = state.columns[rows[read]]
    weights, found = state.weight[columns], np.zeros(places.size)
    if columns.shape[1] == 1:
        variance = 1 / state.inverse[columns[:, 0], columns[:, 0]]
        found[read] = np.einsum("co,co->c", weights[:, 0], weights[:, 0]) * variance
    else:
        blocks = np.linalg.inv(state.inverse[columns[:, :, None], columns[:, None, :]])
        found[read] = np.einsum("cab,cab->c", blocks, weights @ weights.transpose(0, 2, 1))
    return found


def _take(state: _State, row: int) -> None:
    """Takes a channel's columns away and refits the rest."""
    if row < 0:
        return
    columns = state.columns[row]
    across = state.inverse[:, columns]
    both = np.concatenate([state.weight[columns], across.T], axis=1)
    step = np.linalg.solve(across[columns], both)
    outputs = state.weight.shape[1]
    state.weight -= across @ step[:, :outputs]
    # in place: a difference would be an array more to fill for every channel
    less = dgemm(-1.0, across, step[:, outputs:], 1.0, state.inverse, overwrite_c=1)
    state.inverse = np.asarray(less, np.float64)
    state.weight[columns] = 0.0


def _leave_out(state: _State, alive: Bools) -> None:
    """Forgets columns of channels that have gone, once they are many."""
    gone = state.row[(state.row >= 0) & ~alive]
    stays = np.ones(len(state.held), bool)
    stays[state.columns[gone]] = False
    if stays.sum() >= _DENSE * stays.size:
        return
    kept = np.flatnonzero(stays)
    state.inverse = np.asfortranarray(state.inverse[np.ix_(kept, kept)])
    state.weight, state.held = state.weight[kept], state.held[kept]
    state.columns = (np.cumsum(stays) - 1)[state.columns]
    state.row = np.where(alive, state.row, -1)
