"""Clean-ups in a whole run: where they come, what checks them, what the report says of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

import prunecvt
from command_line import QUICK, RESNET, Call
from models import Net
from prunecvt.checks import Tolerance, compare_rewritten
from prunecvt.errors import UsageError, VerifyError
from prunecvt.report.files import report_json
from prunecvt.trials import Trials
from prunecvt_passes.model import Model
from prunecvt_passes.rewriting.rewrite import Done, Rewritten
from test_rewriting import shortcut
from test_shared_models import MODELS


def proto(channels: int = 16) -> onnx.ModelProto:
    net = Net()
    shortcut(net, channels, 8)
    return net.proto()


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def test_slim_cleans_up_after_the_oracle_and_says_so() -> None:
    result = prunecvt.slim(proto(), ratio=0.5)
    assert result.slimmed.removal.removed.any()
    assert not {"Slice", "Pad"} & set(operators(result.model))
    report = result.report
    assert [(row.rule, len(row.nodes)) for row in report.rewrites] == [
        ("merged into one node", 1),
        ("made a convolution", 1),
    ]
    assert report.verify is not None
    assert report.verify.masked_dense is not None
    assert report.verify.masked_dense.passed
    assert report.verify.rewritten is not None
    assert report.verify.rewritten.passed
    assert report.verify.rewritten.max_rel < 1e-6
    names = [row.name for row in report.passes]
    assert names.index("compare_masked") < names.index("rewrite") < names.index("compare_rewritten")
    assert names.index("take_rewritten") < names.index("compare_original")


def test_none_leaves_the_graph_as_it_was_cut() -> None:
    result = prunecvt.slim(proto(), ratio=0.5, clean="none")
    assert operators(result.model).count("Slice") == 2
    assert result.report.rewrites == []
    assert result.report.verify is not None
    assert result.report.verify.rewritten is None


def test_without_checks_it_is_done_all_the_same() -> None:
    result = prunecvt.slim(proto(), ratio=0.5, verify=False)
    assert "Pad" not in operators(result.model)
    assert result.slimmed.rewriting is None


def test_what_counts_weights_gets_none_added() -> None:
    result = prunecvt.slim(proto(), target="params=0.7")
    assert operators(result.model).count("Pad") == 1
    assert result.report.totals.params.ratio <= 0.7


def test_same_input_same_bytes() -> None:
    first, second = (prunecvt.slim(proto(), ratio=0.5).model for _ in range(2))
    assert first.SerializeToString() == second.SerializeToString()


def test_the_file_is_verified_and_slimmed_again(call: Call, tmp_path: Path) -> None:
    path, out = tmp_path / "m.onnx", tmp_path / "s.onnx"
    onnx.save(proto(), path)
    done = call("slim", path, "-o", out, "--ratio", 0.5, *QUICK)
    assert done.returncode == 0, done.stderr
    assert "1 merged into one node, 1 made a convolution" in done.stdout
    assert call("verify", path, out, "--no-ir").returncode == 0
    again = prunecvt.slim(out, ratio=0.0)
    assert again.report.rewrites == []
    assert operators(again.model) == operators(onnx.load(out))


def test_flag_and_report_files(call: Call, tmp_path: Path) -> None:
    path, out = tmp_path / "m.onnx", tmp_path / "s.onnx"
    onnx.save(proto(), path)
    text = tmp_path / "s.md"
    done = call("slim", path, "-o", out, "--report", text, *QUICK)
    assert done.returncode == 0, done.stderr
    assert "Clean-ups of Slice, Gather and Pad: 1 merged" in text.read_text()
    page = out.with_suffix(".report.html").read_text()
    assert "1 place made a convolution" in page
    assert "clean-ups change nothing" in page
    done = call("slim", path, "-o", out, "--force", "--clean", "none", *QUICK)
    assert json.loads(out.with_suffix(".report.json").read_text())["rewrites"] == []


def test_reasons_are_in_the_report() -> None:
    report = prunecvt.slim(proto(64), ratio=0.0).report
    document = json.loads(report_json(report))
    assert "of 64 channels" in document["rewrites"][-1]["left"][0]


def test_a_mode_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="clean is 'all'"):
        prunecvt.slim(proto(), clean="all")


def test_a_clean_up_that_changes_the_outputs_is_caught() -> None:
    before = Model.from_proto(proto())
    after = before.copy()
    name = next(name for name, values in before.weights.items() if values.ndim == 4)
    after.set_weight(name, before.weights[name] * np.float32(1.01))
    trials = Trials(({"x": np.ones((1, 3, 6, 6), np.float32)},), ())
    done = (Done("made worse", ("x",)),)
    with pytest.raises(VerifyError) as error:
        compare_rewritten(Rewritten(before, after, done), trials, Tolerance(1e-4, 0.0))
    assert error.value.code == "E508"


# What is written states nothing that is not so.


def test_shapes_of_inner_tensors_are_not_written() -> None:
    """Those of the original are those of its widths; runtimes infer them (docs/latency.md)."""
    stated = onnx.shape_inference.infer_shapes(onnx.load(RESNET))
    assert len(stated.graph.value_info) > 5
    for ratio in (0.0, 0.4):
        model = prunecvt.slim(stated, ratio=ratio).model
        assert list(model.graph.value_info) == []
        onnx.checker.check_model(model, full_check=True)


def test_types_of_foreign_operators_stay_only_while_these_do() -> None:
    net = Net()
    x = net.first()
    y = net.add("Gelu", x, domain="com.microsoft", name="kept")
    net.add("Gelu", x, domain="com.microsoft", name="dead")
    net.last(y)
    model = net.proto()
    for name in ("kept", "dead", "never"):
        model.graph.value_info.append(helper.make_tensor_value_info(name, 1, ["N", 8, 6, 6]))
    slimmed = prunecvt.slim(model, ratio=0.5, round_to=1).model
    assert [value.name for value in slimmed.graph.value_info] == ["kept"]
    assert not slimmed.graph.value_info[0].type.tensor_type.HasField("shape")
    onnxruntime.InferenceSession(slimmed.SerializeToString())


# Weights that are listed as graph inputs keep onnxruntime from optimising.


def listed(model: onnx.ModelProto) -> onnx.ModelProto:
    for tensor in model.graph.initializer:
        kind = helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
        model.graph.input.append(onnx.ValueInfoProto(name=tensor.name, type=kind))
    return model


@pytest.mark.parametrize("version", [3, 8])
def test_weights_are_no_inputs_any_more(version: int) -> None:
    source = listed(proto())
    source.ir_version = version
    result = prunecvt.slim(source, ratio=0.5)
    assert [value.name for value in result.model.graph.input] == ["x"]
    assert result.model.ir_version == max(version, 4)
    assert [port.name for port in result.report.input.ios if port.kind == "input"] == ["x"]
    assert any("weights were listed as graph inputs" in each for each in result.report.warnings)
    assert result.report.verify is not None
    assert result.report.verify.io_contract


def test_nothing_is_said_where_none_were_listed() -> None:
    assert not any("listed" in each for each in prunecvt.slim(proto(), ratio=0.5).report.warnings)


@pytest.mark.skipif(not MODELS.exists(), reason="the shared models are not here")
@pytest.mark.parametrize("name", ["ultraface_RFB_320.onnx", "nanodet_m.onnx"])
def test_exported_models_that_list_their_weights(name: str) -> None:
    result = prunecvt.slim(MODELS / name, ratio=0.3)
    assert len(result.model.graph.input) == 1
    assert any("weights were listed as graph inputs" in each for each in result.report.warnings)
