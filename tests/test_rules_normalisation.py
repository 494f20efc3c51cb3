"""Normalisations: exact where they work on each channel or group alone, inexact on request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from models import Net, Rows, check_oracle, check_row, grouped
from prunecvt_passes import oracle, runtime
from prunecvt_passes.inexact import inexact_nodes, narrowed_nodes
from prunecvt_passes.samples import random_inputs
from prunecvt_passes.units import Units

row = Rows()
INEXACT = {"units": Units(inexact=True)}
both = pytest.mark.parametrize("inexact", [False, True])


def tokens(net: Net, features: int = 8, name: str = "first") -> str:
    """A dense layer over tokens: [batch, 5, features]."""
    return net.add("MatMul", net.input("N", 5, 3), net.random(3, features), name=name)


@row(pinned={"first": "mixed-axis"})
def layer_normalization_over_channels(net: Net) -> None:
    x = net.add("MatMul", net.input("N", 5, 3), net.random(3, 8), name="first")
    x = net.add("LayerNormalization", x, net.positive(8), net.random(8), axis=-1)
    net.head(x, 8)


@row(lost={"first": 4})
def layer_normalization_over_space(net: Net) -> None:
    x = net.add("LayerNormalization", net.first(), net.positive(6), net.random(6), axis=-1)
    net.last(x)


@row(pinned={"first": "mixed-axis"})
def layer_normalization_with_statistics(net: Net) -> None:
    x = net.add("MatMul", net.input("N", 5, 3), net.random(3, 8), name="first")
    x, mean, spread = net.many("LayerNormalization", x, net.positive(8), outputs=3)
    net.head(net.add("Add", net.add("Mul", x, spread), mean), 8)


@row(lost={"first": 4})
def mean_variance_normalization(net: Net) -> None:
    net.last(net.add("MeanVarianceNormalization", net.first()))


@row(pinned={"first": "mixed-axis"})
def mean_variance_normalization_across_channels(net: Net) -> None:
    net.last(net.add("MeanVarianceNormalization", net.first(), axes=[1]))


def held(build: Callable[[Net], Any], inexact: bool, opset: int, code: str, lost: int = 4) -> None:
    """Asserts that ``first`` stays by default, and loses channels with inexact cuts."""
    options = {"units": Units(inexact=inexact)}
    expected = ({"first": lost}, {}) if inexact else ({}, {"first": code})
    outcome = check_row((build, opset, *expected, options))
    assert bool(narrowed_nodes(outcome.groups, outcome.removal)) == inexact
    if not inexact:
        reasons = [f.reason for f in outcome.groups.fixed if f.producer.tensor == "first"]
        assert any("--allow-inexact" in reason for reason in reasons)


@both
@pytest.mark.parametrize("op", ["LayerNormalization", "RMSNormalization"])
def test_over_features(op: str, inexact: bool) -> None:
    def build(net: Net) -> None:
        shift = [net.random(8)] if op == "LayerNormalization" else []
        net.head(net.add(op, tokens(net), net.positive(8), *shift), 8)

    held(build, inexact, 17 if op == "LayerNormalization" else 23, "mixed-axis")


@both
@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_softmax_over_channels(op: str, opset: int, inexact: bool) -> None:
    held(lambda net: net.last(net.add(op, net.first(), axis=1)), inexact, opset, "mixed-axis")


@both
@pytest.mark.parametrize("axes", [[1], [1, 2, 3], [0, 1, 2, 3]])
def test_mean_variance_normalization(axes: list[int], inexact: bool) -> None:
    def build(net: Net) -> None:
        net.last(net.add("MeanVarianceNormalization", net.first(batch=2), axes=axes))

    held(build, inexact, 17, "mixed-axis")


@both
@pytest.mark.parametrize("op", ["ReduceMean", "ReduceMax", "ReduceLogSumExp", "ReduceProd"])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_reduction_over_channels(op: str, keepdims: int, inexact: bool) -> None:
    def build(net: Net) -> None:
        x = net.add(op, net.add("Sigmoid", net.first()), axes=[1, 3], keepdims=keepdims)
        net.output(net.add("Relu", x))

    held(build, inexact, 17, "reduced")


def by_hand(net: Net, x: str, axis: int, scale: list[int]) -> str:
    """A layer normalisation as exporters write it out, with one scale and shift per channel."""
    centred = net.add("Sub", x, net.add("ReduceMean", x, axes=[axis]))
    square = net.add("Pow", centred, np.float32(2))
    spread = net.add("Add", net.add("ReduceMean", square, axes=[axis]), np.float32(1e-5))
    x = net.add("Div", centred, net.add("Sqrt", spread))
    return net.add("Add", net.add("Mul", x, net.positive(*scale)), net.random(*scale))


@both
def test_layer_normalization_written_out(inexact: bool) -> None:
    held(lambda net: net.last(by_hand(net, net.first(), 1, [8, 1, 1])), inexact, 17, "reduced")


def layer_norm(net: Net, x: str, features: int) -> str:
    return net.add("LayerNormalization", x, net.positive(features), net.random(features), axis=-1)


def transformer(net: Net) -> None:
    """Two blocks: normalise, attend, add; normalise, widen, add."""
    x = net.add("Add", tokens(net, 12), net.random(5, 12))
    for _ in range(2):
        y = layer_norm(net, x, 12)
        query, key, value = (net.add("MatMul", y, net.random(12, 6, scale=0.3)) for _ in range(3))
        weights = net.add("MatMul", query, net.add("Transpose", key, perm=[0, 2, 1]))
        y = net.add("MatMul", net.add("Softmax", weights, axis=-1), value)
        x = net.add("Add", x, net.add("MatMul", y, net.random(6, 12, scale=0.3)))
        y = net.add("Relu", net.add("MatMul", layer_norm(net, x, 12), net.random(12, 16)))
        x = net.add("Add", x, net.add("MatMul", y, net.random(16, 12, scale=0.1)))
    net.head(layer_norm(net, x, 12), 12)


@both
def test_residual_stream_of_a_transformer(inexact: bool) -> None:
    held(transformer, inexact, 17, "mixed-axis", lost=6)


def test_all_that_a_residual_stream_meets_stays_for_the_same_reason() -> None:
    net = Net()
    transformer(net)
    _, groups = grouped(net.proto())
    assert {f.code for f in groups.fixed} == {"mixed-axis", "graph-output"}


def convnext(net: Net) -> None:
    """A block over both layouts: depthwise, normalise over the last axis, widen, scale, add."""
    x = first = net.first()
    x = net.add("Transpose", net.conv(x, 8, 8, 3, group=8), perm=[0, 2, 3, 1])
    x = net.add("MatMul", layer_norm(net, x, 8), net.random(8, 32))
    x = net.add("MatMul", net.add("Sigmoid", x), net.random(32, 8))
    x = net.add("Transpose", net.add("Mul", x, net.random(8)), perm=[0, 3, 1, 2])
    net.last(by_hand(net, net.add("Add", x, first), 1, [8, 1, 1]))


@both
def test_block_in_both_layouts(inexact: bool) -> None:
    held(convnext, inexact, 17, "mixed-axis")


@pytest.mark.parametrize("opset", [18, 21])
@pytest.mark.parametrize(
    ("groups", "exact", "inexact"), [(4, 4, 4), (2, 4, 4), (8, 4, 4), (1, 0, 4)]
)
def test_group_normalization(opset: int, groups: int, exact: int, inexact: int) -> None:
    """Whole groups by default, the same channels of every group with inexact cuts."""

    def build(net: Net) -> None:
        size = 8 if opset >= 21 else groups
        x = net.add(
            "GroupNormalization",
            net.first(),
            net.positive(size),
            net.random(size),
            num_groups=groups,
        )
        net.last(x)

    for units, lost in ((Units(), exact), (Units(inexact=True), inexact)):
        case = (build, opset, {"first": lost} if lost else {}, {}, {"units": units})
        with pytest.MonkeyPatch.context() as patch:
            if opset == 18:  # onnx deprecated this version, onnxruntime runs it
                patch.setattr(onnx.checker, "check_model", lambda *_, **__: None)
            outcome = check_row(case)
        (node,) = [n for n in outcome.slimmed.proto.graph.node if n.op_type == "GroupNormalization"]
        kept = [a.i for a in node.attribute if a.name == "num_groups"]
        whole = not units.inexact or groups == 8
        assert kept == [groups // 2 if whole and lost else groups]


def group_norm_by_hand(net: Net, x: str, groups: int, target: list[int]) -> str:
    """A group normalisation as exporters write it out."""
    y = net.add("Reshape", x, np.array([0, groups, -1]))
    ones, zeros = np.ones(groups, np.float32), np.zeros(groups, np.float32)
    y = net.add("Reshape", net.add("InstanceNormalization", y, ones, zeros), np.array(target))
    return net.add("Add", net.add("Mul", y, net.positive(8, 1, 1)), net.random(8, 1, 1))


@both
@pytest.mark.parametrize("groups", [2, 4])
def test_group_normalization_written_out(groups: int, inexact: bool) -> None:
    def build(net: Net) -> None:
        net.last(group_norm_by_hand(net, net.first(), groups, [-1, 8, 6, 6]))

    outcome = check_row((build, 17, {"first": 4}, {}, {"units": Units(inexact=inexact)}))
    assert bool(narrowed_nodes(outcome.groups, outcome.removal)) == inexact


@both
def test_one_group_written_out(inexact: bool) -> None:
    held(
        lambda net: net.last(group_norm_by_hand(net, net.first(), 1, [-1, 8, 6, 6])),
        inexact,
        17,
        "mixed-axis",
    )


@row(lost={"first": 4})
def group_normalization_of_images_of_any_size(net: Net) -> None:
    x = net.conv(net.input("N", 3, "H", "W"), 3, 8, 3, name="first")
    y = net.add("Reshape", x, np.array([0, 4, -1]))
    y = net.add("InstanceNormalization", y, net.positive(4), net.random(4))
    net.last(net.add("Reshape", y, net.add("Shape", x)))


@row(lost={"query": 4})
def normalised_heads(net: Net) -> None:
    x = net.add("Reshape", tokens(net, name="query"), np.array([0, 0, 4, 2]))
    x = net.add("LayerNormalization", x, net.positive(2), net.random(2), axis=-1)
    net.head(net.add("Reshape", x, np.array([0, 0, 8])), 8)


@row(pinned={"first": "mixed-axis"}, **INEXACT)
def local_response_normalization(net: Net) -> None:
    net.last(net.add("LRN", net.first(), size=3))


@row(lost={"first": 4})
def local_response_normalization_elsewhere(net: Net) -> None:
    x = net.add("Transpose", net.first(), perm=[0, 2, 1, 3])
    x = net.add("Transpose", net.add("LRN", x, size=3), perm=[0, 2, 1, 3])
    net.last(x)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("axis", [1, -3, 3])
def test_norms_to_one_are_exact(p: int, axis: int) -> None:
    def build(net: Net) -> None:
        net.last(net.add("LpNormalization", net.first(), axis=axis, p=p))

    outcome = check_row((build, 17, {"first": 4}, {}, {}))
    assert not outcome.groups.channels.narrowed


@row(lost={"first": 4})
def instance_normalization(net: Net) -> None:
    net.last(net.add("InstanceNormalization", net.first(), net.positive(8), net.random(8)))


@row(pinned={"first": "reduced"}, **INEXACT)
def mean_scaled_to_a_sum(net: Net) -> None:
    mean = net.add("ReduceMean", net.first(), axes=[1])
    net.output(net.add("Mul", mean, np.float32(8)))


@row(pinned={"first": "reduced"}, **INEXACT)
def mean_scaled_by_all_positions(net: Net) -> None:
    mean = net.add("ReduceMean", net.first(), axes=[1, 2, 3])
    net.output(net.add("Div", mean, np.array(1 / (8 * 36), np.float32)))


@row(pinned={"first": "reduced"}, **INEXACT)
def unbiased_variance(net: Net) -> None:
    x = net.first()
    centred = net.add("Sub", x, net.add("ReduceMean", x, axes=[1]))
    variance = net.add("ReduceMean", net.add("Mul", centred, centred), axes=[1])
    variance = net.add("Div", net.add("Mul", variance, np.float32(8)), np.float32(7))
    net.last(net.add("Div", centred, net.add("Sqrt", variance)))


@row(pinned={"first": "size-read"}, **INEXACT)
def variance_by_the_size_at_run_time(net: Net) -> None:
    x = net.conv(net.input("N", 3, "H", "W"), 3, 8, 3, name="first")
    size = net.add("Gather", net.add("Shape", x), np.array([1, 2]))
    total = net.add("Cast", net.add("ReduceProd", size, axes=[0], keepdims=0), to=1)
    net.output(net.add("Mul", net.add("ReduceMean", x, axes=[1, 2]), total), shape=[None] * 4)


@row(lost={"first": 4}, **INEXACT)
def mean_with_another_factor(net: Net) -> None:
    net.output(net.add("Mul", net.add("ReduceMean", net.first(), axes=[1]), np.float32(0.3)))


@row(pinned={"first": "graph-output"}, **INEXACT)
def softmax_that_is_the_output(net: Net) -> None:
    net.output(net.add("Softmax", net.first(), axis=1))


@row(pinned={"first": "mixed-axis"}, **INEXACT)
def search_over_channels(net: Net) -> None:
    net.output(net.add("Cast", net.add("ArgMax", net.first(), axis=1), to=onnx.TensorProto.FLOAT))


@row(lost={"first": 4})
def scale_with_more_axes_than_are_normalised(net: Net) -> None:
    x = net.add("Transpose", net.first(), perm=[0, 2, 1, 3])
    x = net.add("LayerNormalization", x, net.positive(8, 6), net.random(8, 6), axis=-1)
    net.last(net.add("Transpose", x, perm=[0, 2, 1, 3]))


@row(lost={"first": 4, "rows": 3}, **INEXACT)
def normalised_over_two_labelled_axes(net: Net) -> None:
    x = net.add("MatMul", net.random(7, 6), net.first(), name="rows")
    x = net.add("LayerNormalization", x, net.positive(8, 7, 6), net.random(8, 7, 6), axis=1)
    mean = net.add("ReduceMean", x, axes=[1, 2])
    x = net.add("Transpose", net.add("Sub", x, mean), perm=[0, 1, 3, 2])
    net.last(net.add("MatMul", x, net.random(7, 5)))


@row(lost={"first": 4, "other": 3}, **INEXACT)
def normalised_over_a_concatenation(net: Net) -> None:
    x = net.add("Concat", net.first(), net.conv("x", 3, 6, 3, name="other"), axis=1)
    net.last(by_hand(net, x, 1, [14, 1, 1]), 14)


@pytest.mark.parametrize("case", row.cases)
def test_oracle(case: Any) -> None:
    check_row(case)


def test_groups_name_the_nodes_that_make_them_inexact() -> None:
    net = Net()
    x = net.first()
    scale, shift = net.positive(8, 1, 1), net.random(8, 1, 1)
    inner = net.conv(x, 8, 6, name="inner")
    y = net.conv(inner, 6, 8, name="outer")
    x = net.add("LayerNormalization", net.add("Add", x, y), scale, shift, axis=1, name="normed")
    net.last(x)
    _, groups = grouped(net.proto(), Units(inexact=True))
    by_member = {g.members[0]: g.id for g in groups.groups}
    assert inexact_nodes(groups) == {by_member["first"]: ("LayerNormalization 'normed'",)}
    assert inexact_nodes(grouped(net.proto())[1]) == {}


def test_the_oracle_sees_another_scale() -> None:
    """The kept channels alone, with the scales of removed ones, is another function."""
    net = Net()
    net.head(layer_norm(net, tokens(net), 8), 8)
    outcome = check_oracle(net.proto(), units=Units(inexact=True))
    (node,) = [n for n in outcome.slimmed.proto.graph.node if n.op_type == "LayerNormalization"]
    wrong = outcome.slimmed.copy()
    wrong.set_weights({node.input[1]: wrong.weights[node.input[1]][::-1].copy()})
    feed = random_inputs(outcome.dense.graph.model, outcome.dense.sizes)
    masked = oracle.masked(outcome.groups, outcome.removal)
    gaps = [
        oracle.difference(runtime.run(masked, feed), runtime.run(each, feed))
        for each in (outcome.slimmed, wrong)
    ]
    assert gaps[0].relative < 1e-5 < 1e-3 < gaps[1].relative
