"""Criteria of how well the readers' sums are kept: ``thinet`` and ``lasso``.

A reader's output o is the sum over channels c of z_oc, the part that comes through channel c: its
patches times W[o, c]. Both work on one matrix per group, G[c, c'] = sum over outputs of
cov(z_oc, z_oc'), each reader's divided by the variance of what it feeds, and added up over the
readers; which is (W'W * C) summed over the taps of c and c', for the covariance C of the patches.
Means are left out, because recovery folds them into biases.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import scipy.linalg
from scipy.sparse import csr_array

from prunecvt_passes.criteria.lasso_path import entries
from prunecvt_passes.groups import Group, Groups, Ints
from prunecvt_passes.recovery.curve import Curve
from prunecvt_passes.recovery.eliminate import Halved
from prunecvt_passes.recovery.normal import Floats
from prunecvt_passes.recovery.observe import Reader

_ROUNDING = 1e-10  # of the mean variance of the channels


def thinet(
    groups: Groups, group: Group, readers: Sequence[Reader]
) -> tuple[Curve, list[Halved]] | None:
    """The channel goes whose parts, with those gone already, add up to least (Luo et al., 2017).

    An error is the sum of G over the channels that are gone. None where it is not known how the
    group is read.
    """
    gram = contributions(groups, group, readers)
    if gram is None:
        return None
    curve = greedy(gram)
    kept = np.ones(group.size)
    kept[curve.order[: group.size // 2]] = 0.0
    return curve, _scaled(groups, group, readers, kept)


def lasso(
    groups: Groups, group: Group, readers: Sequence[Reader]
) -> tuple[Curve, list[Halved]] | None:
    """Channels go against the order in which a LASSO takes them up (He et al., 2017).

    Their sum is fitted by factors b_c on the channels with a penalty on |b|; as it falls, factors
    become nonzero one by one. An error is what is left of the variance of the sum with the best
    factors on the channels that stay. None where it is not known how the group is read.
    """
    gram = contributions(groups, group, readers)
    if gram is None:
        return None
    order = lasso_order(gram)
    kept, factors = order[group.size // 2 :], np.zeros(group.size)
    damped = _damped(gram)
    factors[kept] = scipy.linalg.solve(damped[np.ix_(kept, kept)], gram.sum(1)[kept])
    return Curve(order, left_over(gram, order)), _scaled(groups, group, readers, factors)


def contributions(groups: Groups, group: Group, readers: Sequence[Reader]) -> Floats | None:
    """The matrix G of a group; None where some of its channels have no reader that is known."""
    gram = np.zeros((group.size, group.size))
    read = np.zeros(group.size, bool)
    for reader in readers:
        for block, owner in _owners(groups, group, reader):
            columns = np.flatnonzero(owner >= 0)
            weight = reader.weight[block][:, columns]
            parts = reader.normal.covariance()[block][np.ix_(columns, columns)]
            parts *= weight.T @ weight
            rows = owner[columns], np.arange(columns.size)
            adding = csr_array((np.ones(columns.size), rows), shape=(group.size, columns.size))
            gram += (adding @ (adding @ parts).T) / max(reader.variance, 1e-30)
            read[owner[columns]] = True
    return gram if read.all() else None


def greedy(gram: Floats) -> Curve:
    """Takes channel after channel, each time the one that raises the sum over those gone least."""
    size = len(gram)
    increase, alive = np.diag(gram).copy(), np.ones(size, bool)
    order, errors = np.zeros(size, np.int64), np.zeros(size + 1)
    for number in range(size):
        first = int(np.argmin(np.where(alive, increase, np.inf)))
        order[number], alive[first] = first, False
        errors[number + 1] = errors[number] + increase[first]
        increase += 2 * gram[:, first]
    return Curve(order, errors)


def lasso_order(gram: Floats) -> Ints:
    """Channels, the first to go first: those that never enter, then the last to enter first."""
    entered = entries(gram, gram.sum(1))
    never = np.setdiff1d(np.arange(len(gram)), entered)
    weakest = never[np.argsort(np.diag(gram)[never], kind="stable")]
    return np.concatenate([weakest, entered[::-1]]).astype(np.int64)


def left_over(gram: Floats, order: Ints) -> Floats:
    """Errors [size + 1] as channels go in order, with the best factor on each that stays.

    With L L' the Gram matrix of the channels, the last to go first, and L u = G 1 in that order,
    the first k of them explain the sum of the first k of u^2.
    """
    back = order[::-1]
    lower = np.linalg.cholesky(_damped(gram)[np.ix_(back, back)])
    steps = scipy.linalg.solve_triangular(lower, gram.sum(1)[back], lower=True) ** 2
    left = float(gram.sum()) - np.concatenate([[0.0], np.cumsum(steps)])
    errors = np.maximum(left[::-1], 0.0)
    errors[0] = 0.0
    return np.asarray(errors, np.float64)


def _damped(gram: Floats) -> Floats:
    size = len(gram)
    found: Floats = gram + (_ROUNDING * np.trace(gram) / size + 1e-30) * np.eye(size)
    return found


def _owners(groups: Groups, group: Group, reader: Reader) -> Iterator[tuple[int, Ints]]:
    """Yields each block of a reader that reads the group: column -> place in the group, or -1."""
    place = np.full(groups.total, -1)
    place[group.classes] = np.arange(group.size)
    for block, owner in enumerate(place[reader.classes].reshape(len(reader.weight), -1)):
        if (owner >= 0).any():
            yield block, np.repeat(owner, reader.taps)


def _scaled(
    groups: Groups, group: Group, readers: Sequence[Reader], factors: Floats
) -> list[Halved]:
    """The readers' weights with each channel of the group multiplied by its factor."""
    return [
        Halved(reader, block, reader.weight[block] * np.where(owner >= 0, factors[owner], 1.0))
        for reader in readers
        for block, owner in _owners(groups, group, reader)
    ]
