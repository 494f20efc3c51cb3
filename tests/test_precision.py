"""Nets in half and double precision: cut like any other, and compared in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import prunecvt
from models import Net, grouped
from prunecvt_passes import oracle, runtime
from prunecvt_passes.model import Model
from prunecvt_passes.precision import holds_double, holds_half, in_single, output_step
from prunecvt_passes.score import Criterion, score

HALF, BRAIN, DOUBLE = TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE
TYPES = pytest.mark.parametrize("dtype", [HALF, BRAIN, DOUBLE], ids=["fp16", "bf16", "double"])
BORDERS = pytest.mark.parametrize("casts", [True, False], ids=["casts", "ports"])


def small(scale: float = 1.0) -> Net:
    """Convolutions, a normalisation and a classifier, of an opset that knows bfloat16."""
    net = Net(opset=22)
    net.ir = 10
    x = net.conv(net.input("N", 3, 6, 6), 3, 8, 3, name="first")
    x = net.add("Relu", net.norm(x, 8))
    x = net.add("Relu", net.conv(x, 8, 12, name="second"))
    x = net.add("Flatten", net.add("GlobalAveragePool", x))
    net.output(net.add("Gemm", x, net.random(12, 10, scale=scale), net.random(10)))
    return net


def converted(proto: onnx.ModelProto, dtype: int, casts: bool) -> onnx.ModelProto:
    """The model in another precision, with Casts at its borders or inputs and outputs of it."""
    kind, graph = helper.tensor_dtype_to_np_dtype(dtype), proto.graph
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor).astype(kind)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    if not casts:
        for value in (*graph.input, *graph.output):
            value.type.tensor_type.elem_type = dtype
        return proto
    source, target = graph.input[0].name, graph.output[0].name
    for node in graph.node:
        node.input[:] = ["inside" if name == source else name for name in node.input]
        node.output[:] = ["result" if name == target else name for name in node.output]
    graph.node.insert(0, helper.make_node("Cast", [source], ["inside"], to=dtype))
    graph.node.append(helper.make_node("Cast", ["result"], [target], to=TensorProto.FLOAT))
    return proto


@TYPES
@BORDERS
def test_nets_of_other_precision_are_slimmed(dtype: int, casts: bool) -> None:
    proto = converted(small().proto(), dtype, casts)
    result = prunecvt.slim(proto, ratio=0.5, round_to=1)
    check = result.report.verify
    assert check and check.masked_dense
    assert check.masked_dense.single  # onnxruntime's CPU knows no convolution of doubles
    assert check.masked_dense.max_rel < 1e-5
    assert check.ort == (dtype == HALF)
    shapes = {t.name: list(t.dims) for t in result.model.graph.initializer}
    assert shapes["w1"] == [4, 3, 3, 3]
    assert {t.data_type for t in result.model.graph.initializer} == {dtype}
    assert list(result.model.graph.output) == list(proto.graph.output)


@TYPES
@BORDERS
def test_what_is_written_runs_in_openvino_and_is_timed(
    dtype: int, casts: bool, tmp_path: Path
) -> None:
    proto = converted(small().proto(), dtype, casts)
    result = prunecvt.slim(proto, tmp_path / "out.onnx", ratio=0.5, round_to=1, bench=casts)
    verify, timed = result.report.verify, [row.backend for row in result.report.latency or ()]
    assert verify and verify.openvino and verify.openvino.max_rel < 0.05
    if casts:
        assert timed == (["onnxruntime", "openvino"] if dtype == HALF else ["openvino"])
        assert ("NOT_IMPLEMENTED" in " ".join(verify.skipped)) == (dtype != HALF)


def test_a_wrong_cut_of_a_net_in_half_precision_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    masked = oracle.masked

    def wrong(*facts):  # type: ignore[no-untyped-def]
        model = masked(*facts)
        bias = next(v for n, v in model.weights.items() if n == "w2")
        model.set_weights({"w2": (bias * 1.01).astype(bias.dtype)})
        return model

    monkeypatch.setattr(oracle, "masked", wrong)
    with pytest.raises(prunecvt.VerifyError, match="masked original"):
        prunecvt.slim(converted(small().proto(), HALF, False), ratio=0.5, round_to=1)


@pytest.mark.parametrize("criterion", ["l1", "l2", "share", "product"])
def test_scores_in_half_precision_do_not_overflow(criterion: str) -> None:
    plain = grouped(small(9e3).proto())[1]
    found = grouped(converted(small(9e3).proto(), HALF, False))[1]
    expected, scores = (score(g, Criterion(criterion)).values for g in (plain, found))
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(scores, expected, rtol=0.01)


def test_the_copy_in_float32_covers_bodies_casts_and_constants() -> None:
    net = Net(opset=22)
    x = net.add("Cast", net.input("N", 3), to=HALF)
    bound = numpy_helper.from_array(np.array(1e300), "v")
    value = helper.make_node("Constant", [], ["v"], value=bound)
    cast = helper.make_node("Cast", ["v"], ["half"], to=HALF)
    shown = helper.make_tensor_value_info("half", HALF, [])
    body = helper.make_graph([value, cast], "body", [], [shown])
    y = net.add("If", np.array(True), then_branch=body, else_branch=body)
    net.output(net.add("Cast", net.add("Add", x, y), to=1), shape=[None, 3])
    model = Model.from_proto(net.proto())
    assert holds_half(model) and holds_double(model)
    single = in_single(model)
    assert not holds_half(single) and not holds_double(single)
    assert holds_half(model)
    assert output_step(model) == 0
    found = runtime.run(single, {"x": np.zeros((1, 3), np.float32)})
    assert all(np.isinf(values).all() for values in found.values())
