"""What a criterion may look at, and how values of channels become values of classes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prunecvt_passes.criteria.statistics import NO_STATISTICS, Statistics
from prunecvt_passes.flow import Read, Use
from prunecvt_passes.groups import Groups, Ints

Floats = npt.NDArray[np.float64]
_TINY = float(np.finfo(float).tiny)


@dataclass(frozen=True)
class Evidence:
    """What a criterion may look at.

    Attributes:
        groups: the model, its classes and groups.
        seed: of random numbers.
        statistics: what readers see on unlabelled data; only what the criterion asks for.
    """

    groups: Groups
    seed: int = 0
    statistics: Statistics = NO_STATISTICS


def spread(groups: Groups, use: Use, values: Floats) -> tuple[Ints, Floats] | None:
    """Classes and values of the channels along the axis that ``use`` is about."""
    labels = groups.channels.axes[use.tensor][use.axis]
    if labels is None or labels.size != values.size:
        return None
    return groups.class_of[labels], values


def summed(groups: Groups, members: Iterable[tuple[Use, Floats]]) -> Floats:
    """Sums the members' values by class, each divided by its mean over the channels it has."""
    total = np.zeros(groups.total)
    for use, norms in members:
        found = spread(groups, use, norms)
        if found is not None:
            classes, values = found
            np.add.at(total, classes, values / max(float(values.mean()), _TINY))
    return total


def lost(groups: Groups, reads: Iterable[tuple[Read, Floats]], root: bool = False) -> Floats:
    """Sums what readers lose by class, each divided by its mean over the classes it reads.

    Args:
        groups: the classes.
        reads: what each reader loses with each of its channels; those of a class add up.
        root: whether these are squares, and the root of their sum is what is lost.

    Returns:
        class -> sum over the readers; NaN where none is known.
    """
    total, seen = np.zeros(groups.total), np.zeros(groups.total, bool)
    for read, values in reads:
        classes, owner = np.unique(groups.class_of[read.labels], return_inverse=True)
        sums = np.bincount(owner.ravel(), values)
        sums = np.sqrt(sums) if root else sums
        total[classes] += sums / max(float(sums.mean()), _TINY)
        seen[classes] = True
    return np.where(seen, total, np.nan)


def averaged(groups: Groups, reads: Iterable[tuple[Read, Floats]]) -> Floats:
    """Mean of the readers' values by class; NaN where there are none."""
    total, count = np.zeros(groups.total), np.zeros(groups.total)
    for read, values in reads:
        classes = groups.class_of[read.labels]
        np.add.at(total, classes, values)
        np.add.at(count, classes, 1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
