"""Residual blocks: which are found, what dropping one costs, and which go first."""

from __future__ import annotations

import numpy as np
import pytest

import prunecvt
from models import WIDTH, Net
from prunecvt_passes import runtime
from prunecvt_passes.model import Model
from prunecvt_passes.normalise import Dense
from prunecvt_passes.recovery.calibration import Calibration, split
from prunecvt_passes.trim.blocks import (
    choose_blocks,
    drop_blocks,
    find_blocks,
    joint_error,
    means,
    try_blocks,
)
from prunecvt_passes.trim.constants import absorb_sums
from prunecvt_passes.trim.exact import sized
from trim_cases import dense_of, operators, weight_name

SCALES = (1.0, 1e-3, 0.1)


def block(net: Net, x: str, name: str, scale: float) -> str:
    y = net.add("Relu", net.conv(x, WIDTH, WIDTH, 3, name=f"{name}_a"))
    y = net.conv(y, WIDTH, WIDTH, 1, name=f"{name}_b")
    for place in (1, 2):
        own = weight_name(net, y, place)
        net.weights[own] = (net.weights[own] * scale).astype(np.float32)
    return net.add("Add", x, y, name=f"{name}_sum")


def chain(net: Net) -> str:
    """Three blocks of different worth on a stream that starts and ends with a convolution."""
    x = net.first()
    for number, scale in enumerate(SCALES):
        x = block(net, x, f"block{number}", scale)
    return net.head(net.add("Flatten", net.add("GlobalAveragePool", net.add("Relu", x))), WIDTH)


def data(count: int = 16) -> Calibration:
    draw = np.random.default_rng(3)
    feeds = [{"x": draw.standard_normal((4, 3, 6, 6)).astype(np.float32)} for _ in range(count)]
    return split(feeds)


def three() -> Dense:
    net = Net()
    chain(net)
    return dense_of(net)


def test_blocks_are_found_with_what_only_they_need() -> None:
    dense = three()
    blocks = find_blocks(dense.graph)
    assert [b.tensor for b in blocks] == [f"block{k}_b" for k in range(3)]
    assert [len(b.nodes) for b in blocks] == [3, 3, 3]
    each = WIDTH * WIDTH * (9 + 1) * 36
    assert [b.macs / dense.batch for b in blocks] == [each] * 3


@pytest.mark.parametrize("kind", ["projection", "shared", "wide", "plain"])
def test_what_is_no_block(kind: str) -> None:
    net = Net()
    x = net.first()
    y = net.conv(x, WIDTH, WIDTH, 3)
    if kind == "projection":  # neither operand is what the other is computed from
        net.last(net.add("Add", net.conv(x, WIDTH, WIDTH), y))
    elif kind == "shared":  # what the branch computes is read elsewhere, so nothing is saved
        net.output(y)
        net.last(net.add("Add", x, y))
    elif kind == "wide":  # a vector that broadcasts is no branch of the sum's shape
        net.last(net.add("Add", x, net.add("GlobalAveragePool", y)))
    else:  # nothing is multiplied in it
        net.last(net.add("Add", x, net.add("Relu", x)))
    assert not find_blocks(dense_of(net).graph)


def test_a_block_of_a_transformer_is_found_and_its_channels_are_the_last_axis() -> None:
    net = Net()
    x = net.add("MatMul", net.input("N", 5, 6), net.random(6, WIDTH))
    y = net.add("LayerNormalization", x, net.positive(WIDTH), net.random(WIDTH))
    y = net.add("MatMul", net.add("Relu", net.add("MatMul", y, net.random(WIDTH, 16))), "")
    net.nodes[-1].input[1] = net.random(16, WIDTH)
    net.head(net.add("Add", x, y), WIDTH)
    (found,) = find_blocks(dense_of(net).graph)
    assert (found.axis, len(found.nodes)) == (2, 4)


