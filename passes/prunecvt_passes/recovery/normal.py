"""Normal equations of a linear node, summed batch by batch in float64.

Letters as in ``linear``: g blocks, n rows, d columns, o outputs of a block.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import scipy.linalg

from prunecvt_passes.model import Array

Floats = npt.NDArray[np.float64]
_EMPTY = np.zeros(0)
_SMALL = 32  # columns; up to here many blocks are solved at once


@dataclass
class Normal:
    """Sums over rows x and targets y; ``count`` rows so far."""

    count: int = 0
    x: Floats = field(default_factory=lambda: _EMPTY)  # [g, d]
    xx: Floats = field(default_factory=lambda: _EMPTY)  # [g, d, d]
    y: Floats = field(default_factory=lambda: _EMPTY)  # [g, o]
    xy: Floats = field(default_factory=lambda: _EMPTY)  # [g, d, o]

    def add(self, rows: Array, targets: Array | None = None) -> None:
        """Adds rows [g, n, d] and, where there are some, targets [g, n, o]."""
        rows = rows.astype(np.float64)
        new = [rows.sum(1), rows.transpose(0, 2, 1) @ rows]
        if targets is not None:
            targets = targets.astype(np.float64)
            new += [targets.sum(1), rows.transpose(0, 2, 1) @ targets]
        names = ("x", "xx", "y", "xy")[: len(new)]
        for name, value in zip(names, new, strict=True):
            setattr(self, name, value if not self.count else getattr(self, name) + value)
        self.count += rows.shape[1]

    def retarget(self, rows: Array, targets: Array) -> None:
        """Replaces the targets of all rows, which have to be the ones that were added."""
        self.y = targets.sum(1, dtype=np.float64)
        self.xy = (rows.transpose(0, 2, 1) @ targets).astype(np.float64)

    def covariance(self) -> Floats:
        """Covariance of the rows, [g, d, d]."""
        x = self.x / self.count
        found: Floats = self.xx / self.count - x[:, :, None] * x[:, None, :]
        return found

    def mean(self) -> Floats:
        """Mean row of each block, [g, d]."""
        found: Floats = self.x / self.count
        return found

    def centred(self, intercept: bool = True) -> tuple[Floats, Floats]:
        """Covariances xx [g, d, d] and xy [g, d, o]; plain mean products without intercept."""
        xx, xy = self.xx / self.count, self.xy / self.count
        if intercept:
            x, y = self.x / self.count, self.y / self.count
            xx = xx - x[:, :, None] * x[:, None, :]
            xy = xy - x[:, :, None] * y[:, None, :]
        return xx, xy

    def intercept(self, weight: Floats) -> Floats:
        """The best bias [g, o] beside ``weight`` [g, o, d]."""
        found: Floats = (self.y - np.einsum("god,gd->go", weight, self.x)) / self.count
        return found


class Ridge:
    """Least squares with a pull towards what is there; factored once for all targets.

    Minimises E|y - W x - b|^2 + ridge * mean(diag(xx)) * |W - prior|^2.
    """

    def __init__(self, normal: Normal, ridge: float, intercept: bool) -> None:
        """Factors the damped covariance of each block."""
        self.normal, self.intercept = normal, intercept
        self.xx = normal.centred(intercept)[0]
        size = self.xx.shape[-1]
        damping = ridge * np.trace(self.xx, axis1=1, axis2=2)[:, None] / size
        damped, diagonal = self.xx.copy(), np.arange(size)
        damped[:, diagonal, diagonal] += damping + np.finfo(np.float32).tiny
        self._damped = damped
        self._factors = [_factored(block) for block in damped] if size > _SMALL else None

    def solve(self, prior: Floats) -> Floats:
        """The weight [g, o, d] for the normal equations' targets as they are now."""
        gap = self.normal.centred(self.intercept)[1] - self.xx @ prior.transpose(0, 2, 1)
        if self._factors is None:
            step = np.linalg.solve(self._damped, gap)
        else:
            step = np.stack(
                [_solved(*each) for each in zip(self._factors, self._damped, gap, strict=True)]
            )
        found: Floats = prior + step.transpose(0, 2, 1)
        return found


Factor = tuple[Floats, bool] | None


def _factored(matrix: Floats) -> Factor:
    try:
        factor, lower = scipy.linalg.cho_factor(matrix)
    except np.linalg.LinAlgError:  # rounding made it indefinite
        return None
    return np.asarray(factor, np.float64), bool(lower)


def _solved(factor: Factor, matrix: Floats, right: Floats) -> Floats:
    if factor is None:
        return np.asarray(np.linalg.lstsq(matrix, right, rcond=1e-10)[0], np.float64)
    return np.asarray(scipy.linalg.cho_solve(factor, right), np.float64)
