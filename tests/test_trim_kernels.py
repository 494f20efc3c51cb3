"""Kernels with borders of zeros: cropped exactly, and kept where padding would be below zero."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from models import Net
from prunecvt_passes.trim.exact import Cleaned
from trim_cases import cleaned, weight_name


def crop(net: Net, tensor: str, before: int, after: int, axis: int = 2) -> None:
    """Zeroes taps at the borders of a kernel."""
    name = weight_name(net, tensor)
    values = net.weights[name].copy()
    inside = [slice(None)] * values.ndim
    kept = np.zeros_like(values)
    inside[axis] = slice(before, values.shape[axis] - after)
    kept[tuple(inside)] = values[tuple(inside)]
    net.weights[name] = kept


def kernel(found: Cleaned, tensor: str) -> tuple[int, ...]:
    node = next(n for n in found.model.proto.graph.node if tensor in n.output)
    return tuple(found.model.weights[node.input[1]].shape[2:])


SIZES = [3, 4, 5, 7]
GRID = [
    (size, stride, dilation, pads)
    for size, stride, dilation, pads in itertools.product(
        SIZES, (1, 2, 3), (1, 2), ((0, 0), (1, 0), (1, 1), (2, 1), (3, 4))
    )
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("operator", ["Conv", "ConvTranspose"])
def test_the_grid_of_strides_dilations_and_pads(operator: str, size: int) -> None:
    """Every combination as a layer of its own, all outputs of one graph."""
    net = Net()
    x = net.input("N", 4, 16, 19)
    expected = {}
    for number, (_, stride, dilation, (first, last)) in enumerate(g for g in GRID if g[0] == size):
        before, after = min(number % 2 + 1, size - 2), (number // 2) % 2
        name = f"y{number}"
        settings: dict[str, Any] = {
            "strides": [stride, 1],
            "dilations": [dilation, 1],
            "pads": [first, 1, last, 1],
        }
        net.output(net.add(operator, x, net.random(4, 4, size, 3), name=name, **settings))
        crop(net, name, before, after)
        gone = min(before, first // dilation) + min(after, last // dilation)
        expected[name] = (size - gone, 3)
    found = cleaned(net)
    assert {name: kernel(found, name) for name in expected} == expected
    assert {size for size, _ in expected.values()} != {size}  # some were cropped
    reasons = {cut.tensor: bool(cut.reason) for cut in found.kernels}
    assert any(reasons.values())
    assert not all(reasons.values())


@pytest.mark.parametrize(
    ("way", "stride", "after"),
    [("SAME_UPPER", 1, 3), ("SAME_LOWER", 1, 3), ("SAME_UPPER", 2, 3), ("VALID", 1, 5)],
)
def test_auto_pad(way: str, stride: int, after: int) -> None:
    net = Net()
    y = net.add(
        "Conv",
        net.input("N", 3, 15, 15),
        net.random(4, 3, 5, 5),
        name="y",
        auto_pad=way,
        strides=[stride, stride],
    )
    net.output(y)
    crop(net, "y", 1, 1)
    found = cleaned(net)
    assert kernel(found, "y") == (after, 5)


def test_auto_pad_that_follows_from_an_open_size_stays() -> None:
    net = Net()
    x = net.input("N", 3, "h", "w")
    net.output(
        net.add("Conv", x, net.random(4, 3, 3, 3), name="y", auto_pad="SAME_UPPER", strides=[2, 2])
    )
    crop(net, "y", 1, 0)
    found = cleaned(net)
    assert kernel(found, "y") == (3, 3)
    assert "follows from the size" in found.kernels[0].reason


@pytest.mark.parametrize("group", [1, 2, 4])
def test_depthwise_grouped_and_three_by_three_to_one(group: int) -> None:
    net = Net()
    net.output(net.conv(net.input("N", 4, 9, 9), 4, 8, 3, group=group, name="y"))
    crop(net, "y", 1, 1)
    crop(net, "y", 1, 1, axis=3)
    assert kernel(cleaned(net), "y") == (1, 1)


@pytest.mark.parametrize("rank", [1, 3])
def test_other_ranks(rank: int) -> None:
    net = Net()
    net.output(net.conv(net.input("N", 4, *[9] * rank), 4, 8, 5, rank=rank, name="y"))
    crop(net, "y", 2, 1)
    assert kernel(cleaned(net), "y") == (2, *[5] * (rank - 1))


def test_a_kernel_of_zeros_keeps_a_tap() -> None:
    net = Net()
    net.output(net.conv(net.input("N", 4, 9, 9), 4, 8, 5, name="y"))
    crop(net, "y", 5, 0)
    assert kernel(cleaned(net), "y") == (1, 5) or kernel(cleaned(net), "y") == (1, 1)


def test_a_filter_that_another_node_reads_whole_stays_its_own() -> None:
    net = Net()
    x = net.input("N", 4, 9, 9)
    weight = net.random(4, 4, 3, 3)
    net.output(net.add("Conv", x, weight, name="y", pads=[1, 1, 1, 1]))
    net.output(net.add("Conv", x, weight, name="z"))
    crop(net, "y", 1, 1)
    found = cleaned(net)
    assert (kernel(found, "y"), kernel(found, "z")) == ((1, 3), (3, 3))


def test_a_transposed_convolution_that_states_its_output_stays() -> None:
    net = Net()
    net.output(
        net.add(
            "ConvTranspose",
            net.input("N", 4, 9, 9),
            net.random(4, 4, 4, 4),
            name="y",
            strides=[2, 2],
            output_shape=[18, 18],
        )
    )
    crop(net, "y", 1, 1)
    found = cleaned(net)
    assert kernel(found, "y") == (4, 4)
    assert "states the shape" in found.kernels[0].reason


def test_cropped_padding_lets_a_constant_into_the_reader() -> None:
    net = Net()
    x = net.add("Relu", net.first())
    net.output(net.conv(x, 8, 4, 3, name="last"))
    values = net.weights[weight_name(net, "first")].copy()
    values[3] = 0
    net.weights[weight_name(net, "first")] = values
    net.weights[weight_name(net, "first", 2)] = np.abs(net.weights[weight_name(net, "first", 2)])
    crop(net, "last", 1, 1)
    crop(net, "last", 1, 1, axis=3)
    found = cleaned(net)
    assert kernel(found, "last") == (1, 1)
    assert found.constant == 1
