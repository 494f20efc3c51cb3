"""QuantizeLinear and DequantizeLinear: scales and zero points go with the channels."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnxruntime
import pytest

from models import Net, Rows, check_oracle, check_row
from prunecvt_passes import oracle, runtime
from prunecvt_passes.model import Model

row = Rows()


def weights(net: Net, outputs: int, inputs: int, axis: int | None, **attrs: Any) -> str:
    """A filter behind a DequantizeLinear."""
    values = net.rng.integers(-127, 128, (outputs, inputs, 1, 1)).astype(np.int8)
    if axis is None:
        return net.add("DequantizeLinear", values, np.float32(0.01), np.int8(0))
    scale = net.positive(values.shape[axis])
    zero = np.zeros(values.shape[axis], np.int8)
    return net.add("DequantizeLinear", values, scale, zero, axis=axis, **attrs)


def rounded(net: Net, x: str) -> str:
    """Activations quantised as a whole and back."""
    scale, zero = net.constant(np.float32(0.05)), net.constant(np.uint8(128))
    return net.add("DequantizeLinear", net.add("QuantizeLinear", x, scale, zero), scale, zero)


@row(lost={"first": 4}, opsets=(10, 13, 19))
def activations_per_tensor(net: Net) -> None:
    net.last(rounded(net, net.first()))


@row(lost={"first": 4}, opsets=(13, 19))
def activations_per_channel(net: Net) -> None:
    scale, zero = net.positive(8), net.constant(np.zeros(8, np.int8))
    x = net.add("QuantizeLinear", net.first(), scale, zero, axis=1)
    net.last(net.add("DequantizeLinear", x, scale, zero, axis=1))


@row(lost={"first": 4, "second": 4}, opsets=(13, 19))
def weights_per_tensor(net: Net) -> None:
    net.last(net.add("Conv", net.first(), weights(net, 8, 8, None), name="second"))


@row(lost={"first": 4, "second": 4})
def weights_per_output_channel(net: Net) -> None:
    net.last(net.add("Conv", net.first(), weights(net, 8, 8, 0), name="second"))


@row(lost={"first": 4, "second": 4})
def weights_per_input_channel(net: Net) -> None:
    net.last(net.add("Conv", net.first(), weights(net, 8, 8, 1), name="second"))


@row(lost={"first": 4, "second": 4})
def quantised_as_exporters_write_it(net: Net) -> None:
    bias = net.add(
        "DequantizeLinear",
        np.arange(8, dtype=np.int32),
        net.positive(8),
        np.zeros(8, np.int32),
        axis=0,
    )
    x = net.add("Conv", rounded(net, net.first()), weights(net, 8, 8, 0), bias, name="second")
    net.last(rounded(net, x))


@row(lost={"first": 4, "second": 4, "third": 4})
def zero_points_shared_between_layers(net: Net) -> None:
    zero = net.constant(np.zeros(8, np.int8))
    x = net.first()
    for name in ("second", "third"):
        values = net.rng.integers(-127, 128, (8, 8, 1, 1)).astype(np.int8)
        filters = net.add("DequantizeLinear", values, net.positive(8), zero, axis=0)
        x = net.add("Conv", x, filters, name=name)
    net.last(x)


@row(lost={"middle": 5})
def matrix_behind_dequantize(net: Net) -> None:
    values = net.rng.integers(-127, 128, (3, 10)).astype(np.int8)
    scale, zero = net.positive(10), np.zeros(10, np.int8)
    matrix = net.add("DequantizeLinear", values, scale, zero, axis=1)
    x = net.add("MatMul", net.input("N", 3), matrix, name="middle")
    net.head(net.add("Relu", x), 10)


@row(lost={"first": 4})
def matrix_in_blocks_stays(net: Net) -> None:
    net.opset, net.ir = 21, 10
    values = net.rng.integers(-127, 128, (8, 4)).astype(np.int8)
    matrix = net.add("DequantizeLinear", values, net.positive(2, 4), axis=0, block_size=4)
    x = net.add("MatMul", net.input("N", 3), net.random(3, 8), name="first")
    x = net.add("MatMul", x, net.random(8, 8), name="second")
    net.output(net.add("MatMul", x, matrix))


@row(lost={})
def quantised_by_a_computed_scale(net: Net) -> None:
    x = net.first()
    scale = net.add("Add", net.add("ReduceMax", x, keepdims=0), np.float32(9))
    quantised = net.add("QuantizeLinear", x, net.add("Div", scale, np.float32(99)), np.int8(0))
    net.last(net.add("DequantizeLinear", quantised, np.float32(0.1), np.int8(0)))


@row(lost={"middle": 5})
def matrix_in_blocks_loses_columns(net: Net) -> None:
    net.opset, net.ir = 21, 10
    values = net.rng.integers(-127, 128, (8, 10)).astype(np.int8)
    zero = net.constant(net.rng.integers(-3, 4, (2, 10)).astype(np.int8))
    scale = net.positive(2, 10)
    matrix = net.add("DequantizeLinear", values, scale, zero, axis=0, block_size=4)
    x = net.add("MatMul", net.input("N", 8), matrix, name="middle")
    net.head(net.add("Relu", x), 10)


@pytest.mark.parametrize("case", row.cases)
def test_oracle(case: Any) -> None:
    check_row(case)


KINDS = "int8 uint8 int16 int32 int4 uint4 float8_e4m3fn float8_e5m2"


@pytest.mark.parametrize("kind", KINDS.split())
def test_zero_points_shared_between_layers_tie_nothing(kind: str) -> None:
    net = Net(opset=21)
    net.ir, x, dtype = 10, net.first(), np.dtype(getattr(ml_dtypes, kind, None) or kind)
    zero = net.constant(np.zeros(8).astype(dtype))
    for name in ("second", "third"):
        values = net.rng.integers(0, 8, (8, 8, 1, 1)).astype(np.float32).astype(dtype)
        dequantised = net.add("DequantizeLinear", values, net.positive(8), zero, axis=0)
        x = net.add("Conv", x, dequantised, name=name)
    net.last(x)
    outcome = check_oracle(net.proto())
    assert len(outcome.groups.groups) == 3
    assert {outcome.slimmed.weights[n].dtype for n in net.weights if n[0] == "w"} >= {dtype}


def test_the_runtime_does_not_quantise_filters_by_itself() -> None:
    net = Net()
    net.last(rounded(net, net.conv(rounded(net, net.first(32)), 32, 8)))
    model = Model.from_proto(net.proto())
    inputs = {"x": net.rng.standard_normal((2, 3, 6, 6)).astype(np.float32)}
    (name,) = (output.name for output in model.proto.graph.output)
    exact = onnxruntime.InferenceSession(
        model.to_proto().SerializeToString(), disabled_optimizers=["WeightBiasQuantization"]
    )
    (wanted,) = exact.run([name], inputs)
    found = runtime.run(model, inputs)
    assert oracle.difference({name: wanted}, found).relative < 1e-5
