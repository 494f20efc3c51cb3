"""How sure cosine and signal to noise are, given the samples they were measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from prunecvt.evaluation.intervals import Floats, Interval, bootstrap
from prunecvt_passes.model import Array

Outputs = Mapping[str, Array]


def drift_intervals(
    pairs: Sequence[tuple[Outputs, Outputs]], batches: Sequence[int]
) -> tuple[Interval | None, Interval | None]:
    """95 % bootstrap intervals over samples of the cosine and of the SQNR in dB.

    Args:
        pairs: outputs of two models, run by run.
        batches: samples of each run.

    Returns:
        Both intervals; None where an output's first axis is not the sample, or there is one only.
    """
    rows = []
    for (first, second), batch in zip(pairs, batches, strict=True):
        numeric = [name for name, values in first.items() if values.dtype.kind in "fiub"]
        if any(not first[name].ndim or len(first[name]) != batch for name in numeric):
            return None, None
        rows.append(sum((_sums(first[n], second[n]) for n in numeric), np.zeros((batch, 4))))
    parts = np.concatenate(rows) if rows else np.zeros((0, 4))
    return bootstrap(parts, _cosines), bootstrap(parts, _decibels)


def _sums(first: Array, second: Array) -> Floats:
    """Per sample a·b, a², b² and (a - b)²: [samples, 4]; NaN and infinity count as 0."""
    a, b = (
        np.nan_to_num(each.reshape(len(each), -1).astype(np.float64), posinf=0.0, neginf=0.0)
        for each in (first, second)
    )
    return np.stack([(a * b).sum(1), (a * a).sum(1), (b * b).sum(1), ((a - b) ** 2).sum(1)], 1)


def _cosines(sums: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = sums[:, 0] / np.sqrt(sums[:, 1] * sums[:, 2])
    return found


def _decibels(sums: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = 10 * np.log10(sums[:, 1] / sums[:, 3])
    return found
