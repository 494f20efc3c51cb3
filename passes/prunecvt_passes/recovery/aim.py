"""What a linear node of the slimmed model is to reach, and where its bias lies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prunecvt_passes.graph import Graph, Node
from prunecvt_passes.model import Array
from prunecvt_passes.recovery.linear import Linear


@dataclass(frozen=True)
class Aim:
    """A linear node, and what it is to reach.

    Attributes:
        linear: the node.
        tensor: what the original has here is the target: the node's output, with its bias, or the
            sum that it goes into.
        other: the other summand, which the slimmed model's own is taken for; "" where none.
        low, high: the range that the one reader of ``tensor`` tells apart.
        bias: node index and input place of the bias; None where there can be none.
    """

    linear: Linear
    tensor: str
    other: str
    low: float
    high: float
    bias: tuple[int, int] | None


def aim_of(graph: Graph, linear: Linear, grow: bool = True) -> Aim:
    """Follows a bias and a sum behind the node; ``grow`` says whether a bias may be added."""
    node = linear.node
    name, bias = _biased(graph, linear, grow)
    reader = graph.only_reader(name)
    other = ""
    if reader is not None and reader[0].op == "Add":
        other = _summand(graph, node, name, reader[0].inputs[1 - reader[1]], reader[0])
        name = reader[0].outputs[0] if other else name
    return Aim(linear, name, other, *_bounds(graph, name), bias)


def bias_values(graph: Graph, aim: Aim) -> Array | None:
    """The bias as it is in the graph's model, one value per output channel; None where none."""
    if aim.bias is None:
        return None
    name = bias_name(graph, aim.bias)
    return graph.model.weights[name].ravel() if name else None


def bias_name(graph: Graph, place: tuple[int, int]) -> str:
    """The initializer that holds a bias by now; "" where there is none yet."""
    inputs = graph.nodes[place[0]].proto.input
    return inputs[place[1]] if place[1] < len(inputs) else ""


def _biased(graph: Graph, linear: Linear, grow: bool) -> tuple[str, tuple[int, int] | None]:
    """The node's output with its bias, and where that lies."""
    node, name = linear.node, linear.node.outputs[0]
    if node.op != "MatMul":
        own = node.input(2)
        fits = graph.only_reader(own) is not None if own else grow
        return name, (node.index, 2) if fits else None
    reader = graph.only_reader(name)
    if reader is not None and reader[0].op == "Add":
        values = reader[0].inputs[1 - reader[1]]
        added, shape = graph.constant(values), graph.shape(name)
        alone = graph.only_reader(values) is not None
        if (
            added is not None
            and shape
            and alone
            and added.shape[-1:] == shape[-1:] == (added.size,)
        ):
            return reader[0].outputs[0], (reader[0].index, 1 - reader[1])
    return name, None


def _summand(graph: Graph, node: Node, name: str, other: str, add: Node) -> str:
    """``other`` where it is a tensor of the same shape that is made before the node; else ""."""
    shape = graph.shape(name)
    same = shape is not None and graph.shape(other) == shape == graph.shape(add.outputs[0])
    maker = graph.producer.get(other)
    early = maker is None or maker.index < node.index
    return other if same and early and other != name and not graph.is_initializer(other) else ""


def _bounds(graph: Graph, name: str) -> tuple[float, float]:
    """What a Relu or a Clip that alone reads ``name`` lets through."""
    reader = graph.only_reader(name)
    if reader is None or reader[1] != 0:
        return -np.inf, np.inf
    node = reader[0]
    if node.op == "Relu":
        return 0.0, np.inf
    if node.op != "Clip":
        return -np.inf, np.inf
    bounds = []
    for place, (attribute, default) in enumerate((("min", -np.inf), ("max", np.inf)), 1):
        stated = graph.constant(node.input(place)) if node.input(place) else None
        if node.input(place) and stated is None:
            return -np.inf, np.inf
        bounds.append(float(node.attributes.get(attribute, default) if stated is None else stated))
    return bounds[0], bounds[1]
