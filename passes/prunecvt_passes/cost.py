"""What a model costs: parameters, multiply-accumulates, channels."""

from __future__ import annotations

import math
from dataclasses import dataclass

from prunecvt_passes.graph import Graph, Node
from prunecvt_passes.model import Model
from prunecvt_passes.quantization import FACTORS, MICROSOFT, factors


@dataclass(frozen=True)
class Cost:
    """Counts for one model.

    Attributes:
        params: elements of all floating-point and quantised weights.
        macs: multiply-accumulates of all convolutions and matrix products for one inference, at
            the sizes the shapes were found at and a batch of one where the batch is dynamic.
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
        node.kind in _CONTRACTIONS
        and any(
            graph.shape(name) is None
            for name in (*(node.inputs[factor.data] for factor in factors(node)), node.outputs[0])
        )
        for node in graph.nodes
    )


def parameters(model: Model) -> int:
    """Elements of all weights; sizes and indices (64-bit integers) do not count."""
    return sum(
        v.size for v in model.weights.values() if v.dtype.kind not in "iuO" or v.dtype.itemsize < 4
    )


def node_macs(graph: Graph, node: Node) -> int:
    """Multiply-accumulates of one node, 0 for what is not a contraction or has no known shape."""
    if node.kind not in _CONTRACTIONS:
        return 0
    first, second = (graph.shape(node.inputs[factor.data]) for factor in factors(node))
    made = graph.shape(node.outputs[0])
    if first is None or second is None or made is None:
        return 0
    if node.op in ("Conv", "ConvInteger", "QLinearConv"):
        return math.prod(made) * math.prod(second[1:])
    if node.op == "ConvTranspose":
        return math.prod(first) * math.prod(second[1:])
    summed = (
        first[0] if node.op in ("Gemm", "QGemm") and node.attributes.get("transA", 0) else first[-1]
    )
    return math.prod(made) * summed


_CONTRACTIONS = frozenset(
    ("Conv", "ConvTranspose", "Gemm", "MatMul", f"{MICROSOFT}:MatMulNBits", *FACTORS)
)
