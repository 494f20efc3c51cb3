"""Times models against each other, fairly, on a machine that may be busy.

Every round runs all contenders in random order, so that slow spells hit all of them alike; every
*session* loads all of them anew, because where a runtime's memory happens to lie moves a latency by
some per cent, and stays for as long as the session lives. With one thread the judge is CPU time,
which a busy machine disturbs far less than wall time. The interval of a ratio is drawn from both
sources of spread (see ``ratio_interval``).

Known limits: fixed inputs and a warm cache; see ``runners`` for how the runtimes are set.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from prunecvt.errors import UsageError
from prunecvt.report.schema import LatencyRow, Timing
from prunecvt.runtimes.runners import Array, Backend, Runner, open_runner

Floats = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]

SMALLEST_GAIN = 0.05  # below this, sessions of one and the same file differ
CONTENDED = 1.2  # wall over CPU time of one thread; on an idle machine it is 1
CONTENDED_THREADS = 1.5  # median over least wall time of several threads
PATIENCE_S = 60.0
_SAMPLE_S = 0.002  # a sample is at least this long: shorter ones measure the clock
_CLOCK_TICKS = 20  # ... and at least so many ticks of a coarse clock
_RESAMPLES = 2000
_FEWEST = 3  # sessions and rounds below which an interval says nothing


@dataclass(frozen=True)
class Contender:
    """A model to be timed; ``ir`` is its OpenVINO IR (.xml), without which OpenVINO reads ONNX."""

    name: str
    onnx: Path
    ir: Path | None = None

    def file_for(self, backend: Backend) -> Path:
        """Returns the file that ``backend`` loads."""
        return self.ir if backend == "openvino" and self.ir else self.onnx


@dataclass(frozen=True)
class Schedule:
    """How often: ``sessions`` times load, warm up, and run ``rounds`` rounds."""

    sessions: int = 5
    rounds: int = 9
    warmup: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.sessions, self.rounds, self.warmup) < 1:
            raise UsageError("E220", "a latency run needs a session, a round and a warm-up or more")

    def within(self, seconds: float, inference: float, contenders: int) -> Schedule:
        """Returns a schedule of fewer rounds, then sessions, that takes about ``seconds``.

        Args:
            seconds: what the race may take.
            inference: seconds of one inference of the slowest contender.
            contenders: how many race.
        """
        affordable = seconds / max(2 * contenders * inference, 1e-9)  # a sample is two runs or more
        rounds = int(min(self.rounds, max(_FEWEST, affordable / self.sessions)))
        sessions = int(min(self.sessions, max(_FEWEST, affordable / rounds)))
        return replace(self, sessions=sessions, rounds=rounds)


@dataclass(frozen=True)
class Samples:
    """What a race measured of one contender; milliseconds of one inference.

    Attributes:
        name: the contender's name.
        wall_ms: elapsed time, shape [sessions, rounds].
        cpu_ms: CPU time of the process, shape [sessions, rounds].
        load_ms: time to load the model, per session.
        first_ms: time of the first inference, per session.
        runs: inferences averaged in each sample (more than 1 for very fast models).
    """

    name: str
    wall_ms: Floats
    cpu_ms: Floats
    load_ms: Floats
    first_ms: Floats
    runs: int

    def timing(self) -> Timing:
        """Returns the distribution over all sessions, as the report shows it."""
        p10, median, p90, p99 = np.percentile(self.wall_ms, [10, 50, 90, 99])
        return Timing(
            median_ms=float(median),
            p10=float(p10),
            p90=float(p90),
            p99=float(p99),
            min_ms=float(self.wall_ms.min()),
            cpu_median_ms=float(np.median(self.cpu_ms)),
            n=self.wall_ms.size,
            load_ms=float(np.median(self.load_ms)),
            first_ms=float(np.median(self.first_ms)),
            samples_ms=[round(float(value), 6) for value in self.wall_ms.flat],
        )


@dataclass(frozen=True)
class Race:
    """What one race measured; ``samples`` are in the order of the contenders."""

    backend: Backend
    threads: int
    shape: dict[str, list[int]]
    schedule: Schedule
    samples: tuple[Samples, ...]

    @property
    def judged_by(self) -> Literal["cpu", "wall"]:
        """CPU time of several threads is work, not latency."""
        return "cpu" if self.threads == 1 else "wall"

    def judged_ms(self, index: int) -> Floats:
        """Returns the samples that decide, shape [sessions, rounds]."""
        samples = self.samples[index]
        return samples.cpu_ms if self.threads == 1 else samples.wall_ms

    def contended(self, index: int) -> bool:
        """Says whether other work held this contender up."""
        samples = self.samples[index]
        wall = float(np.median(samples.wall_ms))
        if self.threads == 1:
            return wall > CONTENDED * float(np.median(samples.cpu_ms))
        return wall > CONTENDED_THREADS * float(samples.wall_ms.min())


def race(
    contenders: Sequence[Contender],
    inputs: Mapping[str, Array],
    *,
    backend: Backend,
    threads: int = 1,
    schedule: Schedule | None = None,
    patience: float = PATIENCE_S,
    progress: Progress | None = None,
) -> Race:
    """Times ``contenders`` round by round on the same ``inputs`` (input name -> array).

    Args:
        contenders: the models; each must take ``inputs``.
        inputs: what every inference reads.
        backend: the runtime.
        threads: intra-op threads.
        schedule: how often; its seed makes the order reproducible. None for the usual one, cut
            for slow models so that the race takes ``patience`` seconds or so.
        patience: see ``schedule``.
        progress: called with (rounds done, rounds in all).

    Raises:
        UnsupportedError: the runtime cannot load or run a contender (E412, E430).
        UsageError: E221, fewer than one contender or thread.
    """
    if not contenders or threads < 1:
        raise UsageError("E221", "a latency run needs a model and a thread or more")
    schedule = schedule or _affordable(contenders, inputs, backend, threads, patience)
    lanes = [_Lane(contender, schedule) for contender in contenders]
    order = random.Random(schedule.seed)
    total = schedule.sessions * schedule.rounds
    for session in range(schedule.sessions):
        for lane in order.sample(lanes, len(lanes)):
            lane.open(session, inputs, backend, threads)
        collecting = gc.isenabled()
        gc.disable()
        try:
            for turn in range(schedule.rounds):
                for lane in order.sample(lanes, len(lanes)):
                    lane.sample(session, turn)
                if progress:
                    progress(session * schedule.rounds + turn + 1, total)
        finally:
            if collecting:
                gc.enable()
            for lane in lanes:
                lane.close()
    shape = {name: list(values.shape) for name, values in inputs.items()}
    return Race(backend, threads, shape, schedule, tuple(lane.samples() for lane in lanes))


def _affordable(
    contenders: Sequence[Contender],
    inputs: Mapping[str, Array],
    backend: Backend,
    threads: int,
    patience: float,
) -> Schedule:
    """The usual schedule, cut to what slow models can afford; loads and runs each model."""
    slowest = 0.0
    for contender in contenders:
        path = contender.file_for(backend)
        run = open_runner(path, inputs, backend=backend, threads=threads)
        slowest = max(slowest, min(_wall(run), _wall(run)))
    return Schedule().within(patience, slowest, len(contenders))


def compare(
    race: Race, *, before: int = 0, after: int = 1, macs_ratio: float | None = None
) -> LatencyRow:
    """Returns contender ``after`` against contender ``before``, as a row of the report.

    ``significant`` is said only of a difference of 5 % or more whose interval excludes 1, and with
    several threads only on a quiet machine.
    """
    ratio, interval = ratio_interval(
        race.judged_ms(before), race.judged_ms(after), seed=race.schedule.seed
    )
    contended = race.contended(before) or race.contended(after)
    outside = not interval[0] <= 1.0 <= interval[1]
    trusted = race.threads == 1 or not contended
    return LatencyRow(
        backend=race.backend,
        threads=race.threads,
        shape=race.shape,
        before=race.samples[before].timing(),
        after=race.samples[after].timing(),
        ratio=ratio,
        ratio_ci95=interval,
        judged_by=race.judged_by,
        macs_ratio=macs_ratio,
        contended=contended,
        significant=outside and abs(ratio - 1.0) >= SMALLEST_GAIN and trusted,
    )


def ratio_interval(
    before: Floats, after: Floats, *, seed: int = 0
) -> tuple[float, tuple[float, float]]:
    """Returns the ratio of medians, after over before, and its 95 % interval.

    Both arrays are [sessions, rounds] of one race. A nested bootstrap draws sessions, then rounds
    within each, the same for both models. So few sessions understate their own spread by
    sqrt((n - 1) / n), which is put back; with one session the spread between sessions is unknown,
    and the interval covers that of the rounds only.
    """
    draw = np.random.default_rng(seed)
    sessions, rounds = before.shape
    chosen = draw.integers(0, sessions, (_RESAMPLES, sessions, 1))
    turns = draw.integers(0, rounds, (_RESAMPLES, sessions, rounds))
    over = np.log(np.median(after[chosen, turns], axis=(1, 2)))
    under = np.log(np.median(before[chosen, turns], axis=(1, 2)))
    centre = float(np.log(np.median(after)) - np.log(np.median(before)))
    widen = (sessions / (sessions - 1)) ** 0.5 if sessions > 1 else 1.0
    low, high = centre + widen * (np.percentile(over - under, [2.5, 97.5]) - centre)
    return float(np.exp(centre)), (float(np.exp(low)), float(np.exp(high)))


class _Lane:
    """One contender's way through a race: its open session and its samples so far."""

    def __init__(self, contender: Contender, schedule: Schedule) -> None:
        self.contender = contender
        self.warmup = schedule.warmup
        self.wall = np.zeros((schedule.sessions, schedule.rounds))
        self.cpu = np.zeros_like(self.wall)
        self.load = np.zeros(schedule.sessions)
        self.first = np.zeros(schedule.sessions)
        self.runs = 0
        self.run: Runner | None = None

    def open(
        self, session: int, inputs: Mapping[str, Array], backend: Backend, threads: int
    ) -> None:
        """Loads the model and warms it up."""
        started = time.perf_counter()
        path = self.contender.file_for(backend)
        self.run = open_runner(path, inputs, backend=backend, threads=threads)
        self.load[session] = time.perf_counter() - started
        self.first[session] = _wall(self.run)
        quickest = min(_wall(self.run) for _ in range(self.warmup))
        if not self.runs:  # settled once, so that all sessions' samples are of one kind
            tick = max(time.get_clock_info(c).resolution for c in ("perf_counter", "process_time"))
            wanted = max(_SAMPLE_S, _CLOCK_TICKS * tick)
            self.runs = max(1, round(wanted / max(quickest, 1e-6)))

    def sample(self, session: int, turn: int) -> None:
        """Takes one sample, after one call that brings the caches back."""
        run = self.run
        if run is None:
            raise RuntimeError("sample() before open()")
        run()
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(self.runs):
            run()
        self.wall[session, turn] = (time.perf_counter() - wall) / self.runs
        self.cpu[session, turn] = (time.process_time() - cpu) / self.runs

    def close(self) -> None:
        """Lets go of the session."""
        self.run = None

    def samples(self) -> Samples:
        """Returns what was measured."""
        return Samples(
            name=self.contender.name,
            wall_ms=self.wall * 1e3,
            cpu_ms=self.cpu * 1e3,
            load_ms=self.load * 1e3,
            first_ms=self.first * 1e3,
            runs=self.runs,
        )


def _wall(run: Runner) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started
