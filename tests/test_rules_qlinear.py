"""Operators on quantised numbers: ONNX's own and those that onnxruntime's quantiser writes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models import Net, Rows, check_row

row = Rows()
MS = "com.microsoft"
SCALE, ZERO = np.float32(0.04), np.uint8(113)  # a zero point that is not zero


def quantised(net: Net, x: str) -> str:
    return net.add("QuantizeLinear", x, SCALE, ZERO)


def read(net: Net, x: str) -> None:
    net.last(net.add("DequantizeLinear", x, SCALE, ZERO))


def filters(net: Net, *shape: int) -> str:
    return net.constant(net.rng.integers(-127, 128, shape).astype(np.int8))


def bytes_(net: Net, *shape: int) -> str:
    return net.constant(net.rng.integers(0, 256, shape).astype(np.uint8))


def qlinear_conv(net: Net, x: str, weight: str, per_channel: bool = True, **attrs: Any) -> str:
    size = net.weights[weight].shape[0]
    bias = net.constant(net.rng.integers(-999, 999, size).astype(np.int32))
    scale = net.constant((net.rng.random(size) * 0.01 + 0.001).astype(np.float32))
    zero = net.constant(np.zeros(size, np.int8))
    if not per_channel:
        scale, zero = net.constant(np.float32(0.004)), net.constant(np.int8(0))
    operands = (x, SCALE, ZERO, weight, scale, zero, SCALE, ZERO, bias)
    return net.add("QLinearConv", *operands, **attrs)


@row(lost={"first": 4, "second": 4})
def qlinear_conv_per_channel(net: Net) -> None:
    read(
        net, qlinear_conv(net, quantised(net, net.first()), filters(net, 8, 8, 1, 1), name="second")
    )


@row(lost={"first": 4, "second": 4}, opsets=(10, 17))
def qlinear_conv_per_tensor(net: Net) -> None:
    x = quantised(net, net.first())
    read(net, qlinear_conv(net, x, filters(net, 8, 8, 3, 3), False, name="second", pads=[1] * 4))


@row(lost={"first": 4, "second": 4})
def qlinear_conv_depthwise(net: Net) -> None:
    x = quantised(net, net.first())
    read(net, qlinear_conv(net, x, filters(net, 8, 1, 1, 1), name="second", group=8))


@row(lost={"first": 4, "second": 4})
def qlinear_conv_in_groups(net: Net) -> None:
    x = quantised(net, net.first())
    read(net, qlinear_conv(net, x, filters(net, 8, 4, 1, 1), name="second", group=2))


@row(lost={"first": 4, "second": 4})
def qlinear_conv_without_bias_and_with_a_shared_bias(net: Net) -> None:
    weight, scale, zero = (
        bytes_(net, 8, 8, 1, 1),
        net.positive(8),
        net.constant(np.full(8, 99, "u1")),
    )
    x = quantised(net, net.first())
    read(
        net, net.add("QLinearConv", x, SCALE, ZERO, weight, scale, zero, SCALE, ZERO, name="second")
    )


@row(lost={"first": 4, "second": 4})
def conv_integer(net: Net) -> None:
    x = quantised(net, net.first())
    x = net.add("ConvInteger", x, bytes_(net, 8, 8, 1, 1), ZERO, np.uint8(99), name="second")
    net.last(net.add("Mul", net.add("Cast", x, to=1), np.float32(0.0001)))


@row(lost={"first": 4, "second": 4})
def conv_integer_without_zero_points(net: Net) -> None:
    x = net.add("QuantizeLinear", net.first(), SCALE, np.uint8(0))
    x = net.add("ConvInteger", x, bytes_(net, 8, 8, 1, 1), name="second")
    net.last(net.add("Mul", net.add("Cast", x, to=1), np.float32(0.0001)))


def head(net: Net, x: str, rank: int = 2) -> None:
    """As ``Net.head``, with a rank stated: onnx infers none behind operators of other domains."""
    x = net.add("MatMul", x, net.random(10, 4), name="last")
    net.output(x, shape=[None] * rank)


def features(net: Net, rank: int = 2) -> str:
    """A float matrix of 12 features, made by ``made``."""
    x = net.input(*("N", 5, 3)[:: 2 if rank == 2 else 1])
    return net.add("Relu", net.add("MatMul", x, net.random(3, 12), name="made"))


@row(lost={"made": 6, "middle": 5})
def matmul_integer(net: Net) -> None:
    x = quantised(net, features(net))
    x = net.add("MatMulInteger", x, filters(net, 12, 10), ZERO, filters(net, 10), name="middle")
    net.head(net.add("Mul", net.add("Cast", x, to=1), net.positive(10)), 10)


@row(lost={"made": 6, "middle": 5})
def matmul_integer_of_dynamically_quantised_tokens(net: Net) -> None:
    x, scale, zero = net.many("DynamicQuantizeLinear", features(net, 3), outputs=3)
    x = net.add("MatMulInteger", x, filters(net, 12, 10), zero, np.int8(0), name="middle")
    net.head(net.add("Mul", net.add("Cast", x, to=1), scale), 10)


@row(lost={"first": 4})
def dynamically_quantised_and_back(net: Net) -> None:
    x, scale, zero = net.many("DynamicQuantizeLinear", net.first(), outputs=3)
    net.last(net.add("DequantizeLinear", x, scale, zero))


@row(lost={}, pinned={"first": "graph-output"})
def dynamically_quantised_as_an_output(net: Net) -> None:
    x, scale, _ = net.many("DynamicQuantizeLinear", net.first(), outputs=3)
    net.output(x, type=2)
    net.output(scale)


@row(lost={"made": 6, "middle": 5})
def qlinear_matmul(net: Net) -> None:
    x = quantised(net, features(net, 3))
    weight = (filters(net, 12, 10), net.positive(10), net.constant(np.zeros(10, np.int8)))
    x = net.add("QLinearMatMul", x, SCALE, ZERO, *weight, np.float32(9), ZERO, name="middle")
    net.head(net.add("DequantizeLinear", x, np.float32(9), ZERO), 10)


@row(lost={"first": 4})
def qlinear_matmul_with_the_weight_on_the_left(net: Net) -> None:
    x = quantised(net, net.add("Reshape", net.first(), np.array([0, 8, 36])))
    weight = (bytes_(net, 5, 8), SCALE, np.uint8(99))
    x = net.add("QLinearMatMul", *weight, x, SCALE, ZERO, np.float32(1), ZERO, name="left")
    net.output(net.add("DequantizeLinear", x, np.float32(1), ZERO))


@row(lost={"query": 6, "key": 6})
def qlinear_matmul_of_two_activations(net: Net) -> None:
    x = net.input("N", 5, 3)
    query = quantised(net, net.add("MatMul", x, net.random(3, 12), name="query"))
    key = net.add("Transpose", net.add("MatMul", x, net.random(3, 12), name="key"), perm=[0, 2, 1])
    operands = (query, SCALE, ZERO, quantised(net, key), SCALE, ZERO, SCALE, ZERO)
    net.output(net.add("DequantizeLinear", net.add("QLinearMatMul", *operands), SCALE, ZERO))


@row(lost={"made": 6, "middle": 5})
def qgemm(net: Net) -> None:
    bias = net.constant(net.rng.integers(-999, 999, 10).astype(np.int32))
    weight = (filters(net, 10, 12), net.positive(10), net.constant(np.zeros(10, np.int8)))
    operands = (quantised(net, features(net)), SCALE, ZERO, *weight, bias, np.float32(9), ZERO)
    x = net.add("QGemm", *operands, domain=MS, transB=1, alpha=0.5, name="middle")
    head(net, net.add("DequantizeLinear", x, np.float32(9), ZERO))


@row(lost={"made": 6, "middle": 5})
def qgemm_to_floats(net: Net) -> None:
    weight = (filters(net, 12, 10), SCALE, np.int8(0))
    operands = (quantised(net, features(net)), SCALE, ZERO, *weight)
    head(net, net.add("QGemm", *operands, domain=MS, name="middle"))


@row(lost={"made": 6, "middle": 5})
def dynamic_quantize_matmul(net: Net) -> None:
    weight = (filters(net, 12, 10), net.positive(10), net.constant(np.zeros(10, np.int8)))
    operands = (features(net, 3), *weight, net.random(10))
    head(net, net.add("DynamicQuantizeMatMul", *operands, domain=MS, name="middle"), 3)


@row(lost={"made": 6, "middle": 5})
def dynamic_quantize_matmul_whose_last_input_is_a_zero_point(net: Net) -> None:
    weight = (filters(net, 12, 10), net.positive(10), filters(net, 10))
    operands = (features(net, 3), *weight)
    head(net, net.add("DynamicQuantizeMatMul", *operands, domain=MS, name="middle"), 3)


@row(lost={"other": 6})
def qgemm_with_the_weight_on_the_left_and_a_zero_point_per_row(net: Net) -> None:
    other = net.add("MatMul", net.input(10, 3, name="y"), net.random(3, 12), name="other")
    scale, zero = net.constant(np.full(10, SCALE)), net.constant(np.arange(100, 110, dtype="u1"))
    other = net.add("QuantizeLinear", other, scale, zero, axis=0)
    operands = (bytes_(net, 5, 12), SCALE, np.uint8(99), other, scale, zero)
    head(net, net.add("QGemm", *operands, domain=MS, transB=1))


@row(lost={"first": 4, "taps": 4})
def qlinear_conv_of_two_activations_with_a_zero_point_per_channel(net: Net) -> None:
    made = net.add("MatMul", net.input(8, 9, 3, name="y"), net.random(3, 8), name="taps")
    made = net.add("Reshape", net.add("Transpose", made, perm=[0, 2, 1]), np.array([8, 8, 3, 3]))
    scale, zero = net.constant(np.full(8, SCALE)), net.constant(np.arange(100, 108, dtype="u1"))
    made = net.add("QuantizeLinear", made, scale, zero, axis=0)
    operands = (quantised(net, net.first()), SCALE, ZERO, made, scale, zero, np.float32(1), ZERO)
    net.last(net.add("DequantizeLinear", net.add("QLinearConv", *operands), np.float32(1), ZERO))


@row(lost={"made": 6, "middle": 5})
def matmul_integer_to_float(net: Net) -> None:
    x, scale, zero = net.many("DynamicQuantizeLinear", features(net, 3), outputs=3)
    operands = (x, filters(net, 12, 10), scale, net.positive(10), zero, np.int8(0), net.random(10))
    head(net, net.add("MatMulIntegerToFloat", *operands, domain=MS, name="middle"), 3)


@row(lost={"first": 4})
def microsofts_own_quantisers(net: Net) -> None:
    zero = net.constant(np.uint16(32768))
    x = net.add("QuantizeLinear", net.first(), np.float32(1e-3), zero, domain=MS)
    net.last(net.add("DequantizeLinear", x, np.float32(1e-3), zero, domain=MS))


@row(lost={"first": 4})
def microsofts_own_quantisers_per_channel(net: Net) -> None:
    scale, zero = net.positive(8), net.constant(np.arange(8, dtype=np.uint8))
    x = net.add("QuantizeLinear", net.first(), scale, zero, domain=MS, axis=1)
    net.last(net.add("DequantizeLinear", x, scale, zero, domain=MS, axis=1))


@row(lost={"first": 4, "second": 4})
def qlinear_add_and_multiply(net: Net) -> None:
    x = net.first()
    x, y = quantised(net, x), quantised(net, net.conv(x, 8, 8, name="second"))
    y = net.add(
        "QLinearMul", y, SCALE, ZERO, bytes_(net, 8, 1, 1), SCALE, ZERO, SCALE, ZERO, domain=MS
    )
    read(net, net.add("QLinearAdd", x, SCALE, ZERO, y, SCALE, ZERO, SCALE, ZERO, domain=MS))


@row(lost={"first": 4})
def qlinear_add_of_one_number(net: Net) -> None:
    x, y = quantised(net, net.first()), net.constant(np.uint8(7))
    read(net, net.add("QLinearAdd", x, SCALE, ZERO, y, SCALE, np.uint8(0), SCALE, ZERO, domain=MS))


@row(lost={"first": 4})
def qlinear_sigmoid_and_leaky_relu(net: Net) -> None:
    quantisation = (SCALE, ZERO, SCALE, ZERO)
    x = net.add(
        "QLinearLeakyRelu", quantised(net, net.first()), *quantisation, domain=MS, alpha=0.2
    )
    read(net, net.add("QLinearSigmoid", x, *quantisation, domain=MS))


@row(lost={"first": 4, "second": 3})
def qlinear_concat(net: Net) -> None:
    x = net.first()
    y = quantised(net, net.conv(x, 8, 6, name="second"))
    parts = (quantised(net, x), SCALE, ZERO, y, SCALE, ZERO)
    x = net.add("QLinearConcat", SCALE, ZERO, *parts, domain=MS, axis=1)
    net.last(net.add("DequantizeLinear", x, SCALE, ZERO), 14)


@row(lost={"first": 4})
def qlinear_where(net: Net) -> None:
    x, condition = quantised(net, net.first()), net.constant(np.arange(8).reshape(8, 1, 1) % 3 > 0)
    y = (np.uint8(7), SCALE, ZERO, SCALE, ZERO)
    read(net, net.add("QLinearWhere", condition, x, SCALE, ZERO, *y, domain=MS))


@row(lost={"first": 4})
def qlinear_pools(net: Net) -> None:
    x, quantisation = quantised(net, net.first()), (SCALE, ZERO, SCALE, ZERO)
    x = net.add("QLinearAveragePool", x, *quantisation, domain=MS, kernel_shape=[2, 2])
    read(net, net.add("QLinearGlobalAveragePool", x, *quantisation, domain=MS))


@row(lost={}, pinned={"first": "channels-last"})
def qlinear_pool_with_channels_last(net: Net) -> None:
    x = quantised(net, net.add("Transpose", net.first(), perm=[0, 2, 3, 1]))
    x = net.add("QLinearGlobalAveragePool", x, SCALE, ZERO, SCALE, ZERO, domain=MS, channels_last=1)
    x = net.add("DequantizeLinear", net.add("Transpose", x, perm=[0, 3, 1, 2]), SCALE, ZERO)
    net.last(x)


def softmax(net: Net, axis: int, opset: int) -> None:
    scale = np.float32(1 / 256)
    operands = (quantised(net, net.first()), SCALE, ZERO, scale, np.uint8(0))
    x = net.add("QLinearSoftmax", *operands, domain=MS, axis=axis, opset=opset)
    net.last(net.add("DequantizeLinear", x, scale, np.uint8(0)))


@row(lost={"first": 4})
def qlinear_softmax_along_columns(net: Net) -> None:
    softmax(net, 3, 13)


@row(lost={"first": 4})
def qlinear_softmax_from_rows_on(net: Net) -> None:
    softmax(net, 2, 12)


@row(lost={}, pinned={"first": "mixed-axis"})
def qlinear_softmax_along_channels(net: Net) -> None:
    softmax(net, 1, 13)


def packed(net: Net, bits: int, flat: bool, zero: bool, **attrs: Any) -> None:
    """A matrix of 10 rows in two blocks of 16."""
    blocks = (10, 2) if not flat else (20,)
    points = (10, -(-2 * bits // 8)) if not flat else (10 * -(-2 * bits // 8),)
    x = net.add("Relu", net.add("MatMul", net.input("N", 3), net.random(3, 32), name="made"))
    operands = (x, bytes_(net, 10, 2, 2 * bits), net.positive(*blocks))
    optional = (bytes_(net, *points) if zero else None, None, net.random(10))
    sizes = {"K": 32, "N": 10, "bits": bits, "block_size": 16, **attrs}
    x = net.add("MatMulNBits", *operands, *optional, domain=MS, name="middle", **sizes)
    head(net, net.add("Relu", x))


@row(lost={"middle": 5}, pinned={"made": "blocked-scale"})
def packed_rows(net: Net) -> None:
    packed(net, 4, flat=False, zero=True)


@row(lost={"middle": 5})
def packed_rows_with_flat_scales(net: Net) -> None:
    packed(net, 4, flat=True, zero=True)


@row(lost={"middle": 5})
def packed_rows_without_zero_points(net: Net) -> None:
    packed(net, 8, flat=False, zero=False)


@row(lost={}, pinned={"made": "no-rule"})
def dynamically_quantised_recurrence_stays(net: Net) -> None:
    x = net.add("MatMul", net.input("N", 5, 3), net.random(3, 8), name="made")
    weights = (filters(net, 1, 8, 16), filters(net, 1, 4, 16), None, None, None, None, None)
    scales = (net.positive(1), np.zeros(1, np.int8), net.positive(1), np.zeros(1, np.int8))
    x = net.add("DynamicQuantizeLSTM", x, *weights, *scales, domain=MS, hidden_size=4)
    net.output(x, shape=[None] * 4)


@pytest.mark.parametrize("case", row.cases)
def test_oracle(case: Any) -> None:
    check_row(case)
