"""Operators that mix a whole axis: pooling, reductions, searches along an axis."""

from __future__ import annotations

import math
from collections.abc import Iterator

from prunecvt_passes.flow import Axes, Flow
from prunecvt_passes.graph import Graph, Node, integers
from prunecvt_passes.rules.normalisation import across
from prunecvt_passes.rules.resizing import count_entries

_STATED = "is scaled by the number of channels, given as a constant, so all of them stay"
_PASSING = ("Cast", "Identity", "Reshape", "Sqrt", "Squeeze", "Unsqueeze")
# f(0, ...) adds nothing: a channel multiplied by zero is as good as gone
_EXACT = ("ReduceSum", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceSumSquare")


def pool(flow: Flow, node: Node) -> list[Axes]:
    """Labels of pooling: channels carry on, positions are mixed."""
    axes = flow.axes_of(node.inputs[0])
    for labels in axes[2:]:
        flow.pin(labels, node, "pooled", "pools over this axis")
    for name in filter(None, node.inputs[1:]):
        flow.pin_tensor(name, node, "pooled", "takes its regions from it")
    if node.output(1):  # positions in the whole tensor: their meaning depends on every channel
        counting = axes[:1] if _only_unpooled(flow, node.outputs[1]) else axes[:2]
        for axis, labels in enumerate(counting):
            flow.pin(labels, node, "flat-indices", "gives out positions that count all channels")
            axes[axis] = None
    rank = len(flow.shape(node.outputs[0]))
    made: Axes = [None, axes[1], *[None] * (rank - 2)]
    if node.op in ("MaxRoiPool", "RoiAlign"):
        return [made]
    made[0] = axes[0]
    return [made, list(made)]


def _only_unpooled(flow: Flow, name: str) -> bool:
    """Whether positions go nowhere but to MaxUnpool, which counts the same channels as they do."""
    graph = flow.graph
    uses = graph.readers.get(name, [])
    public = name in graph.outputs or name in graph.captured
    return not public and all(node.op == "MaxUnpool" and place == 1 for node, place in uses)


def max_unpool(flow: Flow, node: Node) -> list[Axes]:
    """Labels of MaxUnpool: tied to those of the MaxPool of equal size that gave the positions."""
    graph, name = flow.graph, node.outputs[0]
    axes, places = flow.axes_of(node.inputs[0]), flow.axes_of(node.inputs[1])
    for labels in (axes[0], *axes[2:], places[0], *places[2:]):
        flow.pin(labels, node, "pooled", "pools over this axis")
    maker, made = graph.producer.get(node.inputs[1]), flow.plain(name)
    large = None if maker is None or maker.op != "MaxPool" else maker.inputs[0]
    if large and graph.shape(name) == graph.shape(large) and not any(graph.dynamic(name)[2:]):
        if axes[1] is not None or places[1] is not None:
            made[1] = flow.tie(axes[1], places[1], node)
    else:
        for labels in (axes[1], places[1]):
            flow.pin(labels, node, "flat-indices", "takes positions that count all channels")
    if node.input(2):
        count_entries(flow, node, 2, made)
        if not graph.is_initializer(node.inputs[2]):
            made = flow.plain(name)
    return [made]


def reduce(flow: Flow, node: Node) -> list[Axes]:
    """Labels of a reduction: exact over a labelled axis where zero adds nothing, else inexact."""
    axes = flow.axes_of(node.inputs[0])
    reduced = reduced_axes(flow, node, len(axes))
    if reduced is None:
        flow.pin_tensor(node.inputs[0], node, "unknown-axes", "reduces over axes it computes")
        return [flow.plain(node.outputs[0])]
    if node.op in _EXACT:
        for axis in reduced:
            flow.reading(node, 0, axis)
    elif node.op == "ReduceMean" and _stated(flow, node, axes, reduced):
        for axis in reduced:
            flow.pin(axes[axis], node, "reduced", _STATED)
    else:
        across(flow, node, axes, reduced, code="reduced")
    if node.attributes.get("keepdims", 1):
        return [[None if k in reduced else labels for k, labels in enumerate(axes)]]
    return [[labels for k, labels in enumerate(axes) if k not in reduced]]


def _stated(flow: Flow, node: Node, axes: Axes, reduced: set[int]) -> bool:
    """Whether a mean is scaled by a constant that follows from how many channels there are.

    A sum (mean times C) or an unbiased variance (times C / (C - 1)) of fewer channels would be
    scaled by the number there were before, and nothing could tell.
    """
    shape = flow.shape(node.inputs[0])
    whole = math.prod(shape[k] for k in reduced)
    labelled = math.prod(shape[k] for k in reduced if axes[k] is not None)
    if labelled == 1:
        return False
    factors = {f for n in (whole, labelled) if n > 2 for f in (n, n - 1, n / (n - 1), n**0.5)}
    return bool(factors) and any(
        math.isclose(scale, factor, rel_tol=1e-5) or math.isclose(scale * factor, 1, rel_tol=1e-5)
        for scale in _scales(flow.graph, node.outputs[0])
        for factor in factors
    )


def _scales(graph: Graph, name: str) -> Iterator[float]:
    """Yields the single constants that a tensor is multiplied or divided by, one after another."""
    waiting = [name]
    while waiting:
        for reader, place in graph.readers.get(waiting.pop(), ()):
            if reader.op in ("Mul", "Div"):
                values = graph.constant(reader.inputs[1 - place])
                if values is None or values.size != 1:
                    continue
                yield float(values.ravel()[0])
            elif reader.op not in _PASSING:
                continue
            waiting.append(reader.outputs[0])


def reduced_axes(flow: Flow, node: Node, rank: int) -> set[int] | None:
    """The axes that a Reduce operator reduces; None where they are not constant."""
    stated = node.attributes.get("axes")
    if stated is None and node.input(1):
        stated = integers(flow.graph, node.inputs[1])
        if stated is None:
            return None
    if not stated:
        return set() if node.attributes.get("noop_with_empty_axes", 0) else set(range(rank))
    return {axis % rank for axis in stated}


def along_axis(flow: Flow, node: Node) -> list[Axes]:
    """Labels of an operator whose result at one index depends on the others along its axes."""
    axes = flow.axes_of(node.inputs[0])
    mixed = _mixed_axes(flow, node, len(axes))
    for axis in mixed:
        flow.pin(axes[axis], node, "mixed-axis", "works across this axis, so all of it stays")
    for name in filter(None, node.inputs[1:]):
        flow.pin_tensor(name, node, "mixed-axis", "works across this axis, so all of it stays")
    made = []
    for name in node.outputs:
        rank = len(flow.shape(name)) if name else 0
        if rank == len(axes):
            made.append([None if k in mixed else labels for k, labels in enumerate(axes)])
        else:  # ArgMax and TopK without keepdims
            made.append([labels for k, labels in enumerate(axes) if k not in mixed][:rank])
    return made


def _mixed_axes(flow: Flow, node: Node, rank: int) -> set[int]:
    if not rank:  # ArgMax of a scalar
        return set()
    flattens = node.op == "Hardmax" and flow.graph.opset < 13
    if node.op in ("CumProd", "CumSum"):
        stated = integers(flow.graph, node.inputs[1])
        return set(range(rank)) if stated is None else {stated[0] % rank}
    default = {"ArgMax": 0, "ArgMin": 0}.get(node.op, 1 if flattens else -1)
    axis = node.attributes.get("axis", default) % rank
    return set(range(axis, rank)) if flattens else {axis}
