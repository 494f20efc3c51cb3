"""What a rule wants changed, and the one place where that is done."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import onnx

from prunecvt_passes.clean import drop_dead
from prunecvt_passes.graph import Graph, Node, every_node, replace_nodes
from prunecvt_passes.model import Array, Model


@dataclass
class Changes:
    """Changes of one rule; they speak of the graph as it was indexed.

    Attributes:
        nodes: node -> what stands in its place.
        weights: initializers that are new or other.
        names: tensor -> the tensor that everything reads instead of it.
        done: how reports call what was rewritten.
        left: why something that the rule is for was left as it is.
    """

    nodes: dict[int, list[onnx.NodeProto]] = field(default_factory=dict)
    weights: dict[str, Array] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def drop(self, nodes: Iterable[Node]) -> None:
        """Leaves nodes out."""
        self.nodes.update({node.index: [] for node in nodes})

    def declined(self, reason: str) -> Changes:
        """No changes, and a reason why these were left out."""
        return Changes(left=[*self.left, *(f"{title}: {reason}" for title in self.done)])

    def edited(self, node: Node) -> onnx.NodeProto:
        """A copy of a node, which stands in its place; the same one each time."""
        if node.index not in self.nodes:
            copy = onnx.NodeProto()
            copy.CopyFrom(node.proto)
            self.nodes[node.index] = [copy]
        return self.nodes[node.index][0]


def apply(graph: Graph, changes: Changes) -> Model:
    """Returns the changed model; the very same where nothing is to change."""
    if not changes.done:
        return graph.model
    model = graph.model.copy()
    proto = model.proto.graph
    replace_nodes(proto, lambda index, node: changes.nodes.get(index, (node,)))
    for node in every_node(proto):
        for place, name in enumerate(node.input):
            while name in changes.names:
                name = changes.names[name]
            node.input[place] = name
    model.set_weights(changes.weights)
    drop_dead(model)
    return model