def test_a_dropped_block_leaves_its_mean() -> None:
    dense, calibration = three(), data()
    blocks = find_blocks(dense.graph)
    found = means(dense.graph, blocks, calibration.fit)
    model, made = drop_blocks(dense.graph, [(blocks[0], found[0])])
    assert made == ["block0_b__mean"]
    assert not any("block0_a" in node.output for node in model.proto.graph.node)
    shown = dense.graph.model.copy()
    shown.proto.graph.output.add(name="block0_b")
    runs = [runtime.run(shown, feed)["block0_b"] for feed in calibration.fit]
    expected = np.concatenate(runs).astype(np.float64).mean((0, 2, 3))
    assert np.allclose(model.weights["block0_b__mean"].ravel(), expected, atol=1e-6)


def test_the_mean_goes_into_the_bias_before_the_stream() -> None:
    dense, calibration = three(), data()
    blocks = find_blocks(dense.graph)
    found = means(dense.graph, blocks, calibration.fit)
    model, made = drop_blocks(dense.graph, [(blocks[0], found[0])])
    cut = sized(model, dense.sizes, dense.batch)
    absorbed = absorb_sums(cut.graph, frozenset(made))
    assert operators(absorbed).count("Identity") == 1
    inputs = calibration.held_out[0]
    runs = [next(iter(runtime.run(each, inputs).values())) for each in (model, absorbed)]
    assert np.allclose(*runs, rtol=1e-5, atol=1e-5)


def test_errors_follow_what_a_block_is_worth_and_the_cheapest_goes_first() -> None:
    dense, calibration = three(), data()
    trials = try_blocks(dense.graph, dense.batch, calibration)
    errors = [trial.error for trial in trials]
    assert errors[1] < errors[2] < errors[0]
    whole = sum(b.macs for b in find_blocks(dense.graph)) // dense.batch
    judged = joint_error(dense.graph, calibration)
    taken = choose_blocks(trials, 2, None, whole, dense.batch, judged)
    assert [t.block.tensor for t in taken] == ["block1_b", "block2_b"]
    some = choose_blocks(trials, None, 0.6, whole, dense.batch, judged)
    assert [t.block.tensor for t in some] == ["block1_b", "block2_b"]
    assert not choose_blocks(trials, None, 1.0, whole, dense.batch, judged)


def test_an_error_is_that_of_the_model_without_the_block() -> None:
    dense, calibration = three(), data()
    trial = try_blocks(dense.graph, dense.batch, calibration)[2]
    model, _ = drop_blocks(dense.graph, [(trial.block, trial.mean)])
    pairs = [
        [next(iter(runtime.run(each, feed).values())) for each in (dense.graph.model, model)]
        for feed in calibration.held_out
    ]
    before, after = (np.concatenate([pair[k] for pair in pairs]) for k in (0, 1))
    expected = ((before - after) ** 2).sum() / ((before - before.mean(0)) ** 2).sum()
    assert trial.error == pytest.approx(expected, rel=1e-3)


def test_measured_milliseconds_decide_where_they_are_given() -> None:
    dense, calibration = three(), data()
    saved = {"block0_b": 1e6, "block1_b": 1e-9, "block2_b": 1.0}

    def timing(models: object) -> dict[str, float]:
        assert isinstance(models, dict)
        assert all(isinstance(model, Model) for model in models.values())
        return saved

    trials = try_blocks(dense.graph, dense.batch, calibration, timing)
    assert [t.unit for t in trials] == ["ms"] * 3
    judged = joint_error(dense.graph, calibration)
    (first,) = choose_blocks(trials, 1, None, 10**9, dense.batch, judged)
    assert first.block.tensor == "block0_b"


def test_no_block_goes_with_one_inside_it() -> None:
    net = Net()
    x = net.add("Relu", net.first())
    inner = block(net, net.conv(x, WIDTH, WIDTH, name="enter"), "inner", 0.1)
    net.last(net.add("Add", x, net.conv(inner, WIDTH, WIDTH, name="leave")))
    dense = dense_of(net)
    trials = try_blocks(dense.graph, dense.batch, data())
    assert len(trials) == 2
    judged = joint_error(dense.graph, data())
    assert len(choose_blocks(trials, 2, None, 10**9, dense.batch, judged)) == 1


