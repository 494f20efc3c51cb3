"""OpenVINO IR of a fixed batch: what it is fixed at, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest

import prunecvt
from command_line import RESNET, Call
from models import Net
from prunecvt.errors import UnsupportedError, UsageError
from prunecvt.static_batch import open_batches, static_batch
from prunecvt_passes.model import Model
from prunecvt_passes.shapes import infer


def shapes(xml: Path) -> list[str]:
    model = openvino.Core().read_model(xml)
    return [str(port.get_partial_shape()) for port in (*model.inputs, *model.outputs)]


def tried(net: Net, size: int = 1) -> tuple[str, ...]:
    model = Model.from_proto(net.proto())
    return static_batch(model, infer(model)[1], size).inputs


def test_slim_fixes_the_ir_and_leaves_onnx_open(call: Call, tmp_path: Path) -> None:
    out = tmp_path / "s.onnx"
    done = call("slim", RESNET, "-o", out, "--static-batch", 4, "--no-bench")
    assert done.returncode == 0, done.stderr
    assert shapes(out.with_suffix(".xml")) == ["[4,1,32,32]", "[4,10]"]
    assert onnx.load(out).graph.input[0].type.tensor_type.shape.dim[0].dim_param
    report = json.loads(out.with_suffix(".report.json").read_text())
    assert report["verify"]["openvino"]["passed"]
    assert report["settings"]["static_batch"] == 4
    assert any("takes batches of 4 and no other" in warning for warning in report["warnings"])


@pytest.mark.parametrize("where", ["end", "before a flag", "before the model"])
def test_the_number_may_be_left_out(call: Call, tmp_path: Path, where: str) -> None:
    out = tmp_path / "s.xml"
    arguments: list[object] = ["-o", out, "-q"]
    arguments.insert({"end": 3, "before a flag": 0, "before the model": 0}[where], "--static-batch")
    arguments.insert(1 if where == "before the model" else 0, RESNET)
    done = call("convert", *arguments)
    assert done.returncode == 0, done.stderr
    assert shapes(out) == ["[1,1,32,32]", "[1,10]"]


def test_convert_leaves_the_batch_open_by_default(call: Call, tmp_path: Path) -> None:
    assert call("convert", RESNET, "-o", tmp_path / "s.xml").returncode == 0
    assert shapes(tmp_path / "s.xml")[0] == "[?,1,32,32]"


def test_the_ir_of_a_fixed_batch_gives_the_same(call: Call, tmp_path: Path) -> None:
    call("convert", RESNET, "-o", tmp_path / "open.xml")
    call("convert", RESNET, "-o", tmp_path / "fixed.xml", "--static-batch", 2)
    inputs = np.random.default_rng(0).standard_normal((2, 1, 32, 32), np.float32)
    core = openvino.Core()
    files = [tmp_path / "open.xml", tmp_path / "fixed.xml"]
    first, second = (core.compile_model(file, "CPU")([inputs])[0] for file in files)
    assert np.allclose(first, second, rtol=1e-4, atol=1e-4)


def fixed_already() -> Net:
    net = Net()
    net.last(net.first(batch=2))
    return net


def test_a_batch_that_is_fixed_already_is_a_note(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(fixed_already().proto(), path)
    done = call("convert", path, "--static-batch", 3)
    assert done.returncode == 0, done.stderr
    assert "fixed already" in done.stdout
    assert shapes(path.with_suffix(".xml"))[0] == "[2,3,6,6]"
    done = call("slim", path, "--ratio", 0, "--static-batch", 3, "--no-bench")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "m_slim.report.json").read_text())
    assert any("fixed already" in warning for warning in report["warnings"])


def test_latency_is_that_of_the_fixed_batch(call: Call, tmp_path: Path) -> None:
    out = tmp_path / "s.onnx"
    done = call("slim", RESNET, "-o", out, "--static-batch", 3)
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.with_suffix(".report.json").read_text())["latency"]
    assert [row["shape"] for row in rows] == [{"input": [3, 1, 32, 32]}] * 2


def several_inputs() -> Net:
    net = Net()
    x, y = net.input("N", 4), net.input("N", 4, name="y")
    net.output(net.add("MatMul", net.add("Add", x, y), net.random(4, 2)))
    return net


def one_without_a_batch() -> Net:
    net = Net()
    x, y = net.input("N", 4), net.input(4, name="scale")
    net.output(net.add("Mul", x, y))
    net.output(net.add("Relu", y))
    return net


def of_another_name() -> Net:
    """Boxes that are as many as the second input has, whatever the batch."""
    net = Net()
    net.output(net.add("Relu", net.input("N", 4)))
    net.output(net.add("Relu", net.input("boxes", 4, name="y")))
    return net


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (several_inputs, ("x", "y")),
        (one_without_a_batch, ("x",)),
        (of_another_name, ("x",)),
        (fixed_already, ()),
    ],
)
def test_inputs_of_the_batch(build: Callable[[], Net], expected: tuple[str, ...]) -> None:
    assert tried(build()) == expected


def running_sum() -> Net:
    net = Net()
    x = net.add("CumSum", net.input("T", 4), np.array(0))
    net.output(net.add("MatMul", x, net.random(4, 2)))
    return net


def recurrent() -> Net:
    """The first axis is time."""
    net = Net()
    weights = [net.random(1, 20, 3), net.random(1, 20, 5)]
    outputs = net.many("LSTM", net.input("T", 2, 3), *weights, outputs=1, hidden_size=5)
    net.output(outputs[0], shape=[None] * 4)
    return net


def mean_of_all() -> Net:
    net = Net()
    mean = net.add("ReduceMean", net.input("N", 4), axes=[0], keepdims=0)
    net.output(mean, shape=[4])
    return net


def merged_rows() -> Net:
    net = Net()
    net.output(net.add("Reshape", net.input("N", 4), np.array([-1])), shape=["M"])
    return net


def softmax_across() -> Net:
    net = Net()
    net.output(net.add("Softmax", net.input("N", 4), axis=0))
    return net


@pytest.mark.parametrize("build", [running_sum, recurrent, mean_of_all, softmax_across])
def test_a_first_axis_that_is_no_batch_is_refused(build: Callable[[], Net]) -> None:
    with pytest.raises(UnsupportedError) as error:
        tried(build())
    assert error.value.code == "E427"
    assert "is no batch" in str(error.value)


def test_rows_of_samples_side_by_side_are_no_matter() -> None:
    assert tried(merged_rows()) == ("x",)


def test_a_model_for_even_batches_is_refused() -> None:
    net = Net()
    x = net.add("Reshape", net.input("N", 4), np.array([-1, 2, 4]))
    net.output(net.add("Reshape", x, np.array([-1, 4])), shape=["N", 4])
    model = Model.from_proto(net.proto())
    sizes = infer(model, {"x": (2, 4)})[1]
    with pytest.raises(UnsupportedError, match="does not run on one sample"):
        static_batch(model, sizes, 1)


def test_refusal_comes_before_anything_is_written(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(running_sum().proto(), path)
    for command in ("slim", "convert"):
        done = call(command, path, "--static-batch")
        assert done.returncode == 4
        assert "E427" in done.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"static_batch": 0}, "E201"),
        ({"static_batch": 1.5}, "E201"),
        ({"static_batch": 1, "ir": False}, "E207"),
    ],
)
def test_numbers_that_are_none_are_refused(options: dict[str, Any], code: str) -> None:
    with pytest.raises(UsageError) as error:
        prunecvt.slim(RESNET, **options)
    assert error.value.code == code


def test_what_looks_like_a_number_is_taken_for_one(call: Call) -> None:
    for value in ("2.5", "-1"):
        assert call("convert", RESNET, "--static-batch", value).returncode == 2, value


def test_convert_refuses_a_batch_of_nothing(call: Call, tmp_path: Path) -> None:
    done = call("convert", RESNET, "-o", tmp_path / "s.xml", "--static-batch", 0)
    assert done.returncode == 2
    assert "E201" in done.stderr


def test_open_batches_of_unnamed_sizes() -> None:
    net = Net()
    net.output(net.add("Relu", net.input(None, 4)))
    assert open_batches(Model.from_proto(net.proto())) == ("x",)


def test_an_output_that_is_no_tensor_is_refused() -> None:
    net = Net()
    x = net.input("N", 4)
    made = net.add("SequenceConstruct", x, x)
    net.outputs.append(onnx.helper.make_tensor_sequence_value_info(made, 1, None))
    with pytest.raises(UnsupportedError) as caught:
        tried(net)
    assert caught.value.code == "E425"
    assert "--static-batch" in str(caught.value)
