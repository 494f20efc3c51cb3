"""The race: order, bookkeeping and the honesty of its verdict. No test depends on real speed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import prunecvt.runtimes.latency as latency
from conv_models import stack
from prunecvt.errors import UnsupportedError, UsageError
from prunecvt.runtimes.environment import describe
from prunecvt.runtimes.latency import (
    Contender,
    Race,
    Samples,
    Schedule,
    compare,
    race,
    ratio_interval,
)
from prunecvt.runtimes.runners import Backend

INPUTS = {"x": np.ones((1, 8, 8, 8), np.float32)}
SHORT = Schedule(sessions=2, rounds=3, warmup=1)


def samples(cpu: np.ndarray, wall: np.ndarray | None = None) -> Samples:
    ones = np.ones(len(cpu))
    return Samples("m", cpu if wall is None else wall, cpu, ones, ones, runs=1)


def measured(
    before: np.ndarray, after: np.ndarray, *, threads: int = 1, slowdown: float = 1.0
) -> Race:
    both = tuple(samples(cpu, cpu * slowdown) for cpu in (before, after))
    schedule = Schedule(*before.shape)
    return Race("onnxruntime", threads, {"x": [1, 8, 8, 8]}, schedule, both)


def noisy(random: np.random.Generator, scale: float, sessions: int = 5) -> np.ndarray:
    """Latencies around ``scale`` with 3 % between sessions and 6 % between rounds."""
    offsets = random.normal(0, 0.03, (sessions, 1))
    return scale * np.exp(offsets + random.normal(0, 0.06, (sessions, 9)))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The order in which contenders are opened and run, on runners that do nothing."""
    order: list[str] = []

    def fake(path: Path, *_: object, **__: object) -> Callable[[], None]:
        order.append(f"open {path}")
        return lambda: order.append(str(path))

    monkeypatch.setattr(latency, "open_runner", fake)
    monkeypatch.setattr(latency, "_SAMPLE_S", 0.0)
    monkeypatch.setattr(latency, "_CLOCK_TICKS", 0)
    return order


PAIR = [Contender("a", Path("a")), Contender("b", Path("b"))]


def test_the_seed_settles_the_order(calls: list[str]) -> None:
    runs = []
    for seed in (1, 1, 2):
        calls.clear()
        race(PAIR, {}, backend="onnxruntime", schedule=Schedule(3, 8, 1, seed))
        runs.append(list(calls))
    assert runs[0] == runs[1] != runs[2]


def test_every_session_loads_every_model_anew(calls: list[str]) -> None:
    race(PAIR, {}, backend="onnxruntime", schedule=Schedule(sessions=4, rounds=2))
    assert calls.count("open a") == calls.count("open b") == 4


def test_every_round_runs_each_model_once_after_an_untimed_call(calls: list[str]) -> None:
    race(PAIR, {}, backend="onnxruntime", schedule=Schedule(sessions=1, rounds=6, warmup=1))
    timed = calls[-6 * 4 :]
    rounds = [timed[i : i + 4] for i in range(0, len(timed), 4)]
    assert all(r in (["a", "a", "b", "b"], ["b", "b", "a", "a"]) for r in rounds)


def test_progress_ends_at_the_total(calls: list[str]) -> None:
    seen: list[tuple[int, int]] = []
    race(PAIR, {}, backend="openvino", schedule=SHORT, progress=lambda *now: seen.append(now))
    assert seen == [(i, 6) for i in range(1, 7)]


def test_a_very_fast_model_is_run_many_times_per_sample(
    calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "_SAMPLE_S", 0.0005)
    found = race(PAIR[:1], {}, backend="onnxruntime", schedule=SHORT)
    assert found.samples[0].runs > 1


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_real_models_are_timed_and_reported(tmp_path: Path, backend: Backend) -> None:
    wide = Contender("wide", stack(32).save(tmp_path / "wide.onnx", "r2"))
    slim = Contender("slim", stack(16).save(tmp_path / "slim.onnx", "r2"))
    row = compare(race([wide, slim], INPUTS, backend=backend, schedule=SHORT), macs_ratio=0.3)
    assert row.backend == backend
    assert row.shape == {"x": [1, 8, 8, 8]}
    assert row.before.n == len(row.before.samples_ms) == 6
    assert 0 < row.before.min_ms <= row.before.p10 <= row.before.median_ms <= row.before.p99
    assert row.before.load_ms > 0 and row.before.first_ms > 0 and row.before.cpu_median_ms > 0
    assert row.ratio_ci95[0] <= row.ratio <= row.ratio_ci95[1]
    assert (row.judged_by, row.macs_ratio) == ("cpu", 0.3)


