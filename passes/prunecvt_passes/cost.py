"""What a model costs: parameters, multiply-accumulates, channels."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from prunecvt_passes.graph import Graph, Node, integers
from prunecvt_passes.model import Model
from prunecvt_passes.quantization import FACTORS, MICROSOFT, factors
from prunecvt_passes.rules.einsum import subscripts


@dataclass(frozen=True)
class Cost:
    """Counts for one model.

    Attributes:
        params: elements of all floating-point and quantised weights.
        macs: multiply-accumulates of all convolutions, products, attentions and recurrences for one
            inference, at the sizes the shapes were found at and a batch of one where the batch is
            dynamic. Of an If its larger branch counts; the body of a Scan as often as it runs, that
            of a Loop too where its trip count is constant and its condition no more than handed on,
            else once.
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
    return sum(node.kind in _COUNTS and _unshaped(graph, node) for node in graph.nodes)


def parameters(model: Model) -> int:
    """Elements of all weights; sizes and indices (64-bit integers) do not count."""
    return sum(
        v.size for v in model.weights.values() if v.dtype.kind not in "iuO" or v.dtype.itemsize < 4
    )


def node_macs(graph: Graph, node: Node) -> int:
    """Multiply-accumulates of one node, 0 for what is not a contraction or has no known shape."""
    count = _COUNTS.get(node.kind)
    if count is None or _unshaped(graph, node):
        return 0
    return count(graph, node)


def _unshaped(graph: Graph, node: Node) -> bool:
    names = (*node.inputs, node.outputs[0])
    return any(graph.shape(name) is None for name in names if name)


def _size(graph: Graph, name: str) -> tuple[int, ...]:
    return graph.shape(name) or ()


def _weight(graph: Graph, node: Node) -> tuple[int, ...]:
    return _size(graph, node.inputs[factors(node)[1].data])


def _conv(graph: Graph, node: Node) -> int:
    return math.prod(_size(graph, node.outputs[0])) * math.prod(_weight(graph, node)[1:])


def _conv_transpose(graph: Graph, node: Node) -> int:
    return math.prod(_size(graph, node.inputs[0])) * math.prod(_size(graph, node.inputs[1])[1:])


def _matmul(graph: Graph, node: Node) -> int:
    first = _size(graph, node.inputs[0])
    axis = -1
    if node.attributes.get("transA", 0) and len(first) > 1:
        batch_first = node.attributes.get("transBatchA", 0)
        axis = 0 if node.op.endswith("Gemm") or batch_first else -2
    return math.prod(_size(graph, node.outputs[0])) * first[axis]


def _einsum(graph: Graph, node: Node) -> int:
    """One per combination of indices and product: what it costs without an order of its own."""
    ranks = [len(_size(graph, name)) for name in node.inputs]
    terms, _ = subscripts(node.attributes["equation"], ranks)
    sizes: dict[str, int] = {}
    for name, term in zip(node.inputs, terms, strict=False):
        for letter, size in zip(term, _size(graph, name), strict=False):
            sizes[letter] = max(size, sizes.get(letter, 1))
    return math.prod(sizes.values()) * (len(node.inputs) - 1)


def _attention(graph: Graph, node: Node) -> int:
    """Products of queries with keys, and of the weights with values."""
    first, made = _size(graph, node.inputs[0]), math.prod(_size(graph, node.outputs[0]))
    places = {"Attention": 4, "MultiHeadAttention": 6, "GroupQueryAttention": 3}
    past, keys = _size(graph, node.input(places[node.op])), _size(graph, node.input(1))
    queries, tokens = math.prod(first), first[1]
    if node.kind == "com.microsoft:Attention":
        wide = keys[1]
        queries = math.prod(first[:-1]) * next(iter(_hidden(node, wide)))
        return math.prod(first) * wide + (queries + made) * (tokens + (past[3] if past else 0))
    if keys:
        tokens = keys[-2]
    else:  # packed
        queries = made
    return (queries + made) * (tokens + (past[2] if past else 0))


def _hidden(node: Node, total: int) -> tuple[int, ...]:
    return tuple(node.attributes.get("qkv_hidden_sizes") or (total // 3,) * 3)


def _recurrent(graph: Graph, node: Node) -> int:
    """Weights of inputs and of states, once per step and sequence."""
    steps, *weights = (_size(graph, name) for name in node.inputs[:3])
    return math.prod(steps[:2]) * sum(math.prod(shape) for shape in weights)


_COUNTS: dict[str, Callable[[Graph, Node], int]] = {
    "Attention": _attention,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Einsum": _einsum,
    "GRU": _recurrent,
    "Gemm": _matmul,
    "LSTM": _recurrent,
    "MatMul": _matmul,
    "RNN": _recurrent,
    **{kind: _conv if "Conv" in kind else _matmul for kind in FACTORS},
    f"{MICROSOFT}:MatMulNBits": _matmul,
    "com.microsoft:Attention": _attention,
    "com.microsoft:FusedConv": _conv,
    "com.microsoft:FusedGemm": _matmul,
    "com.microsoft:FusedMatMul": _matmul,
    "com.microsoft:GroupQueryAttention": _attention,
    "com.microsoft:MultiHeadAttention": _attention,
}
