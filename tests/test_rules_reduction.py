"""Operators that mix a whole axis: pooling, reductions, softmax, normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

import prunecvt
from models import INT64, Net, Rows, check_row
from prunecvt.errors import UnsupportedError
from prunecvt_passes.rules import RULES
from prunecvt_passes.rules.reduction import reduce

row = Rows()
REDUCTIONS = sorted(op for op, rule in RULES.items() if rule is reduce)
EXACT = {"ReduceSum", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceSumSquare"}


def reduced(net: Net, op: str, x: str, axes: list[int], keepdims: int) -> str:
    """The reduction, with its axes where the operator set wants them."""
    x = net.add("Add", net.add("Abs", x), np.float32(0.5))
    since = 13 if op == "ReduceSum" else 18
    if net.opset >= since:
        return net.add(op, x, np.array(axes), keepdims=keepdims)
    return net.add(op, x, axes=axes, keepdims=keepdims)


@pytest.mark.parametrize("op", REDUCTIONS)
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("opset", [11, 18])
def test_reduction_over_space(op: str, keepdims: int, opset: int) -> None:
    def build(net: Net) -> None:
        x = reduced(net, op, net.first(), [2, -1], keepdims)
        if keepdims:
            net.last(x)
        else:
            net.head(x, 8)

    check_row((build, opset, {"first": 4}, {}, {}))


@pytest.mark.parametrize("op", REDUCTIONS)
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("opset", [11, 18])
def test_reduction_over_channels(op: str, keepdims: int, opset: int) -> None:
    def build(net: Net) -> None:
        net.output(reduced(net, op, net.first(), [-3], keepdims))

    lost, pinned = ({"first": 4}, {}) if op in EXACT else ({}, {"first": "reduced"})
    check_row((build, opset, lost, pinned, {}))


@row(lost={"first": 4})
def reduction_over_everything(net: Net) -> None:
    net.output(net.add("ReduceSum", net.first(), keepdims=0))


@row(lost={"first": 4})
def reduction_over_nothing(net: Net) -> None:
    axes = net.constant(np.zeros(0, np.int64))
    net.last(net.add("ReduceSum", net.first(), axes, noop_with_empty_axes=1))


@row(pinned={"first": "unknown-axes"})
def reduction_over_computed_axes(net: Net) -> None:
    axes = net.input(1, name="axes", type=INT64)
    net.output(net.add("ReduceSum", net.first(), axes, keepdims=1), shape=[None] * 4)


@row(pinned={"first": "unknown-axes"})
def reduction_over_computed_axes_that_go(net: Net) -> None:
    axes = net.input(1, name="axes", type=INT64)
    net.output(net.add("ReduceSum", net.first(), axes, keepdims=0), shape=[None] * 3)


@row(lost={"first": 4}, opsets=(7, 11, 17))
def max_pool(net: Net) -> None:
    net.last(net.add("MaxPool", net.first(), kernel_shape=[2, 2], strides=[2, 2]))


@row(lost={"first": 4})
def average_pool(net: Net) -> None:
    x = net.add("AveragePool", net.first(), kernel_shape=[3, 3], pads=[1] * 4, ceil_mode=1)
    net.last(x)


@row(lost={"first": 4})
def lp_pools(net: Net) -> None:
    net.last(net.add("GlobalLpPool", net.add("LpPool", net.first(), kernel_shape=[2, 2])))


@row(lost={"first": 4})
def global_pools(net: Net) -> None:
    x = net.first()
    net.last(net.add("Add", net.add("GlobalAveragePool", x), net.add("GlobalMaxPool", x)))


@row(pinned={"first": "flat-indices"})
def max_pool_with_indices(net: Net) -> None:
    x, places = net.many("MaxPool", net.first(), outputs=2, kernel_shape=[2, 2])
    net.last(x)
    net.output(places, INT64)


POOL = {"kernel_shape": [2, 2], "strides": [2, 2]}


def unpooled(net: Net, x: str, *shape: Any, between: bool = True) -> str:
    """Down and up again, with a convolution at the bottom."""
    x, places = net.many("MaxPool", x, outputs=2, **POOL)
    x = net.conv(x, 8, 8, name="bottom") if between else x
    return net.add("MaxUnpool", x, places, *shape, **POOL)


@row(lost={"first": 4})
def max_pool_and_unpool(net: Net) -> None:
    net.last(unpooled(net, net.first(), between=False))


@row(lost={"first": 4, "bottom": 4})
def max_unpool_of_other_channels(net: Net) -> None:
    net.last(unpooled(net, net.first()))


@row(lost={"first": 4, "bottom": 4})
def max_unpool_to_a_stated_shape(net: Net) -> None:
    net.last(unpooled(net, net.first(batch=2), np.array([2, 8, 6, 6])))


@row(pinned={"first": "flat-indices", "bottom": "flat-indices"})
def max_unpool_to_another_size(net: Net) -> None:
    net.last(unpooled(net, net.first(batch=2), np.array([2, 8, 7, 7])))


@row(pinned={"first": "flat-indices"})
def max_unpool_of_open_rows(net: Net) -> None:
    x = net.conv(net.input(2, 3, "H", "W"), 3, 8, name="first")
    net.last(unpooled(net, x))


@row(pinned={"first": "flat-indices"})
def max_pool_whose_indices_count_a_batch_of_channels(net: Net) -> None:
    x = net.add("Transpose", net.first(batch=2), perm=[1, 0, 2, 3])
    x, places = net.many("MaxPool", x, outputs=2, **POOL)
    x = net.add("Add", x, net.add("Cast", places, to=TensorProto.FLOAT))
    net.last(net.add("Transpose", x, perm=[1, 0, 2, 3]))


@row(pinned={"first": "pooled"})
def pool_over_a_transposed_channel_axis(net: Net) -> None:
    x = net.add("Transpose", net.first(batch=2), perm=[0, 2, 1, 3])
    net.output(net.add("MaxPool", x, kernel_shape=[2, 2]))


@row(lost={"first": 4})
def region_pool(net: Net) -> None:
    rois = net.constant(np.array([[0, 0, 3, 3], [1, 1, 5, 5]], np.float32))
    x = net.first(batch=1)
    net.last(net.add("RoiAlign", x, rois, np.zeros(2, np.int64), output_height=2, output_width=2))


@row(lost={"first": 4}, opsets=(13, 17))
def softmax_over_space(net: Net) -> None:
    net.last(net.add("Softmax", net.first(), axis=3))


@row(pinned={"first": "mixed-axis"}, opsets=(11, 13))
def softmax_over_channels(net: Net) -> None:
    net.last(net.add("Softmax", net.first(), axis=1))


@row(pinned={"first": "mixed-axis"})
def softmax_before_opset_13_joins_the_axes_behind(net: Net) -> None:
    net.opset = 11
    x = net.add("Transpose", net.first(), perm=[0, 2, 1, 3])
    net.output(net.add("Softmax", x, axis=1))


@row(lost={"first": 4})
def softmax_before_opset_13_behind_the_channels(net: Net) -> None:
    net.opset = 11
    net.last(net.add("Softmax", net.first(), axis=2))


@pytest.mark.parametrize("op", ["LogSoftmax", "Hardmax", "TopK", "ArgMax", "CumSum"])
@pytest.mark.parametrize("axis", [1, 3])
def test_operator_along_axis(op: str, axis: int) -> None:
    def build(net: Net) -> None:
        x = net.first()
        if op == "TopK":
            x, places = net.many("TopK", x, np.array([2]), outputs=2, axis=axis)
            x = net.add("Add", x, net.add("Cast", places, to=TensorProto.FLOAT))
        elif op == "CumSum":
            x = net.add("CumSum", x, np.array(axis))
        else:
            x = net.add(op, x, axis=axis)
        x = net.add("Cast", x, to=TensorProto.FLOAT)
        if axis == 3:
            net.last(x)
        else:
            net.output(net.add("ReduceSum", x))

    lost, pinned = ({"first": 4}, {}) if axis == 3 else ({}, {"first": "mixed-axis"})
    check_row((build, 17, lost, pinned, {}))


@row(lost={"first": 4})
def argmax_without_keepdims(net: Net) -> None:
    x = net.add("ArgMax", net.first(), axis=2, keepdims=0)
    net.output(net.add("ReduceSum", net.add("Cast", x, to=TensorProto.FLOAT), np.array([1])))


@pytest.mark.parametrize("case", row.cases)
def test_oracle(case: Any) -> None:
    check_row(case)


def test_what_no_runtime_runs_is_refused_and_no_fault_of_a_pass() -> None:
    net = Net()
    x = net.add("ArgMax", net.add("ReduceSum", net.first(), keepdims=0))
    net.output(net.add("Cast", x, to=TensorProto.FLOAT), shape=[])
    with pytest.raises(UnsupportedError, match="E410"):
        prunecvt.slim(net.proto())


def test_every_reduction_of_onnx_has_a_rule() -> None:
    schemas = {s.name for s in onnx.defs.get_all_schemas() if s.name.startswith("Reduce")}
    assert schemas == set(REDUCTIONS)
