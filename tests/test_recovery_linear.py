"""Linear nodes as patches times a matrix, and walks that equal plain runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models import Net
from prunecvt_passes import runtime
from prunecvt_passes.graph import Graph, index
from prunecvt_passes.model import Model
from prunecvt_passes.normalise import Source, normalise
from prunecvt_passes.recovery.linear import linear_nodes, matrix, weight_of
from prunecvt_passes.recovery.patches import patches, positions, responses
from prunecvt_passes.recovery.walk import Walk


def graph_of(net: Net) -> Graph:
    return normalise(Source(Model.from_proto(net.proto()))).graph


def conv_net(**attributes: Any) -> Net:
    net = Net()
    net.output(net.conv(net.input("N", 4, 7, 9), 4, 6, 3, **attributes))
    return net


def transposed_net(**attributes: Any) -> Net:
    net = Net()
    group = attributes.get("group", 1)
    weight = net.random(4, 6 // group, 3, 2)
    x = net.input("N", 4, 5, 6)
    net.output(net.add("ConvTranspose", x, weight, net.random(6), **attributes))
    return net


def product_net(op: str, **attributes: Any) -> Net:
    net = Net()
    if op == "Gemm":
        shape = (6, 5) if attributes.get("transB") else (5, 6)
        x = net.input("N", 5)
        net.output(net.add("Gemm", x, net.random(*shape), net.random(6), **attributes))
        return net
    net.output(net.add("MatMul", net.input("N", 3, 5), net.random(5, 6)))
    return net


NETS = {
    "conv": conv_net(),
    "strided": conv_net(strides=[2, 3], pads=[1, 0, 2, 1]),
    "dilated": conv_net(dilations=[2, 2], pads=[2, 2, 2, 2]),
    "grouped": conv_net(group=2),
    "same_upper": conv_net(auto_pad="SAME_UPPER", strides=[2, 2], pads=None),
    "same_lower": conv_net(auto_pad="SAME_LOWER", strides=[2, 2], pads=None),
    "transposed": transposed_net(strides=[2, 1], pads=[1, 0, 0, 1], output_padding=[1, 0]),
    "transposed_grouped": transposed_net(group=2, strides=[2, 2]),
    "transposed_dilated": transposed_net(dilations=[1, 2]),
    "gemm": product_net("Gemm"),
    "gemm_turned": product_net("Gemm", transB=1),
    "matmul": product_net("MatMul"),
}


@pytest.mark.parametrize("name", NETS)
def test_patches_times_the_matrix_is_the_node(name: str) -> None:
    graph = graph_of(NETS[name])
    (linear,) = linear_nodes(graph)
    value = graph.model.proto.graph.input[0]
    rng = np.random.default_rng(0)
    shape = [d.dim_value or 2 for d in value.type.tensor_type.shape.dim]
    x = rng.standard_normal(shape).astype(np.float32)
    out = next(iter(runtime.run(graph.model, {value.name: x}).values()))
    weight = graph.model.weights[linear.weight]
    places = positions(linear, out.shape, 11, rng)
    rows = patches(linear, x, out.shape, weight.shape, places)
    wide = matrix(linear, weight)
    bias = linear.node.input(2)
    found = (rows @ wide.transpose(0, 2, 1)).transpose(1, 0, 2).reshape(len(rows[0]), -1)
    found = found + (graph.model.weights[bias] if bias else 0)
    np.testing.assert_allclose(found, responses(linear, out, places), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(weight_of(linear, wide, weight.shape), weight)


def test_a_shared_weight_and_a_computed_bias_are_left_alone() -> None:
    net = Net()
    x, weight = net.input("N", 5), net.random(5, 5)
    x = net.add("MatMul", net.add("MatMul", x, weight), weight)
    net.output(net.add("Gemm", x, net.random(5, 5), net.add("Neg", net.input(5, name="b"))))
    assert not linear_nodes(graph_of(net))


def branching() -> Net:
    """Two branches, one of them read late."""
    net = Net()
    first = net.first()
    left, right = net.conv(first, 8, 8, 3), net.add("Relu", net.conv(first, 8, 8))
    x = net.add("Add", net.add("Relu", left), right)
    net.last(net.add("Add", net.norm(net.conv(x, 8, 8), 8), first))
    return net


@pytest.mark.parametrize("limit", [1 << 30, 2000, 0])
def test_a_walk_gives_what_a_plain_run_gives(limit: int) -> None:
    net = branching()
    graph = graph_of(net)
    rng = np.random.default_rng(0)
    feeds = [{"x": rng.standard_normal((n, 3, 6, 6)).astype(np.float32)} for n in (2, 2, 1)]
    tensors = [node.outputs[0] for node in graph.nodes]
    shown = graph.model.copy()
    del shown.proto.graph.output[:]
    for name in tensors:
        shown.proto.graph.output.add(name=name)
    with Walk(graph, feeds, tensors, limit) as walk:
        for stop in (1, 3, 4, len(graph.nodes)):
            walk.to(stop)
        for batch, feed in enumerate(feeds):
            for name, values in runtime.run(shown, feed).items():
                np.testing.assert_array_equal(walk.get(batch, name), values)
        assert (walk.store.spilled > 0) == (limit < 1 << 30)
        walk.release(tensors)
        assert walk.store.names() == set(graph.outputs)


def test_the_rest_of_a_walk_is_run_with_other_weights() -> None:
    """Wherever it stands, also behind the node that makes the first of two outputs."""
    net = branching()
    net.output(net.add("Relu", net.proto().graph.node[0].output[0]))
    graph = graph_of(net)
    feed = {"x": np.random.default_rng(0).standard_normal((2, 3, 6, 6)).astype(np.float32)}
    with Walk(graph, [feed]) as walk:
        for stop in range(len(graph.nodes) + 1):
            walk.to(stop)
            edited = index(graph.model.copy(), graph.shapes)
            for linear in linear_nodes(edited):
                if linear.node.index >= stop:
                    weight = edited.model.weights[linear.weight]
                    edited.model.set_weight(linear.weight, weight * 2)
            (found,) = walk.rest(edited)
            expected = runtime.run(edited.model, feed)
            assert found.keys() == expected.keys()
            for name, values in expected.items():
                np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-5)


def test_the_rest_of_a_walk_gives_outputs_in_the_order_of_the_graph() -> None:
    """Late before early, an input as it is, and one that is an initializer."""
    net = Net()
    early = net.add("Relu", net.conv(net.first(), 8, 8))
    late = net.conv(early, 8, 4)
    net.output(late, shape=[None] * 4)
    net.output(net.conv(early, 8, 3), shape=[None] * 4)
    net.constant(np.ones(3, np.float32), "held")
    net.output("held", shape=[3])
    graph = graph_of(net)
    feed = {"x": np.random.default_rng(0).standard_normal((2, 3, 6, 6)).astype(np.float32)}
    expected = runtime.run(graph.model, feed)
    with Walk(graph, [feed]) as walk:
        for stop in range(len(graph.nodes) + 1):
            walk.to(stop)
            (found,) = walk.rest(graph)
            assert list(found) == list(graph.outputs) == list(expected)
            for name, values in expected.items():
                np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-5)


def test_a_walk_runs_changed_weights() -> None:
    graph = graph_of(branching())
    edited = index(graph.model.copy(), graph.shapes)
    feed = {"x": np.ones((1, 3, 6, 6), np.float32)}
    with Walk(edited, [feed], edited.outputs) as walk:
        walk.to(2)
        last = linear_nodes(edited)[-1]
        edited.model.set_weight(last.weight, edited.model.weights[last.weight] * 2)
        walk.to(len(edited.nodes))
        expected = runtime.run(edited.model, feed)[edited.outputs[0]]
        np.testing.assert_array_equal(walk.get(0, edited.outputs[0]), expected)


def test_what_merely_has_constant_inputs_is_not_linear() -> None:
    net = Net()
    low, high = np.array(0, np.float32), np.array(1, np.float32)
    net.output(net.add("Clip", net.input(8), low, high), shape=[8])
    dense = normalise(Source(Model.from_proto(net.proto())))
    assert linear_nodes(dense.graph) == []
