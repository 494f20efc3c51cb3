"""Operators that lay data out anew or repeat it: Reshape and its kin, Expand, Tile, Resize."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest

from models import INT64, Net, Rows, check_row

row = Rows()


def reshape(net: Net, x: str, *target: int) -> str:
    return net.add("Reshape", x, np.array(target))


@row(lost={"first": 4}, opsets=(7, 13, 14))
def reshape_merges_channels_and_space(net: Net) -> None:
    net.head(reshape(net, net.first(), -1, 8 * 36), 8 * 36)


@row(lost={"first": 4})
def reshape_splits_space(net: Net) -> None:
    x = reshape(net, net.first(), 0, 8, 2, 3, -1)
    net.last(reshape(net, net.add("Relu", x), -1, 8, 6, 6))


@row(lost={"first": 4})
def reshape_copies_and_infers(net: Net) -> None:
    x = reshape(net, net.first(), 0, 0, -1)
    net.last(reshape(net, net.add("Relu", x), 0, -1, 6, 6))


@row(lost={"first": 4})
def reshape_copies_a_size_of_another_axis(net: Net) -> None:
    x = net.conv(net.input("N", 3, 4, 8), 3, 8, name="first")
    x = reshape(net, net.add("Transpose", x, perm=[0, 2, 1, 3]), -1, 0, 64)
    net.output(net.add("Softmax", net.add("MatMul", x, net.random(64, 4)), axis=1))


@row(lost={"first": 4})
def reshape_with_zero_allowed(net: Net) -> None:
    x = net.add("Reshape", net.first(), np.array([-1, 8, 36]), allowzero=1)
    net.last(net.add("Reshape", x, np.array([-1, 8, 6, 6]), allowzero=1))


@row(lost={"first": 6})
def channel_shuffle(net: Net) -> None:
    x = reshape(net, net.first(12), -1, 3, 4, 6, 6)
    x = reshape(net, net.add("Transpose", x, perm=[0, 2, 1, 3, 4]), -1, 12, 6, 6)
    net.last(x, 12)


@row(lost={"first": 4})
def channel_shuffle_of_halves(net: Net) -> None:
    x = reshape(net, net.first(12), -1, 2, 6, 6, 6)
    x = reshape(net, net.add("Transpose", x, perm=[0, 2, 1, 3, 4]), -1, 12, 6, 6)
    a, b = net.many("Split", x, outputs=2, axis=1)
    net.last(net.add("Concat", a, net.conv(b, 6, 6), axis=1), 12)


@row(lost={"first": 4})
def reshape_to_groups_and_norm(net: Net) -> None:
    x = net.add(
        "InstanceNormalization", reshape(net, net.first(), 0, 2, -1), *[np.ones(2, np.float32)] * 2
    )
    x = net.add("Reshape", x, net.add("Shape", "first"))
    net.last(x)


@row(pinned={"first": "dynamic-axis"})
def reshape_merges_batch_and_channels(net: Net) -> None:
    x = reshape(net, net.first(), -1, 1, 6, 6)
    net.output(net.add("ReduceMax", reshape(net, net.add("Relu", x), -1, 8, 36), axes=[1]))


@row(pinned={"first": "mixed-axis"})
def reshape_shifts_channels_by_the_batch(net: Net) -> None:
    x = net.add("Flatten", net.add("GlobalAveragePool", net.first(4)))
    net.output(net.add("ReduceMax", reshape(net, x, 4, -1), axes=[1]))


@row(lost={"first": 1})
def reshape_where_batch_and_channels_are_equal(net: Net) -> None:
    net.head(reshape(net, net.first(2), -1, 72), 72)


@row(pinned={"first": "mixed-axis"})
def reshape_pairs_no_sizes_that_are_equal_by_chance(net: Net) -> None:
    x = net.add("Flatten", net.add("GlobalAveragePool", net.first()))
    x = reshape(net, x, 2, -1, 2)  # at a batch of two the first sizes agree
    net.output(net.add("ReduceMax", x, axes=[0, 1]))


@row(lost={"first": 2})
def reshape_where_batch_equals_channels_in_a_fixed_model(net: Net) -> None:
    x = net.first(4, batch=4)
    x = reshape(net, net.add("Transpose", x, perm=[1, 0, 2, 3]), 4, 4, 36)
    x = reshape(net, net.add("Transpose", x, perm=[1, 0, 2]), 4, 4, 6, 6)
    net.last(x, 4)


@row(lost={"first": 4})
def reshape_to_a_computed_target(net: Net) -> None:
    x = net.first()
    batch = net.add("Gather", net.add("Shape", x), np.array([0]))
    target = net.add("Concat", batch, np.array([8, 36]), axis=0)
    x = net.add("Relu", net.add("Reshape", x, target))
    target = net.add("Concat", batch, np.array([-1]), np.array([6, 6]), axis=0)
    net.last(net.add("Reshape", x, target))


@row(lost={"first": 4})
def reshape_to_sizes_of_an_input_of_dynamic_size(net: Net) -> None:
    x = net.conv(net.input("N", 3, "H", "W"), 3, 8, name="first")
    shape = net.add("Shape", x)
    n, c, h, w = (net.add("Gather", shape, np.array([k])) for k in range(4))
    y = net.add("Reshape", x, net.add("Concat", n, c, net.add("Mul", h, w), axis=0))
    y = net.add("Transpose", net.add("Relu", y), perm=[0, 2, 1])
    y = net.add("Transpose", net.add("MatMul", y, net.random(8, 10), name="middle"), perm=[0, 2, 1])
    target = net.add("Concat", n, np.array([10]), h, w, axis=0)
    net.output(net.conv(net.add("Reshape", y, target), 10, 4), shape=[None] * 4)


@row(lost={"first": 4}, opsets=(7, 13))
def flatten_and_gemm(net: Net) -> None:
    x = net.add("Flatten", net.add("MaxPool", net.first(), kernel_shape=[2, 2]))
    net.output(net.add("Gemm", x, net.random(8 * 25, 4), net.random(4)))


@row(lost={"first": 4})
def flatten_behind_the_channels(net: Net) -> None:
    x = net.add("Flatten", net.first(batch=2), axis=-1)
    net.output(net.add("ReduceSum", net.add("MatMul", x, net.random(6, 4)), np.array([0])))


@row(lost={"first": 4})
def flatten_everything(net: Net) -> None:
    net.head(net.add("Flatten", net.first(batch=2), axis=0), 2 * 8 * 36)


@row(pinned={"first": "dynamic-axis"})
def flatten_everything_of_a_dynamic_batch(net: Net) -> None:
    net.output(net.add("ReduceMax", net.add("Flatten", net.first(), axis=0), keepdims=0))


@row(lost={"first": 4}, opsets=(11, 13))
def squeeze_and_unsqueeze(net: Net) -> None:
    def with_axes(op: str, x: str, *axes: int) -> str:
        if net.opset >= 13:
            return net.add(op, x, np.array(axes))
        return net.add(op, x, axes=list(axes))

    x = with_axes("Squeeze", net.add("GlobalMaxPool", net.first()), 2, 3)
    x = with_axes("Unsqueeze", net.add("Relu", x), 0, 3)
    net.last(with_axes("Unsqueeze", with_axes("Squeeze", x, 0), 3))


@row(lost={"first": 4})
def squeeze_of_all_ones(net: Net) -> None:
    x = net.add("Squeeze", net.add("GlobalMaxPool", net.first(batch=2)))
    net.head(x, 8)


@row(lost={"first": 4})
def expand_over_space(net: Net) -> None:
    x = net.add("Expand", net.add("GlobalMaxPool", net.first()), np.array([1, 8, 6, 6]))
    net.last(x)


@row(lost={"first": 4})
def expand_to_a_shorter_target(net: Net) -> None:
    net.last(net.add("Expand", net.add("GlobalMaxPool", net.first()), np.array([8, 6, 1])))


@row(lost={"first": 4})
def expand_to_a_target_of_no_axes(net: Net) -> None:
    size = net.add("Expand", net.add("ReduceSum", net.first(), keepdims=0), np.array(6))
    net.last(net.add("Mul", "first", size))


@row(lost={"first": 4})
def expand_makes_channels_that_follow(net: Net) -> None:
    first = net.first()
    x = net.add("Expand", net.add("ReduceMean", "x", axes=[1]), np.array([1, 8, 1, 1]))
    net.last(net.add("Mul", first, x))


@row(lost={"first": 4})
def expand_to_the_size_of_another(net: Net) -> None:
    x = net.first()
    net.last(net.add("Expand", net.add("GlobalMaxPool", x), net.add("Shape", x)))


@row(pinned={"first": "computed-size"})
def expand_a_vector_to_a_dynamic_batch(net: Net) -> None:
    x = net.add("Flatten", net.add("GlobalMaxPool", net.first()))
    batch = net.add("Gather", net.add("Shape", x), np.array([0]))
    target = net.add("Concat", batch, np.array([8]), axis=0)
    token = net.add("Expand", net.random(1, 8), target)
    net.head(net.add("Add", x, token), 8)


@row(lost={"first": 4})
def class_token_in_front_of_the_others(net: Net) -> None:
    x = net.add("Reshape", net.first(), np.array([0, 8, -1]))
    x = net.add("Transpose", x, perm=[0, 2, 1])
    batch = net.add("Gather", net.add("Shape", x), np.array([0]))
    target = net.add("Concat", batch, np.array([-1, -1]), axis=0)
    target = net.add("Where", net.add("Equal", target, np.array([-1])), np.array([1, 1, 1]), target)
    token = net.add("Expand", net.random(1, 1, 8), target)
    x = net.add("Concat", token, x, axis=1)
    net.head(net.add("Add", x, net.random(1, 37, 8)), 8)


@row(lost={"first": 4})
def tile_over_space_and_channels(net: Net) -> None:
    net.last(net.add("Tile", net.first(), np.array([1, 2, 1, 3])), 16)


@row(lost={"first": 4})
def tile_makes_channels_that_follow(net: Net) -> None:
    first = net.first()
    x = net.add("Tile", net.add("ReduceMean", "x", axes=[1]), np.array([1, 8, 1, 1]))
    net.last(net.add("Add", first, x))


@row(pinned={"first": "computed-size"})
def tile_by_computed_repeats(net: Net) -> None:
    repeats = net.add("Max", net.input(4, name="r", type=INT64), np.ones(4, np.int64))
    x = net.add("ReduceMax", net.add("Tile", net.first(), repeats), axes=[1, 2, 3])
    net.output(x, shape=[None] * 4)


SCALES = np.array([1, 1, 2, 2], np.float32)
NONE = np.zeros(0, np.float32)  # opset 11 has no optional inputs in Resize


@row(lost={"first": 4}, opsets=(10, 11, 13, 18, 19))
def resize_by_scales(net: Net) -> None:
    inputs = [SCALES] if net.opset == 10 else [NONE, SCALES]
    net.last(net.add("Resize", net.first(), *inputs, mode="nearest"))


@row(lost={"first": 4}, opsets=(11, 13, 18))
def resize_to_sizes(net: Net) -> None:
    x = net.first(batch=2)
    net.last(net.add("Resize", x, NONE, NONE, np.array([2, 8, 9, 9]), mode="linear"))


# onnxruntime before 1.24 refuses negative axes here
ROWS = -2 if tuple(map(int, onnxruntime.__version__.split(".")[:2])) >= (1, 24) else 2


@row(lost={"first": 4}, opsets=(18,))
def resize_named_axes(net: Net) -> None:
    x = net.add("Resize", net.first(), None, SCALES[:2] * 2, axes=[3, ROWS])
    net.last(net.add("Resize", x, None, None, np.array([5, 8]), axes=[2, 1]))


@row(lost={"first": 4}, opsets=(11, 13))
def resize_to_computed_sizes(net: Net) -> None:
    x = net.first()
    start = net.add("Slice", net.add("Shape", x), np.array([0]), np.array([2]))
    sizes = net.add("Concat", start, np.array([9, 9]), axis=0)
    net.last(net.add("Resize", x, NONE, NONE, sizes, mode="nearest"))


@row(pinned={"first": "interpolated"})
def resize_of_channels(net: Net) -> None:
    x = net.add("Resize", net.first(), None, np.array([1, 2, 1, 1], np.float32), mode="nearest")
    net.last(x, 16)


@row(pinned={"first": "interpolated"})
def resize_that_stretches_channels_less_than_one(net: Net) -> None:
    x = net.add("Resize", net.first(), None, np.array([1, 1.1, 1, 1], np.float32), mode="linear")
    net.last(x)


@row(pinned={"first": "interpolated"})
def resize_that_crops(net: Net) -> None:
    region = np.array([0, 0, 0, 0, 1, 1, 0.5, 0.5], np.float32)
    crop = {"coordinate_transformation_mode": "tf_crop_and_resize", "mode": "linear"}
    net.last(net.add("Resize", net.first(), region, SCALES, **crop))


@row(lost={"first": 4}, opsets=(7, 9))
def upsample(net: Net) -> None:
    if net.opset < 9:
        net.last(net.add("Upsample", net.first(), scales=[1.0, 1.0, 2.0, 2.0]))
    else:
        net.last(net.add("Upsample", net.first(), SCALES))


@row(pinned={"first": "interpolated"}, opsets=(18,))
def resize_that_keeps_the_aspect_ratio(net: Net) -> None:
    x = net.conv(net.input(2, 3, 9, 20), 3, 8, name="first")
    x = net.add("Transpose", x, perm=[0, 2, 3, 1])
    policy = {"keep_aspect_ratio_policy": "not_smaller", "axes": [2, 3]}
    x = net.add("Resize", x, None, None, np.array([19, 6]), **policy)  # 0.95 times 8 rounds to 8
    net.output(net.add("ReduceSum", x, np.array([3])), shape=[None] * 4)


@row(lost={"first": 4})
def reshape_of_a_constant_to_a_computed_shape(net: Net) -> None:
    x = net.first()
    batch = net.add("Slice", net.add("Shape", x), np.array([0]), np.array([1]))
    shape = net.add("Concat", net.add("Div", batch, batch), np.array([8, 1, 1]), axis=0)
    net.last(net.add("Add", x, net.add("Reshape", net.random(8), shape)))


@pytest.mark.parametrize("case", row.cases)
def test_oracle(case: Any) -> None:
    check_row(case)
