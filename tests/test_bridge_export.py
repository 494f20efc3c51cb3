"""``prunecvt export``: BatchNormalization stays, the batch is open, the outputs are torch's."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

import prunecvt  # noqa: E402
import torch_modules  # noqa: E402
from command_line import Call, run  # noqa: E402
from prunecvt.bridge import to_module  # noqa: E402

HAS_DYNAMO = importlib.util.find_spec("onnxscript") is not None
needs_dynamo = pytest.mark.skipif(not HAS_DYNAMO, reason="onnxscript is not installed")
EXPORTERS = ["torchscript", pytest.param("dynamo", marks=needs_dynamo)]


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_batch_normalisation_stays_and_the_batch_is_open(exporter: str, tmp_path: Path) -> None:
    out = tmp_path / "small.onnx"
    done = prunecvt.export(torch_modules.small, out, shapes="1,3,8,8", exporter=exporter)
    assert done.exporter == exporter
    assert done.batch_norms == 1
    assert sorted(done.differences) == [1, 2, 3]
    assert max(gap.relative for gap in done.differences.values()) < 1e-5
    proto = onnx.load(out)
    assert proto == done.model.to_proto()
    assert proto.ir_version <= 13
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    onnx.checker.check_model(proto, full_check=True)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_what_is_exported_is_cut_and_trained(exporter: str) -> None:
    done = prunecvt.export(torch_modules.small, shapes="1,3,8,8", exporter=exporter)
    report = prunecvt.slim(done.model.to_proto(), ratio=0.5, criterion="bn", round_to=1).report
    assert report.totals.params.after < report.totals.params.before
    module = to_module(done.model, train=True)
    assert not module.roles.fixed_norms
    names = {name for name, _ in torch_modules.small().named_parameters()}
    assert names <= set(module.state_dict())


def test_equal_scales_of_an_untrained_module_are_apart() -> None:
    model = prunecvt.export(torch_modules.small, shapes="1,3,8,8").model
    (norm,) = [node for node in model.proto.graph.node if node.op_type == "BatchNormalization"]
    assert len(set(norm.input)) == 5
    assert set(norm.input[1:]) <= model.weights.keys()


def test_the_same_factory_and_seed_give_the_same_bytes() -> None:
    made = [
        prunecvt.export(torch_modules.small, shapes="1,3,8,8", seed=seed).model.to_proto()
        for seed in (0, 0, 1)
    ]
    assert made[0].SerializeToString() == made[1].SerializeToString()
    assert made[0].SerializeToString() != made[2].SerializeToString()


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_several_inputs_and_outputs_have_names(exporter: str) -> None:
    done = prunecvt.export(
        torch_modules.TwoInputs(), shapes=["1,5:int64", "scale:1,6"], exporter=exporter
    )
    graph = done.model.proto.graph
    assert [value.name for value in graph.input] == ["ids", "scale"]
    assert [value.name for value in graph.output] == ["mixed", "gated"]


@pytest.mark.parametrize(
    ("module", "names"),
    [(torch_modules.NamedOutput, ["output_2"]), (torch_modules.SameNames, ["a_b_2", "a_b_3"])],
)
def test_outputs_have_names_of_their_own(module: Any, names: list[str]) -> None:
    graph = prunecvt.export(module(), shapes="1,4", exporter="torchscript").model.proto.graph
    assert [value.name for value in graph.output] == names


@needs_dynamo
def test_auto_takes_the_other_exporter_where_the_check_fails() -> None:
    with pytest.raises(prunecvt.VerifyError, match="E510"):
        prunecvt.export(torch_modules.BatchTraced(), shapes="1,4", exporter="torchscript")
    assert prunecvt.export(torch_modules.BatchTraced(), shapes="1,4").exporter == "dynamo"


@pytest.mark.parametrize("second", ["good", "bad", "fails"])
def test_auto_without_the_other_exporter_itself(
    monkeypatch: pytest.MonkeyPatch, second: str
) -> None:
    """Which model is taken, and which of two errors is told."""
    from prunecvt.bridge.exporters import Job

    good = prunecvt.export(torch_modules.NamedOutput(), shapes="x:1,4").model.to_proto()
    traced = Job.torchscript

    def dynamo(job: Job, opset: int) -> onnx.ModelProto:
        if second == "fails":
            raise prunecvt.UnsupportedError("E442", "torch cannot")
        return good if second == "good" else traced(job, opset)

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(Job, "dynamo", dynamo)
    module = torch_modules.BatchDoubled()
    if second == "good":
        assert prunecvt.export(module, shapes="1,4").exporter == "dynamo"
        return
    with pytest.raises(prunecvt.VerifyError, match="E510"):
        prunecvt.export(module, shapes="1,4")


def test_a_module_is_left_as_it_was() -> None:
    module = torch_modules.small()
    module.train()
    module[1].eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    prunecvt.export(module, shapes=[1, 3, 8, 8])
    assert module.training
    assert not module[1].training
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


def test_names_and_numbers_state_shapes_too() -> None:
    done = prunecvt.export(torch_modules.small(), shapes={"image": (1, 3, 8, 8)})
    assert done.model.proto.graph.input[0].name == "image"


def test_a_module_that_computes_with_its_batch_fails_the_check() -> None:
    with pytest.raises(prunecvt.VerifyError, match="E510") as caught:
        prunecvt.export(torch_modules.BatchBaked(), shapes="1,4", exporter="torchscript")
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(
    ("factory", "why"),
    [
        ("torch_modules", "not of the form"),
        ("torch_modules:missing", "missing"),
        ("no_such_package:net", "no_such_package"),
        ("torch_modules:nothing", "NoneType"),
        ("torch_modules:broken", "no weights here"),
        ("torch_modules:leaving", "SystemExit"),
    ],
)
def test_what_is_no_module_is_refused(factory: str, why: str) -> None:
    with pytest.raises(prunecvt.UsageError, match="E253") as caught:
        prunecvt.export(factory, shapes="1,3,8,8")
    assert why in caught.value.where


@pytest.mark.parametrize(
    "shape",
    ["", "1,x", "image:", "0,3", "1,3:float33", "1,3:quint8", "1,3:complex64", "1,3:float8_e5m2"],
)
def test_shapes_that_cannot_be_read_are_refused(shape: str) -> None:
    with pytest.raises(prunecvt.UsageError, match="E202"):
        prunecvt.export(torch_modules.small, shapes=[shape])


def test_what_torch_cannot_run_is_said() -> None:
    with pytest.raises(prunecvt.UnsupportedError, match="E442"):
        prunecvt.export(torch_modules.small, shapes="1,4,8,8")
    with pytest.raises(prunecvt.UnsupportedError, match="E442"):
        prunecvt.export(torch_modules.NoTensor(), shapes="1,4")
    with pytest.raises(prunecvt.UnsupportedError, match="E442") as caught:
        prunecvt.export(torch_modules.small, shapes="1,99999999999999")
    assert "inputs" in caught.value.message
    with pytest.raises(prunecvt.UnsupportedError, match="E442"):
        prunecvt.export(torch_modules.Leaves(), shapes="1,4")


def test_options_are_checked(tmp_path: Path) -> None:
    for wrong in ({"exporter": "magic"}, {"opsets": 17}):
        options: dict[str, Any] = dict(wrong)
        with pytest.raises(prunecvt.UsageError, match="E201"):
            prunecvt.export(torch_modules.small, shapes="1,3,8,8", **options)
    for wrong in ({"seed": -1}, {"seed": 10**30}, {"opset": 0}, {"opset": -3}):
        options = dict(wrong)
        with pytest.raises(prunecvt.UsageError, match="E212"):
            prunecvt.export(torch_modules.small, shapes="1,3,8,8", **options)
    with pytest.raises(prunecvt.UsageError, match="E205"):
        prunecvt.export(torch_modules.small, tmp_path / "x.pt", shapes="1,3,8,8")


def test_dynamo_without_onnxscript_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name)
    )
    with pytest.raises(prunecvt.UsageError, match="E254") as caught:
        prunecvt.export(torch_modules.small, shapes="1,3,8,8", exporter="dynamo")
    assert "prunecvt[torch]" in caught.value.help


def test_command_line(call: Call, tmp_path: Path) -> None:
    out = tmp_path / "net.onnx"
    arguments = ("export", "torch_modules:small", "--shape", "1,3,8,8", "--out", out)
    done = call(*arguments)
    assert done.returncode == 0, done.stderr
    assert f"wrote {out}" in done.stdout
    assert "batch 3: differs from torch by at most" in done.stdout
    assert done.stderr == ""
    again = call(*arguments)
    assert again.returncode == 7
    assert "E701" in again.stderr
    found = json.loads(call(*arguments, "--force", "--opset", "18", "--json").stdout)
    assert found["opset"][""] == 18
    assert found["batch_norms"] == 1
    assert found["max_rel"]["3"] < 1e-5


def test_what_a_module_prints_is_no_part_of_the_document(tmp_path: Path) -> None:
    arguments = ("torch_modules:Talks", "--shape", "1,4", "--exporter", "torchscript", "--json")
    done = run("export", *arguments, "-o", tmp_path / "x.onnx", cwd=Path(__file__).parent)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["exporter"] == "torchscript"
    assert "made\n" in done.stderr
    assert "run\n" in done.stderr
    assert "compiled\n" in done.stderr


def test_nothing_is_written_where_the_check_fails(call: Call, tmp_path: Path) -> None:
    out = tmp_path / "net.onnx"
    done = call("export", "torch_modules:BatchBaked", "--shape", "1,4", "-o", out)
    assert done.returncode == 5
    assert "E510" in done.stderr
    assert not out.exists()


def test_what_lies_in_the_working_folder_is_found(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "from torch import nn\ndef net():\n    return nn.Linear(4, 2)\n"
    (tmp_path / "my_own_nets.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    done = call("export", "my_own_nets:net", "--shape", "x:1,4")
    assert done.returncode == 0, done.stderr
    outputs = to_module("net.onnx")(torch.ones(3, 4)).detach().numpy()
    assert outputs.shape == (3, 2)
    assert np.isfinite(outputs).all()
