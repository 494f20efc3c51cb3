"""Clean-ups before writing: each rule gives the same as before, or leaves things as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from models import WIDTH, Net
from prunecvt_passes import oracle, runtime
from prunecvt_passes.model import Model
from prunecvt_passes.normalise import Source, normalise
from prunecvt_passes.rewriting.rewrite import Cleaning, Rewritten, rewrite
from prunecvt_passes.samples import random_inputs

END = np.iinfo(np.int64).max
Build = Callable[[Net], Any]


def rewritten(build: Build, opset: int = 17, **cleaning: Any) -> Rewritten:
    """Builds, cleans up, and asserts that the outputs are the same."""
    net = Net(opset)
    build(net)
    dense = normalise(Source(Model.from_proto(net.proto())))
    model = dense.graph.model
    before = model.proto.SerializeToString(deterministic=True)
    found = rewrite(dense, model, Cleaning(**cleaning))
    assert model.proto.SerializeToString(deterministic=True) == before
    for seed in range(2):
        inputs = random_inputs(model, dense.sizes, seed)
        gap = oracle.difference(runtime.run(model, inputs), runtime.run(found.model, inputs))
        assert gap.relative < 2e-6
    assert found.changed == any(each.nodes for each in found.done)
    return found


def operators(found: Rewritten) -> list[str]:
    return [node.op_type for node in found.model.proto.graph.node]


def slice_(net: Net, x: str, **bounds: tuple[int, ...]) -> str:
    """Slice as the operator set wants it: by attributes, or by inputs."""
    names = ("starts", "ends", "axes", "steps")
    if net.opset < 10:
        return net.add("Slice", x, **{k: bounds[k] for k in names if k in bounds})
    values = [np.array(bounds[k], np.int64) if k in bounds else None for k in names]
    while values[-1] is None:
        values.pop()
    return net.add("Slice", x, *values)


def pad(net: Net, x: str, pads: list[int], value: float | None = None, **attrs: Any) -> str:
    if net.opset < 11:
        return net.add("Pad", x, pads=pads, value=value or 0.0, **attrs)
    filling = () if value is None else (np.array(value, np.float32),)
    return net.add("Pad", x, np.array(pads, np.int64), *filling, **attrs)


def shortcut(net: Net, channels: int = WIDTH, extra: int = 4, batch: Any = "N") -> str:
    """A residual block that halves the image and doubles the channels, with zeros beside them."""
    x = net.add("Relu", net.first(channels, batch))
    wide = channels + 2 * extra
    y = net.conv(x, channels, wide, 3, strides=[2, 2])
    y = net.conv(net.add("Relu", y), wide, wide, 3)
    z = slice_(net, x, starts=(0,), ends=(END,), axes=(2,), steps=(2,))
    z = slice_(net, z, starts=(0,), ends=(END,), axes=(3,), steps=(2,))
    z = pad(net, z, [0, extra, 0, 0, 0, extra, 0, 0], 0.0)
    return net.last(net.add("Relu", net.add("Add", y, z)), wide)


def test_shortcut_becomes_a_convolution() -> None:
    found = rewritten(shortcut)
    assert operators(found).count("Conv") == 5
    assert not {"Slice", "Pad"} & set(operators(found))
    assert [each.rule for each in found.done] == ["merged into one node", "made a convolution"]
    weight = next(v for n, v in found.model.weights.items() if n.endswith("__selection"))
    assert weight.shape == (16, 8, 1, 1)
    assert np.array_equal(weight[4:12, :, 0, 0], np.eye(8))
    assert weight.sum() == 8


@pytest.mark.parametrize("side", [5, 6])
def test_shortcut_of_open_and_odd_sizes(side: int) -> None:
    def build(net: Net) -> str:
        x = net.conv(net.input("N", 3, "H", side), 3, 8, 3)
        y = net.conv(x, 8, 12, 3, strides=[2, 2])
        z = slice_(net, x, starts=(0, 0), ends=(END, END), axes=(-2, -1), steps=(2, 2))
        return net.last(net.add("Add", pad(net, z, [0, 0, 0, 0, 0, 4, 0, 0]), y), 12)

    assert "Pad" not in operators(rewritten(build))


def test_shortcut_of_the_operator_set_with_attributes() -> None:
    def build(net: Net) -> str:
        x = net.first()
        y = net.conv(x, 8, 12, 3)
        return net.last(net.add("Add", y, pad(net, x, [0, 2, 0, 0, 0, 2, 0, 0])), 12)

    assert "Pad" not in operators(rewritten(build, 9))


def test_shortcut_with_axes_of_pad() -> None:
    def build(net: Net) -> str:
        x = net.first()
        y = net.conv(x, 8, 12, 3)
        z = net.add("Pad", x, np.array([2, 2]), None, np.array([-3]))
        return net.last(net.add("Add", y, z), 12)

    assert "Pad" not in operators(rewritten(build, 18))


def test_wide_shortcut_stays_and_says_why() -> None:
    found = rewritten(lambda net: shortcut(net, 40))
    assert operators(found).count("Pad") == 1
    assert "of 40 channels it is no slower" in found.done[-1].left[0]


def test_nothing_is_added_where_weights_are_counted() -> None:
    found = rewritten(shortcut, grow=False)
    assert operators(found).count("Pad") == 1
    assert operators(found).count("Slice") == 1  # of two
    assert "the target counts" in found.done[-1].left[0]


def test_none_leaves_everything() -> None:
    found = rewritten(shortcut, mode="none")
    assert not found.changed
    assert found.done == ()


def between(net: Net, change: Callable[[Net, str], str]) -> str:
    """A Pad of what ``change`` makes of a convolution's 8 channels, added to another one's 12."""
    x = net.first()
    y = net.conv(x, 8, 12, 3)
    return net.last(net.add("Add", y, change(net, x)), 12)


def pad_by_ones(net: Net, x: str) -> str:
    return pad(net, x, [0, 2, 0, 0, 0, 2, 0, 0], 1.0)


def pad_by_edge(net: Net, x: str) -> str:
    return pad(net, x, [0, 2, 0, 0, 0, 2, 0, 0], mode="edge")


def pad_negative(net: Net, x: str) -> str:
    return pad(net, x, [0, -2, 0, 0, 0, 6, 0, 0])


def pad_by_an_input(net: Net, x: str) -> str:
    amount = net.add("Mul", net.add("Cast", net.add("ReduceMax", x, keepdims=0), to=7), np.array(0))
    value = net.add("Cast", amount, to=TensorProto.FLOAT)
    return net.add("Pad", x, np.array([0, 2, 0, 0, 0, 2, 0, 0]), value)


def pad_read_twice(net: Net, x: str) -> str:
    z = pad(net, x, [0, 2, 0, 0, 0, 2, 0, 0])
    return net.add("Mul", z, net.add("Sigmoid", z))


def pad_read_by_a_pool(net: Net, x: str) -> str:
    z = pad(net, x, [0, 2, 0, 0, 0, 2, 0, 0])
    return net.add("AveragePool", z, kernel_shape=[1, 1])


def pixels_backwards(net: Net, x: str) -> str:
    z = slice_(net, x, starts=(-1,), ends=(-END,), axes=(2,), steps=(-1,))
    return pad(net, z, [0, 2, 0, 0, 0, 2, 0, 0])


def pixels_from_the_second(net: Net, x: str) -> str:
    z = slice_(net, x, starts=(1,), ends=(END,), axes=(2,), steps=(1,))
    return pad(net, z, [0, 2, 1, 0, 0, 2, 0, 0])


@pytest.mark.parametrize(
    "change",
    [
        pad_by_ones,
        pad_by_edge,
        pad_negative,
        pad_by_an_input,
        pad_read_twice,
        pad_read_by_a_pool,
        pixels_backwards,
        pixels_from_the_second,
    ],
)
def test_what_is_no_shortcut_stays(change: Callable[[Net, str], str]) -> None:
    found = rewritten(lambda net: between(net, change))
    assert not found.changed
    assert "Pad" in operators(found)


def test_shortcut_in_half_precision_stays() -> None:
    def build(net: Net) -> str:
        net.dtype = np.dtype(np.float16)
        return between(net, lambda net, x: pad(net, x, [0, 2, 0, 0, 0, 2, 0, 0]))

    net = Net()
    build(net)
    dense = normalise(Source(Model.from_proto(net.proto())))
    found = rewrite(dense, dense.graph.model, Cleaning())
    assert not found.changed
    assert "no float32 image" in found.done[0].left[0]


def through(*steps: Callable[[Net, str], str]) -> Build:
    """A convolution, the steps, and a convolution of as many channels as they leave."""

    def build(net: Net) -> None:
        x = net.first()
        for step in steps:
            x = step(net, x)
        net.output(net.add("Mul", x, np.float32(2)), shape=[None] * 4)

    return build


def gather(indices: list[int], axis: int = 1) -> Callable[[Net, str], str]:
    return lambda net, x: net.add("Gather", x, np.array(indices), axis=axis)


def cut(start: int, end: int, step: int = 1, axis: int = 1) -> Callable[[Net, str], str]:
    return lambda net, x: slice_(net, x, starts=(start,), ends=(end,), axes=(axis,), steps=(step,))


def op(name: str, **attrs: Any) -> Callable[[Net, str], str]:
    return lambda net, x: net.add(name, x, **attrs)


REVERSED = list(range(WIDTH))[::-1]


@pytest.mark.parametrize(
    "steps",
    [
        (cut(0, END),),
        (gather(list(range(WIDTH))),),
        (gather([k - WIDTH for k in range(WIDTH)]),),
        (op("MaxPool", kernel_shape=[1, 1]), gather(REVERSED), gather(REVERSED)),
        (cut(0, END, axis=0), cut(0, 2**31, axis=2)),
        (lambda net, x: pad(net, x, [0] * 8),),
        (lambda net, x: pad(net, x, [0, 2, 0, 0, 0, 0, 0, 0]), cut(2, END)),
    ],
)
def test_what_does_nothing_is_dropped(steps: tuple[Callable[[Net, str], str], ...]) -> None:
    found = rewritten(through(*steps))
    assert not {"Slice", "Gather", "Pad"} & set(operators(found))
    assert found.done[0].rule == "dropped, for it did nothing"


def test_an_output_keeps_its_name() -> None:
    found = rewritten(lambda net: net.output(cut(0, END)(net, net.first()), shape=[None] * 4))
    assert operators(found) == ["Conv"]
    found = rewritten(lambda net: net.output(cut(0, END)(net, net.input("N", 8, 6, 6))))
    assert operators(found) == ["Slice"]
    assert "it makes an output" in found.done[0].left[0]


@pytest.mark.parametrize(
    ("steps", "left"),
    [
        ((cut(1, END, 2, 2), cut(0, 2, 1, 3)), "Slice"),
        ((cut(-1, -END, -1, 2), cut(1, 4, 1, 2)), "Slice"),
        ((gather([5, 1, 1, 0], 2), gather([2, 0, 0], 2)), "Gather"),
        ((cut(1, 5, 1, 2), gather([2, 2, 0], 2)), "Gather"),
    ],
)
def test_several_become_one(steps: tuple[Callable[[Net, str], str], ...], left: str) -> None:
    found = rewritten(through(*steps))
    assert [n for n in operators(found) if n in ("Slice", "Gather")] == [left]
    assert found.done[0].rule == "merged into one node"


@pytest.mark.parametrize("opset", [9, 17])
def test_slices_of_two_axes_become_one(opset: int) -> None:
    def build(net: Net) -> None:
        x = slice_(net, net.first(), starts=(1,), ends=(END,), axes=(2,))
        x = slice_(net, x, starts=(0,), ends=(-2,), axes=(3,))
        net.output(net.add("Mul", x, np.full(1, 2, np.float32)), shape=[None] * 4)

    found = rewritten(build, opset)
    assert operators(found).count("Slice") == 1
    assert found.done == (found.done[0],)
    assert found.done[0].left == ()


def test_two_kinds_on_two_axes_stay() -> None:
    found = rewritten(through(gather([3, 0, 0], 2), gather([1, 1, 4], 3)))
    assert operators(found).count("Gather") == 2
    assert "no one node" in found.done[0].left[0]
