"""Small nets with a channel too many, and their calibration data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from models import Net, grouped
from prunecvt.differentiating import differentiate
from prunecvt_passes.budget import Budget, Removal
from prunecvt_passes.choose import choose
from prunecvt_passes.criteria.gather import gather
from prunecvt_passes.criteria.table import CRITERIA
from prunecvt_passes.groups import Groups
from prunecvt_passes.model import Array, Model
from prunecvt_passes.normalise import Dense
from prunecvt_passes.recovery.calibration import Calibration, split
from prunecvt_passes.recovery.measure import measure
from prunecvt_passes.recovery.recover import Method, Recovery, Remedy, try_recovery
from prunecvt_passes.score import Criterion, Scores, score
from prunecvt_passes.slice import remove

SPARE = 5  # the channel that is not needed


def double(weight: Array, axis: int = 0) -> Array:
    """Channel ``SPARE`` made the same as channel 2."""
    made = np.moveaxis(weight.copy(), axis, 0)
    made[SPARE] = made[2]
    return np.moveaxis(made, 0, axis)


def combine(weight: Array, axis: int = 0) -> Array:
    """Channel ``SPARE`` made of channels 1 and 2."""
    made = np.moveaxis(weight.copy(), axis, 0)
    made[SPARE] = 0.5 * made[1] - 1.5 * made[2]
    return np.moveaxis(made, 0, axis)


@dataclass(frozen=True)
class Case:
    """A model, its groups and its data."""

    dense: Dense
    groups: Groups
    calibration: Calibration

    def scores(self, name: str = "obs") -> Scores:
        by_loss = name in CRITERIA and CRITERIA[name].loss
        if by_loss:
            pytest.importorskip("torch")
        criterion = Criterion(name)
        given = self.dense, self.groups, self.calibration, criterion
        statistics = (differentiate if by_loss else gather)(*given)
        return score(self.groups, criterion, measure(*given), statistics)

    def cut(self, ratio: float) -> Removal:
        return choose(self.groups, self.scores(), Budget(ratio=ratio, round_to=1))

    def recovered(self, removal: Removal, method: Method) -> Recovery:
        return try_recovery(
            self.dense,
            self.groups,
            removal,
            remove(self.groups, removal),
            self.calibration,
            Remedy(method, folded=False),
        )


def case_of(net: Net, runs: int = 8, batch: int = 16, seed: int = 0) -> Case:
    """The net with normal data for its first input."""
    dense, groups = grouped(net.proto())
    rng = np.random.default_rng(seed)
    name, shape = next(iter(dense.sizes.items()))
    feeds = [
        {name: rng.standard_normal((batch, *shape[1:])).astype(np.float32)} for _ in range(runs)
    ]
    return Case(dense, groups, split(feeds))


def weights_of(model: Model) -> dict[str, bytes]:
    return {name: values.tobytes() for name, values in model.weights.items()}
