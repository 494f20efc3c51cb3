"""Bodies of If, Loop and Scan: what is made inside is cut, what crosses the border stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

from body_models import BOOL, LOOPED, Body, branch, choice, image, loop
from models import FLOAT, Net, Rows, check_row

row = Rows()


@row(lost={"then_first": 4, "else_first": 4}, opsets=(11, 13, 17, 21))
def both_branches_of_an_if(net: Net) -> None:
    x, flag = image(net)
    then, other = branch(net, "then", lambda b: b.pair(x)), branch(net, "else", lambda b: b.pair(x))
    choice(net, flag, then, other)


@row(lost={"then_first": 4})
def weights_in_constant_nodes_of_a_branch(net: Net) -> None:
    x, flag = image(net)
    then = branch(net, "then", lambda b: b.pair(x), constants=True)
    choice(net, flag, then, branch(net, "else", lambda b: b.add("Abs", x)))


@row(lost={"then_first": 4, "else_first": 4})
def batch_norm_and_bias_in_a_branch(net: Net) -> None:
    x, flag = image(net)

    def build(body: Body) -> str:
        made = body.norm(body.conv(x, 3, 8, 3, name=f"{body.stem}_first"), 8)
        made = body.add("Add", made, body.random(8, 1, 1))
        return body.conv(body.add("Relu", made), 8, 3)

    choice(net, flag, branch(net, "then", build), branch(net, "else", build))


@row(lost={"then_first": 4, "else_first": 4}, opsets=(21,))
def group_normalization_in_a_branch(net: Net) -> None:
    x, flag = image(net)

    def build(body: Body) -> str:
        made = body.conv(x, 3, 8, 3, name=f"{body.stem}_first")
        normed = (body.positive(8), body.random(8))
        made = body.add("GroupNormalization", made, *normed, num_groups=4)
        made = body.add("MeanVarianceNormalization", made, axes=[0, 2, 3])
        return body.conv(body.add("Relu", made), 8, 3)

    choice(net, flag, branch(net, "then", build), branch(net, "else", build))


@row(lost={"then_first": 4}, pinned={"then_made": "subgraph", "else_made": "subgraph"})
def channels_that_a_branch_gives_back_stay(net: Net) -> None:
    x, flag = image(net)

    def build(body: Body) -> str:
        return body.conv(body.conv(x, 3, 8, name="then_first"), 8, 8, name="then_made")

    other = branch(net, "else", lambda b: b.conv(x, 3, 8, name="else_made"))
    choice(net, flag, branch(net, "then", build), other, width=8)


@row(pinned={"first": "subgraph"})
def channels_that_branches_read_from_around_stay(net: Net) -> None:
    x, flag = net.first(), net.input(name="flag", type=BOOL)
    other = branch(net, "else", lambda b: b.conv(x, 8, 3))
    choice(net, flag, branch(net, "then", lambda b: b.conv(x, 8, 3)), other)


@row(lost={"then_first": 4, "else_first": 4})
def filter_that_both_branches_read(net: Net) -> None:
    x, flag = image(net)
    first, second = net.random(8, 3, 1, 1), net.random(3, 8, 1, 1)

    def build(body: Body) -> str:
        made = body.add("Conv", x, first, name=f"{body.stem}_first")
        return body.add("Conv", body.add("Relu", made), second)

    choice(net, flag, branch(net, "then", build), branch(net, "else", build))


@row(pinned={"then_first": "subgraph", "else_first": "subgraph"})
def filter_that_one_branch_reads_for_what_it_gives_back(net: Net) -> None:
    x, flag = image(net)
    first = net.random(8, 3, 1, 1)
    then = branch(net, "then", lambda b: b.conv(b.add("Conv", x, first, name="then_first"), 8, 8))
    other = branch(net, "else", lambda b: b.add("Conv", x, first, name="else_first"))
    choice(net, flag, then, other, width=8)


@row(lost={"first": 4, "then_first": 4})
def filter_that_the_graph_around_reads_too(net: Net) -> None:
    x, flag = image(net)
    weight = net.random(8, 3, 1, 1)
    net.last(net.add("Conv", x, weight, name="first"))
    then = branch(net, "then", lambda b: b.conv(b.add("Conv", x, weight, name="then_first"), 8, 3))
    choice(net, flag, then, branch(net, "else", lambda b: b.add("Abs", x)))


@row(pinned={"first": "graph-output", "then_first": "graph-output"})
def filter_whose_channels_the_graph_around_gives_out(net: Net) -> None:
    x, flag = image(net)
    weight = net.random(8, 3, 1, 1)
    net.output(net.add("Conv", x, weight, name="first"), shape=["N", 8, 6, 6])
    then = branch(net, "then", lambda b: b.conv(b.add("Conv", x, weight, name="then_first"), 8, 3))
    choice(net, flag, then, branch(net, "else", lambda b: b.add("Abs", x)))


@row(lost={"first": 4})
def bias_that_a_branch_gives_back_and_the_graph_adds(net: Net) -> None:
    x, flag, bias = net.first(), net.input(name="flag", type=BOOL), net.random(8, 1, 1)
    then = branch(net, "then", lambda b: b.add("Relu", bias))
    made = net.add(
        "If", flag, then_branch=then, else_branch=branch(net, "else", lambda b: b.add("Abs", bias))
    )
    net.output(made, shape=[8, 1, 1])
    net.last(net.add("Mul", x, bias))


@row(lost={"then_first": 4, "inner_first": 4, "other_first": 4}, opsets=(13, 17))
def nested_branches(net: Net) -> None:
    x, flag = image(net)

    def build(body: Body) -> str:
        made = body.pair(x)
        inner = branch(net, "inner", lambda b: b.pair(made))
        other = branch(net, "other", lambda b: b.pair(x))
        return body.add("If", flag, then_branch=inner, else_branch=other)

    choice(net, flag, branch(net, "then", build), branch(net, "else", lambda b: b.add("Abs", x)))


@row(pinned={"then_first": "subgraph"}, lost={"inner_first": 4})
def channels_of_a_branch_that_a_nested_one_reads_stay(net: Net) -> None:
    x, flag = image(net)

    def build(body: Body) -> str:
        made = body.conv(x, 3, 8, name="then_first")
        inner = branch(net, "inner", lambda b: b.pair(made, inputs=8))
        other = branch(net, "other", lambda b: b.conv(made, 8, 3))
        return body.add("If", flag, then_branch=inner, else_branch=other)

    choice(net, flag, branch(net, "then", build), branch(net, "else", lambda b: b.add("Abs", x)))


@row(lost={"same_first": 4, "same_first_2": 4})
def names_that_both_branches_use(net: Net) -> None:
    x, flag = image(net)
    then, other = branch(net, "same", lambda b: b.pair(x)), branch(net, "same", lambda b: b.pair(x))
    other.initializer[0].CopyFrom(
        numpy_helper.from_array(np.ones((8, 3, 3, 3), np.float32), other.initializer[0].name)
    )
    for k, node in enumerate((*then.node, *other.node)):
        node.name = f"node{k % 3}"
    choice(net, flag, then, other)


@row(lost={"then_first": 4})
def split_reshape_and_depthwise_in_a_branch(net: Net) -> None:
    x, flag = image(net)

    def build(body: Body) -> str:
        made = body.conv(x, 3, 8, name="then_first")
        made = body.conv(made, 8, 8, 3, group=8)
        left, right = body.many("Split", made, np.array([4, 4]), outputs=2, axis=1)
        made = body.add("Concat", right, left, axis=1)
        made = body.add("Reshape", made, np.array([0, 8, 36]))
        made = body.add("Reshape", made, np.array([0, 8, 6, 6]))
        return body.conv(made, 8, 3)

    choice(net, flag, branch(net, "then", build), branch(net, "else", lambda b: b.add("Abs", x)))


@row(lost={"then_first": 4})
def sizes_computed_in_a_branch(net: Net) -> None:
    x, flag = image(net)

    def build(body: Body) -> str:
        made = body.conv(x, 3, 8, name="then_first")
        shape = body.add("Shape", made)
        made = body.add("Reshape", body.add("Relu", made), shape)
        return body.conv(made, 8, 3)

    choice(net, flag, branch(net, "then", build), branch(net, "else", lambda b: b.add("Abs", x)))


@row(lost={"then_first": 4, "else_first": 4})
def branch_that_does_not_run_at_the_probed_sizes(net: Net) -> None:
    x = net.input("N", 3, 6, 6)
    one = net.add("Equal", net.add("Gather", net.add("Shape", x), np.array(0)), np.array(1))

    def build(body: Body) -> str:
        first = 1 if body.stem == "then" else 0
        return body.add("Reshape", body.pair(x), np.array([first, 3, 36]))

    made = net.add(
        "If", one, then_branch=branch(net, "then", build), else_branch=branch(net, "else", build)
    )
    net.output(made, shape=["N", 3, 36])


@row(lost={"loop_first": 4}, opsets=(11, 13, 17, 21))
def convolutions_in_a_loop(net: Net) -> None:
    net.output(loop(net, net.input("N", 3, 6, 6), lambda b: b.pair("state")), shape=[None] * 4)


@row(lost={"loop_first": 4, "first": 4, "second": 4})
def layers_before_and_behind_a_loop(net: Net) -> None:
    x = net.conv(net.first(), 8, 3)
    x = loop(net, x, lambda b: b.pair("state"))
    net.last(net.conv(x, 3, 8, name="second"))


@row(pinned={"first": "subgraph"}, lost={"loop_first": 4})
def channels_that_a_loop_carries_stay(net: Net) -> None:
    net.last(loop(net, net.first(), lambda b: b.pair("state", inputs=8, outputs=8)))


@row(lost={"loop_first": 4}, pinned={"loop_made": "subgraph"})
def convolution_that_makes_what_a_loop_carries_stays(net: Net) -> None:
    def build(body: Body) -> str:
        made = body.conv("state", 8, 8, name="loop_first")
        return body.conv(made, 8, 8, name="loop_made")

    net.output(loop(net, net.input("N", 8, 6, 6), build), shape=[None] * 4)


@row(lost={"first": 4, "inner": 4})
def what_follows_from_a_state_that_grows_stays(net: Net) -> None:
    def build(body: Body) -> str:
        made = body.conv("state", 3, 8, name="loop_first")
        other = body.conv(body.conv("x", 3, 8, name="inner"), 8, 3)
        body.add("ReduceMax", other, keepdims=0)
        made = body.conv(made, 8, 3)
        grown = body.add("Concat", made, made, axis=0)
        return body.add("Add", grown, body.add("ReduceMax", other, keepdims=0))

    net.last(net.first(batch=1))
    net.output(net.add("ReduceMax", loop(net, "x", build), keepdims=0), shape=[])


@row(lost={"first": 4})
def size_of_a_state_that_grows_stays_computed(net: Net) -> None:
    def build(body: Body) -> str:
        size = body.add("Cast", body.add("Size", "state"), to=FLOAT)
        made = body.conv(body.add("Sin", body.add("Add", "state", size)), 3, 3)
        return body.add("Concat", made, made, axis=0)

    net.last(net.first(batch=1))
    net.output(net.add("ReduceMax", loop(net, "x", build), keepdims=0), shape=[])


@row(lost={"first": 4})
def state_that_follows_one_that_grows_stays_computed(net: Net) -> None:
    body = Body(net, "loop")
    body.add("Identity", "go", name="on")
    size = body.add("Cast", body.add("Size", "state"), to=FLOAT)
    made = body.add("Sin", body.add("Mul", body.conv("state", 3, 3), size))
    after = body.add("Concat", "other", "other", axis=0)
    grown = body.add("Add", body.add("ReduceMean", made, axes=[0]), "other")
    graph = body.graph("on", grown, after, entries=[*LOOPED, ("other", FLOAT, None)])
    net.last(net.first(batch=1))
    made = net.many("Loop", np.array(3), np.array(True), "x", "x", outputs=2, body=graph)[0]
    net.output(net.add("ReduceMean", made, keepdims=0), shape=[])


@row(lost={"loop_first": 4})
def loop_with_a_condition_of_its_own(net: Net) -> None:
    body = Body(net, "loop")
    made = body.pair("state")
    body.add("Less", body.add("ReduceMax", made, keepdims=0), np.float32(3), name="on")
    net.input("N", 3, 6, 6)
    graph = body.graph("on", made, entries=LOOPED)
    net.output(net.add("Loop", np.array(5), "", "x", body=graph), shape=[None] * 4)


@row(lost={"loop_first": 4})
def loop_that_collects_what_it_makes(net: Net) -> None:
    body = Body(net, "loop")
    body.add("Identity", "go", name="on")
    made = body.pair("state")
    graph = body.graph("on", made, body.add("Abs", made), entries=LOOPED)
    outputs = net.many(
        "Loop", np.array(2), np.array(True), net.input("N", 3, 6, 6), outputs=2, body=graph
    )
    net.output(outputs[1], shape=[None] * 5)


@row(lost={"inner_first": 4, "loop_first": 4})
def branch_inside_a_loop(net: Net) -> None:
    def build(body: Body) -> str:
        made = body.pair("state")
        odd = body.add("Equal", body.add("Mod", "i", np.array(2)), np.array(1))
        then = branch(net, "inner", lambda b: b.pair(made))
        return body.add(
            "If", odd, then_branch=then, else_branch=branch(net, "e", lambda b: b.add("Abs", made))
        )

    net.output(loop(net, net.input("N", 3, 6, 6), build), shape=[None] * 4)


@row(lost={"scan_first": 4}, opsets=(9, 13, 17))
def convolutions_in_a_scan(net: Net) -> None:
    body = Body(net, "scan")
    made = body.add("Add", body.pair("piece"), "sum")
    graph = body.graph(
        made,
        body.add("Abs", made),
        entries=[("sum", FLOAT, None), ("piece", FLOAT, None)],
    )
    start = np.zeros((2, 3, 6, 6), np.float32)
    outputs = net.many(
        "Scan", start, net.input("T", 2, 3, 6, 6), outputs=2, body=graph, num_scan_inputs=1
    )
    net.output(outputs[1], shape=[None] * 5)


@row(pinned={"first": "subgraph"})
def channels_that_are_scanned_stay(net: Net) -> None:
    x = net.first()
    body = Body(net, "scan")
    graph = body.graph(body.pair("piece", inputs=8), entries=[("piece", FLOAT, None)])
    pieces = net.add("Unsqueeze", x, np.array([0]))
    made = net.add("Scan", pieces, body=graph, num_scan_inputs=1)
    net.output(made, shape=[None] * 5)


@row(lost={"then_first": 4, "first": 4})
def if_whose_condition_is_constant(net: Net) -> None:
    x = net.first()
    then = branch(net, "then", lambda b: b.pair(x, inputs=8))
    other = branch(net, "else", lambda b: b.conv(x, 8, 3))
    choice(net, np.array(True), then, other)


@row(lost={"first": 4})
def branch_that_hands_on_what_it_reads(net: Net) -> None:
    x = net.first()
    then = branch(net, "then", lambda b: b.add("Abs", x))
    other = branch(net, "else", lambda b: b.add("Identity", x))
    net.last(net.add("If", np.array([False]), then_branch=then, else_branch=other))


@row(lost={"first": 4, "inner_first": 4})
def nested_if_whose_condition_follows_from_shapes(net: Net) -> None:
    x = net.first()
    three = net.add("Equal", net.add("Gather", net.add("Shape", x), np.array(1)), np.array(8))

    def build(body: Body) -> str:
        inner = branch(net, "inner", lambda b: b.pair(x, inputs=8))
        other = branch(net, "other", lambda b: b.conv(x, 8, 3))
        return body.add("If", three, then_branch=inner, else_branch=other)

    other = branch(net, "else", lambda b: b.add("ReduceSum", x))
    choice(net, three, branch(net, "then", build), other)


@row(lost={"second": 4}, pinned={"first": "subgraph"}, opsets=(8,))
def filter_that_the_batched_scan_of_old_reads_stays(net: Net) -> None:
    x, weight = net.input(2, 3, 6, 6), net.random(8, 3, 1, 1)
    body = Body(net, "scan")
    made = body.conv(body.add("Conv", "piece", weight), 8, 3)
    graph = body.graph(made, entries=[("piece", FLOAT, [2, 3, 6, 6])])
    pieces = net.add("Unsqueeze", net.add("Unsqueeze", x, axes=[0]), axes=[0])
    made = net.add("Scan", "", pieces, body=graph, num_scan_inputs=1)
    net.output(made, shape=[1, 1, 2, 3, 6, 6])
    net.last(net.add("Conv", x, weight, name="first"))
    net.output(net.conv(net.conv(x, 3, 8, name="second"), 8, 4))


@row(lost={"second": 4}, pinned={"first": "subgraph"}, opsets=(17, 21))
def filter_that_the_body_of_another_operator_reads_stays(net: Net) -> None:
    x, weight = net.input(2, 3, 6, 6), net.random(8, 3, 1, 1)
    body = Body(net, "mapped")
    made = body.conv(body.add("Conv", "piece", weight), 8, 3)
    graph = body.graph(made, entries=[("piece", FLOAT, [2, 3, 6, 6])])
    made = net.add("SequenceMap", net.add("SequenceConstruct", x, x), body=graph)
    net.output(net.add("SequenceAt", made, np.array(0)), shape=[2, 3, 6, 6])
    net.last(net.add("Conv", x, weight, name="first"))
    net.output(net.conv(net.conv(x, 3, 8, name="second"), 8, 4))


@pytest.mark.parametrize("case", row.cases)
def test_oracle(case: Any) -> None:
    check_row(case)
