"""Branches that always make the same are computed no more."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from models import WIDTH, Net
from prunecvt_passes import runtime
from trim_cases import cleaned, operators, weight_name, zero


def branch(net: Net, x: str) -> str:
    y = net.conv(x, WIDTH, WIDTH, 3, name="inner")
    return net.conv(net.add("Relu", y), WIDTH, WIDTH, 3, name="outer")


def scaled(net: Net, x: str) -> str:
    return net.add("Mul", branch(net, x), np.float32(0), name="dead")


def scaled_by_channel(net: Net, x: str) -> str:
    return net.add("Mul", np.zeros((1, WIDTH, 1, 1), np.float32), branch(net, x), name="dead")


def scaled_within(net: Net, x: str) -> str:
    y = net.add("Mul", net.conv(x, WIDTH, WIDTH, 3), np.zeros((), np.float32))
    return net.conv(y, WIDTH, WIDTH, 1, bias=False, name="outer")


def last_of_zeros(net: Net, x: str) -> str:
    y = branch(net, x)
    zero(net, weight_name(net, "outer"), slice(None))
    zero(net, weight_name(net, "outer", 2), slice(None))
    return y


def norm_of_zeros(net: Net, x: str) -> str:
    y = net.norm(branch(net, x), WIDTH)
    for place in (1, 2):
        zero(net, weight_name(net, y, place), slice(None))
    return y


DEAD = [scaled, scaled_by_channel, scaled_within, last_of_zeros, norm_of_zeros]


@pytest.mark.parametrize("dead", DEAD, ids=lambda f: f.__name__)
def test_dead_branches_go_and_their_sums(dead: Callable[[Net, str], str]) -> None:
    net = Net()
    x = net.add("Relu", net.first())
    net.last(net.add("Relu", net.add("Add", x, dead(net, x))))
    found = cleaned(net)
    assert operators(found) == ["Conv", "Relu", "Conv"]
    assert len(found.dropped) == 1
    assert found.dropped[0].zero


def test_a_constant_branch_goes_into_the_bias_before_the_sum() -> None:
    net = Net()
    x = net.conv(net.input("N", 3, 6, 6), 3, WIDTH, 3, name="first")
    y = net.norm(branch(net, net.input("N", WIDTH, 6, 6, name="z")), WIDTH)
    zero(net, weight_name(net, y), slice(None))
    net.last(net.add("Relu", net.add("Add", x, y)))
    found = cleaned(net)
    assert operators(found) == ["Conv", "Relu", "Conv"]
    assert not found.dropped[0].zero


def test_a_constant_that_no_bias_takes_is_added() -> None:
    net = Net()
    x = net.add("Relu", net.first())
    y = branch(net, x)
    zero(net, weight_name(net, "outer"), slice(None))
    net.last(net.add("Relu", net.add("Add", x, y)))
    assert operators(cleaned(net)) == ["Conv", "Relu", "Add", "Relu", "Conv"]


def test_a_gate_that_always_opens_alike_is_a_constant() -> None:
    net = Net()
    x = net.add("Relu", net.first())
    gate = net.conv(net.add("GlobalAveragePool", x), WIDTH, WIDTH, name="gate")
    zero(net, weight_name(net, "gate"), slice(None))
    net.last(net.add("Mul", x, net.add("Sigmoid", gate)))
    assert operators(cleaned(net)) == ["Conv", "Relu", "Mul", "Conv"]


def test_a_factor_that_is_not_zero_stays() -> None:
    net = Net()
    x = net.add("Relu", net.first())
    scaled = net.add("Mul", branch(net, x), np.float32(1e-30))
    net.last(net.add("Add", x, scaled))
    assert not cleaned(net).dropped


def test_channels_of_a_branch_scaled_by_zeros_and_ones() -> None:
    """A branch of which some channels are scaled to zero loses the filters that made them."""
    net = Net()
    x = net.add("Relu", net.first())
    factors = np.ones((1, WIDTH, 1, 1), np.float32)
    factors[0, [2, 3, 5]] = 0
    y = net.add("Mul", net.conv(x, WIDTH, WIDTH, 3, name="inner"), factors)
    net.last(net.conv(y, WIDTH, WIDTH, 3, name="outer"))
    inner = next(p for p in cleaned(net).model.proto.graph.node if "inner" in p.output)
    assert len(inner.input) == 3
    found = cleaned(net)
    assert found.model.weights[inner.input[1]].shape[0] == WIDTH - 3


@pytest.mark.parametrize("operator", ["CastLike", "PRelu"])
def test_a_first_operand_that_gives_the_shape_stays(operator: str) -> None:
    """Its constant would be of one element, and so would what comes out."""
    net = Net()
    x = net.input("N", 4)
    zeros = net.add("Mul", net.add("Relu", x), np.zeros(1, np.float32))
    made = net.output(net.add(operator, zeros, net.add("Sigmoid", x)))
    found = cleaned(net)
    fed = {"x": np.ones((5, 4), np.float32)}
    assert runtime.run(found.model, fed)[made].shape == (5, 4)


@pytest.mark.parametrize(("name", "dropped"), [("N", 1), ("M", 0)])
def test_a_summand_of_another_open_axis_gives_the_shape(name: str, dropped: int) -> None:
    """A batch of another name may be 1 where this one is not, and the sum has this one's."""
    net = Net()
    zeros = net.add("Mul", net.input("N", 4), np.zeros(1, np.float32))
    total = net.add("Add", zeros, net.add("Relu", net.input(name, 4, name="y")))
    net.output(total)
    found = cleaned(net)
    assert len(found.dropped) == dropped
    rows = 5 if name == "N" else 1
    fed = {"x": np.ones((5, 4), np.float32), "y": np.ones((rows, 4), np.float32)}
    assert runtime.run(found.model, fed)[total].shape == (5, 4)
