"""Where activations are zero exactly, because an operator before them makes zeros."""

from __future__ import annotations

import numpy as np

from prunecvt_passes.graph import Graph, Node

_MAKERS = ("HardSigmoid", "HardSwish", "Relu", "ThresholdedRelu")
_BOUNDS = {"HardSigmoid": 1.0}
# Operators of whose first input each output is one value, or a mean or largest of several.
_CARRIERS = (
    *("AveragePool", "DepthToSpace", "DequantizeLinear", "Dropout", "Expand", "Flatten", "Gather"),
    *("GlobalAveragePool", "GlobalMaxPool", "Identity", "MaxPool", "Pad", "QuantizeLinear"),
    *("ReduceMax", "ReduceMean", "Reshape", "Resize", "Slice", "SpaceToDepth", "Split", "Squeeze"),
    *("Tile", "Transpose", "Unsqueeze", "Upsample"),
)


def zeroing(graph: Graph) -> dict[str, float]:
    """Tensor -> upper bound of its values (infinity where none), where zeros are made on purpose.

    A Relu or a Clip from zero on makes them, and what only moves or averages values hands them on.
    SiLU and GELU do not: what they bring to zero is small, not cut off.
    """
    found: dict[str, float] = {}
    for node in graph.nodes:
        bound = _bound(graph, node, found)
        if bound is not None:
            found.update(dict.fromkeys(filter(None, node.outputs), bound))
    return found


def _bound(graph: Graph, node: Node, found: dict[str, float]) -> float | None:
    """The upper bound of what a node makes; None where it makes no zeros."""
    if node.kind in _MAKERS:
        return _BOUNDS.get(node.kind, np.inf)
    if node.kind == "Clip":
        low, high = (_limit(graph, node, place) for place in (1, 2))
        return high if low == 0 and high > 0 else None
    if node.kind in _CARRIERS:
        return found.get(node.input(0))
    known = [found[name] for name in node.inputs if name in found]
    if node.kind == "Mul" and known:  # zero where one factor is
        return np.inf
    if node.kind in ("Add", "Concat", "Max", "Sum") and len(known) == len(node.inputs):
        alike = node.kind in ("Concat", "Max") and len(set(known)) == 1
        return known[0] if alike else np.inf
    return None


def _limit(graph: Graph, node: Node, place: int) -> float:
    """A bound of a Clip, as an input or as an attribute; NaN where it is computed."""
    if node.input(place):
        stated = graph.constant(node.input(place))
        return float(np.ravel(stated)[0]) if stated is not None and stated.size == 1 else np.nan
    missing = {1: -np.inf, 2: np.inf}[place]
    return float(node.attributes.get({1: "min", 2: "max"}[place], missing))
