"""Evaluates shape arithmetic: what follows from ``Shape`` and constants alone.

Every value carries a mask of the elements that change with the graph inputs (*tainted*). Operators
that move elements are run on the mask as they are on the values; arithmetic taints what it touches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from prunecvt_passes.graph import DEFAULT_DOMAINS, Graph, Node
from prunecvt_passes.model import Array

_LARGEST = 4096  # elements; shape arithmetic is small


@dataclass(frozen=True)
class Known:
    """A value at the probed input sizes; ``tainted`` elements hold only there."""

    value: Array
    tainted: Array

    @property
    def fixed(self) -> bool:
        """Whether no element changes with the graph inputs."""
        return not bool(np.any(self.tainted))


def evaluate(graph: Graph) -> dict[str, Known]:
    """Returns what is known of every tensor that follows from shapes and constants."""
    known: dict[str, Known] = {}
    for node in graph.nodes:
        found = step(graph, node, known)
        if found is not None:
            known[node.outputs[0]] = found
    return known


def step(graph: Graph, node: Node, known: dict[str, Known]) -> Known | None:
    """What ``node`` makes of ``known``; None where that does not follow from it."""
    if node.domain not in DEFAULT_DOMAINS or len(node.outputs) != 1:
        return None
    return _shape(graph, node) if node.op in ("Shape", "Size") else _step(graph, node, known)


def _shape(graph: Graph, node: Node) -> Known | None:
    sizes = graph.shape(node.inputs[0])
    if sizes is None:
        return None
    value, tainted = np.array(sizes, np.int64), np.array(graph.dynamic(node.inputs[0]), bool)
    if node.op == "Size":
        return Known(np.array(value.prod()), np.array(tainted.any()))
    cut = slice(node.attributes.get("start"), node.attributes.get("end"))
    return Known(value[cut], tainted[cut])


def _operands(graph: Graph, node: Node, known: dict[str, Known]) -> list[Known] | None:
    """What is known of the inputs; None unless all are known and one follows from a shape."""
    if not any(name in known for name in node.inputs):
        return None
    operands = []
    for name in filter(None, node.inputs):
        constant = graph.constant(name)
        if name in known:
            operands.append(known[name])
        elif constant is not None and constant.size <= _LARGEST and constant.dtype != object:
            operands.append(Known(constant, np.zeros(constant.shape, bool)))
        else:
            return None
    return operands


def _step(graph: Graph, node: Node, known: dict[str, Known]) -> Known | None:
    operands = _operands(graph, node, known)
    if operands is None:
        return None
    values = [operand.value for operand in operands]
    masks = [operand.tainted for operand in operands]
    move, compute = _MOVES.get(node.op), _ARITHMETIC.get(node.op)
    try:
        if move is not None:
            joined = node.op == "Concat"
            if not joined and not all(operand.fixed for operand in operands[1:]):
                return None
            value = move(graph, node, values)
            tainted = move(graph, node, masks if joined else [masks[0], *values[1:]])
        elif compute is not None:
            value = compute(node, values)
            tainted = _spread(node, masks, value)
        else:
            return None
    except (ValueError, IndexError, TypeError, KeyError):
        return None  # not shape arithmetic as exporters write it: left to the runtime
    return Known(np.asarray(value), np.asarray(tainted)) if np.size(value) <= _LARGEST else None


def _spread(node: Node, masks: list[Array], value: Array) -> Array:
    if node.op.startswith("Reduce") or node.op in ("Range", "ConstantOfShape"):
        return np.full(np.shape(value), any(bool(m.any()) for m in masks))
    mask = masks[0]
    for other in masks[1:]:
        mask = np.logical_or(mask, other)
    return np.broadcast_to(mask, np.shape(value))


def _axes(graph: Graph, node: Node, values: list[Array]) -> tuple[int, ...]:
    if "axes" in node.attributes:
        return tuple(node.attributes["axes"])
    return tuple(int(v) for v in values[1]) if len(values) > 1 else ()


def _squeeze(graph: Graph, node: Node, values: list[Array]) -> Array:
    return np.squeeze(values[0], axis=_axes(graph, node, values) or None)


def _unsqueeze(graph: Graph, node: Node, values: list[Array]) -> Array:
    return np.expand_dims(values[0], _axes(graph, node, values))


def _slice(graph: Graph, node: Node, values: list[Array]) -> Array:
    axes: Sequence[int] | Array
    steps: Sequence[int] | Array
    if "starts" in node.attributes:
        starts, ends = node.attributes["starts"], node.attributes["ends"]
        axes, steps = node.attributes.get("axes", range(len(starts))), [1] * len(starts)
    else:
        starts, ends, *others = values[1:]
        axes = others.pop(0) if node.input(3) else range(len(starts))
        steps = others.pop(0) if node.input(4) else [1] * len(starts)
    result = values[0]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        cut = [slice(None)] * result.ndim
        stop = int(end)
        cut[axis] = slice(int(start), stop if stop > -(2**31) else None, int(step))
        result = result[tuple(cut)]
    return result


_MOVES: dict[str, Callable[[Graph, Node, list[Array]], Array]] = {
    "Gather": lambda g, n, v: np.take(v[0], v[1].astype(np.int64), n.attributes.get("axis", 0)),
    "Concat": lambda g, n, v: np.concatenate(v, n.attributes["axis"]),
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Reshape": lambda g, n, v: np.reshape(v[0], v[1]),
    "Identity": lambda g, n, v: v[0],
    "Expand": lambda g, n, v: np.broadcast_to(
        v[0], np.broadcast_shapes(v[0].shape, tuple(int(i) for i in v[1]))
    ),
    "Tile": lambda g, n, v: np.tile(v[0], v[1]),
    "Transpose": lambda g, n, v: np.transpose(v[0], n.attributes.get("perm")),
}


def _divide(node: Node, v: list[Array]) -> Array:
    if v[0].dtype.kind in "iu":  # ONNX integer division truncates towards zero
        quotient = np.sign(v[0]) * np.sign(v[1]) * (np.abs(v[0]) // np.abs(v[1]))
        return np.asarray(quotient, dtype=v[0].dtype)
    return np.asarray(v[0] / v[1], dtype=v[0].dtype)


def _cast(node: Node, v: list[Array]) -> Array:
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(node.attributes["to"]))
    return np.asarray(v[0]).astype(dtype)


def _product(node: Node, v: list[Array]) -> Array:
    if np.ndim(v[0]) != 1:
        raise ValueError("not shape arithmetic")
    return np.reshape(np.prod(v[0]), (1,) if node.attributes.get("keepdims", 1) else ())


def _fill(node: Node, v: list[Array]) -> Array:
    size = tuple(int(i) for i in v[0])
    if int(np.prod(size)) > _LARGEST:
        raise ValueError("not shape arithmetic")
    value = node.attributes.get("value")
    array = numpy_helper.to_array(value) if value is not None else np.zeros(1, np.float32)
    return np.full(size, array.ravel()[0], array.dtype)


_ARITHMETIC: dict[str, Callable[[Node, list[Array]], Array]] = {
    "Add": lambda n, v: v[0] + v[1],
    "Sub": lambda n, v: v[0] - v[1],
    "Mul": lambda n, v: v[0] * v[1],
    "Div": _divide,
    "Mod": lambda n, v: (np.fmod if n.attributes.get("fmod", 0) else np.mod)(v[0], v[1]),
    "Min": lambda n, v: np.minimum.reduce(v),
    "Max": lambda n, v: np.maximum.reduce(v),
    "Neg": lambda n, v: -v[0],
    "Abs": lambda n, v: np.abs(v[0]),
    "Floor": lambda n, v: np.floor(v[0]),
    "Ceil": lambda n, v: np.ceil(v[0]),
    "Round": lambda n, v: np.round(v[0]),
    "Sqrt": lambda n, v: np.sqrt(v[0]),
    "Equal": lambda n, v: v[0] == v[1],
    "Greater": lambda n, v: v[0] > v[1],
    "Less": lambda n, v: v[0] < v[1],
    "Not": lambda n, v: ~v[0],
    "And": lambda n, v: v[0] & v[1],
    "Or": lambda n, v: v[0] | v[1],
    "Where": lambda n, v: np.where(v[0], v[1], v[2]),
    "Cast": _cast,
    "ConstantOfShape": _fill,
    "Range": lambda n, v: np.arange(*(float(e.item()) for e in v)).astype(v[0].dtype),
    "ReduceProd": _product,
}


def moved(graph: Graph, node: Node, columns: list[Array]) -> Array | None:
    """Runs a data movement on stand-ins for its data; None where what steers it is not constant."""
    rule = _MOVES.get(node.op)
    if node.op == "Cast":
        return columns[0]
    if rule is None:
        return None
    steering = []
    if node.op != "Concat":
        for name in node.inputs[1:]:
            constant = graph.constant(name)
            if constant is None and name:
                return None
            if constant is not None:
                steering.append(constant)
    try:
        return rule(graph, node, [*columns, *steering])
    except (ValueError, IndexError, TypeError, KeyError):
        return None
