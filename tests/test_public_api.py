"""The Python API: what is exported, and that it works without writing anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon
import onnxruntime
import pytest

import prunecvt

SAMPLES = Path(__file__).parent.parent / "sample_models"
RESNET = SAMPLES / "digits_resnet.onnx"
PUBLIC = {
    "GateError",
    "InputError",
    "Inspection",
    "OutputError",
    "Planned",
    "PrunecvtError",
    "ResourceError",
    "Result",
    "UnsupportedError",
    "UsageError",
    "VerifyError",
    "apply",
    "inspect",
    "plan",
    "slim",
}


def test_exported_names() -> None:
    assert set(prunecvt.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(prunecvt, name).__module__.startswith("prunecvt")


def test_import_is_light_and_torch_is_never_imported() -> None:
    code = (
        "import sys, prunecvt; assert 'numpy' not in sys.modules\n"
        f"prunecvt.slim({str(RESNET)!r}); assert 'torch' not in sys.modules\n"
        "assert 'openvino' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_slim_returns_a_smaller_model_and_leaves_its_input_alone() -> None:
    original = onnx.load(RESNET)
    before = original.SerializeToString(deterministic=True)
    result = prunecvt.slim(original, ratio=0.4)
    assert original.SerializeToString(deterministic=True) == before
    assert result.report.status == "ok"
    assert result.report.totals.params.ratio < 0.5
    assert result.paths is None
    onnx.checker.check_model(result.model, full_check=True)
    session = onnxruntime.InferenceSession(result.model.SerializeToString())
    (logits,) = session.run(None, {"input": np.zeros((3, 1, 32, 32), np.float32)})
    assert logits.shape == (3, 10)


def test_plan_then_apply_equals_slim() -> None:
    planned = prunecvt.plan(RESNET, ratio=0.3)
    applied = prunecvt.apply(planned)
    assert applied.plan == planned.plan
    assert applied.model == prunecvt.slim(RESNET, ratio=0.3).model


def test_apply_takes_a_plan_file(tmp_path: Path) -> None:
    planned = prunecvt.plan(RESNET, ratio=0.3)
    path = tmp_path / "plan.json"
    path.write_text(planned.plan.to_json())
    assert prunecvt.apply(path, RESNET).plan == planned.plan
    with pytest.raises(prunecvt.UsageError, match="E204"):
        prunecvt.apply(path)


def test_path_bytes_proto_and_graphsurgeon_give_one_plan() -> None:
    proto = onnx.load(RESNET)
    forms = [RESNET, str(RESNET), RESNET.read_bytes(), proto, onnx_graphsurgeon.import_onnx(proto)]
    plans = [prunecvt.plan(form).plan.channels for form in forms]
    assert all(plan == plans[0] for plan in plans)


def test_result_as_graphsurgeon_graph() -> None:
    graph = prunecvt.slim(RESNET).graphsurgeon()
    assert any(node.op == "Conv" for node in graph.nodes)


def test_unknown_option_names_the_known_ones() -> None:
    with pytest.raises(prunecvt.UsageError) as caught:
        prunecvt.slim(RESNET, ration=0.4)
    assert "ratio" in caught.value.help


def test_errors_carry_code_and_exit_code(tmp_path: Path) -> None:
    with pytest.raises(prunecvt.InputError) as caught:
        prunecvt.slim(tmp_path / "none.onnx")
    assert caught.value.code == "E301"
    assert caught.value.exit_code == 3


def test_calibration_inputs_are_used_for_the_checks() -> None:
    result = prunecvt.slim(RESNET, ratio=0.1, calib=SAMPLES / "digits_calib.npz")
    assert result.report.verify is not None
    fidelity = result.report.verify.fidelity
    assert fidelity is not None
    assert fidelity.data == "calibration"
    assert fidelity.samples == 256
    assert fidelity.top1_agree is not None


def test_calibration_data_that_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, input=np.zeros((4, 3, 32, 32), np.float32))
    with pytest.raises(prunecvt.UsageError, match="E232"):
        prunecvt.slim(RESNET, calib=path)
    path.write_text("no archive")
    with pytest.raises(prunecvt.UsageError, match="E230"):
        prunecvt.slim(RESNET, calib=path)


def test_ratio_zero_changes_nothing_that_can_be_measured() -> None:
    result = prunecvt.slim(RESNET, ratio=0.0)
    assert result.report.status == "nothing-to-prune"
    fidelity = result.report.verify.fidelity if result.report.verify else None
    assert fidelity is not None
    assert fidelity.max_rel < 1e-5


def test_a_scalar_input_is_timed_in_both_runtimes(tmp_path: Path) -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    scaled (float[N, 3, 8, 8] x, float gain) => (float[N, 4, 8, 8] y)
    {
        a = Conv <pads: ints = [1, 1, 1, 1]> (x, w)
        b = Mul(a, gain)
        y = Conv(b, v)
    }
    """
    model = onnx.parser.parse_model(text)
    draw = np.random.default_rng(0)
    for name, shape in (("w", (16, 3, 3, 3)), ("v", (4, 16, 1, 1))):
        values = draw.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    result = prunecvt.slim(model, tmp_path / "s.onnx", ratio=0.5)
    assert [row.backend for row in result.report.latency] == ["onnxruntime", "openvino"]
    assert result.report.groups[0].channels_after == 8
