"""Operators that make channels: every layout of their weights, against the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models import Net, Rows, check_row

row = Rows()


@row(lost={"first": 4})
def conv_plain(net: Net) -> None:
    net.last(net.first())


@row(lost={"first": 4, "second": 4})
def conv_without_bias(net: Net) -> None:
    x = net.conv(net.add("Relu", net.first()), 8, 8, 3, bias=False, name="second")
    net.last(x)


@row(lost={"first": 4})
def conv_strided_dilated(net: Net) -> None:
    x = net.conv(net.first(), 8, 8, 3, strides=[2, 2], dilations=[2, 2], pads=[2] * 4)
    net.last(x)


@row(lost={"first": 4})
def conv_one_dimensional(net: Net) -> None:
    x = net.conv(net.input("N", 3, 9), 3, 8, 3, rank=1, name="first")
    net.output(net.conv(net.add("Relu", x), 8, 4, rank=1))


@row(lost={"first": 4})
def conv_three_dimensional(net: Net) -> None:
    x = net.conv(net.input("N", 3, 4, 4, 4), 3, 8, 3, rank=3, name="first")
    net.output(net.conv(net.add("Relu", x), 8, 4, rank=3))


def all_pairs(net: Net) -> str:
    """Products of all pairs of channels: the same channels stand on two axes, [N, 8, 8]."""
    x = net.add("Reshape", net.first(), np.array([0, 8, -1]))
    return net.add("MatMul", x, net.add("Transpose", x, perm=[0, 2, 1]))


@row(pinned={"first": "mixed-axis"})
def conv_over_all_pairs(net: Net) -> None:
    net.output(net.conv(all_pairs(net), 8, 4, rank=1), shape=[None] * 3)


@row(pinned={"first": "mixed-axis"})
def conv_transpose_over_all_pairs(net: Net) -> None:
    y = net.add("ConvTranspose", all_pairs(net), net.random(8, 4, 1))
    net.output(y, shape=[None] * 3)


@row(pinned={"first": "mixed-axis"})
def depth_to_space_of_all_pairs(net: Net) -> None:
    x = net.add("Unsqueeze", all_pairs(net), np.array([3]))
    net.last(net.add("DepthToSpace", x, blocksize=2), 2)


@row(lost={"first": 4})
def dense_layer_over_all_pairs(net: Net) -> None:
    y = net.add("MatMul", all_pairs(net), net.random(8, 4))
    y = net.add("MatMul", net.add("Transpose", y, perm=[0, 2, 1]), net.random(8, 3))
    net.output(y, shape=[None] * 3)


@row(lost={"first": 4, "second": 4})
def depthwise(net: Net) -> None:
    net.last(net.conv(net.first(), 8, 8, 3, group=8, name="second"))


@row(lost={"first": 4, "second": 8})
def depthwise_with_multiplier(net: Net) -> None:
    net.last(net.conv(net.first(), 8, 16, 3, group=8, name="second"), 16)


@row(pinned={"second": "fixed-output"})
def depthwise_on_the_input(net: Net) -> None:
    x = net.conv(net.input("N", 3, 6, 6), 3, 6, 3, group=3, name="second")
    net.last(x, 6)


@row(lost={"first": 4, "second": 4})
def grouped(net: Net) -> None:
    net.last(net.conv(net.first(), 8, 8, 3, group=2, name="second"))


@row(lost={"first": 6, "second": 3})
def grouped_in_three(net: Net) -> None:
    net.last(net.conv(net.first(12), 12, 6, 3, group=3, name="second"), 6)


@row(lost={"first": 4}, pinned={"second": "one-per-group"})
def grouped_with_one_output_per_group(net: Net) -> None:
    net.last(net.conv(net.first(), 8, 4, 3, group=4, name="second"), 4)


@row(lost={"first": 4, "second": 4, "third": 4})
def grouped_after_grouped(net: Net) -> None:
    x = net.conv(net.first(), 8, 8, 3, group=2, name="second")
    net.last(net.conv(x, 8, 8, 3, group=4, name="third"))


@row(lost={"second": 2}, pinned={})
def grouped_on_the_input(net: Net) -> None:
    x = net.conv(net.input("N", 4, 6, 6), 4, 4, 3, group=2, name="second")
    net.last(x, 4)


def transposed(net: Net, x: str, inputs: int, outputs: int, group: int = 1) -> str:
    weight = net.random(inputs, outputs // group, 2, 2)
    return net.add(
        "ConvTranspose", x, weight, net.random(outputs), name="up", group=group, strides=[2, 2]
    )


@row(lost={"first": 4, "up": 3})
def conv_transpose(net: Net) -> None:
    net.last(transposed(net, net.first(), 8, 6), 6)


@row(lost={"first": 4, "up": 4})
def conv_transpose_grouped(net: Net) -> None:
    net.last(transposed(net, net.first(), 8, 8, group=2))


@row(lost={"first": 4, "up": 4})
def conv_transpose_depthwise(net: Net) -> None:
    net.last(transposed(net, net.first(), 8, 8, group=8))


@row(lost={"first": 4, "up": 8})
def conv_transpose_depthwise_with_multiplier(net: Net) -> None:
    net.last(transposed(net, net.first(), 8, 16, group=8), 16)


@row(lost={"first": 4})
def conv_transpose_with_one_output_per_group(net: Net) -> None:
    net.last(transposed(net, net.first(), 8, 2, group=2), 2)


@row(pinned={"up": "fixed-output"})
def conv_transpose_depthwise_on_the_input(net: Net) -> None:
    net.last(transposed(net, net.input("N", 4, 6, 6), 4, 4, group=4), 4)


def pooled(net: Net) -> str:
    return net.add("Flatten", net.add("GlobalAveragePool", net.first()))


@row(lost={"first": 4, "middle": 5})
def gemm_plain(net: Net) -> None:
    x = net.add("Gemm", pooled(net), net.random(8, 10), net.random(10), name="middle")
    net.head(net.add("Relu", x), 10)


@row(lost={"first": 4, "middle": 5})
def gemm_trans_b(net: Net) -> None:
    x = net.add("Gemm", pooled(net), net.random(10, 8), net.random(10), name="middle", transB=1)
    net.head(x, 10)


@row(lost={"first": 4, "middle": 5})
def gemm_trans_a(net: Net) -> None:
    x = net.add("Transpose", pooled(net), perm=[1, 0])
    x = net.add("Gemm", x, net.random(8, 10), net.random(10), name="middle", transA=1)
    net.head(x, 10)


@row(lost={"first": 4, "middle": 5})
def gemm_trans_a_trans_b_scaled(net: Net) -> None:
    x = net.add("Transpose", pooled(net))
    x = net.add(
        "Gemm",
        x,
        net.random(10, 8),
        net.random(10),
        transA=1,
        transB=1,
        alpha=0.5,
        beta=2.0,
        name="middle",
    )
    net.head(x, 10)


@row(lost={"first": 4, "middle": 5})
def gemm_without_bias(net: Net) -> None:
    net.head(net.add("Gemm", pooled(net), net.random(8, 10), name="middle"), 10)


@pytest.mark.parametrize("shape", [(), (1,), (10,), (1, 10), (1, 1), (2, 10), (2, 1)])
def test_gemm_bias_of_shape(shape: tuple[int, ...]) -> None:
    def build(net: Net) -> None:
        x = net.add("Flatten", net.add("GlobalAveragePool", net.first(batch=2)))
        x = net.add("Gemm", x, net.random(8, 10), net.random(*shape), name="middle")
        net.head(x, 10)

    check_row((build, 17, {"first": 4, "middle": 5}, {}, {}))


@row(lost={"first": 4})
def gemm_adds_an_activation(net: Net) -> None:
    x = pooled(net)
    net.head(net.add("Gemm", x, net.random(8, 8), x, name="middle"), 8)


@row(lost={"first": 4, "middle": 5})
def gemm_with_constant_on_the_left(net: Net) -> None:
    x = net.add("Transpose", pooled(net))
    x = net.add("Gemm", net.random(10, 8), x, net.random(10, 1), name="middle")
    net.output(net.add("MatMul", net.random(4, 10), x, name="last"))


@row(lost={"middle": 5}, pinned={"first": "mixed-axis"})
def gemm_with_constant_on_the_left_that_mixes_rows(net: Net) -> None:
    x = net.add("Flatten", net.add("GlobalAveragePool", net.first(batch=8)))
    x = net.add("Gemm", net.random(10, 8), x, net.random(8), name="middle")
    net.output(net.add("Softmax", net.add("MatMul", net.random(4, 10), x), axis=1))


@row(lost={"first": 4, "middle": 5})
def matmul_two_dimensional(net: Net) -> None:
    net.head(net.add("MatMul", pooled(net), net.random(8, 10), name="middle"), 10)


def tokens(net: Net, name: str = "first", batch: Any = "N", features: int = 8) -> str:
    x = net.inputs[0].name if net.inputs else net.input(batch, 5, 3)
    return net.add("MatMul", x, net.random(3, features), name=name)


@row(lost={"first": 4, "middle": 5})
def matmul_three_dimensional(net: Net) -> None:
    net.head(net.add("MatMul", tokens(net), net.random(8, 10), name="middle"), 10)


@row(lost={"first": 4})
def matmul_with_vector_on_the_right(net: Net) -> None:
    net.output(net.add("MatMul", tokens(net), net.random(8)))


@row(lost={"first": 4})
def matmul_with_vector_on_the_left(net: Net) -> None:
    x = net.add("Transpose", tokens(net), perm=[0, 2, 1])
    net.output(net.add("MatMul", net.random(8), x))


@row(lost={"first": 4, "middle": 5})
def matmul_with_constant_on_the_left(net: Net) -> None:
    x = net.add("Transpose", tokens(net), perm=[0, 2, 1])
    x = net.add("MatMul", net.random(10, 8), x, name="middle")
    net.output(net.add("MatMul", net.random(4, 10), x))


@row(lost={"first": 4, "second": 4})
def matmul_of_two_activations(net: Net) -> None:
    key = net.add("Transpose", tokens(net, "second"), perm=[0, 2, 1])
    net.output(net.add("Softmax", net.add("MatMul", tokens(net), key), axis=-1))


@row(lost={"first": 4, "second": 4, "values": 4})
def attention_of_one_head(net: Net) -> None:
    key = net.add("Transpose", tokens(net, "second"), perm=[0, 2, 1])
    weights = net.add("Softmax", net.add("MatMul", tokens(net), key), axis=-1)
    net.head(net.add("MatMul", weights, tokens(net, "values")), 8)


@row(lost={"first": 4, "middle": 5})
def matmul_with_batched_weights(net: Net) -> None:
    x = net.add("MatMul", tokens(net, batch=2), net.random(2, 8, 10), name="middle")
    net.head(x, 10)


@row(lost={"first": 4})
def matmul_broadcasts_batches(net: Net) -> None:
    x = net.add("Unsqueeze", tokens(net), np.array([1]))
    net.output(net.add("MatMul", x, net.random(3, 8, 4)))


@row(lost={"first": 4})
def matmul_of_batched_channels(net: Net) -> None:
    x = net.add("MatMul", net.first(), net.random(8, 6, 7))
    net.last(x)


@row(lost={"first": 6})
def attention_of_two_heads(net: Net) -> None:
    heads = []
    for name in ("first", "second", "values"):
        x = net.add("Reshape", tokens(net, name, features=12), np.array([0, 0, 2, 6]))
        heads.append(net.add("Transpose", x, perm=[0, 2, 1, 3]))
    query, key, values = heads
    key = net.add("Transpose", key, perm=[0, 1, 3, 2])
    weights = net.add("Softmax", net.add("MatMul", query, key), axis=-1)
    x = net.add("Transpose", net.add("MatMul", weights, values), perm=[0, 2, 1, 3])
    net.head(net.add("Reshape", x, np.array([0, 0, 12])), 12)


@row(pinned={"first": "mixed-axis"})
def conv_over_a_transposed_channel_axis(net: Net) -> None:
    x = net.conv(net.input("N", 3, 8), 3, 8, rank=1, name="first")
    x = net.conv(net.add("Transpose", x, perm=[0, 2, 1]), 8, 4, 3, rank=1)
    net.output(x)


@row(lost={"first": 4})
def conv_with_channels_as_batch(net: Net) -> None:
    x = net.conv(net.input(2, 3, 6, 6), 3, 8, name="first")
    x = net.conv(net.add("Transpose", x, perm=[1, 0, 2, 3]), 2, 4, 3)
    net.last(net.add("Transpose", x, perm=[1, 0, 2, 3]))


@row(lost={"first": 4})
def conv_with_computed_weights(net: Net) -> None:
    scale = net.input(1, name="scale")
    x = net.first()
    weight = net.add("Mul", net.random(8, 8, 1, 1), scale)
    net.last(net.add("Conv", x, weight, name="second"))


@pytest.mark.parametrize("case", row.cases)
def test_oracle(case: Any) -> None:
    check_row(case)
