"""Puts what is proven constant in the place of the nodes that compute it.

A branch that always makes the same (a factor of zero, a last convolution of zeros) need not be
computed: the sum that reads it takes the constant, or goes where that is zero. A constant that is
added per channel goes on into the bias before the sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from prunecvt_passes.graph import DEFAULT_DOMAINS, Graph, Node, every_node, taken_names, unused
from prunecvt_passes.model import Model
from prunecvt_passes.rules import RULES
from prunecvt_passes.rules.elementwise import elementwise
from prunecvt_passes.trim.bias import add_bias, receiver
from prunecvt_passes.trim.geometry import Floats
from prunecvt_passes.trim.open_axes import told_apart
from prunecvt_passes.trim.still import still

# element by element, but what comes out is not as large as the largest operand: it is as large as
# the first one
_SHAPED_BY_ONE = ("CastLike", "Clip", "Dropout", "PRelu", "SwiGLU")


@dataclass(frozen=True)
class Dropped:
    """A branch that is computed no more.

    Attributes:
        tensor: what it made.
        reader: the node that read it.
        zero: whether it made zeros, and was added.
        constant: the initializer that stands for it.
    """

    tensor: str
    reader: str
    zero: bool
    constant: str


def settle_constants(graph: Graph) -> tuple[Model, tuple[Dropped, ...]]:
    """Returns the model without the branches that make constants; the very same where none does.

    Names stay; nodes and weights that nothing reads any more are left to ``normalise``.
    """
    found = still(graph)
    dropped: list[Dropped] = []
    model = graph.model.copy()
    nodes, names = every_node(model.proto.graph), taken_names(model.proto.graph)
    for node in graph.nodes:
        for place, name in enumerate(node.inputs):
            values = None if node.scope else found.get(name)
            if values is None or np.isnan(values).any() or not _free(graph, node, place):
                continue
            zero = node.op in ("Add", "Sum") and not values.any()
            own = unused(f"{node.outputs[0]}__constant", names)
            dropped.append(Dropped(name, node.title, zero, own))
            dtype = onnx.helper.tensor_dtype_to_np_dtype(graph.shapes.dtypes[name])
            model.set_weight(own, values.astype(dtype))
            nodes[node.index].input[place] = own
            break  # one at a time: the other operand gives the shape
    return (model, tuple(dropped)) if dropped else (graph.model, ())


def _free(graph: Graph, node: Node, place: int) -> bool:
    """Whether an operand may become a smaller constant: another has the output's shape."""
    if len(node.inputs) < 2 or RULES.get(node.kind) is not elementwise:
        return False
    if node.domain not in DEFAULT_DOMAINS or node.op in _SHAPED_BY_ONE:
        return False
    shape = graph.shape(node.outputs[0])
    others = [n for k, n in enumerate(node.inputs) if k != place and n and n != node.inputs[place]]
    left = [n for n in others if graph.shape(n) == shape and not graph.is_initializer(n)]
    return any(told_apart(graph, (n, node.inputs[place])) for n in left)


def absorb_sums(graph: Graph, made: frozenset[str]) -> Model:
    """Returns the model with constant summands dropped or in the bias before; else the very same.

    A Relu of a Relu goes too: what stood between them may have gone.

    Args:
        graph: an index with shapes.
        made: the constants to look at.
    """
    for node in graph.nodes:
        if node.scope or node.domain not in DEFAULT_DOMAINS:
            continue
        maker = graph.producer.get(node.inputs[0]) if node.inputs else None
        if node.op == "Relu" and maker is not None and maker.kind == "Relu":
            return _passed_on(graph, node, node.inputs[0], None, np.zeros(0))
        name, values = _summand(graph, node, made)
        if name and values.any():
            taker = receiver(graph, name)
            shift = None if taker is None else _by_channel(graph, taker, values)
            if shift is not None:
                return _passed_on(graph, node, name, taker, shift)
        elif name:
            return _passed_on(graph, node, name, None, np.zeros(0))
    return graph.model


def _summand(graph: Graph, node: Node, made: frozenset[str]) -> tuple[str, Floats]:
    """The variable operand of a sum with one of these constants, and the constant; "" if none."""
    if node.op in ("Add", "Sum") and len(node.inputs) == 2:
        for place in (0, 1):
            name, other = node.inputs[place], node.inputs[1 - place]
            values, shape = graph.constant(other), graph.shape(name)
            same = shape is not None and shape == graph.shape(node.outputs[0])
            if values is not None and other in made and same and not graph.is_initializer(name):
                return name, values.astype(np.float64)
    return "", np.zeros(0)


def _by_channel(graph: Graph, taker: Node, values: Floats) -> Floats | None:
    """A constant as one value per channel of what a node makes; None where it is none."""
    shape = graph.shape(taker.outputs[0]) or ()
    aligned: Floats = values.reshape([1] * (len(shape) - values.ndim) + list(values.shape))
    if any(size > 1 for k, size in enumerate(aligned.shape) if k != 1):
        return None
    return np.broadcast_to(aligned.ravel(), (shape[1],)).astype(np.float64)


def _passed_on(graph: Graph, node: Node, name: str, taker: Node | None, shift: Floats) -> Model:
    """The model with ``name`` in the place of what a node makes, and a shift in a bias."""
    model = graph.model.copy()
    if taker is not None:
        add_bias(model, taker.outputs[0], shift)
    proto = every_node(model.proto.graph)[node.index]
    proto.op_type = "Identity"
    proto.input[:] = [name]
    del proto.attribute[:]
    return model
