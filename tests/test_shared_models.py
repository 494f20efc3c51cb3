"""Trained models that are too large for the checkout: they lie in a folder ``shared`` beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import prunecvt
from models import random_removal
from prunecvt.loading.load import load
from prunecvt_passes import oracle, runtime
from prunecvt_passes.budget import Scope
from prunecvt_passes.groups import solve
from prunecvt_passes.normalise import Source, normalise
from prunecvt_passes.recipes import label
from prunecvt_passes.slice import remove
from prunecvt_passes.units import DEFAULT_UNITS

ROOT = Path(__file__).parent.parent
MODELS = ROOT.parent / "shared" / "models"
CLASSIFIERS = (
    *("cifar10_resnet20.tsbn", "cifar10_resnet20.ts", "cifar10_resnet20.dyn"),
    *("cifar10_resnet56.tsbn", "cifar10_resnet56.dyn"),
    *("cifar10_mlperftiny_resnet8.tsbn", "imagenet_mobilenet_v2.tsbn"),
)
OTHERS = (
    *("nanodet_m", "ultraface_RFB_320", "ppocr_cls"),
    *("silero_vad_op18_ifless", "oww_melspectrogram"),
)

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not MODELS.is_dir(), reason="no folder shared/models beside the checkout"),
]


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("ratio", [0.1, 0.4, 0.7])
@pytest.mark.parametrize(("scope", "round_to"), [("layer", 1), ("global", "auto")])
def test_oracle_holds(name: str, ratio: float, scope: Scope, round_to: int | str) -> None:
    path = MODELS / f"{name}.onnx"
    report = prunecvt.slim(path, ratio=ratio, scope=scope, round_to=round_to).report
    assert report.verify is not None
    assert report.verify.masked_dense is not None
    assert report.verify.masked_dense.max_rel < 1e-4
    assert round_to == "auto" or report.totals.params.ratio < 1


@pytest.mark.parametrize("name", OTHERS)
def test_whatever_is_left_whole_has_a_reason(name: str) -> None:
    report = prunecvt.slim(MODELS / f"{name}.onnx", ratio=0.4, round_to=1).report
    assert report.verify is not None
    assert report.verify.masked_dense is not None
    assert report.verify.masked_dense.passed
    for row in report.groups:
        assert row.channels_after < row.channels_before or row.reason
    assert report.skipped
    assert all(row.reason for row in report.skipped)


@pytest.mark.parametrize("name", CLASSIFIERS[:5])
def test_zero_padded_shortcuts_do_not_pin_the_residual_stream(name: str) -> None:
    planned = prunecvt.plan(MODELS / f"{name}.onnx", ratio=0.4, round_to=1).plan
    whole = [channels for channels in planned.channels if len(channels.kept) == channels.width]
    assert [channels.width for channels in whole] == [10]  # the classes


def test_both_bodies_of_an_if_are_cut() -> None:
    report = prunecvt.slim(MODELS / "silero_vad_op18_ifless.onnx", ratio=0.4, round_to=1).report
    assert report.status == "ok"
    assert report.totals.params.after < 0.65 * report.totals.params.before
    assert "subgraph" not in {row.code for row in report.skipped}


@pytest.mark.parametrize(("rate", "samples"), [(16000, 576), (8000, 288)])
def test_either_body_of_an_if_is_cut_right(rate: int, samples: int) -> None:
    dense = normalise(Source(load(MODELS / "silero_vad_op18_ifless.onnx")))
    groups = solve(label(dense, DEFAULT_UNITS))
    removal = random_removal(groups, 0.4)
    rng = np.random.default_rng(0)
    inputs = {
        "input": rng.standard_normal((2, samples)).astype(np.float32),
        "state": np.zeros((2, 2, 128), np.float32),
        "sr": np.array(rate),
    }
    expected = runtime.run(oracle.masked(groups, removal), inputs)
    found = runtime.run(remove(groups, removal), inputs)
    assert oracle.difference(expected, found).relative < 1e-4
