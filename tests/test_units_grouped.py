"""Grouped convolutions lose whole groups where that is the unit, with all that belongs to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models import Net, Outcome, Rows, check_row
from prunecvt_passes.plan import write_down
from prunecvt_passes.units import Units

row, by_channel = Rows(), Rows()
WHOLE = {"units": Units(grouped="group")}


def transposed(net: Net, x: str, inputs: int, outputs: int, group: int) -> str:
    weight = net.random(inputs, outputs // group, 2, 2)
    bias = net.random(outputs)
    return net.add("ConvTranspose", x, weight, bias, name="up", group=group, strides=[2, 2])


def normalised_by_groups(net: Net, x: str, groups: int, channels: int) -> str:
    """As exporters write GroupNorm."""
    ones, zeros = np.ones(groups, np.float32), np.zeros(groups, np.float32)
    y = net.add("Reshape", x, np.array([0, groups, -1]))
    y = net.add("InstanceNormalization", y, ones, zeros)
    y = net.add("Reshape", y, net.add("Shape", x))
    scale, shift = net.random(channels, 1, 1), net.random(channels, 1, 1)
    return net.add("Add", net.add("Mul", y, scale), shift)


def shuffled(net: Net, x: str, groups: int, channels: int) -> str:
    y = net.add("Reshape", x, np.array([0, groups, channels // groups, 6, 6]))
    y = net.add("Transpose", y, perm=[0, 2, 1, 3, 4])
    return net.add("Reshape", y, np.array([0, channels, 6, 6]))


@row({"first": 4, "second": 6}, **WHOLE)
def whole_groups(net: Net) -> None:
    net.last(net.conv(net.first(), 8, 12, 3, group=4, name="second"), 12)


@row({"first": 3, "second": 4}, **WHOLE)
def one_group_of_three(net: Net) -> None:
    net.last(net.conv(net.first(9), 9, 12, 3, group=3, name="second", bias=False), 12)


@row({"first": 4, "second": 2}, **WHOLE)
def one_output_per_group(net: Net) -> None:
    net.last(net.conv(net.first(), 8, 4, 3, group=4, name="second"), 4)


@row({"first": 4, "second": 8}, **WHOLE)
def one_input_per_group_is_depthwise(net: Net) -> None:
    net.last(net.conv(net.first(), 8, 16, 3, group=8, name="second"), 16)


@row({"first": 4, "second": 4, "third": 4}, **WHOLE)
def groups_within_groups(net: Net) -> None:
    x = net.conv(net.first(), 8, 8, 3, group=4, name="second")
    net.last(net.conv(x, 8, 8, 3, group=2, name="third"))


@row({}, {"second": "fixed-output"}, **WHOLE)
def groups_of_the_input(net: Net) -> None:
    net.last(net.conv(net.input("N", 4, 6, 6), 4, 8, 3, group=2, name="second"))


@row({}, {"second": "graph-output", "first": "graph-output"}, **WHOLE)
def groups_of_the_output(net: Net) -> None:
    net.output(net.conv(net.first(), 8, 8, 3, group=2, name="second"))


@row({"first": 4, "second": 4, "third": 4}, **WHOLE)
def two_that_share_a_weight(net: Net) -> None:
    weight = net.random(8, 2, 1, 1)
    x = net.add("Conv", net.first(), weight, name="second", group=4)
    net.last(net.add("Conv", net.add("Relu", x), weight, name="third", group=4))


@row({"first": 4, "up": 6}, **WHOLE)
def transposed_groups(net: Net) -> None:
    net.last(transposed(net, net.first(), 8, 12, 4), 12)


@row({"first": 4, "up": 2}, **WHOLE)
def transposed_with_one_output_per_group(net: Net) -> None:
    net.last(transposed(net, net.first(), 8, 4, 4), 4)


@row({"first": 4, "up": 8}, **WHOLE)
def transposed_depthwise(net: Net) -> None:
    net.last(transposed(net, net.first(), 8, 16, 8), 16)


@row({}, {"up": "fixed-output"}, **WHOLE)
def transposed_groups_of_the_input(net: Net) -> None:
    net.last(transposed(net, net.input("N", 4, 6, 6), 4, 8, 2))


@row({"first": 4, "second": 4}, **WHOLE)
@by_channel({"first": 4})
def as_many_groups_are_normalised(net: Net) -> None:
    x = net.conv(net.first(), 8, 8, 3, group=4, name="second")
    net.last(normalised_by_groups(net, x, 4, 8))


@row({"first": 4, "second": 4}, **WHOLE)
@by_channel({"first": 4})
def fewer_groups_are_normalised(net: Net) -> None:
    x = net.conv(net.first(), 8, 8, 3, group=4, name="second")
    net.last(normalised_by_groups(net, x, 2, 8))


@row({"first": 8, "second": 8}, **WHOLE)
@by_channel({"first": 8})
def more_groups_are_normalised(net: Net) -> None:
    x = net.conv(net.first(16), 16, 16, 3, group=2, name="second")
    net.last(normalised_by_groups(net, x, 4, 16), 16)


@by_channel({"first": 4})
def groups_are_normalised(net: Net) -> None:
    net.last(normalised_by_groups(net, net.first(), 4, 8))


@row({}, {}, **WHOLE)
@by_channel({"first": 6})
def shuffle_between_groups(net: Net) -> None:
    x = net.conv(net.first(12), 12, 12, 3, group=3, name="second")
    net.last(net.conv(shuffled(net, x, 3, 12), 12, 12, 3, group=3, name="third"), 12)


@row({}, {}, **WHOLE)
@by_channel({})
def normalised_and_shuffled_between_groups(net: Net) -> None:
    x = net.conv(net.first(12), 12, 12, 3, group=3, name="second")
    x = shuffled(net, normalised_by_groups(net, x, 3, 12), 3, 12)
    net.last(net.conv(x, 12, 12, 3, group=3, name="third"), 12)


@row({}, {}, **WHOLE)
@by_channel({})
def shuffled_and_normalised_between_groups(net: Net) -> None:
    x = net.conv(net.first(12), 12, 12, 3, group=3, name="second")
    x = normalised_by_groups(net, shuffled(net, x, 3, 12), 2, 12)
    net.last(net.conv(x, 12, 12, 3, group=3, name="third"), 12)


def group_of(outcome: Outcome, name: str) -> int:
    node = next(n for n in outcome.slimmed.proto.graph.node if name in n.output)
    return next(a.i for a in node.attribute if a.name == "group")


@pytest.mark.parametrize("case", [*row.cases, *by_channel.cases])
def test_oracle(case: Any) -> None:
    check_row(case)


def test_what_goes_are_whole_groups() -> None:
    outcome = check_row((whole_groups, 17, {"first": 4, "second": 6}, {}, WHOLE))
    plan = write_down(outcome.groups, outcome.removal, "")
    kept = {c.tensor: np.array(c.kept) for c in plan.channels}
    assert group_of(outcome, "second") == 2
    assert set(kept["first"] // 2) == set(kept["second"] // 3)
    assert kept["first"].size == 4
    assert kept["second"].size == 6
