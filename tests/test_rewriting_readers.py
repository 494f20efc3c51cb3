"""Clean-ups before writing: picked channels that the weights after them take over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from models import Net
from test_rewriting import gather, operators, pad, rewritten

FLIP = gather([2, 1, 0])
Build = Callable[[Net], Any]


def image(net: Net) -> str:
    return net.input("N", 3, 6, 6)


def flipped(net: Net) -> str:
    return net.last(FLIP(net, image(net)), 3)


def flipped_and_normalised(net: Net) -> str:
    x = net.add("Sub", FLIP(net, image(net)), net.random(3, 1, 1))
    x = net.add("Div", x, net.positive(3, 1, 1))
    return net.last(net.add("Mul", x, np.float32(3)), 3)


def subtracted_from(net: Net) -> str:
    return net.last(net.add("Sub", net.random(1, 3, 1, 1), FLIP(net, image(net))), 3)


def beside_rows(net: Net) -> str:
    """A constant along another axis, which stays."""
    return net.last(net.add("Add", FLIP(net, image(net)), net.random(6, 6)), 3)


def behind_a_function(net: Net) -> str:
    return net.last(net.add("Sigmoid", FLIP(net, image(net))), 3)


def two_readers(net: Net) -> str:
    x = net.add("Relu", FLIP(net, image(net)))
    return net.last(net.add("Add", net.conv(x, 3, 4, 3), net.conv(x, 3, 4)), 4)


def transposed(net: Net) -> str:
    x = net.add("ConvTranspose", FLIP(net, image(net)), net.random(3, 4, 2, 2))
    return net.output(x, shape=[None] * 4)


def zeros_beside(net: Net) -> str:
    return net.last(pad(net, image(net), [0, 1, 0, 0, 0, 4, 0, 0]), 8)


def zeros_in_order(net: Net) -> str:
    x = pad(net, image(net), [0, 0, 0, 0, 0, 1, 0, 0])
    return net.last(gather([3, 1, 0, 2])(net, x), 4)


def features(net: Net) -> str:
    x = gather([1, 3, 0, 2])(net, net.input("N", 4))
    return net.output(net.add("Gemm", x, net.random(2, 4), net.random(2), transB=1))


@pytest.mark.parametrize(
    "build",
    [
        flipped,
        flipped_and_normalised,
        subtracted_from,
        beside_rows,
        behind_a_function,
        two_readers,
        transposed,
        zeros_beside,
        zeros_in_order,
        features,
    ],
)
def test_readers_take_channels_from_where_they_come(build: Build) -> None:
    found = rewritten(build)
    assert not {"Gather", "Pad"} & set(operators(found))
    assert [each.rule for each in found.done] == ["folded into the weights after it"]


def test_zeros_are_read_no_more() -> None:
    found = rewritten(zeros_beside)
    assert [v.shape for n, v in found.model.weights.items() if v.ndim == 4] == [(4, 3, 1, 1)]


def also_an_output(net: Net) -> str:
    x = net.output(FLIP(net, image(net)), shape=[None] * 4)
    return net.last(x, 3)


def also_pooled(net: Net) -> str:
    x = FLIP(net, image(net))
    net.output(net.add("GlobalMaxPool", x), shape=[None] * 4)
    return net.last(x, 3)


def function_is_an_output(net: Net) -> str:
    x = net.output(net.add("Relu", FLIP(net, image(net))), shape=[None] * 4)
    return net.last(x, 3)


def depthwise(net: Net) -> str:
    return net.last(net.conv(FLIP(net, image(net)), 3, 3, 3, group=3), 3)


def shared_weight(net: Net) -> str:
    weight, x = net.random(4, 3, 1, 1), image(net)
    one, other = net.add("Conv", FLIP(net, x), weight), net.add("Conv", x, weight)
    return net.output(net.add("Add", one, other), shape=[None] * 4)


def shared_constant(net: Net) -> str:
    scale, x = net.positive(3, 2, 1), image(net)
    scale = net.add("ReduceMax", scale, axes=[1])
    one = net.add("Mul", FLIP(net, x), scale)
    return net.last(net.add("Add", net.conv(one, 3, 3), net.add("Mul", x, scale)), 3)


def some_are_left_out(net: Net) -> str:
    return net.last(gather([2, 0])(net, image(net)), 2)


def some_come_twice(net: Net) -> str:
    return net.last(gather([2, 0, 0, 1])(net, image(net)), 4)


def zeros_that_become_ones(net: Net) -> str:
    x = pad(net, image(net), [0, 0, 0, 0, 0, 1, 0, 0])
    return net.last(net.add("Exp", x), 4)


def other_pixels(net: Net) -> str:
    return net.last(gather([3, 0, 0], 2)(net, FLIP(net, image(net))), 3)


def pixels_alone(net: Net) -> str:
    return net.last(gather([3, 0, 0], 2)(net, net.add("Relu", image(net))), 3)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (also_an_output, "makes an output"),
        (also_pooled, "GlobalMaxPool"),
        (function_is_an_output, "makes an output"),
        (depthwise, "works in groups of channels"),
        (shared_weight, "shares its weight"),
        (some_are_left_out, "would have to read more"),
        (some_come_twice, "would have to read more"),
        (zeros_that_become_ones, ""),
        (other_pixels, "no one node"),
        (pixels_alone, ""),
    ],
)
def test_what_the_weights_after_cannot_do_stays(build: Build, reason: str) -> None:
    """With the reason, where weights after it read these channels at all."""
    found = rewritten(build)
    assert not found.changed
    assert {"Gather", "Pad"} & set(operators(found))
    left = [each for row in found.done for each in row.left]
    assert reason in "".join(left)
    assert len(left) == bool(reason)
