"""Clean-up: removes what nothing reads."""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from prunecvt_passes.graph import Graph, bodies, captures, sealed
from prunecvt_passes.model import Model


def outer_names(graph: Graph, inner: Iterable[str]) -> set[str]:
    """Those of ``inner`` that something outside of ``inner``'s own makers reads."""
    names = set(inner)
    return {
        name
        for name in names
        if name in graph.ends
        or name in graph.sealed
        or any(not set(reader.outputs) <= names for reader, _ in graph.readers.get(name, []))
    }


def drop_dead(model: Model) -> None:
    """Removes nodes whose outputs nothing reads and initializers that nothing reads, in place.

    One walk from the last node to the first; inputs and outputs of the graph and of bodies stay.
    """
    live = {value.name for value in model.proto.graph.output}
    _drop_dead_nodes(model.proto.graph, live)
    dead = [name for name in model.weights if name not in live]
    if dead:
        model.drop_weights(dead)


def _drop_dead_nodes(graph: onnx.GraphProto, live: set[str]) -> None:
    """Drops nodes of ``graph`` and its bodies that make nothing in ``live``, to which it adds.

    What is declared of the tensors that they made goes with them.
    """
    kept = []
    for node in reversed(graph.node):
        if not node.output or any(name in live for name in node.output if name):
            kept.append(node)
            live.update(name for name in node.input if name)
            for body in bodies(node):
                live.update(value.name for value in body.output)
                _drop_dead_nodes(body, live)
            for body in sealed(node):
                live.update(captures(body))
    if len(kept) != len(graph.node):
        del graph.node[:]
        graph.node.extend(reversed(kept))
        made = {name for node in graph.node for name in node.output}
        described = [value for value in graph.value_info if value.name in made]
        del graph.value_info[:]
        graph.value_info.extend(described)
