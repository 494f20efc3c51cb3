"""One linear node's fit: least squares with a ridge, then targets eased behind a Relu or a Clip.

The ridge pulls towards the weights as they are, so that a direction the data says nothing about
stays. Behind a Relu a target below zero is as good as any other below zero: the targets are eased
to what the fit reaches there, and it is fitted anew. Each round lowers the error behind the
non-linearity or leaves it (majorise-minimise; the aim of Zhang et al., 2015, "Accelerating very
deep convolutional networks", with the closed form of one side).

Letters: g blocks, n rows, d columns, o outputs of a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from prunecvt_passes.model import Array
from prunecvt_passes.recovery.normal import Floats, Normal, Ridge

RIDGES = (1e-8, 1e-4, 1e-3, 1e-2, 1e-1)  # of the mean variance of the columns
ROUNDS = 8


@dataclass(frozen=True)
class Sample:
    """Rows of patches [g, n, d], the original's values [g, n, o], what is added to the output.

    ``other`` is [g, n, o], or [1, 1, 1] of zero.
    """

    rows: Array
    goal: Array
    other: Array


@dataclass(frozen=True)
class Fit:
    """A weight [g, o, d], a bias [g, o], and the ridge it was fitted with (-1 as it was)."""

    weight: Floats
    bias: Floats
    ridge: float = -1.0


@dataclass(frozen=True)
class Setting:
    """The range that tells (``low`` to ``high``), and whether there is a bias to fit."""

    low: float = -np.inf
    high: float = np.inf
    intercept: bool = True

    @property
    def bounded(self) -> bool:
        """Whether some targets can be eased."""
        return bool(np.isfinite([self.low, self.high]).any())


def outputs(sample: Sample, fit: Fit) -> Array:
    """What the node gives with what is added to it, [g, n, o]."""
    weight = fit.weight.transpose(0, 2, 1).astype(np.float32)
    found: Array = sample.rows @ weight + fit.bias[:, None].astype(np.float32) + sample.other
    return found


def error(sample: Sample, fit: Fit, setting: Setting) -> float:
    """Squared error within the range that tells, over the variance of the goal there."""
    goal = np.clip(sample.goal, setting.low, setting.high)
    gap = np.clip(outputs(sample, fit), setting.low, setting.high) - goal
    scale = float(goal.var(1, dtype=np.float64).sum()) * goal.shape[1]
    return float((gap.astype(np.float64) ** 2).sum() / (scale + 1e-30))


def moments(sample: Sample) -> Normal:
    """The normal equations of a sample."""
    normal = Normal()
    normal.add(sample.rows, sample.goal - sample.other)
    return normal


def candidates(normal: Normal, before: Fit, setting: Setting) -> Iterator[Fit]:
    """Fits to choose from: as it was, with a better bias, and one for each ridge."""
    yield before
    if setting.intercept:
        yield Fit(before.weight, normal.intercept(before.weight), np.inf)
    for ridge in RIDGES:
        yield _solved(Ridge(normal, ridge, setting.intercept), before, ridge, setting)


def eased(sample: Sample, normal: Normal, before: Fit, start: Fit, setting: Setting) -> Fit:
    """``start`` fitted on, with targets that only tell as much as the reader behind does.

    ``normal`` holds the sample's moments; its targets are replaced.
    """
    fit, solver = start, Ridge(normal, start.ridge, setting.intercept)
    for _ in range(ROUNDS):
        found = outputs(sample, fit)
        goal = np.where(sample.goal <= setting.low, np.minimum(found, setting.low), sample.goal)
        goal = np.where(sample.goal >= setting.high, np.maximum(found, setting.high), goal)
        normal.retarget(sample.rows, goal - sample.other)
        fit = _solved(solver, before, start.ridge, setting)
    return fit


def best(fitted: Sample, held_out: Sample, before: Fit, setting: Setting) -> tuple[Fit, float]:
    """The fit on ``fitted`` that has the least error on ``held_out``, and that error."""
    chosen, least, normal = before, np.inf, moments(fitted)
    for fit in candidates(normal, before, setting):
        found = error(held_out, fit, setting)
        if found < least:
            chosen, least = fit, found
    if setting.bounded and 0 <= chosen.ridge < np.inf:
        fit = eased(fitted, normal, before, chosen, setting)
        found = error(held_out, fit, setting)
        if found < least:
            chosen, least = fit, found
    return chosen, least


def _solved(solver: Ridge, before: Fit, ridge: float, setting: Setting) -> Fit:
    weight = solver.solve(before.weight)
    bias = solver.normal.intercept(weight) if setting.intercept else before.bias
    return Fit(weight, bias, ridge)
