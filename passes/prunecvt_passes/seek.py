"""Finds the cut that just reaches what can only be measured, by trying cuts out.

What is measured changes with the share of the multiply-accumulates that is left: latency falls with
it, disagreement rises as it falls. A trial cuts the model to a share and measures. For latency, the
next share is where a straight line through the trials on both sides of the goal says (false
position), at the middle where one side does not move. Widths go by steps, so that shares close to
each other give the same cut: who measures gives the same trial again for it, which does not count.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from prunecvt_passes.budget import Removal

log = logging.getLogger("prunecvt")
MOST = 8  # trials
NEAR = 0.015  # of the goal: near enough to stop, and as near as measurements of latency tell
MISSED = 0.03  # of the goal: beyond, the target is missed
_NARROW = 0.004  # of the multiply-accumulates: the search ends when the sides are as close


@dataclass(frozen=True, eq=False)
class Probe:
    """A cut that was tried out.

    Attributes:
        removal: what goes.
        macs: share of the multiply-accumulates that is left.
        level: what was measured over what is wanted: 1 is the goal, and less is better.
        value: what was measured, as people read it: a ratio of latencies, or an agreement.
    """

    removal: Removal
    macs: float
    level: float
    value: float


@dataclass(frozen=True)
class Probed:
    """What the search chose, and the trials in order.

    Attributes:
        best: the trial that is taken.
        probes: all of them.
        met: whether it reaches the goal, within what can be told.
        note: what a user should know of the search.
    """

    best: Probe
    probes: tuple[Probe, ...]
    met: bool
    note: str = ""


Try = Callable[[float], Probe | None]


def seek(attempt: Try, start: float, dense: Callable[[], float], most: int = MOST) -> list[Probe]:
    """Trials for what falls with the multiply-accumulates, such as latency.

    Args:
        attempt: cuts to a share of the multiply-accumulates and measures; None where no cut leaves
            so little.
        start: the first share.
        dense: the level of the whole model, known after the first trial.
        most: trials at most.

    Returns:
        The trials, the last one near the goal where that was found; none where nothing can go.
    """
    probes = _Probes(attempt, most)
    low, high = (0.0, 0.0), (1.0, 0.0)  # share and level
    share, moved = start, ""
    while probes.left and high[0] - low[0] > _NARROW:
        found, again = probes.at(share)
        if found is None:
            low = share, 0.0
        elif abs(found.level - 1) <= NEAR:
            break
        elif found.level < 1:
            # a side that stays is held for half as far from the goal (Illinois), or it would stay
            high = (high[0], (1 + high[1]) / 2) if moved == "low" else high
            low, moved = (share, found.level), "low"
        else:
            low = (low[0], (1 + low[1]) / 2) if moved == "high" else low
            high, moved = (share, found.level), "high"
        high = high if high[1] else (1.0, dense() if found else 0.0)
        if 0 < high[1] <= 1 and high[0] == 1.0:  # the whole model is fast enough
            probes.at(1.0)
            break
        share = _between(low, high, bisect=again or found is None)
    return probes.made


def seek_least(attempt: Try, start: float) -> list[Probe]:
    """Trials for what rises as the multiply-accumulates fall, such as disagreement: by halves."""
    probes = _Probes(attempt)
    low, high, share = 0.0, 1.0, start
    while probes.left and high - low > _NARROW:
        found, _ = probes.at(share)
        if found is None or found.level > 1:
            low = share
        else:
            high = share
        share = (low + high) / 2
    if all(probe.level > 1 for probe in probes.made):
        probes.at(1.0)
    return probes.made


def nearest(probes: list[Probe]) -> Probed:
    """The trial nearest to the goal if one is near, else the slowest of those below it.

    The whole model where that is fast enough.
    """
    whole = [probe for probe in probes if probe.macs >= 1 and probe.level <= 1 + NEAR]
    if whole:
        return Probed(whole[0], tuple(probes), True)
    best = min(probes, key=lambda probe: abs(probe.level - 1))
    below = [probe for probe in probes if probe.level < 1]
    if abs(best.level - 1) > MISSED and below:
        best = max(below, key=lambda probe: probe.level)
    return Probed(best, tuple(probes), best.level <= 1 + MISSED)


def smallest(probes: list[Probe]) -> Probed:
    """The smallest that reaches the goal; the nearest to it where none does."""
    reach = [probe for probe in probes if probe.level <= 1]
    if reach:
        return Probed(min(reach, key=lambda probe: probe.macs), tuple(probes), True)
    best = min(probes, key=lambda probe: (probe.level, -probe.macs))
    return Probed(best, tuple(probes), False)


def take_probed(probed: Probed) -> Removal:
    """The removal of the trial that was chosen."""
    return probed.best.removal


@dataclass
class _Probes:
    """The trials that were made, none of them twice."""

    attempt: Try
    most: int = MOST
    made: list[Probe] = field(default_factory=list)
    asked: int = 0

    @property
    def left(self) -> bool:
        """Whether another may be made; cuts that were known or impossible count for less."""
        return len(self.made) < self.most and self.asked < 3 * self.most

    def at(self, share: float) -> tuple[Probe | None, bool]:
        """The trial at a share, and whether it is an earlier one."""
        self.asked += 1
        found = self.attempt(share)
        if found is None or found in self.made:
            return found, found is not None
        self.made.append(found)
        log.info("probe %d: MACs %.3f, level %.3f", len(self.made), found.macs, found.level)
        return found, False


def _between(low: tuple[float, float], high: tuple[float, float], bisect: bool) -> float:
    """The share at which a straight line between both sides is 1, well within them."""
    if bisect or high[1] <= low[1]:
        return (low[0] + high[0]) / 2
    share = low[0] + (high[0] - low[0]) * (1 - low[1]) / (high[1] - low[1])
    margin = 0.1 * (high[0] - low[0])
    return min(max(share, low[0] + margin), high[0] - margin)
