"""What ``tune`` refuses, or notices before hours of work, and that no work is lost."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

torch = pytest.importorskip("torch")

from models import Net  # noqa: E402
from prunecvt import OutputError, UsageError, VerifyError  # noqa: E402
from prunecvt.bridge.tuning import training  # noqa: E402
from tune_cases import CLASSES, SIZE, images, network, row, saved, slimmed, tuned  # noqa: E402


def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    def learn(self: Any, share: float) -> None:
        raise AssertionError("it was trained")

    monkeypatch.setattr(training.Training, "_learn", learn)


def test_what_fails_in_the_end_fails_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    untrained(monkeypatch)
    model = network()
    slim = slimmed(model)
    with pytest.raises(UsageError, match="E230"):
        tuned(model, slim, eval="nothing.npz")
    late = {"x": images(), "labels": np.array([*[0] * 95, CLASSES])}
    with pytest.raises(UsageError, match="E238"):
        tuned(model, slim, eval=late)
    with pytest.raises(VerifyError, match="E511") as caught:
        tuned(model, slim, rtol=1e-15)
    assert "not trained" in caught.value.help
    assert "report" not in caught.value.help


def test_a_check_that_fails_after_training_loses_no_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prunecvt.bridge.tuning import check

    original, slim, data = saved(tmp_path)
    out = tmp_path / "out.onnx"

    def refuse(*arguments: Any) -> None:
        raise VerifyError("E512", "refused")

    with monkeypatch.context() as patched:
        patched.setattr(check, "check_only_weights_changed", refuse)
        with pytest.raises(VerifyError, match="E512"):
            tuned(original, slim, out, calib=data, steps=4)
    assert (tmp_path / "out.tune.pt").exists()
    untrained(monkeypatch)
    assert row(tuned(original, slim, out, calib=data, steps=4, resume=True)).steps == 4
