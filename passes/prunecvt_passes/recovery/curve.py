"""Error curves: what a group's readers lose as its channels go one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from prunecvt_passes.groups import Groups, Ints
from prunecvt_passes.recovery.normal import Floats


@dataclass(frozen=True)
class Curve:
    """How a group's readers fare.

    Attributes:
        order: places in ``Group.classes``, the first to go first.
        errors: [size + 1]; ``errors[k]`` is the error after k channels went, relative to the
            variance of what the readers feed and summed over them; ``errors[0]`` is 0.
        weight: how much of that reaches the outputs.
    """

    order: Ints
    errors: Floats
    weight: float = 1.0


@dataclass(frozen=True)
class Curves:
    """The curves that were measured; empty without data.

    Attributes:
        by_group: group id -> curve, for the groups whose readers are known.
        samples: how many they were measured on.
    """

    by_group: Mapping[int, Curve] = field(default_factory=dict)
    samples: int = 0

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.by_group)

    def error(self, group: int, size: int, kept: int) -> float | None:
        """The relative error of a group's readers with ``kept`` of ``size`` channels left."""
        curve = self.by_group.get(group)
        return None if curve is None else float(curve.errors[size - kept])


NO_CURVES = Curves()


def complete(groups: Groups, curves: Curves, scores: Floats) -> dict[int, Curve]:
    """A curve for every group: its own, or sums of its scores where it has none.

    Scores that say which share of its readers' sums a channel is are errors of the same kind, at
    the weight that is usual among the measured curves.
    """
    usual = float(np.median([c.weight for c in curves.by_group.values()])) if curves else 1.0
    found = {}
    for group in groups.groups:
        if group.id in curves.by_group:
            found[group.id] = curves.by_group[group.id]
            continue
        values = scores[group.classes]
        order = np.argsort(values, kind="stable")
        total = max(float(np.abs(values).sum()), np.finfo(float).tiny) if curves else 1.0
        errors = np.concatenate([[0.0], np.cumsum(values[order]) / total])
        found[group.id] = Curve(order, np.maximum.accumulate(errors), usual)
    return found


def scores_of(groups: Groups, curves: Mapping[int, Curve]) -> Floats:
    """Class -> weighted error at which it goes; rises strictly along each group's order."""
    values = np.zeros(groups.total)
    for group in groups.groups:
        curve = curves[group.id]
        errors = curve.weight * np.maximum.accumulate(curve.errors[1:])
        steps = np.arange(group.size) * 1e-9 * max(float(errors[-1]), 1e-30)
        values[group.classes[curve.order]] = errors + steps
    return values
