"""LSTM, GRU and RNN: the hidden width is cut exactly, in every direction and with every option."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models import INT64, Net, Rows, check_oracle, check_row, grouped
from prunecvt_passes.cost import cost, node_macs
from prunecvt_passes.score import Criterion, score

row = Rows()
GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}
STATES = {"GRU": 1, "LSTM": 2, "RNN": 1}
HIDDEN = 8
every = pytest.mark.parametrize("op", sorted(GATES))


def recurrent(net: Net, x: str, inputs: int, op: str = "LSTM", **options: Any) -> list[str]:
    """The node and its outputs: sequence and last states.

    ``initial``, ``lengths``, ``peephole`` are tensors; ``bias=False`` leaves the biases out; the
    rest are attributes.
    """
    gates, hidden = GATES[op], options.pop("hidden", HIDDEN)
    named = {"bias": True, "lengths": None, "initial": None, "peephole": None, "outputs": None}
    given = {name: options.pop(name, default) for name, default in named.items()}
    directions = 2 if options.get("direction") == "bidirectional" else 1
    inputs_ = [
        x,
        net.random(directions, gates * hidden, inputs, scale=0.4),
        net.random(directions, gates * hidden, hidden, scale=0.4),
        net.random(directions, 2 * gates * hidden) if given["bias"] else None,
        given["lengths"],
        given["initial"],
        given["initial"] if op == "LSTM" else None,
        given["peephole"],
    ]
    while inputs_[-1] is None:
        inputs_.pop()
    names = given["outputs"] or [net.fresh("states"), net.fresh("last"), net.fresh("cell")]
    names = names[: 1 + STATES[op]]
    options.setdefault("hidden_size", hidden)
    return net.many(op, *inputs_, outputs=names, **options)


def sequence(net: Net, features: int = 6, batch: int | str = "N") -> str:
    """A dense layer ``first`` over a sequence: [5, batch, features]."""
    return net.add("MatMul", net.input(5, batch, 3), net.random(3, features), name="first")


def read(net: Net, states: str, width: int) -> None:
    """A dense layer over [5, directions, batch, hidden], features of all directions joined."""
    x = net.add("Transpose", states, perm=[0, 2, 1, 3])
    net.head(net.add("Reshape", x, np.array([0, 0, -1])), width)


@row(pinned={"first": "mixed-axis"}, lost={"states": 4})
def steps_over_all_pairs(net: Net) -> None:
    """Products of all pairs of channels: those of the steps and of the inputs are the same."""
    x = net.add("Reshape", net.first(), np.array([0, 8, -1]))
    pairs = net.add("MatMul", x, net.add("Transpose", x, perm=[0, 2, 1]))
    steps = net.add("Transpose", pairs, perm=[1, 0, 2])
    made = recurrent(net, steps, 8, outputs=["states", "h", "c"])[1]
    net.head(net.add("Squeeze", made, np.array([0])), HIDDEN)


@every
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("opset", [7, 14])
def test_hidden_width(op: str, direction: str, bias: bool, opset: int) -> None:
    def build(net: Net) -> None:
        names = ["states", "h", "c"]
        x = recurrent(net, sequence(net), 6, op, direction=direction, bias=bias, outputs=names)[0]
        read(net, x, HIDDEN * (1 + (direction == "bidirectional")))

    outcome = check_row((build, opset, {"first": 3, "states": 4}, {}, {}))
    (node,) = [n for n in outcome.slimmed.proto.graph.node if n.op_type == op]
    assert [a.i for a in node.attribute if a.name == "hidden_size"] == [4]
    assert outcome.slimmed.weights[node.input[2]].shape[1:] == (4 * GATES[op], 4)


@every
def test_hidden_size_may_be_left_out_of_the_outputs(op: str) -> None:
    """Only the last state is read, and it names the width."""

    def build(net: Net) -> None:
        last = recurrent(net, sequence(net), 6, op, outputs=["", "h", ""][: 1 + STATES[op]])[1]
        net.head(net.add("Squeeze", last, np.array([0])), HIDDEN)

    check_row((build, 17, {"first": 3, "h": 4}, {}, {}))


@every
def test_every_output_is_read(op: str) -> None:
    def build(net: Net) -> None:
        outputs = recurrent(
            net, sequence(net), 6, op, direction="bidirectional", outputs=["states", "h", "c"]
        )
        read(net, outputs[0], 2 * HIDDEN)
        for name in outputs[1:]:
            net.output(net.add("MatMul", name, net.random(HIDDEN, 3)))

    check_row((build, 17, {"first": 3, "states": 4}, {}, {}))


@every
def test_sequences_of_unequal_length(op: str) -> None:
    def build(net: Net) -> None:
        x, lengths = sequence(net, batch=2), net.constant(np.array([3, 5], np.int32))
        read(net, recurrent(net, x, 6, op, lengths=lengths, outputs=["states", "h", "c"])[0], 8)

    check_row((build, 17, {"first": 3, "states": 4}, {}, {}))


@every
def test_clipped_with_other_activations(op: str) -> None:
    names = {
        "GRU": ["HardSigmoid", "Softsign"],
        "LSTM": ["HardSigmoid", "LeakyRelu", "Elu"],
        "RNN": ["Affine"],
    }[op]
    attributes: dict[str, Any] = {"activations": names, "clip": 0.7}
    if op == "RNN":
        attributes |= {"activation_alpha": [0.5], "activation_beta": [0.1]}

    def build(net: Net) -> None:
        read(net, recurrent(net, sequence(net), 6, op, outputs=["y", "h", "c"], **attributes)[0], 8)

    check_row((build, 17, {"first": 3, "y": 4}, {}, {}))


@pytest.mark.parametrize("reset", [0, 1])
def test_reset_before_and_after_the_product(reset: int) -> None:
    def build(net: Net) -> None:
        options = {"linear_before_reset": reset, "direction": "bidirectional"}
        read(net, recurrent(net, sequence(net), 6, "GRU", outputs=["y", "h"], **options)[0], 16)

    check_row((build, 17, {"first": 3, "y": 4}, {}, {}))


@row(lost={"first": 3, "y": 4})
def coupled_gates_and_peepholes(net: Net) -> None:
    holes = net.random(1, 3 * HIDDEN)
    options = {"peephole": holes, "input_forget": 1, "outputs": ["y", "h", "c"]}
    read(net, recurrent(net, sequence(net), 6, **options)[0], HIDDEN)


@row(lost={"first": 3, "y": 4})
def constant_initial_states(net: Net) -> None:
    start = net.random(1, 2, HIDDEN)
    read(
        net, recurrent(net, sequence(net, batch=2), 6, initial=start, outputs=["y", "h", "c"])[0], 8
    )


@row(lost={"first": 3}, pinned={"y": "fixed-partner"})
def initial_states_from_outside(net: Net) -> None:
    start = net.input(1, "N", HIDDEN, name="start")
    read(net, recurrent(net, sequence(net), 6, initial=start, outputs=["y", "h", "c"])[0], 8)


def zeros(net: Net, op: str, x: str, directions: int, *others: str) -> str:
    """Initial states of zeros: as many sequences as ``x`` has, and a stated width."""
    batch = net.add("Slice", net.add("Shape", x), np.array([1]), np.array([2]))
    size = net.add("Concat", np.array([directions]), batch, np.array([HIDDEN]), axis=0)
    for name in others:
        net.add("Identity", size, name=name)
    if op == "Expand":
        return net.add("Expand", np.float32(0), size)
    return net.add("ConstantOfShape", size)


@pytest.mark.parametrize("op", ["ConstantOfShape", "Expand"])
@pytest.mark.parametrize("directions", [1, 2])
def test_initial_states_of_zeros_for_any_batch(op: str, directions: int) -> None:
    def build(net: Net) -> None:
        x = sequence(net)
        start = zeros(net, op, x, directions)
        direction = "bidirectional" if directions == 2 else "forward"
        options = {"initial": start, "direction": direction, "outputs": ["y", "h", "c"]}
        read(net, recurrent(net, x, 6, **options)[0], HIDDEN * directions)

    check_row((build, 17, {"first": 3, "y": 4}, {}, {}))


@row(lost={"first": 3}, pinned={"y": "fixed-partner"})
def a_size_that_others_read_too(net: Net) -> None:
    x = sequence(net)
    options = {"initial": zeros(net, "Expand", x, 1, "size"), "outputs": ["y", "h", "c"]}
    read(net, recurrent(net, x, 6, **options)[0], HIDDEN)
    net.output("size", INT64)


@row(lost={"first": 3, "y": 4, "z": 3})
def two_layers(net: Net) -> None:
    x = recurrent(net, sequence(net), 6, direction="bidirectional", outputs=["y", "h", "c"])[0]
    x = net.add("Reshape", net.add("Transpose", x, perm=[0, 2, 1, 3]), np.array([0, 0, -1]))
    x = recurrent(net, x, 16, "GRU", hidden=6, outputs=["z", "end"])[0]
    net.head(net.add("Squeeze", x, np.array([1])), 6)


@row(pinned={"y": "graph-output"}, lost={"first": 3})
def states_that_are_an_output(net: Net) -> None:
    net.output(recurrent(net, sequence(net), 6, outputs=["y", "h", "c"])[0])


@row(lost={"first": 3, "y": 4})
def one_recurrence_for_two_sequences(net: Net) -> None:
    x = sequence(net)
    first = recurrent(net, x, 6, outputs=["y", "h", "c"])[0]
    node = net.nodes[-1]
    names = [net.add("Relu", x), *node.input[1:]]
    again = net.many("LSTM", *names, outputs=["z"], hidden_size=HIDDEN)[0]
    read(net, net.add("Add", first, again), HIDDEN)


@row(pinned={"first": "fixed-partner", "y": "fixed-output"})
def weights_from_outside(net: Net) -> None:
    x = sequence(net)
    weight, recurrence = (net.input(1, 32, k, name=f"w_{k}") for k in (6, HIDDEN))
    states = net.many("LSTM", x, weight, recurrence, outputs=["y"], hidden_size=HIDDEN)[0]
    read(net, states, HIDDEN)


@row(lost={"first": 4})
def fed_with_channels_of_a_convolution(net: Net) -> None:
    x = net.add("ReduceMean", net.first(), axes=[2], keepdims=0)
    x = net.add("Transpose", x, perm=[2, 0, 1])
    net.output(recurrent(net, x, 8, "RNN", hidden=4)[0])


@pytest.mark.parametrize("case", row.cases)
def test_oracle(case: Any) -> None:
    check_row(case)


def test_batch_first_has_the_hidden_units_on_the_same_axes() -> None:
    """No runtime here runs layout=1, so what is cut is read off the labels alone."""
    net = Net(opset=14)
    net.dtype = np.dtype(np.float32)
    states = recurrent(net, sequence(net), 6, outputs=["y", "h", "c"])[0]
    read(net, states, HIDDEN)
    _, groups = grouped(net.proto())
    assert groups.channels.axes["y"][:3] == [None] * 3
    for name in ("h", "c"):
        np.testing.assert_array_equal(groups.channels.axes[name][-1], groups.channels.axes["y"][-1])


def test_an_activation_that_works_across_units_pins_them() -> None:
    net = Net()
    states = recurrent(net, sequence(net), 6, "RNN", activations=["Softmax"], outputs=["y", "h"])[0]
    read(net, states, HIDDEN)
    _, groups = grouped(net.proto())
    assert not groups.groups
    assert {"activation"} == {f.code for f in groups.fixed if f.producer.tensor == "first"}


def test_every_criterion_scores_the_hidden_units() -> None:
    net = Net()
    read(net, recurrent(net, sequence(net), 6, hidden=6, outputs=["y", "h", "c"])[0], 6)
    _, groups = grouped(net.proto())
    (states,) = [g for g in groups.groups if g.members == ("y",)]
    for name in ("l1", "l2", "product", "share"):
        values = score(groups, Criterion(name)).values[states.classes]
        assert (values > 0).all() and np.ptp(values) > 0


def test_a_unit_of_zero_weights_goes_first() -> None:
    net = Net()
    read(net, recurrent(net, sequence(net), 6, outputs=["y", "h", "c"])[0], HIDDEN)
    weight, recurrence = (net.weights[name] for name in net.nodes[1].input[1:3])
    for values in (weight, recurrence):
        values.reshape(4, HIDDEN, -1)[:, 5] = 0
    _, groups = grouped(net.proto())
    (states,) = [g for g in groups.groups if g.members == ("y",)]
    assert np.argmin(score(groups, Criterion("l2")).values[states.classes]) == 5


@every
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_macs(op: str, direction: str) -> None:
    net = Net()
    directions = 1 + (direction == "bidirectional")
    outputs = ["", "h", ""][: 1 + STATES[op]]
    last = recurrent(net, net.input(5, 2, 3), 3, op, direction=direction, outputs=outputs)[1]
    net.output(last)
    dense, _ = grouped(net.proto())
    expected = 5 * directions * GATES[op] * HIDDEN * (3 + HIDDEN)
    counted = cost(dense.graph, batch=2)
    assert (counted.macs, counted.uncounted) == (expected, 0)
    assert node_macs(dense.graph, dense.graph.nodes[0]) == 2 * expected


def test_removed_units_cost_nothing() -> None:
    net = Net()
    read(net, recurrent(net, net.input(5, "N", 3), 3, outputs=["y", "h", "c"])[0], HIDDEN)
    outcome = check_oracle(net.proto())
    assert outcome.lost == {"y": 4}
    assert outcome.slimmed.weights["w1"].shape == (1, 16, 3)
