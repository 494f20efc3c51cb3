"""Which weights a gradient reaches: the outputs are followed backwards to them."""

from __future__ import annotations

from prunecvt.bridge.roles import Roles
from prunecvt.errors import UnsupportedError
from prunecvt_passes.graph import Graph, Node
from prunecvt_passes.precision import FLOATS

_CUT_OFF = ("Shape", "Size")  # say nothing of values
_STEPS = frozenset(
    (
        *("ArgMax", "ArgMin", "Round", "Floor", "Ceil", "Sign", "Hardmax", "NonZero", "OneHot"),
        *("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Xor", "Not"),
        *("IsNaN", "IsInf", "Range", "ConstantOfShape"),
    )
)


def check_gradients(graph: Graph, roles: Roles) -> None:
    """Checks that every weight that an output depends on is reached by a gradient.

    Raises:
        UnsupportedError: E441, the gradient of a weight ends at an operator; the first one is
            named.
    """
    depending, live = set(graph.outputs), set(graph.outputs)
    for node in reversed(graph.nodes):
        if node.op in _CUT_OFF:
            continue
        if any(name in depending for name in node.outputs):
            depending.update(node.inputs)
        if any(name in live for name in node.outputs) and not _steps(node):
            live.update(node.inputs)
    for name in roles.trainable:
        if name in depending and name not in live:
            raise _refusal(graph, name)


def _steps(node: Node) -> bool:
    """Whether the gradient of ``node`` is zero wherever it has one."""
    return node.op in _STEPS or (node.op == "Cast" and node.attributes["to"] not in FLOATS)


def _refusal(graph: Graph, weight: str) -> UnsupportedError:
    reached = {weight}
    for node in graph.nodes:
        if node.op in _CUT_OFF or not any(name in reached for name in node.inputs):
            continue
        if _steps(node):
            break
        reached.update(node.outputs)
    return UnsupportedError(
        "E441",
        f"no gradient goes through {node.title}, so weight '{weight}' cannot be trained",
        where=f"{graph.model.source}: {node.title}, domain '{node.domain or 'ai.onnx'}'",
        node=node.name or next(filter(None, node.outputs), ""),
        help="train a model without that operator: cut the graph before it",
    )
