"""Convolutions and products, by which axis of the weight is which side's channels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prunecvt_passes.graph import DEFAULT_DOMAINS, Graph, Node
from prunecvt_passes.model import Array
from prunecvt_passes.rewriting.picks import PADDING, Places

# f(x) of one tensor, place by place: channels may be put in order before or after
_ELEMENTWISE = (
    "Abs Ceil Celu Elu Erf Exp Floor Gelu HardSigmoid HardSwish LeakyRelu Log Mish Neg Reciprocal "
    "Relu Round Selu Sigmoid Sign Softplus Softsign Sqrt Tanh ThresholdedRelu"
)
ELEMENTWISE = frozenset(_ELEMENTWISE.split())


@dataclass(frozen=True)
class Contraction:
    """A node that sums over channels with a weight.

    Attributes:
        node: the node.
        data_axis: of its data, in and out, that the channels lie on.
        read_axis, made_axis: of its weight, where the channels that it reads and makes lie.
        reason: why its weight cannot put channels in another order; "" where it can.
    """

    node: Node
    data_axis: int
    read_axis: int
    made_axis: int
    reason: str = ""

    @property
    def weight(self) -> str:
        """Name of the weight."""
        return self.node.inputs[1]


def contraction(graph: Graph, node: Node) -> Contraction | None:
    """How a node contracts channels; None where it does not, or not with a constant of floats."""
    if node.op not in _KINDS or node.domain not in DEFAULT_DOMAINS or node.scope:
        return None
    weight = graph.constant(node.inputs[1])
    if weight is None or weight.dtype.kind != "f":
        return None
    data = graph.shape(node.inputs[0])
    if data is None or graph.is_initializer(node.inputs[0]):
        return None
    reason = "" if graph.only_reader(node.inputs[1]) is not None else "shares its weight"
    if node.op in ("Conv", "ConvTranspose"):
        reason = reason if node.attributes.get("group", 1) == 1 else "works in groups of channels"
        return Contraction(node, 1, *((1, 0) if node.op == "Conv" else (0, 1)), reason)
    if node.op == "Gemm":
        turned = bool(node.attributes.get("transB", 0))
        if node.attributes.get("transA", 0):
            return None
        return Contraction(node, 1, *((1, 0) if turned else (0, 1)), reason)
    if weight.ndim != 2 or len(data) < 2:
        return None
    return Contraction(node, len(data) - 1, 0, 1, reason)


_KINDS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def is_elementwise(graph: Graph, node: Node) -> bool:
    """Whether a node computes each place of its output from the same place of its one input."""
    if node.domain not in DEFAULT_DOMAINS or node.scope or len(node.outputs) != 1:
        return False
    if node.op == "Clip":
        bounds = [graph.constant(name) for name in node.inputs[1:] if name]
        return all(bound is not None and bound.size == 1 for bound in bounds)
    return node.op in ELEMENTWISE and len(node.inputs) == 1


def reordered(values: Array, axis: int, places: Places) -> Array:
    """``values`` with those of ``places`` along ``axis``, zeros where it says ``PADDING``."""
    found = np.take(values, np.maximum(places, 0), axis=axis)
    if (places == PADDING).any():
        where = np.reshape(places == PADDING, [-1 if k == axis else 1 for k in range(values.ndim)])
        found = np.where(where, np.zeros((), values.dtype), found)
    return np.ascontiguousarray(found)
