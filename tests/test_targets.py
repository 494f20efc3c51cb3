"""Targets that have to be measured: the search by itself, then with real timings and agreements."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import prunecvt
from command_line import RESNET, SAMPLES, run
from prunecvt import probing
from prunecvt.options import Options
from prunecvt.report.html import render_html
from prunecvt.report.wording import target_line
from prunecvt.runtimes import latency
from prunecvt_passes.budget import Removal
from prunecvt_passes.errors import UnsupportedError, UsageError
from prunecvt_passes.recovery import agree
from prunecvt_passes.seek import MISSED, MOST, NEAR, Probe, nearest, seek, seek_least, smallest
from prunecvt_passes.target import Target, parse_target

DATA = SAMPLES / "digits_calib.npz"
QUICK = {"ir": False, "bench": False, "verify": False}


def trials(level: Callable[[float], float], step: float = 0.001) -> Callable[[float], Probe]:
    """Cuts to multiples of ``step``, each the same trial every time."""
    made: dict[int, Probe] = {}

    def attempt(share: float) -> Probe:
        place = int(share / step + 1e-9)
        removal = Removal(np.arange(round(1 / step)) >= place, {})
        found = Probe(removal, place * step, level(place * step), level(place * step))
        return made.setdefault(place, found)

    return attempt


@pytest.mark.parametrize("goal", [0.9, 0.5, 0.2])
@pytest.mark.parametrize("overhead", [0.0, 0.05, 0.15])
@pytest.mark.parametrize("power", [0.7, 1.0, 1.4])
def test_a_latency_is_found_in_few_trials(goal: float, overhead: float, power: float) -> None:
    def level(share: float) -> float:
        return float(overhead + (1 - overhead) * share**power) / goal

    found = nearest(seek(trials(level), goal, lambda: 1 / goal))
    assert found.met
    assert abs(found.best.level - 1) <= NEAR
    assert len(found.probes) <= MOST - 1


def test_noisy_latencies_end_near_the_goal() -> None:
    """Two per cent of noise on every trial: what is taken is within a few of the goal."""
    for seed in range(20):
        rng = np.random.default_rng(seed)

        def level(share: float, rng: np.random.Generator = rng) -> float:
            return float((0.1 + 0.9 * share) / 0.5 * rng.normal(1, 0.02))

        found = nearest(seek(trials(level), 0.5, lambda: 2.0))
        assert abs((0.1 + 0.9 * found.best.macs) / 0.5 - 1) < 0.08
        assert len(found.probes) <= MOST


def test_steps_are_not_measured_twice() -> None:
    asked: list[float] = []
    attempt = trials(lambda share: share / 0.6, step=0.25)

    def counting(share: float) -> Probe:
        asked.append(share)
        return attempt(share)

    found = nearest(seek(counting, 0.6, lambda: 1 / 0.6))
    assert [probe.macs for probe in found.probes] == [0.5, 0.75]
    assert found.best.macs == 0.5
    assert len(asked) <= 3 * MOST


def test_what_no_cut_reaches_is_missed() -> None:
    """Nothing leaves less than 0.4 of the MACs, and the goal lies at 0.2."""
    attempt = trials(lambda share: share / 0.2)

    def bounded(share: float) -> Probe | None:
        return attempt(share) if share >= 0.4 else None

    probes = seek(bounded, 0.2, lambda: 5.0)
    found = nearest(probes)
    assert not found.met
    assert found.best.macs == pytest.approx(0.4, abs=0.01)
    assert seek(lambda share: None, 0.2, lambda: 5.0) == []


def test_the_smallest_that_agrees_is_taken() -> None:
    """Disagreement is a step function of what is left, as that of few samples is."""
    found = smallest(seek_least(trials(lambda s: np.floor(10 * (1 - s)) / 4), 0.5))
    assert found.met
    assert found.best.macs == pytest.approx(0.5, abs=0.01)
    probes = seek_least(trials(lambda s: 1.5 + abs(s - 0.75)), 0.5)
    missed = smallest(probes)
    assert not missed.met
    assert missed.best.level == min(probe.level for probe in probes)
    assert missed.best is not probes[-1]


def test_a_trial_near_the_goal_beats_one_just_below() -> None:
    removal = Removal(np.zeros(1, bool), {})
    over, under = (Probe(removal, 0.5, level, 0.5) for level in (1 + MISSED / 2, 0.9))
    assert nearest([under, over]).best is over
    far = Probe(removal, 0.5, 1 + 2 * MISSED, 0.5)
    assert nearest([far, under]).best is under
    assert not nearest([far]).met


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("speedup=2", Target("latency", 0.5)),
        ("latency=0.5", Target("latency", 0.5)),
        ("latency=3.5ms", Target("latency", 3.5, True)),
        ("agreement=0.99", Target("agreement", 0.99)),
    ],
)
def test_targets_are_read(text: str, target: Target) -> None:
    assert parse_target(text) == target
    assert parse_target(text).probed


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("speedup=0.5", "E212"),
        ("speedup=0", "E212"),
        ("speedup=2x", "E201"),
        ("latency=1.5", "E212"),
        ("latency=-3ms", "E212"),
        ("latency=3s", "E201"),
        ("agreement=1.2", "E212"),
        ("agreement=4MB", "E201"),
        ("macs=3ms", "E201"),
        ("fps=30", "E201"),
        ("speedup=inf", "E201"),
        ("latency=infms", "E201"),
        ("bytes=1e999MB", "E201"),
    ],
)
def test_targets_that_cannot_be_read(text: str, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_target(text)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "options",
    [
        {"target": "speedup=2", "scope": "search"},
        {"target": "agreement=0.9", "noise": True},
        {"target": "macs=0.5", "judge": "openvino"},
        {"judge": "both"},
    ],
)
def test_targets_and_what_does_not_go_with_them(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        Options.of(options)
    assert caught.value.code == "E207"


def timed_as(
    monkeypatch: pytest.MonkeyPatch, model_ms: Callable[[Path], float]
) -> list[dict[str, Any]]:
    """Every inference takes what ``model_ms`` says of its file, twice that in OpenVINO.

    Returns:
        What each race is given.
    """
    seen: list[dict[str, Any]] = []

    def race(contenders: Any, inputs: Any, *, backend: str, **rest: Any) -> latency.Race:
        seen.append({"contenders": contenders, "inputs": inputs, "backend": backend, **rest})

        def samples(path: Path) -> latency.Samples:
            ones = np.ones((3, 3)) * model_ms(path) * (2 if backend == "openvino" else 1)
            return latency.Samples(path.name, ones, ones, ones[:, 0], ones[:, 0], 1)

        found = tuple(samples(contender.onnx) for contender in contenders)
        return latency.Race(backend, 1, {}, latency.Schedule(), found)  # type: ignore[arg-type]

    monkeypatch.setattr(probing, "race", race)
    return seen


def test_a_model_is_cut_to_its_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latency is what the file weighs: the search has to find half the bytes."""
    timed_as(monkeypatch, lambda path: path.stat().st_size / 1e6)
    report = prunecvt.slim(RESNET, target="speedup=2.0", **QUICK).report
    assert report.target is not None
    assert report.target.met
    assert report.target.value == pytest.approx(2.0, rel=MISSED)
    assert report.totals.bytes.after / report.totals.bytes.before == pytest.approx(0.5, rel=0.05)
    assert [(gate.expr, gate.passed) for gate in report.gates] == [("target speedup=2.0", True)]
    assert 1 <= len(report.target.probes) <= MOST
    taken = report.target.probes[report.target.taken or 0]
    assert taken.value == report.target.value
    assert target_line(report.target) in render_html(report)


