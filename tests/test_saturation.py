"""Products of 8-bit integers: the same sums on every processor, and no other cut for it.

On processors without dot products of integers the first group of tests fails where sessions run
such models as they are written: factors of mixed signs then add up to other numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import prunecvt
from body_models import Body, branch, choice
from models import Net, check_oracle
from prunecvt_passes import oracle, runtime
from prunecvt_passes.graph import every_node
from prunecvt_passes.model import Array, Model
from prunecvt_passes.saturation import multiplies_integers, unsaturated

MS = "com.microsoft"
UNSIGNED, SIGNED = np.dtype(np.uint8), np.dtype(np.int8)
TYPES = {UNSIGNED: onnx.TensorProto.UINT8, SIGNED: onnx.TensorProto.INT8, np.dtype("f4"): 1}
STEP = np.float32(0.001)
Value = Any  # what ``Net.add`` takes
Build = Callable[[Net, str, Value, Value], str]


def extremes(net: Net, dtype: np.dtype[Any], *shape: int) -> Array:
    """The largest factors there are: two products of them already need more than 16 bits."""
    limits = np.iinfo(dtype)
    return net.rng.choice([limits.max, limits.max - 1, limits.max - 5], shape).astype(dtype)


def flipped(values: Array) -> Array:
    """The same numbers less their zero point, of the other type."""
    moved = values.astype(np.int16) + (128 if values.dtype == SIGNED else -128)
    return moved.astype(UNSIGNED if values.dtype == SIGNED else SIGNED)


def matmul(net: Net, x: str, weight: Value, zero: Value) -> str:
    return net.add("MatMulInteger", x, weight, np.array(3, net.dtype), zero)


def conv(net: Net, x: str, weight: Value, zero: Value) -> str:
    return net.add("ConvInteger", x, weight, np.array(3, net.dtype), zero, pads=[1] * 4)


def qlinear_conv(net: Net, x: str, weight: Value, zero: Value, **attrs: Any) -> str:
    point, out = np.array(3, net.dtype), (np.float32(0.4), np.array(3, net.dtype))
    return net.add("QLinearConv", x, STEP, point, weight, np.float32(0.01), zero, *out, **attrs)


def channels_last(net: Net, x: str, weight: Value, zero: Value) -> str:
    x = net.add("Transpose", x, perm=[0, 2, 3, 1])
    return qlinear_conv(net, x, weight, zero, domain=MS, channels_last=1)


def qlinear_matmul(net: Net, x: str, weight: Value, zero: Value) -> str:
    point, out = np.array(3, net.dtype), (np.float32(0.1), np.array(3, net.dtype))
    return net.add("QLinearMatMul", x, STEP, point, weight, np.float32(0.01), zero, *out)


def qgemm(net: Net, x: str, weight: Value, zero: Value) -> str:
    point = np.array(3, net.dtype)
    return net.add("QGemm", x, STEP, point, weight, STEP, zero, domain=MS)


def to_float(net: Net, x: str, weight: Value, zero: Value) -> str:
    point = np.array(3, net.dtype)
    return net.add("MatMulIntegerToFloat", x, weight, STEP, STEP, point, zero, domain=MS)


def dynamic(net: Net, x: str, weight: Value, zero: Value) -> str:
    return net.add("DynamicQuantizeMatMul", x, weight, STEP, zero, domain=MS)


def attention(net: Net, x: str, weight: Value, zero: Value) -> str:
    bias, point = np.zeros(48, np.float32), np.array(3, net.dtype)
    operands = (x, weight, bias, STEP, STEP, None, point, zero)
    return net.add("QAttention", *operands, domain=MS, num_heads=2)


def recurrence(net: Net, x: str, weight: Value, zero: Value) -> str:
    scale = np.full(1, STEP)
    operands = (x, weight, weight, *[None] * 5, scale, zero, scale, zero)
    return net.add("DynamicQuantizeLSTM", *operands, domain=MS, hidden_size=16)


FLOAT = np.dtype(np.float32)
IMAGE, FILTERS, ROWS, MATRIX = (2, 16, 7, 7), (8, 16, 3, 3), (5, 64), (64, 16)
CASES: list[tuple[Build, np.dtype[Any], tuple[int, ...], tuple[int, ...]]] = [
    *((build, kind, ROWS, MATRIX) for build in (matmul, to_float) for kind in (UNSIGNED, SIGNED)),
    *((build, UNSIGNED, ROWS, MATRIX) for build in (qlinear_matmul, qgemm)),
    *((conv, kind, IMAGE, FILTERS) for kind in (UNSIGNED, SIGNED)),
    *((build, UNSIGNED, IMAGE, FILTERS) for build in (qlinear_conv, channels_last)),
    (dynamic, FLOAT, ROWS, MATRIX),
    (attention, UNSIGNED, (2, 4, 16), (16, 48)),
    (recurrence, FLOAT, (5, 2, 16), (1, 16, 64)),
]
COMPUTED = [row for row in CASES if row[0] is not attention]  # whose weights onnxruntime packs


def named(rows: list[Any]) -> Any:
    names = [f"{build.__name__}-{kind}" for build, kind, _, _ in rows]
    return pytest.mark.parametrize(("build", "kind", "data", "size"), rows, ids=names)


def product(
    build: Build, kind: np.dtype[Any], data: tuple[int, ...], weight: Array, computed: bool = False
) -> Model:
    """A net of one operator; its zero point is that of the weight's type at 0 or 128."""
    net = Net()
    net.dtype = kind.type
    x = net.input(*data, type=TYPES[kind])
    zero = np.array(0 if weight.dtype == SIGNED else 128, weight.dtype)
    values: list[Value] = [weight, zero.reshape(1) if build is recurrence else zero]
    if computed:
        values = [net.add("Identity", net.constant(each)) for each in values]
    net.outputs.append(onnx.ValueInfoProto(name=build(net, x, *values)))
    return Model.from_proto(plain(net))


