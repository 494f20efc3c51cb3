"""Classes and groups: what is cut together, in which order, and why the rest stays."""

from __future__ import annotations

import numpy as np

from models import Net, grouped
from prunecvt_passes.groups import Groups


def solved(net: Net) -> Groups:
    return grouped(net.proto())[1]


def members(groups: Groups) -> list[tuple[str, ...]]:
    return [group.members for group in groups.groups]


def test_a_chain_has_one_group_per_layer_in_order() -> None:
    net = Net()
    net.last(net.conv(net.conv(net.first(), 8, 6, name="b"), 6, 8, name="a"))
    groups = solved(net)
    assert members(groups) == [("first",), ("b",), ("a",)]
    assert [(g.id, g.size, g.channels) for g in groups.groups] == [(0, 8, 1), (1, 6, 1), (2, 8, 1)]


def test_a_residual_is_one_group() -> None:
    net = Net()
    x = net.first()
    y = net.conv(net.conv(x, 8, 4, name="inner"), 4, 8, name="outer")
    net.last(net.add("Add", x, y))
    assert members(solved(net)) == [("first", "outer"), ("inner",)]


def test_a_depthwise_multiplier_counts_as_the_most_channels_lost() -> None:
    net = Net()
    net.last(net.conv(net.first(), 8, 24, group=8, name="second"), 24)
    group = solved(net).groups[0]
    assert (group.size, group.channels, group.members) == (8, 3, ("first", "second"))


def test_a_split_makes_groups_of_one_layer() -> None:
    net = Net()
    a, b = net.many("Split", net.first(), np.array([3, 5]), outputs=2, axis=1)
    net.output(net.add("Add", net.conv(a, 3, 4), net.conv(b, 5, 4)))
    groups = solved(net)
    assert members(groups) == [("first",), ("first",)]
    assert [g.size for g in groups.groups] == [3, 5]


def test_classes_of_a_group_come_in_the_order_of_the_first_member() -> None:
    net = Net()
    x = net.first()
    y = net.add("Gather", x, np.arange(8)[::-1].copy(), axis=1)
    net.last(net.add("Relu", y))
    groups = solved(net)
    labels = groups.channels.axes["first"][1]
    assert labels is not None
    assert list(groups.class_of[labels]) == list(groups.groups[0].classes)


def test_every_class_of_a_group_can_be_cut_and_belongs_to_it() -> None:
    net = Net()
    net.last(net.conv(net.first(), 8, 8))
    groups = solved(net)
    for group in groups.groups:
        assert not groups.pinned[group.classes].any()
        assert set(groups.group_of[group.classes]) == {group.id}


def test_groups_say_which_are_split_by_grouped_convolutions() -> None:
    net = Net()
    x = net.conv(net.first(), 8, 8, group=2, name="second")
    net.last(net.conv(x, 8, 8, name="third"))
    assert [g.per_group for g in solved(net).groups] == [True, True, False]


def test_fixed_layers_say_why_and_how_many() -> None:
    net = Net()
    x = net.add(
        "Concat", net.first(), net.add("LRN", net.conv("x", 3, 4, name="other"), size=3), axis=1
    )
    net.last(net.conv(x, 12, 1, name="narrow"), 1)
    fixed = {f.producer.tensor: (f.code, f.channels) for f in solved(net).fixed}
    assert fixed == {
        "other": ("mixed-axis", 4),
        "narrow": ("single", 1),
        "last": ("graph-output", 4),
    }


def test_a_layer_may_be_fixed_in_part() -> None:
    net = Net()
    x = net.first()
    net.output(net.add("Slice", x, np.array([0]), np.array([3]), np.array([1])))
    net.last(x)
    groups = solved(net)
    assert [g.size for g in groups.groups] == [5]
    assert ("first", 3) in {(f.producer.tensor, f.channels) for f in groups.fixed}


def test_titles_name_operator_and_node() -> None:
    net = Net()
    net.last(net.first())
    net.nodes[0].name = "stem"
    assert solved(net).groups[0].titles == ("Conv 'stem'",)
