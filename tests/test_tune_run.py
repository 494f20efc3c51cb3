"""``prunecvt tune`` as it is run: reports, interrupts, several processes, a model of real size."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

torch = pytest.importorskip("torch")

import prunecvt  # noqa: E402
from command_line import Call  # noqa: E402
from prunecvt.report.schema import Report  # noqa: E402
from prunecvt.slimming import Slimmed  # noqa: E402
from tune_cases import row, saved, tuned  # noqa: E402

SAMPLES = Path(__file__).parent.parent / "sample_models"


def test_the_report_tells_and_verify_understands(tmp_path: Path, call: Call) -> None:
    original, slim, data = saved(tmp_path)
    plan = tmp_path / "net.plan.json"
    cut = ("--ratio", 0.5, "--round-to", 1, "--only", "block*_a")
    call("plan", original, "-o", plan, *cut)
    out, page = tmp_path / "out.onnx", tmp_path / "more.md"
    quick = ("--threads", 1, "--steps", 20, "--batch", 16, "--rate", "0.03")
    done = call("tune", original, slim, "-o", out, "--calib", data, *quick, "--report", page)
    assert done.returncode == 0, done.stderr
    assert "divergence from the original" in done.stdout
    assert "held-out loss" in done.stderr
    assert "Divergence from the original" in page.read_text()
    shown = out.with_suffix(".report.html").read_text()
    assert "Tuned" in shown
    assert "Tuning cuts nothing" in shown  # and not that nothing can be cut
    assert "can be cut" not in shown
    assert out.with_suffix(".xml").exists()
    verified = call("verify", original, out, "--plan", plan, "--no-ir")
    assert verified.returncode == 0, verified.stderr
    assert "trained since" in verified.stdout
    verified = call("verify", original, out, "--no-ir")  # no plan could help
    assert verified.returncode == 0, verified.stderr
    assert "oracle: it speaks of the cut alone; trained since" in verified.stdout
    report = out.with_suffix(".report.json")
    report.rename(tmp_path / "elsewhere.json")
    verified = call("verify", original, out, "--no-ir")
    assert "oracle: no plan was given, and without one" in verified.stdout
    verified = call("verify", original, out, "--plan", plan, "--no-ir")
    assert (verified.returncode, "E504" in verified.stderr) == (5, True)
    assert "trained or recovered" in verified.stderr
    assert "out.report.json" in verified.stderr
    assert "please report it" not in verified.stderr


def test_an_interrupt_ends_with_130_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    original, slim, data = saved(tmp_path)
    out = tmp_path / "out.onnx"
    command = [sys.executable, "-c", "from prunecvt.cli import main; main()", "tune"]
    options = ["-o", out, "--calib", data, "--epochs", 100000, "--threads", 1]
    process = subprocess.Popen(
        [*command, *map(str, (original, slim, *options)), "--checkpoint-minutes", "0"],
        stderr=subprocess.PIPE,
        text=True,
        # started in the background of a shell, the tests ignore the signal, and so would the child
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        for _ in range(1200):
            if (tmp_path / "out.tune.pt").exists() or process.poll() is not None:
                break
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert not out.exists()
    assert (tmp_path / "out.tune.pt").exists()


def test_two_processes_share_the_work(tmp_path: Path) -> None:
    original, slim, data = saved(tmp_path)
    out = tmp_path / "out.onnx"
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-c", "from prunecvt.cli import main; main()", "tune"]
    settings = ("--steps", 30, "--batch", 16, "--rate", "0.03", "--threads", 1, "--no-ir")
    command += list(map(str, (original, slim, "-o", out, "--calib", data, *settings)))
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            command,
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    ended = [each.communicate(timeout=300) for each in processes]
    assert [each.returncode for each in processes] == [0, 0], ended
    assert "wrote" in ended[0][0]
    assert not ended[1][0]
    alone = tuned(original, slim, calib=data, steps=30)
    report = Report.model_validate_json(out.with_suffix(".report.json").read_bytes())
    assert report.tune is not None
    assert report.tune.after.loss < 0.6 * report.tune.before.loss
    assert report.tune.steps == row(alone).steps


def test_a_digits_model_end_to_end(tmp_path: Path) -> None:
    original, calib = SAMPLES / "digits_resnet.onnx", SAMPLES / "digits_calib.npz"
    slim, out = tmp_path / "slim.onnx", tmp_path / "tuned.onnx"
    prunecvt.slim(original, slim, ratio=0.5, recover="none", ir=False, bench=False, verify=False)
    settings: dict[str, Any] = {"steps": 60, "rate": 0.02, "batch": 32}
    result = tuned(original, slim, out, calib=calib, eval=SAMPLES / "digits_test.npz", **settings)
    found = row(result)
    assert found.after.loss < 0.8 * found.before.loss
    assert found.accuracy is not None
    assert found.accuracy[1] > found.accuracy[0]
    assert result.report.accuracy is not None
    assert isinstance(result.slimmed, Slimmed)
    assert onnxruntime.InferenceSession(str(out)).get_outputs()[0].shape[1] == 10
