"""Confidence intervals of shares, of their paired difference, and of sums over samples."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Interval = tuple[float, float]
Floats = npt.NDArray[np.float64]
_Z = 1.959963984540054  # the normal distribution's 97.5 % point
_RESAMPLES = 2000


def wilson(share: float, samples: int) -> Interval:
    """Wilson's 95 % interval (E. B. Wilson, 1927) of a share seen in ``samples`` samples."""
    if samples < 1:
        return 0.0, 1.0
    square = _Z * _Z
    spread = _Z * math.sqrt(share * (1 - share) / samples + square / (4 * samples * samples))
    middle, scale = share + square / (2 * samples), 1 + square / samples
    low = (middle - spread) / scale if share > 0 else 0.0
    high = (middle + spread) / scale if share < 1 else 1.0
    return max(0.0, low), min(1.0, high)


def paired_difference(before: npt.NDArray[np.bool_], after: npt.NDArray[np.bool_]) -> Interval:
    """95 % interval of the share after minus the share before, both of the same samples.

    Newcombe's method 10 (Statistics in Medicine 17, 1998, 2635-2650): Wilson's limits of both,
    put together with their correlation. It holds where no sample changes, which a bootstrap would
    call certain.

    Args:
        before, after: [samples], whether each was right.
    """
    total = before.size
    both, neither = int((before & after).sum()), int((~before & ~after).sum())
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    if not total:
        return -1.0, 1.0
    first, second = (both + gained) / total, (both + lost) / total
    (low1, high1), (low2, high2) = wilson(first, total), wilson(second, total)
    product = (both + gained) * (lost + neither) * (both + lost) * (gained + neither)
    cross = float(both * neither - gained * lost)
    if cross > 0:
        cross = max(cross - total / 2, 0.0)
    phi = cross / math.sqrt(product) if product else 0.0
    down = _apart(first - low1, high2 - second, phi)
    up = _apart(high1 - first, second - low2, phi)
    return first - second - down, first - second + up


def _apart(one: float, other: float, correlation: float) -> float:
    return math.sqrt(max(0.0, one * one - 2 * correlation * one * other + other * other))


def bootstrap(
    parts: Floats, statistic: Callable[[Floats], Floats], seed: int = 0
) -> Interval | None:
    """95 % percentile bootstrap interval (B. Efron, 1979) of a function of sums over samples.

    Args:
        parts: [samples, terms].
        statistic: [resamples, terms] sums -> [resamples] values; NaN where it has none.
        seed: of the resampling.

    Returns:
        The interval; None with less than two samples or where the statistic has no values.
    """
    total = len(parts)
    if total < 2:
        return None
    draws = np.random.default_rng(seed).multinomial(total, np.full(total, 1 / total), _RESAMPLES)
    values = statistic(draws.astype(np.float64) @ parts)
    values = values[np.isfinite(values)]
    if values.size < _RESAMPLES / 2:
        return None
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)
