"""Surgery: what is written into the graph once it is decided what goes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from models import Net, check_oracle, grouped
from prunecvt_passes.budget import Removal
from prunecvt_passes.groups import Groups
from prunecvt_passes.model import Model
from prunecvt_passes.slice import remove


def without(*channels: int) -> Any:
    """Removes these channels of the first group."""

    def decide(groups: Groups) -> Removal:
        removed = np.zeros(groups.total, bool)
        removed[groups.groups[0].classes[list(channels)]] = True
        return Removal(removed, {})

    return decide


def node(model: Model, op: str) -> onnx.NodeProto:
    return next(n for n in model.proto.graph.node if n.op_type == op)


def operand(model: Model, op: str, place: int) -> list[int]:
    return [int(v) for v in model.weights[node(model, op).input[place]]]


def test_exactly_the_channels_that_go_are_sliced() -> None:
    net = Net()
    x = net.first()
    net.last(net.norm(x, 8))
    outcome = check_oracle(net.proto(), decide=without(1, 4))
    stay = [0, 2, 3, 5, 6, 7]
    before, after = outcome.dense.graph.model, outcome.slimmed
    for op, place, axis in [("Conv", 1, 0), ("Conv", 2, 0)] + [
        ("BatchNormalization", k, 0) for k in range(1, 5)
    ]:
        old, new = (m.weights[node(m, op).input[place]] for m in (before, after))
        np.testing.assert_array_equal(new, np.take(old, stay, axis))
    last = after.proto.graph.node[-1].input[1]
    np.testing.assert_array_equal(after.weights[last], before.weights[last][:, stay])


def test_untouched_weights_are_shared_with_the_original() -> None:
    net = Net()
    net.last(net.conv(net.first(), 8, 8, name="second"))
    outcome = check_oracle(net.proto(), decide=without(0))
    before, after = outcome.dense.graph.model, outcome.slimmed
    bias = before.proto.graph.node[-1].input[2]
    assert after.weights[bias] is before.weights[bias]


def test_nothing_removed_gives_an_equal_graph() -> None:
    net = Net()
    net.last(net.first())
    dense, groups = grouped(net.proto())
    same = remove(groups, Removal(np.zeros(groups.total, bool), {}))
    assert same.proto == dense.graph.model.proto and same.weights == dense.graph.model.weights


def test_the_original_is_left_as_it_was() -> None:
    net = Net()
    a, b = net.many("Split", net.first(), np.array([4, 4]), outputs=2, axis=1)
    net.last(net.add("Concat", b, net.conv(a, 4, 4, group=4), axis=1))
    dense, groups = grouped(net.proto())
    model = dense.graph.model
    text, values = model.proto.SerializeToString(), {k: v.copy() for k, v in model.weights.items()}
    remove(groups, without(0, 2)(groups))
    assert model.proto.SerializeToString() == text
    for name, array in values.items():
        np.testing.assert_array_equal(model.weights[name], array)


def test_group_of_a_depthwise_convolution_is_rewritten() -> None:
    net = Net()
    net.last(net.conv(net.first(), 8, 16, 3, group=8), 16)
    slimmed = check_oracle(net.proto(), decide=without(0, 1, 2)).slimmed
    assert [a.i for n in slimmed.proto.graph.node for a in n.attribute if a.name == "group"] == [5]


def test_group_of_a_grouped_convolution_stays() -> None:
    net = Net()
    net.last(net.conv(net.first(), 8, 8, 3, group=2))
    slimmed = check_oracle(net.proto(), decide=without(0, 1)).slimmed
    assert [a.i for n in slimmed.proto.graph.node for a in n.attribute if a.name == "group"] == [2]


def test_split_sizes_are_rewritten() -> None:
    net = Net()
    a, b = net.many("Split", net.first(), np.array([3, 5]), outputs=2, axis=1)
    net.last(net.add("Concat", b, a, axis=1))

    def decide(groups: Groups) -> Removal:
        labels = groups.channels.axes["first"][1]
        assert labels is not None
        removed = np.zeros(groups.total, bool)
        removed[groups.class_of[labels[[0, 4, 5]]]] = True
        return Removal(removed, {})

    assert operand(check_oracle(net.proto(), decide=decide).slimmed, "Split", 1) == [2, 3]


def test_number_of_split_outputs_gives_way_to_sizes() -> None:
    net = Net(opset=18)
    parts = net.many("Split", net.first(), outputs=2, num_outputs=2, axis=1)
    net.output(net.add("Add", net.conv(parts[0], 4, 4), net.conv(parts[1], 4, 4)))
    slimmed = check_oracle(net.proto(), decide=without(1)).slimmed
    assert [a.name for a in node(slimmed, "Split").attribute] == ["axis"]
    assert operand(slimmed, "Split", 1) == [3, 4]


def test_a_target_shared_by_two_reshapes_is_written_for_each() -> None:
    net = Net()
    target = net.constant(np.array([-1, 8, 36]))
    x = net.first()
    y = net.conv(x, 8, 8, name="second")
    a, b = (net.add("Reshape", z, target) for z in (x, y))
    for z in (a, b):
        z = net.add("Reshape", net.add("Relu", z), np.array([0, 8, 6, 6]))
        net.output(net.conv(z, 8, 4))

    outcome = check_oracle(net.proto(), decide=without(0, 3))
    targets = [
        list(outcome.slimmed.weights[n.input[1]])
        for n in outcome.slimmed.proto.graph.node
        if n.op_type == "Reshape"
    ]
    assert targets == [[-1, 6, 36], [-1, 8, 36], [0, 6, 6, 6], [0, 8, 6, 6]]


def test_indices_are_renumbered_and_those_of_removed_channels_go() -> None:
    net = Net()
    x = net.add("Gather", net.first(), np.array([7, -8, 2, 2, 5], np.int32), axis=1)
    net.last(x, 5)

    def decide(groups: Groups) -> Removal:
        labels = groups.channels.axes["first"][1]
        assert labels is not None
        removed = np.zeros(groups.total, bool)
        removed[groups.class_of[labels[[0, 5]]]] = True
        return Removal(removed, {})

    slimmed = check_oracle(net.proto(), decide=decide).slimmed
    assert operand(slimmed, "Gather", 1) == [5, 1, 1]
    assert slimmed.weights[node(slimmed, "Gather").input[1]].dtype == np.int32


def test_bounds_of_a_slice_are_what_is_kept_before_them() -> None:
    net = Net()
    x = net.first()
    y = net.add("Slice", x, np.array([2]), np.array([-1]), np.array([1]))
    net.last(net.add("Concat", x, y, axis=1), 13)

    def decide(groups: Groups) -> Removal:
        labels = groups.channels.axes["first"][1]
        assert labels is not None
        removed = np.zeros(groups.total, bool)
        removed[groups.class_of[labels[[1, 3, 7]]]] = True
        return Removal(removed, {})

    slimmed = check_oracle(net.proto(), decide=decide).slimmed
    assert (operand(slimmed, "Slice", 1), operand(slimmed, "Slice", 2)) == ([1], [5])


def test_metadata_survives() -> None:
    net = Net()
    net.last(net.first())
    proto = net.proto()
    proto.doc_string, proto.producer_name = "about", "someone"
    proto.metadata_props.add(key="classes", value="cat,dog")
    slimmed = check_oracle(proto, decide=without(0)).slimmed.proto
    assert (slimmed.doc_string, slimmed.producer_name) == ("about", "someone")
    assert slimmed.metadata_props == proto.metadata_props
    assert slimmed.ir_version == proto.ir_version


def test_what_nothing_reads_any_more_is_dropped() -> None:
    net = Net()
    net.last(net.add("Reshape", net.first(), np.array([-1, 8, 6, 6])))
    slimmed = check_oracle(net.proto(), decide=without(0)).slimmed
    read = {name for n in slimmed.proto.graph.node for name in n.input}
    assert set(slimmed.weights) <= read
    assert {t.name for t in slimmed.proto.graph.initializer} == set(slimmed.weights)


def test_rewritten_parameters_overwrite_no_weight() -> None:
    net = Net()
    x = net.add("Reshape", net.first(), np.array([0, 8, 6, 6]), name="y")
    net.last(net.add("Mul", x, net.random(8, 1, 1, name="y__1")))
    assert len(check_oracle(net.proto()).lost) == 1