def mixer(kind: str) -> Net:
    """Blocks on [N, WIDTH, T]: channels are axis 1, T is open."""
    net = Net()
    x = net.input("N", WIDTH, "T")
    for _ in range(2):
        y = net.add("MatMul", net.random(WIDTH, WIDTH), x)
        if kind == "transposed":
            y = net.add("MatMul", net.add("Transpose", x, perm=[0, 2, 1]), net.random(WIDTH, WIDTH))
            y = net.add("Transpose", y, perm=[0, 2, 1])
        elif kind == "joined":
            first, second = net.many("Split", y, outputs=2, axis=1)
            y = net.add("Concat", second, first, axis=1)
        x = net.add("Add", x, y)
    net.output(x)
    return net


@pytest.mark.parametrize(("kind", "axis"), [("left", 1), ("transposed", 1), ("joined", None)])
def test_a_mean_has_no_open_axis(kind: str, axis: int | None) -> None:
    net = mixer(kind)
    blocks = find_blocks(dense_of(net).graph)
    assert [each.axis for each in blocks] == [axis, axis]
    draw = np.random.default_rng(0).standard_normal((64, WIDTH, 16)).astype(np.float32)
    model = net.proto()
    result = prunecvt.trim(model, calib={"x": draw}, blocks=1)
    assert result.report.trim is not None
    assert sum(row.dropped for row in result.report.trim.blocks) == 1
    feed = {"x": draw[:2, :, :5]}
    (found,) = runtime.run(Model.from_proto(result.model), feed).values()
    assert found.shape == (2, WIDTH, 5)


def test_the_mean_of_all_stands_for_a_branch_without_channels() -> None:
    dense = dense_of(mixer("joined"))
    blocks = find_blocks(dense.graph)[:1]
    feeds = [{"x": np.full((1, WIDTH, 3), number, np.float32)} for number in (1, 2)]
    shown = dense.graph.model.copy()
    shown.proto.graph.output.add(name=blocks[0].tensor)
    made = [runtime.run(shown, feed)[blocks[0].tensor] for feed in feeds]
    (found,) = means(dense.graph, blocks, feeds)
    assert found == pytest.approx([np.concatenate(made).mean()], rel=1e-5)


def test_what_is_left_is_judged_without_what_went() -> None:
    """The last branch undoes the first: the two cheapest alone are not the cheapest pair."""
    net = Net()
    x = net.first()
    first = net.conv(x, WIDTH, WIDTH, 1, name="first_branch", bias=False)
    x = net.add("Add", x, first)
    middle = net.conv(x, WIDTH, WIDTH, 1, name="middle_branch")
    for place in (1, 2):
        own = weight_name(net, middle, place)
        net.weights[own] = (net.weights[own] * 0.9).astype(np.float32)
    x = net.add("Add", x, middle)
    last = net.conv(x, WIDTH, WIDTH, 1, name="last_branch", bias=False)
    net.weights[weight_name(net, last)] = -net.weights[weight_name(net, first)]
    net.last(net.add("Add", x, last))
    dense, calibration = dense_of(net), data()
    trials = try_blocks(dense.graph, dense.batch, calibration)
    judged = joint_error(dense.graph, calibration)
    taken = choose_blocks(trials, 2, None, 10**9, dense.batch, judged)
    tensors = [each.block.tensor for each in taken]
    cheapest = min(trials, key=lambda each: each.error)
    assert cheapest.block.tensor in tensors
    pairs = {each.block.tensor: judged([cheapest], each) for each in trials if each is not cheapest}
    (other,) = [each for each in taken if each.block.tensor != cheapest.block.tensor]
    assert other.block.tensor == min(pairs, key=lambda name: pairs[name])
    assert other.together == pairs[other.block.tensor]
    alone = sorted(trials, key=lambda each: each.error)[:2]
    assert {each.block.tensor for each in alone} != set(tensors)
