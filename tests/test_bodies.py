"""The normal form of bodies, and what else walks into them: costs, folding, files, reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from body_models import LOOPED, Body, branch, choice, image, loop
from models import FLOAT, Net, check_oracle, grouped
from prunecvt_passes import oracle, runtime
from prunecvt_passes.cost import cost
from prunecvt_passes.fold import fold_batch_norms
from prunecvt_passes.graph import every_node, every_scope
from prunecvt_passes.model import Model
from prunecvt_passes.normalise import Source, normalise
from prunecvt_passes.samples import random_inputs

PAIR = 36 * (8 * 3 * 9 + 8 * 3)  # multiply-accumulates of ``Body.pair``


def normal(net: Net) -> Model:
    return normalise(Source(Model.from_proto(net.proto()))).graph.model


def kinds(model: Model) -> list[str]:
    return [node.op_type for node in every_node(model.proto.graph)]


def two_branches(net: Net, flag: Any = None) -> None:
    x, asked = image(net)
    then = branch(net, "then", lambda b: b.pair(x), constants=True)
    other = branch(net, "else", lambda b: b.norm(b.pair(x), 3))
    choice(net, asked if flag is None else flag, then, other)


def test_weights_of_bodies_are_those_of_the_model() -> None:
    net = Net()
    two_branches(net)
    model = normal(net)
    assert not any(body.initializer for body in list(every_scope(model.proto.graph))[1:])
    assert "Constant" not in kinds(model) and len(model.weights) == 12


def test_a_weight_that_a_body_gives_back_is_handed_through() -> None:
    net = Net()
    _, flag = image(net)
    then, other = Body(net, "then"), Body(net, "else")
    graphs = [body.graph(body.random(2, 3)) for body in (then, other)]
    net.output(net.add("If", flag, then_branch=graphs[0], else_branch=graphs[1]), shape=[2, 3])
    check_oracle(net.proto())


@pytest.mark.parametrize("flag", [True, False])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_an_if_that_always_takes_one_branch_is_that_branch(flag: bool, shape: Any) -> None:
    net = Net()
    two_branches(net, np.full(shape, flag))
    before = net.nodes[-1]
    taken = next(a.g for a in before.attribute if a.name == f"{'then' if flag else 'else'}_branch")
    model = normal(net)
    assert "If" not in kinds(model) and kinds(model).count("Conv") == 2
    assert model.proto.graph.node[-1].output[0] == before.output[0]
    names = {name for node in taken.node for name in node.output} - {taken.output[0].name}
    made = {name for node in model.proto.graph.node for name in node.output}
    assert made == {n for n in names if "_w" not in n} | {before.output[0]}
    check_oracle(net.proto())


def test_a_branch_that_gives_one_tensor_back_twice() -> None:
    net = Net()
    x, _ = image(net)
    body = Body(net, "then")
    made = body.pair(x)
    graphs = [body.graph(made, made), branch(net, "e", lambda b: b.add("Abs", x))]
    graphs[1].output.append(graphs[1].output[0])
    a, b = net.many("If", np.array(True), outputs=2, then_branch=graphs[0], else_branch=graphs[1])
    for name in (a, b):
        net.output(name, shape=["N", 3, 6, 6])
    model = normal(net)  # onnxruntime gives out the second only when it is inlined
    assert kinds(model) == ["Conv", "Relu", "Conv", "Identity"]
    results = runtime.run(model, random_inputs(model, {"x": (1, 3, 6, 6), "flag": ()}))
    assert np.array_equal(results[a], results[b])


def test_metadata_of_nodes_in_bodies_stays() -> None:
    net = Net()
    two_branches(net)
    graph = next(a.g for a in net.nodes[-1].attribute if a.name == "else_branch")
    for node in graph.node:
        node.metadata_props.add(key="from", value=node.op_type)
    slimmed = check_oracle(net.proto()).slimmed
    found = [n.op_type for n in every_node(slimmed.proto.graph) if n.metadata_props]
    assert found == [node.op_type for node in graph.node]


def test_an_if_costs_its_larger_branch() -> None:
    net = Net()
    x, flag = image(net)
    small = branch(net, "then", lambda b: b.conv(x, 3, 3))
    choice(net, flag, small, branch(net, "else", lambda b: b.pair(x)))
    dense, _ = grouped(net.proto())
    assert cost(dense.graph, dense.batch).macs == PAIR


@pytest.mark.parametrize(("trips", "runs"), [(3, 3), (0, 0), (None, 1)])
def test_a_loop_costs_what_its_trips_cost(trips: int | None, runs: int) -> None:
    net = Net()
    x = net.input("N", 3, 6, 6)
    count = net.input(name="count", type=TensorProto.INT64) if trips is None else np.array(trips)
    body = Body(net, "loop")
    body.add("Identity", "go", name="on")
    graph = body.graph("on", body.pair("state"), entries=LOOPED)
    net.output(net.add("Loop", count, np.array(True), x, body=graph), shape=[None] * 4)
    dense, _ = grouped(net.proto())
    found = cost(dense.graph, dense.batch)
    assert (found.macs, found.uncounted) == (runs * PAIR, 0)


def test_a_scan_costs_what_its_steps_cost() -> None:
    net = Net()
    body = Body(net, "scan")
    graph = body.graph(body.pair("piece"), entries=[("piece", FLOAT, None)])
    x = net.input(5, 1, 3, 6, 6)
    net.output(net.add("Scan", x, body=graph, num_scan_inputs=1), shape=[None] * 5)
    dense, _ = grouped(net.proto())
    assert cost(dense.graph, dense.batch).macs == 5 * PAIR


def test_what_a_growing_state_makes_is_not_counted() -> None:
    net = Net()

    def build(body: Body) -> str:
        made = body.conv("state", 3, 3)
        return body.add("Concat", made, made, axis=0)

    net.output(net.add("ReduceMax", loop(net, net.input(1, 3, 6, 6), build), keepdims=0), shape=[])
    dense, _ = grouped(net.proto())
    assert cost(dense.graph, dense.batch).uncounted == 1


def test_batch_norm_inside_a_body_is_folded() -> None:
    net = Net()
    two_branches(net)
    dense, _ = grouped(net.proto())
    model = dense.graph.model
    folded = fold_batch_norms(model)
    assert "BatchNormalization" in kinds(model) and "BatchNormalization" not in kinds(folded)
    inputs = random_inputs(model, dense.sizes)
    inputs["flag"] = np.array(False)
    gap = oracle.difference(runtime.run(model, inputs), runtime.run(folded, inputs))
    assert gap.relative < 1e-5


def test_batch_norm_inside_a_body_is_not_folded_into_what_lies_around_it() -> None:
    net = Net()
    x, flag = image(net)
    made = net.conv(x, 3, 3)
    then = branch(net, "then", lambda b: b.norm(made, 3))
    choice(net, flag, then, branch(net, "else", lambda b: b.add("Abs", x)))
    assert "BatchNormalization" in kinds(fold_batch_norms(normal(net)))


def test_weights_of_bodies_may_lie_beside_the_model(tmp_path: Path) -> None:
    net = Net()
    two_branches(net)
    slimmed = check_oracle(net.proto()).slimmed
    from prunecvt.loading.load import load
    from prunecvt.writing.serialize import onnx_parts
    from prunecvt.writing.write import write_set

    write_set(onnx_parts(slimmed, tmp_path / "m.onnx", limit=100), inputs=[])
    assert {p.name for p in tmp_path.iterdir()} == {"m.onnx", "m.onnx.data"}
    again = load(tmp_path / "m.onnx")
    assert all(np.array_equal(again.weights[n], v) for n, v in slimmed.weights.items())


def test_shapes_that_a_body_states_are_not_believed() -> None:
    net = Net()
    body = Body(net, "loop")
    body.add("Identity", "go", name="on")
    made = body.pair("state")
    wrong = [*LOOPED[:2], ("state", FLOAT, [1, 3, 99, 99])]
    graph = body.graph("on", made, entries=wrong)
    x = net.input(1, 3, 6, 6)
    net.output(net.add("Loop", np.array(2), np.array(True), x, body=graph), shape=[None] * 4)
    dense = normalise(Source(Model.from_proto(net.proto())))
    assert dense.graph.shape("loop_first") == (1, 8, 6, 6)


def test_constants_of_the_oldest_files_become_initializers() -> None:
    net = Net(opset=8)
    net.ir = 3
    x = net.input("N", 3, 6, 6)
    weight = onnx.numpy_helper.from_array(net.rng.random((4, 3, 1, 1), np.float32))
    net.output(net.add("Conv", x, net.add("Constant", value=weight)))
    assert check_oracle(net.proto()).slimmed.proto.ir_version == 4
