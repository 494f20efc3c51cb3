"""What is said of work under way: how long it still takes, or nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

Clock = Callable[[], float]
Progress = Callable[..., None]


def silent(*_: object, **__: object) -> None:
    """The progress of whoever does not want to know."""


@dataclass
class Pace:
    """Points of much the same length, worked at by some processes at a time.

    Attributes:
        points: how many have to be made; what lies there already is not among them.
        jobs: processes that work at a time.
        clock: seconds, going forward.
        taken: seconds that each finished point took.
    """

    points: int
    jobs: int = 1
    clock: Clock = time.monotonic
    taken: list[float] = field(default_factory=list)
    started: float = field(init=False)

    def __post_init__(self) -> None:
        """Starts the clock."""
        self.started = self.clock()

    def finished(self, seconds: float) -> float:
        """Counts a point that took so long, and says how many seconds the others will take.

        What the processes worked beyond the finished points is spent on those under way; who
        finished this one has only begun with the next.
        """
        self.taken.append(seconds)
        left, mean = self.points - len(self.taken), sum(self.taken) / len(self.taken)
        busy = min(self.jobs, left)
        if busy < 1:
            return 0.0
        elapsed = self.clock() - self.started
        others = min(self.jobs - 1, left)
        spent = min(max(self.jobs * elapsed - sum(self.taken), 0.0), mean * others)
        return (mean * left - spent) / busy


@dataclass
class Stages:
    """How long the stage under way still takes, where the share of it that is done is known."""

    clock: Clock = time.monotonic
    name: str = ""
    started: float = 0.0

    def left(self, name: str, share: float) -> float | None:
        """Seconds left of the stage of that name; None where that cannot be told yet."""
        now = self.clock()
        if name != self.name:
            self.name, self.started = name, now
        gone = now - self.started
        return gone * (1 - share) / share if share > 0 and gone > 0 else None
