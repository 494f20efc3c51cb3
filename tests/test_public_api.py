"""The Python API: what is exported, and that it works without writing anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon
import onnxruntime
import pytest

import prunecvt
from prunecvt.report.files import report_json
from prunecvt.report.findings import findings
from prunecvt.report.wording import drift

SAMPLES = Path(__file__).parent.parent / "sample_models"
RESNET = SAMPLES / "digits_resnet.onnx"
CALIB = SAMPLES / "digits_calib.npz"
PUBLIC = {
    "Exported",
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
    "export",
    "inspect",
    "plan",
    "slim",
    "trim",
    "tune",
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
    result = prunecvt.slim(RESNET, ratio=0.1, criterion="share", recover="none", calib=CALIB)
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


def test_passes_say_whether_they_changed_the_model() -> None:
    for ratio, cut in ((0.4, True), (0.0, False)):
        changed = {
            row.name: row.changed for row in prunecvt.slim(RESNET, ratio=ratio).report.passes
        }
        assert changed["remove"] is cut
        assert changed["fold_batch_norms"]
        assert not changed["normalise"]


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


TWO_CONVOLUTIONS = """
    <ir_version: 8, opset_import: ["" : 17]>
    two ({type}[{batch}, 3, 8, 8] x) => ({outputs})
    {{
        a = Conv <pads: ints = [1, 1, 1, 1]> (x, w)
        r = Relu(a)
        b = Conv(r, v)
        {tail}
    }}
