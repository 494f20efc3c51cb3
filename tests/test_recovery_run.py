"""Whole runs with calibration data: what is chosen, what is recovered, and what the reports say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

import prunecvt
from models import Net
from prunecvt.report.html import render_html
from prunecvt.report.markdown import render_markdown


def trained_like() -> onnx.ModelProto:
    """A small classifier with a BatchNormalization behind each convolution, and a shortcut."""
    net = Net()
    x = net.add("Relu", net.norm(net.conv(net.input("N", 3, 8, 8), 3, 16, 3), 16))
    branch = net.add("Relu", net.norm(net.conv(x, 16, 24, 3), 24))
    x = net.add("Relu", net.add("Add", net.norm(net.conv(branch, 24, 16, 3), 16), x))
    x = net.add("Flatten", net.add("GlobalAveragePool", x))
    net.output(net.add("Gemm", x, net.random(16, 10), net.random(10)), shape=["N", 10])
    return net.proto()


def data(folder: Path, count: int = 256) -> Path:
    path = folder / "calib.npy"
    np.save(path, np.random.default_rng(0).standard_normal((count, 3, 8, 8)).astype(np.float32))
    return path


def test_a_target_with_data_is_met_and_recovered(tmp_path: Path) -> None:
    result = prunecvt.slim(
        trained_like(), target="macs=0.6", round_to=1, calib=data(tmp_path), ir=False, bench=False
    )
    report = result.report
    assert report.criterion == "obs"
    assert report.totals.macs.after <= 0.6 * report.totals.macs.before
    assert report.recovery is not None and report.recovery.method == "refit"
    assert report.recovery.samples == 32
    assert report.recovery.after.error < report.recovery.before.error
    assert report.verify is not None and report.verify.masked_dense is not None
    assert report.verify.masked_dense.passed
    assert all(group.error is not None for group in report.groups)
    assert "recovery by refit" in render_html(report).lower()
    assert "Recovery by refit" in render_markdown(report)


def test_without_data_nothing_is_recovered(tmp_path: Path) -> None:
    for calib in (None, data(tmp_path, 20)):
        report = prunecvt.slim(trained_like(), round_to=1, ratio=0.3, calib=calib, ir=False).report
        assert report.criterion == "share"
        assert report.recovery is None


def test_a_target_of_bytes_holds_for_the_file(tmp_path: Path) -> None:
    out = tmp_path / "slim.onnx"
    prunecvt.slim(
        trained_like(), out, target="bytes=24KB", round_to=1, calib=data(tmp_path), ir=False
    )
    assert 0.8 * 24_000 < out.stat().st_size <= 24_000


def test_a_model_with_batch_norms_kept_is_recovered(tmp_path: Path) -> None:
    report = prunecvt.slim(
        trained_like(), ratio=0.4, round_to=1, calib=data(tmp_path), fold_bn=False, ir=False
    ).report
    assert report.recovery is not None and report.recovery.method == "refit"
    assert report.recovery.after.error < 0.7 * report.recovery.before.error


def test_a_single_batch_is_said_to_be_too_little(tmp_path: Path) -> None:
    result = prunecvt.slim(
        trained_like(), calib=data(tmp_path, count=16), round_to=1, ir=False, bench=False
    )
    assert result.report.recovery is None
    text = render_markdown(result.report)
    assert "Nothing was fitted on the calibration data: it fills a single batch" in text
