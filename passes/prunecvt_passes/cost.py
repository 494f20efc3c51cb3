"""What a model costs: parameters, multiply-accumulates, channels."""

from __future__ import annotations

import math
from dataclasses import dataclass

from prunecvt_passes.graph import DEFAULT_DOMAINS, Graph, Node
from prunecvt_passes.model import Model


@dataclass(frozen=True)
class Cost:
    """Counts for one model.

    Attributes:
        params: elements of all floating-point and quantised weights.
        macs: multiply-accumulates of all Conv, ConvTranspose, Gemm, MatMul, LSTM, GRU and RNN for
            one inference, at the sizes the shapes were found at and a batch of one where the batch
            is dynamic.
        uncounted: such nodes that do not count: of unknown shape, or in bodies of If, Loop, Scan.
    """

    params: int
    macs: int
    uncounted: int = 0


def cost(graph: Graph, batch: int = 1) -> Cost:
    """Counts; ``batch`` is the batch that the graph's shapes hold for."""
    macs = sum(node_macs(graph, node) for node in graph.nodes)
    return Cost(parameters(graph.model), macs // max(batch, 1), _uncounted(graph))


def _uncounted(graph: Graph) -> int:
    bodies = [body for node in graph.nodes for body in node.subgraphs]
    inside = sum(node.op_type in _CONTRACTIONS for body in bodies for node in body.node)
    return inside + sum(
        node.op in _CONTRACTIONS
        and any(graph.shape(name) is None for name in (*node.inputs[:2], node.outputs[0]) if name)
        for node in graph.nodes
    )


def parameters(model: Model) -> int:
    """Elements of all weights; sizes and indices (64-bit integers) do not count."""
    return sum(
        v.size for v in model.weights.values() if v.dtype.kind not in "iuO" or v.dtype.itemsize < 4
    )


def node_macs(graph: Graph, node: Node) -> int:
    """Multiply-accumulates of one node, 0 for what is not a contraction or has no known shape."""
    if node.domain not in DEFAULT_DOMAINS or node.op not in _CONTRACTIONS:
        return 0
    first, second = graph.shape(node.inputs[0]), graph.shape(node.inputs[1])
    if node.op in _RECURRENT:
        return _recurrent(graph, node)
    made = graph.shape(node.outputs[0])
    if first is None or second is None or made is None:
        return 0
    if node.op == "Conv":
        return math.prod(made) * math.prod(second[1:])
    if node.op == "ConvTranspose":
        return math.prod(first) * math.prod(second[1:])
    summed = first[0] if node.op == "Gemm" and node.attributes.get("transA", 0) else first[-1]
    return math.prod(made) * summed


def _recurrent(graph: Graph, node: Node) -> int:
    """Weights of inputs and of states, once per step and sequence."""
    steps, *weights = (graph.shape(name) for name in node.inputs[:3])
    return math.prod((steps or (0,))[:2]) * sum(math.prod(shape or (0,)) for shape in weights)


_RECURRENT = ("GRU", "LSTM", "RNN")
_CONTRACTIONS = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul", *_RECURRENT))
