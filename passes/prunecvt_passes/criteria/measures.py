"""Measures of activations: numbers per channel, of one batch.

Each takes ``values`` [samples, channels, positions...] and the upper bound that an activation is
cut off at (infinity where it is not), and returns [..., channels].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from prunecvt_passes.model import Array

Floats = npt.NDArray[np.float64]
Measure = Callable[[Array, float], Floats]


def idle(values: Array, bound: float) -> Floats:
    """Share of the values that are zero, or saturated at the bound."""
    return _mean((values == 0) | (values >= bound))


def magnitude(values: Array, bound: float) -> Floats:
    """Mean absolute value."""
    return _mean(np.abs(values))


def square(values: Array, bound: float) -> Floats:
    """Mean square."""
    return _mean(np.square(values, dtype=np.float64))


def maps(values: Array, bound: float) -> Floats:
    """Mean rank of the maps as a share of the largest possible, and mean nuclear norm: [2, c].

    A map is the positions of one sample and channel: the first axis by all others. Where there are
    fewer than two, or maps have one row or column, the rank is not a number. A rank counts the
    singular values above the largest times the longer side times the precision of the numbers, as
    ``numpy.linalg.matrix_rank`` does.
    """
    shape = values.shape
    sides = (shape[2], -1) if len(shape) > 3 else (1, -1)
    finite = np.nan_to_num(values, posinf=0.0, neginf=0.0).reshape(*shape[:2], *sides)
    singular = np.linalg.svd(finite, compute_uv=False)
    longest = int(np.prod(shape[2:])) // singular.shape[-1]
    floor = singular.max(-1, keepdims=True) * longest * np.finfo(values.dtype).eps
    ranks = (singular > floor).mean(-1, dtype=np.float64)
    ranks = ranks.mean(0) if singular.shape[-1] > 1 else np.full(shape[1], np.nan)
    return np.stack([ranks, singular.sum(-1, dtype=np.float64).mean(0)])


def _mean(values: Array) -> Floats:
    others = tuple(k for k in range(values.ndim) if k != 1)
    return np.asarray(values.mean(others, dtype=np.float64), np.float64)


MEASURES: dict[str, Measure] = {
    "idle": idle,
    "magnitude": magnitude,
    "maps": maps,
    "square": square,
}
SAMPLES = {"maps": 500}  # most samples that a measure is taken of; HRank takes as many
