"""Which open axes of a model's inputs cannot be told apart by the sizes that were probed.

Two inputs whose batches bear two names are probed with the same batch, and run with it; at other
sizes one may be 1 and be broadcast. What looks like one shape may then be two.
"""

from __future__ import annotations

from collections.abc import Sequence

from prunecvt_passes.graph import Graph
from prunecvt_passes.samples import dimensions, graph_inputs


def told_apart(graph: Graph, names: Sequence[str]) -> bool:
    """Whether tensors of one probed shape have one shape at all sizes.

    They do where the inputs they are computed from give every probed pair of sizes one name.

    Args:
        graph: an index with shapes.
        names: the tensors.
    """
    read = _inputs_of(graph, names)
    meant: dict[tuple[int, int], str] = {}
    for value in graph_inputs(graph.model):
        first = graph.shapes.sizes.get(value.name)
        second = graph.shapes.others.get(value.name)
        if value.name not in read or first is None or second is None:
            continue
        for axis, (dim, *pair) in enumerate(
            zip(dimensions(value) or (), first, second, strict=False)
        ):
            if isinstance(dim, int):
                continue
            own = dim or f"{value.name} {axis}"
            if meant.setdefault((pair[0], pair[1]), own) != own:
                return False
    return True


def _inputs_of(graph: Graph, names: Sequence[str]) -> set[str]:
    """The graph's inputs that tensors are computed from; bodies read what is around them too."""
    waiting, seen = [name for name in names if name], set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        maker = graph.producer.get(name)
        if maker is not None:
            waiting += [each for each in maker.inputs if each]
            waiting += graph.captured if maker.subgraphs else ()
    return seen & set(graph.inputs)