def test_kernels_that_lead_nowhere_leave_cuts_by_macs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a cost model the target is met all the same."""
    timed_as(monkeypatch, lambda path: path.stat().st_size / 1e6)
    monkeypatch.setattr(probing, "latency_prices", lambda *_: None)
    report = prunecvt.plan(RESNET, target="speedup=1.5")
    assert report.target is not None
    assert report.target.met
    assert report.target.value == pytest.approx(1.5, rel=MISSED)


def test_the_first_trial_is_taken_where_it_is_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    """By multiply-accumulates the goal is met at once; no cut by the cost model comes near."""
    removal = Removal(np.zeros(1, bool), {})
    first, far, low = (Probe(removal, 0.5, level, level) for level in (1.0, 1.4, 0.5))

    class Cuts:
        cost_of = None

        def at(self, share: float) -> str:
            return "cut"

        def trying(self, measure: Any, known: Any = ()) -> Callable[[float], Probe]:
            return lambda share: far if share > 0.4 else low

    class Trials:
        target, unpruned, slower = Target("latency", 0.5), 2.0, "onnxruntime"
        cuts = Cuts()

        def timed(self, cut: Any) -> Probe:
            return first

        def priced(self, cut: Any) -> tuple[Any, float]:
            return self.cuts, 0.5

    found = probing._found(Trials())  # type: ignore[arg-type]
    assert found.best is first
    assert found.met
    assert len(found.probes) == 3
    assert "multiply-accumulates" in found.note


def test_milliseconds_are_those_of_the_slower_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    timed_as(monkeypatch, lambda path: path.stat().st_size / 1e6)
    report = prunecvt.slim(RESNET, target="latency=6ms", judge="both", **QUICK).report
    assert report.target is not None
    assert report.target.judge == ["onnxruntime", "openvino"]
    assert report.target.value == pytest.approx(6.0, rel=MISSED)
    assert report.totals.bytes.after == pytest.approx(3e6, rel=0.05)


def test_trials_are_timed_as_the_report_will_be(monkeypatch: pytest.MonkeyPatch) -> None:
    folded: list[set[str]] = []

    def weighed(path: Path) -> float:
        folded.append({node.op_type for node in onnx.load(path).graph.node})
        return path.stat().st_size / 1e6

    seen = timed_as(monkeypatch, weighed)
    shape = {"input": (3, 1, 32, 32)}
    for fold in (True, False):
        folded.clear()
        options = {"threads": 2, "input_shape": shape, "fold_bn": fold, **QUICK}
        report = prunecvt.slim(RESNET, target="latency=0.7", **options).report
        assert report.target is not None
        assert report.target.met
        originals, trials = folded[::2], folded[1::2]
        assert all("BatchNormalization" in ops for ops in originals)
        assert all(("BatchNormalization" in ops) is not fold for ops in trials)
    for given in seen:
        assert given["threads"] == 2
        assert [values.shape for values in given["inputs"].values()] == [(3, 1, 32, 32)]
        assert given["contenders"][0].onnx == RESNET


def test_what_is_fast_enough_is_left_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    timed_as(monkeypatch, lambda path: path.stat().st_size / 1e6)
    report = prunecvt.slim(RESNET, target="latency=1000ms", **QUICK).report
    assert report.target is not None
    assert report.target.met
    assert report.status == "nothing-to-prune"


def test_a_runtime_that_does_not_run_the_model_names_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def race(*_: Any, **__: Any) -> latency.Race:
        raise UnsupportedError("E412", "no kernel", where="somewhere")

    monkeypatch.setattr(probing, "race", race)
    with pytest.raises(UnsupportedError) as caught:
        prunecvt.slim(RESNET, target="speedup=2", **QUICK)
    assert caught.value.code == "E412"
    assert "--judge openvino" in caught.value.help


@pytest.mark.parametrize("command", ["plan", "slim --dry-run"])
def test_a_plan_that_misses_ends_with_6_too(command: str, tmp_path: Path) -> None:
    name, *dry = command.split()
    flags = ["--target", "latency=0.000001", "-o", tmp_path / f"p.{'onnx' if dry else 'json'}"]
    done = run(name, RESNET, *dry, *flags)
    assert done.returncode == 6, done.stderr
    assert "target latency=0.000001: " in done.stdout
    assert list(tmp_path.glob("*.json"))


def test_a_missed_target_is_written_and_ends_with_6(tmp_path: Path) -> None:
    """A millionth of the latency is out of reach, whatever the machine does meanwhile."""
    out = tmp_path / "s.onnx"
    flags = ["--target", "latency=0.000001", "--no-ir", "--no-bench", "--json", "-o", out]
    done = run("slim", RESNET, *flags)
    assert done.returncode == 6, done.stderr
    assert "E601" in done.stderr
    assert out.exists()
    document = json.loads(done.stdout)
    assert not document["target"]["met"]
    assert [gate["passed"] for gate in document["gates"]] == [False]


def test_a_model_is_made_faster_in_earnest(tmp_path: Path) -> None:
    """Nothing is asserted of a time: only that the trials are of this model, and end."""
    done = run("plan", RESNET, "--target", "latency=0.8", "-o", tmp_path / "p.json")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "p.json").exists()


@pytest.mark.parametrize("recover", ["auto", "moments", "bias", "none"])
def test_the_smallest_model_that_agrees(recover: str) -> None:
    """What the gate says is what recovery says of the model that is written."""
    given = {"calib": DATA, "calib_count": 128, "scope": "layer", "recover": recover, **QUICK}
    slimmed = prunecvt.slim(RESNET, target="agreement=0.97", **given)
    report = slimmed.report
    assert report.target is not None
    assert report.target.judge == ["held-out data"]
    assert report.target.met
    assert report.target.value >= 0.97
    if recover != "none":
        assert report.recovery is not None
        assert report.recovery.after.top1_agree == report.target.value
    tried = {round(probe.macs, 6) for probe in report.target.probes}
    assert round(report.totals.macs.ratio, 6) in tried
    if recover == "auto":
        assert report.totals.macs.ratio < 0.7


def test_a_trial_that_does_not_hold_in_full_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A whole recovery that spoils the first two models it is asked for."""
    spoiled: list[float] = []

    def spoil(self: Any, probe: Probe) -> Probe:
        if len(spoiled) < 2:
            spoiled.append(probe.macs)
            return replace(probe, level=2.0, value=0.0)
        return probe

    monkeypatch.setattr(agree._Trials, "in_full", spoil)
    given = {"calib": DATA, "calib_count": 64, "scope": "layer", "recover": "moments", **QUICK}
    planned = prunecvt.plan(RESNET, target="agreement=0.9", **{**given})
    assert planned.target is not None
    assert planned.target.met
    assert spoiled == sorted(spoiled)
    assert spoiled
    assert planned.after.macs / planned.before.macs > max(spoiled)


def test_only_the_whole_model_agrees_entirely() -> None:
    found = smallest(seek_least(trials(lambda share: 0.0 if share >= 1 else 2.0), 0.5))
    assert found.met
    assert found.best.macs == 1.0


@pytest.mark.parametrize("model", ["digits_resnet", "digits_unet"])
def test_agreement_needs_data_and_classes(model: str) -> None:
    given = {} if model == "digits_resnet" else {"calib": DATA, "calib_count": 64}
    with pytest.raises(UsageError) as caught:
        prunecvt.slim(SAMPLES / f"{model}.onnx", target="agreement=0.9", **given)
    assert caught.value.code == "E225"
