"""Sweeps: points, what is taken up again, what no other beats."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

import report_examples as examples
from command_line import RESNET, SAMPLES, run
from prunecvt.errors import UsageError
from prunecvt.report.sweep import SweepPoint, SweepReport, marked
from prunecvt.sweeping import amounts, sweep

OPTIONS: dict[str, Any] = {"ir": False, "eval": SAMPLES / "digits_test.npz"}


def point(name: str, ratio: float, quality: float | None) -> SweepPoint:
    latency = [examples.latency(ratio=ratio)]
    made = {"onnx": "m.onnx", "macs": 0.5, "params": 0.5, "measure": "agreement"}
    return SweepPoint(name=name, latency=latency, quality=quality, **made)  # type: ignore[arg-type]


def test_what_no_other_beats() -> None:
    points = [
        point("fast", 0.3, 0.8),
        point("good", 0.9, 0.99),
        point("between", 0.5, 0.9),
        point("slower", 0.6, 0.9),
        point("worse", 0.5, 0.85),
        point("twin", 0.3, 0.8),
        point("unknown", 0.1, None),
    ]
    found = marked("m.onnx", "0", points)
    assert [p.name for p in found.points if p.best] == ["fast", "good", "between", "twin"]


def test_amounts_are_stated_once() -> None:
    found = amounts([0.1, 0.2, 0.1], ["macs=0.5"])
    assert [amount.name for amount in found] == ["ratio=0.1", "ratio=0.2", "macs=0.5"]
    assert len({amount.stem for amount in found}) == 3


@pytest.mark.parametrize(
    ("ratios", "targets", "code"),
    [([1.5], [], "E212"), ([0.0], [], "E212"), ([], ["macs"], "E201"), ([], ["fps=3"], "E201")],
)
def test_amounts_that_are_none(ratios: list[float], targets: list[str], code: str) -> None:
    with pytest.raises(UsageError) as caught:
        amounts(ratios, targets)
    assert caught.value.code == code


def test_a_sweep_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    points = amounts([0.1, 0.3], ["macs=0.8"])
    first = sweep(RESNET, tmp_path, points[:2], OPTIONS, jobs=2)
    made = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.onnx")}
    assert len(made) == 2
    second = sweep(RESNET, tmp_path, points, OPTIONS)
    again = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.onnx")}
    assert {name: again[name] for name in made} == made
    assert len(again) == 3
    assert [p.name for p in second.points] == ["ratio=0.1", "ratio=0.3", "macs=0.8"]
    for old, new in zip(first.points, second.points, strict=False):
        assert (old.macs, old.quality, old.measure) == (new.macs, new.quality, "top1")
    document = (tmp_path / "sweep.json").read_text()
    assert SweepReport.model_validate_json(document) == second
    assert any(p.best for p in second.points)


@pytest.mark.parametrize("change", ["settings", "damage", "model"])
def test_what_is_another_is_made_anew(change: str, tmp_path: Path) -> None:
    points = amounts([0.2], [])
    options = {"ir": False, "verify": False}
    model = tmp_path / "m.onnx"
    model.write_bytes(RESNET.read_bytes())
    folder = tmp_path / "out"
    sweep(model, folder, points, options)
    (made,) = folder.glob("*.onnx")
    whole = made.read_bytes()
    if change == "settings":
        sweep(model, folder, points, {**options, "round_to": 1})
        assert made.read_bytes() != whole
    elif change == "damage":
        made.write_bytes(whole[:-1])
        sweep(model, folder, points, options)
        assert made.read_bytes() == whole
    else:
        model.write_bytes((SAMPLES / "digits_resnet_folded.onnx").read_bytes())
        sweep(model, folder, points, options)
        assert made.read_bytes() != whole


def test_a_point_that_fails_ends_the_sweep_with_its_error(tmp_path: Path) -> None:
    points = amounts([], ["params=0.0001"])
    with pytest.raises(UsageError) as caught:
        sweep(RESNET, tmp_path, points, {"ir": False})
    assert caught.value.code == "E217"
    assert "--target" in str(caught.value)


def test_errors_go_from_process_to_process_whole() -> None:
    error = UsageError("E201", "no", where="there", node="n", help="so")
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is UsageError
    assert (str(found), found.code, found.node) == (str(error), "E201", "n")


def test_the_command_prints_a_table(tmp_path: Path) -> None:
    flags = ["--ratios", "0.2", "--target", "macs=0.9", "--no-ir", "-o", tmp_path]
    done = run("sweep", RESNET, *flags, COLUMNS="80")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert all(len(line) <= 80 for line in lines if not line.startswith("wrote "))
    names = [line.split()[0] for line in lines if "=" in line and " % " in line]
    assert names == ["ratio=0.2", "macs=0.9"]
    done = run("sweep", RESNET, *flags, "--json")
    assert json.loads(done.stdout) == json.loads((tmp_path / "sweep.json").read_text())
    out_of_reach = ["--ratios", "", "--target", "latency=0.000001", "--no-ir"]
    done = run("sweep", RESNET, *out_of_reach, "-o", tmp_path / "missed")
    assert "latency=0.000001 (missed)" in done.stdout
    assert run("sweep", RESNET, "--ratios", "much", "-o", tmp_path).returncode == 2
    assert run("sweep", RESNET, "--ratios", "", "-o", tmp_path).returncode == 2
