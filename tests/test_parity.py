"""OpenVINO's outputs of quantised models: held against onnxruntime's without what rounds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import prunecvt
from models import Net
from prunecvt import emit
from prunecvt.emit import judge_parity
from prunecvt.options import Options
from prunecvt.report.schema import ParityCheck
from prunecvt.report.wording import checks
from prunecvt.runtimes.openvino_ir import Trial
from prunecvt_passes import runtime
from prunecvt_passes.model import Model
from prunecvt_passes.samples import random_inputs
from quantised_models import convolutional, quantised

FAR = ParityCheck(max_abs=9.0, max_rel=9.0, tolerance=1e-3, passed=False)


def judged(proto: onnx.ModelProto, found: ParityCheck = FAR) -> ParityCheck:
    """What becomes of a difference that is larger than the original's."""
    model = Model.from_proto(proto)
    inputs = random_inputs(model, {"x": (2, 3, 8, 8)})
    trial = Trial(inputs, runtime.run(model, inputs), 1e-3)
    return judge_parity(found, trial, Options(), (model, model), None)


@pytest.mark.parametrize("per_channel", [False, True])
def test_roundings_that_differ_are_no_difference(per_channel: bool) -> None:
    """The original's Softmax ends at one class whatever is rounded how, so it excuses nothing."""
    check = judged(quantised(convolutional(), "QDQ", per_channel=per_channel))
    assert check.passed and check.at == "unrounded"
    assert check.max_rel <= check.tolerance == 1e-3


def test_what_rounds_nothing_is_held_to_its_outputs() -> None:
    with pytest.raises(prunecvt.VerifyError, match="E505"):
        judged(convolutional())


def test_a_difference_that_no_rounding_makes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What OpenVINO reads has its largest weights cut off."""
    staged = emit.staged

    def wrong(model: Model, path: Path) -> Path:
        if path.stem == "unrounded":
            model = model.copy()
            for name, values in list(model.weights.items()):
                if values.dtype == np.int8 and values.ndim == 4:
                    model.set_weight(name, np.minimum(values, 100))
        return staged(model, path)

    monkeypatch.setattr(emit, "staged", wrong)
    with pytest.raises(prunecvt.VerifyError, match="E505"):
        judged(shallow())


def shallow() -> onnx.ModelProto:
    """As ``convolutional``, without a Softmax that hides what stands before it."""
    net = Net()
    x = net.add("Relu", net.conv(net.input("N", 3, 8, 8), 3, 16, 3, name="stem"))
    net.output(net.conv(x, 16, 8, 3), shape=[None] * 4)
    return quantised(net.proto(), "QDQ")


def test_the_same_without_the_fault_passes() -> None:
    assert judged(shallow()).at == "unrounded"


def test_the_report_says_where_the_runtimes_were_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = emit.write_ir

    def far(path: Path, *facts: Any, **options: Any) -> ParityCheck | None:
        found = written(path, *facts, **options)
        return found if path.stem == "unrounded" else FAR

    monkeypatch.setattr(emit, "write_ir", far)
    result = prunecvt.slim(shallow(), tmp_path / "slim.onnx", ratio=0.5, round_to=1, bench=False)
    rows = checks(result.report.verify)
    (row,) = (row for row in rows if row.name == "same in OpenVINO")
    assert row.outcome == "passed"
    assert row.detail.endswith("without the rounding of activations")
