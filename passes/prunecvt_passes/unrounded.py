"""The same model without the rounding between QuantizeLinear and DequantizeLinear.

Two sums of the same numbers in another order differ in the last place; where one lies between two
integers, rounding makes a whole step of that. Without it such a pair of nodes is a Clip to the
range of the integers, and whether a cut is exact can be seen again.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np

from prunecvt_passes.graph import Graph, Node, every_node, index, taken_names, unused
from prunecvt_passes.model import Array, Model

_CLIP_BY_INPUTS = 11  # opset since which Clip takes its bounds as inputs


def unrounded(model: Model) -> Model:
    """Returns a copy with a Clip for each QuantizeLinear that DequantizeLinear undoes.

    One stays where its scale or zero point is computed or one per channel, where anything else
    reads it, or where it makes another type than integers; the very same model where all do.
    """
    graph = index(model)
    if graph.opset < _CLIP_BY_INPUTS:
        return model
    copy, added = model.copy(), dict[str, Array]()
    protos = every_node(copy.proto.graph)
    taken = taken_names(model.proto.graph)
    for node in graph.nodes:
        bounds = _bounds(graph, node) if node.op == "QuantizeLinear" else None
        if bounds is None:
            continue
        names = [unused(f"{node.outputs[0]}__{side}", taken) for side in ("low", "high")]
        added.update(zip(names, bounds, strict=True))
        clip = protos[node.index]
        clip.op_type, clip.domain, clip.input[1:] = "Clip", "", names
        del clip.attribute[:]
        for reader, _ in graph.readers[node.outputs[0]]:
            same = protos[reader.index]
            same.op_type, same.domain, same.input[1:] = "Identity", "", []
            del same.attribute[:]
    copy.set_weights(added)
    return copy if added else model


def _bounds(graph: Graph, node: Node) -> tuple[Array, Array] | None:
    """The least and the largest number that a quantiser gives back; None where it has to stay."""
    name = node.outputs[0]
    scale, zero = (graph.constant(node.input(place)) for place in (1, 2))
    readers = graph.readers.get(name, [])
    if scale is None or zero is None or scale.size != 1 or zero.size != 1 or not readers:
        return None
    if name in graph.ends or name in graph.sealed:
        return None
    for reader, place in readers:
        undone = reader.op == "DequantizeLinear" and place == 0
        if not undone or not _same(graph, node, reader):
            return None
    try:
        limits = ml_dtypes.iinfo(zero.dtype)  # type: ignore[no-untyped-call]
    except (TypeError, ValueError):  # a float of 8 bits
        return None
    factor, start = scale.reshape(()), int(zero.reshape(()))
    low, high = ((limit - start) * float(factor) for limit in (limits.min, limits.max))
    return np.asarray(low, scale.dtype), np.asarray(high, scale.dtype)


def _same(graph: Graph, node: Node, reader: Node) -> bool:
    """Whether two nodes have the same constant scale and zero point."""
    pairs = [(graph.constant(node.input(k)), graph.constant(reader.input(k))) for k in (1, 2)]
    return all(a is not None and b is not None and np.array_equal(a, b) for a, b in pairs)
