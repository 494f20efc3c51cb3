"""What a model costs: parameters, multiply-accumulates, channels."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

from prunecvt_passes.graph import Graph, Node, integers
from prunecvt_passes.model import Model
from prunecvt_passes.quantization import FACTORS, MICROSOFT, factors


@dataclass(frozen=True)
class Cost:
    """Counts for one model.

    Attributes:
        params: elements of all floating-point and quantised weights.
        macs: multiply-accumulates of all convolutions and matrix products for one inference, at
            the sizes the shapes were found at and a batch of one where the batch is dynamic. Of an
            If its larger branch counts; the body of a Scan as often as it runs, that of a Loop too
            where its trip count is constant and its condition no more than handed on, else once.
        uncounted: such nodes that do not count, for their shape is not known.
    """

    params: int
    macs: int
    uncounted: int = 0


def cost(graph: Graph, batch: int = 1) -> Cost:
    """Counts; ``batch`` is the batch that the graph's shapes hold for."""
    inside: dict[int, int] = defaultdict(int)  # scope -> MACs of running it once
    for node in graph.nodes:
        runs = [inside[scope] for scope in node.inner]
        most = max(runs, default=0) * _trips(graph, node)
        inside[node.scope] += node_macs(graph, node) + most
    return Cost(parameters(graph.model), inside[0] // max(batch, 1), _uncounted(graph))


def _trips(graph: Graph, node: Node) -> int:
    """How often the body of a Loop or a Scan runs, 1 where that is not known beforehand."""
    if node.op == "Loop":
        trips, body = integers(graph, node.input(0)), node.subgraphs[0]
        maker = graph.producer.get(body.output[0].name)
        on = maker is not None and maker.op in ("Constant", "Identity")
        return max(trips[0], 0) if trips and on else 1
    if node.op == "Scan":
        shape = graph.shape(node.inputs[-1]) or (1,)
        return shape[int(node.attributes.get("scan_input_axes", (0,))[-1])]
    return 1


def _uncounted(graph: Graph) -> int:
    return sum(
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
