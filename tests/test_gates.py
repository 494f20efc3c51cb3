"""Gates: what the language says, what it refuses, and how runs end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import prunecvt
import report_examples as examples
from command_line import RESNET, run
from prunecvt.errors import UsageError
from prunecvt.gates import check_gate, judged
from prunecvt.report.html import render_html

QUICK = ["--no-ir", "--no-bench", "--no-verify"]


@pytest.mark.parametrize(
    ("text", "passed"),
    [
        ("macs_ratio > 0.1", False),
        ("macs_ratio > 10", True),
        ("not macs_ratio > 10", False),
        ("macs_ratio > 10 or params_ratio < 2", False),
        ("macs_ratio > 10 and params_ratio < 2", True),
        ("0 < macs_ratio < 1", False),
        ("1 < macs_ratio < 2", True),
        ("totals.macs.after / totals.macs.before == macs_ratio", False),
        ("2 * macs_ratio - macs_ratio * (1 + 1) != 0", True),
        ("-macs_ratio < 0", False),
        ("status == 'ok'", False),
        ("status != 'ok'", True),
        ("latency[0].ratio > 0", False),
        ("latency[0].before.p90 < 0", True),
        ("latency[0].ratio_ci95[1] < 0", True),
        ("verify.fidelity.cosine > 2", True),
        ("settings.ratio > 2", True),
        ("env.versions.onnxruntime == 'none'", True),
        ("latency_ratio * speedup > 1.0001", True),
        ("latency_ratio >= latency_ratio_openvino", False),
    ],
)
def test_what_a_gate_says(text: str, passed: bool) -> None:
    check_gate(text)
    (gate,) = judged(examples.report(), [text])
    assert gate.passed is passed
    assert gate.expr == text


def test_a_gate_shows_the_number_it_compared() -> None:
    report = examples.report()
    (gate,) = judged(report, ["totals.macs.after / totals.macs.before > 2 or fell_off > 99"])
    assert gate.value == pytest.approx(report.totals.macs.ratio)


@pytest.mark.parametrize(
    "text", ["latency_ratio > 2", "latency[7].ratio > 2", "top1 < 0", "macs_ratio / 0 > 1"]
)
def test_what_was_not_measured_is_missed(text: str) -> None:
    report = examples.report().model_copy(update={"latency": [], "accuracy": None})
    (gate,) = judged(report, [text])
    assert (gate.passed, gate.value) == (False, None)
    assert "not measured" in render_html(report.model_copy(update={"gates": [gate]}))


def test_agreement_on_random_input_is_not_measured() -> None:
    report = examples.troubled()
    assert report.verify is not None and report.verify.fidelity is not None
    fidelity = report.verify.fidelity.model_copy(update={"data": "random", "top1_agree": 1.0})
    verify = report.verify.model_copy(update={"fidelity": fidelity})
    (gate,) = judged(report.model_copy(update={"verify": verify}), ["agreement < 0.98"])
    assert (gate.passed, gate.value) == (False, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "macs_ratio",
        "macs_ratio >",
        "1 if macs_ratio else 0",
        "__import__('os').system('true') > 0",
        "open('x') > 0",
        "(lambda: 1)() > 0",
        "[1] > 0",
        "macs_ratio ** 9 > 1",
        "macs_ratio in (1, 2)",
        "ratio > 0.5",
        "totals.macs.aftr > 1",
        "totals[0] > 1",
        "latency.ratio > 1",
        "verify.fidelity.cosines > 1",
        "status.ok > 1",
        "macs_ratio > 1; 1",
        "latency[macs_ratio].ratio > 1",
        "latency[0:1] > 1",
        "f'{macs_ratio}' > 'a'",
        "(" * 300,
        "1 < 2 or " * 100 + "1 < 2",
    ],
)
def test_what_is_no_gate_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_gate(text)
    assert caught.value.code == "E226"


def test_texts_are_not_multiplied() -> None:
    """Nothing is made that takes memory."""
    (gate,) = judged(examples.report(), ["'a' * 1000000000 * 1000 == 'b'"])
    assert (gate.passed, gate.value) == (False, None)


def test_a_missed_gate_is_written_and_ends_with_6(tmp_path: Path) -> None:
    out = tmp_path / "s.onnx"
    flags = ["--fail-if", "macs_ratio > 0.1", "--fail-if", "macs_ratio > 1", "-o", out, *QUICK]
    done = run("slim", RESNET, *flags, "--json")
    assert done.returncode == 6
    assert "error[E601]: macs_ratio > 0.1: missed (0." in done.stderr
    assert "macs_ratio > 1:" not in done.stderr
    gates = json.loads(done.stdout)["gates"]
    assert [gate["passed"] for gate in gates] == [False, True]
    assert gates == json.loads((tmp_path / "s.report.json").read_text())["gates"]
    assert out.exists()


def test_what_is_no_gate_ends_before_anything_is_done(tmp_path: Path) -> None:
    done = run("slim", RESNET, "-o", tmp_path / "s.onnx", "--fail-if", "speed > 2")
    assert done.returncode == 2
    assert "E226" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_strict_layout_needs_no_latency(tmp_path: Path) -> None:
    out = tmp_path / "s.onnx"
    strict = {"strict_layout": True, "ir": False, "bench": False, "verify": False, "force": True}
    for step, passed in ((8, True), (1, False)):
        report = prunecvt.slim(RESNET, out, ratio=0.3, round_to=step, **strict).report
        if report.layout is None or not report.layout.before.nchwc_convs:
            pytest.skip("no blocked convolutions on this machine")
        assert [(gate.expr, gate.passed) for gate in report.gates] == [("strict layout", passed)]
        assert (report.gates[0].value == 0) is passed