def plain(net: Net) -> onnx.ModelProto:
    """As ``Net.proto``, without a look at what the outputs are: onnx cannot tell all of them."""
    tensors = [onnx.numpy_helper.from_array(v, n) for n, v in net.weights.items()]
    graph = onnx.helper.make_graph(net.nodes, "tiny", net.inputs, net.outputs, tensors)
    opsets = [onnx.helper.make_opsetid("", net.opset), onnx.helper.make_opsetid(MS, 1)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=net.ir)


def fed(kind: np.dtype[Any], shape: tuple[int, ...]) -> dict[str, Array]:
    net = Net()
    if kind == FLOAT:  # quantised so that most of them end up near the largest integer
        return {"x": np.asarray(0.9 + 0.1 * net.rng.random(shape), np.float32)}
    return {"x": extremes(net, kind, *shape)}


def check_sums(
    build: Build, kind: np.dtype[Any], data: tuple[int, ...], size: tuple[int, ...], computed: bool
) -> None:
    """Asserts that mixed signs add up to what the same factors of one sign do."""
    weight, feed = extremes(Net(), UNSIGNED if kind == SIGNED else SIGNED, *size), fed(kind, data)
    mixed = product(build, kind, data, weight, computed)
    alike = product(build, kind, data, flipped(weight))
    assert unsaturated(mixed) is not mixed
    assert unsaturated(alike) is alike
    (found,), (expected,) = (runtime.run(model, feed).values() for model in (mixed, alike))
    assert np.array_equal(found, expected)
    assert len(np.unique(expected)) > 1  # not the end of a range alone


@named(CASES)
def test_sums_of_mixed_signs_do_not_saturate(
    build: Build, kind: np.dtype[Any], data: tuple[int, ...], size: tuple[int, ...]
) -> None:
    check_sums(build, kind, data, size, computed=False)


@named(COMPUTED)
def test_nor_do_those_of_computed_weights(
    build: Build, kind: np.dtype[Any], data: tuple[int, ...], size: tuple[int, ...]
) -> None:
    check_sums(build, kind, data, size, computed=True)


@pytest.mark.parametrize("first", [UNSIGNED, SIGNED], ids=str)
@pytest.mark.parametrize("second", [UNSIGNED, SIGNED], ids=str)
def test_sums_are_what_integers_add_up_to(first: np.dtype[Any], second: np.dtype[Any]) -> None:
    """Against numpy, so that the factors of one sign are known to be right as well."""
    weight, feed = extremes(Net(), second, *MATRIX), fed(first, ROWS)
    (found,) = runtime.run(product(matmul, first, ROWS, weight), feed).values()
    zero = 0 if second == SIGNED else 128
    expected = (feed["x"].astype(np.int64) - 3) @ (weight.astype(np.int64) - zero)
    assert np.array_equal(found, expected)


def test_a_zero_point_that_is_left_out_is_zero() -> None:
    net = Net()
    weight = extremes(net, SIGNED, *MATRIX)
    made = net.add("MatMulInteger", net.input(*ROWS, type=TYPES[UNSIGNED]), weight)
    net.outputs.append(onnx.ValueInfoProto(name=made))
    feed = fed(UNSIGNED, ROWS)
    (found,) = runtime.run(Model.from_proto(plain(net)), feed).values()
    assert np.array_equal(found, feed["x"].astype(np.int64) @ weight.astype(np.int64))


