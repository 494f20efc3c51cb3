"""Clean-up: removes what nothing reads."""

from __future__ import annotations

from collections.abc import Iterable

from prunecvt_passes.graph import Graph, captures
from prunecvt_passes.model import Model


def outer_names(graph: Graph, inner: Iterable[str]) -> set[str]:
    """Those of ``inner`` that something outside of ``inner``'s own makers reads."""
    names = set(inner)
    return {
        name
        for name in names
        if name in graph.captured
        or name in graph.outputs
        or any(not set(reader.outputs) <= names for reader, _ in graph.readers.get(name, []))
    }


def drop_dead(model: Model) -> None:
    """Removes nodes whose outputs nothing reads and initializers that nothing reads, in place.

    One walk from the last node to the first; inputs and outputs of the graph stay.
    """
    graph = model.proto.graph
    live = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if not node.output or any(name in live for name in node.output if name):
            kept.append(node)
            live.update(name for name in node.input if name)
            for attribute in node.attribute:
                bodies = [attribute.g] if attribute.HasField("g") else attribute.graphs
                for body in bodies:
                    live.update(captures(body))
    if len(kept) != len(graph.node):
        del graph.node[:]
        graph.node.extend(reversed(kept))
    dead = [name for name in model.weights if name not in live]
    if dead:
        model.drop_weights(dead)