@pytest.mark.parametrize(("backend", "code"), [("onnxruntime", "E412"), ("openvino", "E430")])
def test_a_model_that_the_runtime_refuses_is_a_typed_error(
    tmp_path: Path, backend: Backend, code: str
) -> None:
    path = stack(8).save(tmp_path / "m.onnx", "r2")
    wrong = {"x": np.ones((1, 7, 8, 8), np.float32)}
    with pytest.raises(UnsupportedError) as caught:
        race([Contender("m", path)], wrong, backend=backend, schedule=SHORT)
    assert caught.value.code == code


def test_openvino_reads_the_ir_where_there_is_one() -> None:
    both = Contender("m", Path("m.onnx"), Path("m.xml"))
    assert both.file_for("openvino") == Path("m.xml")
    assert both.file_for("onnxruntime") == Path("m.onnx")
    assert Contender("m", Path("m.onnx")).file_for("openvino") == Path("m.onnx")


@pytest.mark.parametrize("field", ["sessions", "rounds", "warmup"])
def test_an_empty_schedule_is_refused(field: str) -> None:
    with pytest.raises(UsageError):
        Schedule(**{field: 0})


def test_the_interval_of_a_model_against_itself_holds_one() -> None:
    random = np.random.default_rng(0)
    held = 0
    for seed in range(100):
        _, (low, high) = ratio_interval(noisy(random, 1.0), noisy(random, 1.0), seed=seed)
        held += low <= 1.0 <= high
    assert held >= 95


def test_a_model_against_itself_is_never_called_a_gain() -> None:
    random = np.random.default_rng(1)
    rows = [compare(measured(noisy(random, 1.0), noisy(random, 1.0))) for _ in range(30)]
    assert not any(row.significant for row in rows)


def test_twice_the_speed_is_found() -> None:
    random = np.random.default_rng(2)
    row = compare(measured(noisy(random, 2.0), noisy(random, 1.0)))
    assert row.significant
    assert 0.45 < row.ratio < 0.55
    assert row.ratio_ci95[1] < 0.6


def test_a_certain_gain_below_five_per_cent_is_not_claimed() -> None:
    steady = np.full((5, 9), 1.0)
    row = compare(measured(steady, steady * 0.96))
    assert row.ratio_ci95 == pytest.approx((0.96, 0.96))
    assert not row.significant


def test_sessions_that_disagree_widen_the_interval() -> None:
    before, after = np.ones((4, 9)), np.ones((4, 9))
    after[:2] = 1.2
    _, (low, high) = ratio_interval(before, after)
    assert low <= 1.0 and high >= 1.2


def test_the_verdict_is_the_same_every_time() -> None:
    random = np.random.default_rng(3)
    found = measured(noisy(random, 1.0), noisy(random, 0.8))
    assert compare(found) == compare(found)


def test_a_busy_machine_is_flagged_but_cpu_time_still_judges_one_thread() -> None:
    steady = np.full((5, 9), 1.0)
    row = compare(measured(steady, steady * 0.5, slowdown=3.0))
    assert row.contended and row.significant
    assert not compare(measured(steady, steady * 0.5, slowdown=1.1)).contended


def test_several_threads_are_judged_by_wall_time_and_not_at_all_on_a_busy_machine() -> None:
    before = np.full((5, 9), 1.0)
    quiet = compare(measured(before, before * 0.5, threads=2, slowdown=0.6))
    assert (quiet.judged_by, quiet.contended, quiet.significant) == ("wall", False, True)
    before[0, 0] = 0.3  # once it was much faster: the rest was held up
    busy = compare(measured(before, before * 0.5, threads=2))
    assert busy.contended and not busy.significant


def test_the_machine_is_described_without_importing_a_runtime() -> None:
    environment = describe(threads=2)
    assert environment.threads == 2
    assert environment.cores >= 1
    assert environment.cpu and environment.os
    assert {"numpy", "onnx", "onnxruntime", "openvino"} <= environment.versions.keys()
    code = "import sys, prunecvt.runtimes.environment as e; e.describe()"
    code += "; sys.exit(any(m in sys.modules for m in ('onnxruntime', 'openvino')))"
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=paths, check=False).returncode == 0


def test_ctrl_c_is_heard_after_models_were_closed_in_any_order(tmp_path: Path) -> None:
    """It crashed the process: the stack for signals was one of a model that was gone."""
    path = stack(8).save(tmp_path / "m.onnx", "r2")
    code = """if True:
        import signal, sys
        from pathlib import Path
        import numpy as np
        from prunecvt.runtimes.runners import open_runner
        inputs = {"x": np.ones((1, 8, 8, 8), np.float32)}
        path = Path(sys.argv[1])
        runners = []
        for _ in range(3):
            runners.append(open_runner(path, inputs, backend="openvino", threads=1))
        while runners:
            runners.pop(0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            print("heard")
    """
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "heard\n", (done.returncode, done.stderr)