def test_bodies_too() -> None:
    """Their weights are the body's own, so nodes shift them."""
    net = Net()
    x, flag = net.input(*ROWS), net.input(name="flag", type=onnx.TensorProto.BOOL)
    feed = {"x": fed(UNSIGNED, ROWS)["x"].astype(np.float32), "flag": np.array(True)}
    weight = extremes(net, SIGNED, *MATRIX)

    def build(body: Body) -> str:
        made = body.add("MatMulInteger", body.add("Cast", x, to=TYPES[UNSIGNED]), weight)
        return body.add("Cast", made, to=1)

    choice(net, flag, branch(net, "then", build), branch(net, "else", build))
    (found,) = runtime.run(Model.from_proto(plain(net)), feed).values()
    assert np.array_equal(found, feed["x"].astype(np.int64) @ weight.astype(np.int64))


def test_constants_are_shifted_once_and_what_else_is_read_stays() -> None:
    net = Net()
    x, zero = net.input(*ROWS, type=TYPES[UNSIGNED]), net.constant(np.int8(-7))
    own, shared = (net.constant(extremes(net, SIGNED, *MATRIX)) for _ in range(2))
    for weight in (own, own, shared):
        made = net.add("MatMulInteger", x, weight, None, zero)
        net.outputs.append(onnx.ValueInfoProto(name=made))
    net.output(net.add("DequantizeLinear", shared, STEP, zero))
    before = Model.from_proto(plain(net))
    after = unsaturated(before)
    places = [tuple(n.input) for n in every_node(after.proto.graph) if n.op_type == "MatMulInteger"]
    assert places[0] == places[1] != places[2]
    for place, weight in zip(places, (own, own, shared), strict=True):
        values, point = after.weights[place[1]], after.weights[place[3]]
        assert values.dtype == point.dtype == UNSIGNED
        assert np.array_equal(values.astype(int) - point, before.weights[weight].astype(int) + 7)
    assert own not in after.weights
    assert after.weights[shared] is before.weights[shared]


def test_other_models_are_left_alone() -> None:
    net = Net()
    net.last(net.first())
    model = Model.from_proto(net.proto())
    assert not multiplies_integers(model)
    assert unsaturated(model) is model


def test_a_refusal_is_that_of_the_model_as_it_is_written() -> None:
    """onnxruntime has no kernel for these signs, though it has one for those it is compared in."""
    model = product(qlinear_conv, SIGNED, IMAGE, extremes(Net(), UNSIGNED, *FILTERS))
    assert "QLinearConv" in runtime.refusal(model)
    runtime.session(model)


def classifier() -> onnx.ModelProto:
    """Integers as large as they come between two layers in floating point."""
    net = Net()
    x = net.add("Relu", net.add("MatMul", net.input("N", 3), net.random(3, 64), name="made"))
    x = net.add("QuantizeLinear", x, np.float32(0.002), np.uint8(3))
    weight = net.rng.choice([-127, 126, 127], (64, 32)).astype(np.int8)
    x = net.add("MatMulInteger", x, net.constant(weight, "taps"), np.uint8(3), name="middle")
    net.head(net.add("Mul", net.add("Cast", x, to=1), STEP), 32)
    return net.proto()


def test_a_cut_that_is_right_passes(tmp_path: Path) -> None:
    """Without the rewrite the oracle finds a difference where there is no dot product."""
    assert check_oracle(classifier()).lost == {"made": 32, "middle": 16}
    result = prunecvt.slim(classifier(), tmp_path / "slim.onnx", ratio=0.5, round_to=1, bench=False)
    check = result.report.verify
    assert check and check.ort and check.masked_dense and check.openvino
    assert check.masked_dense.max_rel < 1e-5
    assert not check.masked_dense.single
    assert {t.name: t.data_type for t in result.model.graph.initializer}["taps"] == TYPES[SIGNED]


def test_a_cut_that_is_wrong_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    masked = oracle.masked

    def wrong(*facts: Any) -> Model:
        model = masked(*facts)
        taps = model.weights["taps"].copy()
        taps[::8] //= 2
        model.set_weights({"taps": taps})
        return model

    monkeypatch.setattr(oracle, "masked", wrong)
    with pytest.raises(prunecvt.VerifyError, match="masked original"):
        prunecvt.slim(classifier(), ratio=0.5, round_to=1)