"""


def two_convolutions(tail: str, outputs: str, batch: str = "N") -> onnx.ModelProto:
    text = TWO_CONVOLUTIONS.format(type="float", batch=batch, tail=tail, outputs=outputs)
    model = onnx.parser.parse_model(text)
    draw = np.random.default_rng(0)
    for name, shape in (("w", (32, 3, 3, 3)), ("v", (4, 32, 1, 1))):
        values = draw.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    return model


def test_drift_where_outputs_are_no_numbers() -> None:
    report = prunecvt.slim(two_convolutions("y = Log(b)", "float[N, 4, 8, 8] y")).report
    fidelity = report.verify.fidelity if report.verify else None
    assert fidelity is not None
    assert 0 < fidelity.finite < 1
    assert -1 <= fidelity.cosine < 1
    assert "NaN" not in report_json(report)
    assert any("finite numbers" in note for note in findings(report))
    assert dict(drift(fidelity))["max relative"] == "unbounded"


def test_drift_of_infinite_outputs_is_written_as_json(tmp_path: Path) -> None:
    tail = "one = Constant <value_float = 1.0> ()  zero = Constant <value_float = 0.0> ()\n"
    model = two_convolutions(f"{tail} i = Div(one, zero)  y = Mul(b, i)", "float[N, 4, 8, 8] y")
    report = prunecvt.slim(model).report
    json.loads(report_json(report), parse_constant=pytest.fail)


def test_drift_of_labels_is_not_hidden() -> None:
    model = two_convolutions("y = ArgMax <axis = 1> (b)", "int64[N, 1, 8, 8] y")
    report = prunecvt.slim(model, ratio=0.5).report
    assert report.verify is not None
    assert report.verify.fidelity is not None
    assert report.verify.fidelity.cosine < 0.99


def test_a_model_that_onnxruntime_does_not_run_is_not_blamed_on_the_cut() -> None:
    tail = "c = Cast <to = 4> (b) y = Max (c, c)"  # not of 16 bits
    model = two_convolutions(tail, "uint16[N, 4, 8, 8] y")
    with pytest.raises(prunecvt.UnsupportedError, match="E41"):
        prunecvt.slim(model)


def test_outputs_that_are_no_tensors_are_refused_unless_nothing_is_checked() -> None:
    model = two_convolutions("y = SequenceConstruct(b, b)", "seq(float[N, 4, 8, 8]) y")
    with pytest.raises(prunecvt.UnsupportedError, match="E425"):
        prunecvt.slim(model)
    assert prunecvt.slim(model, verify=False).report.status == "ok"


def test_bytes_count_the_files_of_external_weights_and_only_them(tmp_path: Path) -> None:
    model = two_convolutions("y = Identity(b)", "float[N, 4, 8, 8] y")
    weight = model.graph.initializer[0]
    (tmp_path / "w.bin").write_bytes(weight.raw_data)
    onnx.external_data_helper.set_external_data(weight, "w.bin")
    weight.ClearField("raw_data")
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    wanted = path.stat().st_size + (tmp_path / "w.bin").stat().st_size
    assert prunecvt.slim(path).report.totals.bytes.before == wanted


def test_a_single_pattern_and_a_path_as_text_are_taken(tmp_path: Path) -> None:
    model = two_convolutions("y = Identity(b)", "float[N, 4, 8, 8] y")
    assert prunecvt.slim(model, keep="a").report.status == "nothing-to-prune"
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((5, 3, 8, 8), np.float32))
    report = prunecvt.slim(model, calib=str(path)).report
    assert report.verify is not None
    assert report.verify.fidelity is not None
    assert report.verify.fidelity.samples == 5
    assert report.settings["calib"] == "x.npy"


def test_a_damaged_archive_of_calibration_data(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).standard_normal((64, 3, 8, 8)))
    data = bytearray(path.read_bytes())
    data[200:260] = bytes(60)
    path.write_bytes(data)
    with pytest.raises(prunecvt.UsageError, match="E230"):
        prunecvt.slim(two_convolutions("y = Identity(b)", "float[N, 4, 8, 8] y"), calib=path)


def test_a_scalar_input_is_read_from_calibration_data(tmp_path: Path) -> None:
    model = two_convolutions("y = Mul(b, gain)", "float[N, 4, 8, 8] y")
    gain = onnx.helper.make_tensor_value_info("gain", onnx.TensorProto.FLOAT, [])
    model.graph.input.append(gain)
    path = tmp_path / "x.npz"
    np.savez(path, x=np.ones((40, 3, 8, 8), np.float32), gain=np.float32(2))
    report = prunecvt.slim(model, calib=path).report
    assert report.verify is not None
    assert report.verify.fidelity is not None
    assert report.verify.fidelity.samples == 40


def test_openvino_is_held_to_twice_what_it_does_to_the_original(tmp_path: Path) -> None:
    tail = "n = RandomNormalLike <seed: float = 1.0> (b)  y = Add(b, n)"
    model = two_convolutions(tail, "float[N, 4, 8, 8] y")
    noise = model.graph.node[-2]
    noise.input[0] = "x"
    model.graph.node[-1].input[1] = "m"
    mean = onnx.helper.make_node("ReduceMean", ["n"], ["m"], axes=[1], keepdims=1)
    model.graph.node.insert(len(model.graph.node) - 1, mean)
    report = prunecvt.slim(model, tmp_path / "s.onnx", bench=False).report
    assert report.verify is not None
    assert report.verify.openvino is not None
    assert report.verify.openvino.passed
    assert report.verify.openvino.max_rel <= report.verify.openvino.tolerance


def test_onnxruntime_reports_nothing_to_anyone(tmp_path: Path) -> None:
    code = "import prunecvt, onnxruntime, os; assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'"
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    environment["TMPDIR"] = str(tmp_path)
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert not list(tmp_path.iterdir())  # where its telemetry keeps a session file


def test_inputs_that_are_no_tensors_are_refused() -> None:
    model = two_convolutions("y = Identity(b)", "float[N, 4, 8, 8] y")
    model.graph.node.insert(0, onnx.helper.make_node("SequenceAt", ["q", "i"], ["x"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.int64(0), "i"))
    sequence = onnx.helper.make_tensor_sequence_value_info("q", 1, ["N", 3, 8, 8])
    model.graph.input[0].CopyFrom(sequence)
    with pytest.raises(prunecvt.UnsupportedError, match="E426"):
        prunecvt.slim(model)


def narrow_ending(end: str, bias: float) -> onnx.ModelProto:
    text = f"""
    <ir_version: 8, opset_import: ["" : 17]>
    net (float[N, 3, 48, 48] x) => (float[N, 4, 48, 48] y)
    {{
        a = Conv <pads: ints = [1, 1, 1, 1]> (x, w)
        n = BatchNormalization (a, gamma, beta, mean, variance)
        b = Relu(n)
        c = Conv(b, v, bias)
        y = {end}(c)
    }}
    """
    model = onnx.parser.parse_model(text)
    draw = np.random.default_rng(0)
    weights = {
        "w": draw.standard_normal((32, 3, 3, 3)),
        "v": draw.standard_normal((4, 32, 1, 1)) / 8,
        "bias": np.full(4, bias),
        "gamma": draw.uniform(0.5, 1.5, 32),
        "beta": draw.standard_normal(32),
        "mean": draw.standard_normal(32),
        "variance": draw.uniform(0.5, 1.5, 32),
    }
    for name, values in weights.items():
        tensor = onnx.numpy_helper.from_array(values.astype(np.float32), name)
        model.graph.initializer.append(tensor)
    return model


def test_a_sigmoid_near_zero_is_compared_before_it() -> None:
    report = prunecvt.slim(narrow_ending("Sigmoid", -17.0), ratio=0.5, rtol=1e-6).report
    assert report.verify is not None
    assert report.verify.masked_dense is not None
    assert report.verify.masked_dense.at == "logits"
    assert report.verify.masked_dense.max_rel < 1e-6


def test_a_sigmoid_near_zero_is_written_with_ir(tmp_path: Path) -> None:
    model = narrow_ending("Sigmoid", -17.0)
    result = prunecvt.slim(model, tmp_path / "s.onnx", ratio=0.5, rtol=1e-6, bench=False)
    assert result.report.verify is not None
    assert result.report.verify.openvino is not None
    assert result.report.verify.openvino.passed


def test_sizes_that_were_made_up_are_named() -> None:
    model = narrow_ending("Relu", 0.0)
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"size{axis}"
        model.graph.output[0].type.tensor_type.shape.dim[axis].dim_param = f"size{axis}"
    assert any("made up" in note for note in prunecvt.slim(model).report.warnings)
    stated = prunecvt.slim(model, input_shape={"x": (1, 3, 20, 30)})
    assert not any("made up" in note for note in stated.report.warnings)


def test_a_cut_that_rounding_shrinks_is_named() -> None:
    warnings = prunecvt.slim(RESNET, ratio=0.02).report.warnings
    assert any("rounding widths up" in note for note in warnings)


def test_a_group_that_gets_its_channel_back_says_why() -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    net (float[N, 3, 2, 2] x) => (float[N, 5] y)
    <int64[2] sizes = {4, 12}>
    {
        a = Conv (x, w)
        b = Flatten (a)
        first, others = Split <axis = 1> (b, sizes)
        c = Concat <axis = 1> (first, others)
        y = MatMul (c, v)
    }
    """
    model = onnx.parser.parse_model(text)
    filters = np.random.default_rng(0).standard_normal((4, 3, 1, 1)).astype(np.float32)
    filters[0] /= 100  # the weakest channel is all that ``first`` holds
    weights = {"w": filters, "v": np.ones((16, 5), np.float32)}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(v, k) for k, v in weights.items())
    settings = {"ratio": 0.25, "round_to": 1, "criterion": "l2"}
    (row,) = prunecvt.slim(model, **settings).report.groups
    assert row.channels_after == row.channels_before
    assert row.reason == "its channels are the last ones of a tensor"
