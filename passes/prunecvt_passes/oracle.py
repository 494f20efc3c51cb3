"""The oracle: the original with every removed channel multiplied by zero where it is read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from prunecvt_passes.budget import Removal
from prunecvt_passes.graph import (
    Graph,
    Node,
    every_node,
    replace_nodes,
    taken_names,
    unused_mark,
)
from prunecvt_passes.groups import Groups
from prunecvt_passes.inexact import compute_on_kept
from prunecvt_passes.model import Array, Model
from prunecvt_passes.quantization import channel_axis


@dataclass(frozen=True)
class Difference:
    """How far two runs are apart: at most, and at most relative to each output's peak."""

    absolute: float
    relative: float


def masked(groups: Groups, removal: Removal) -> Model:
    """Returns the original with removed channels set to zero in front of everything that sums them.

    Numbers are multiplied by a vector of 0 and 1; quantised ones are set to their zero point. A
    node that works across channels that are cut inexactly gets the kept ones alone. It shares every
    weight with the original and none of the code that slices.
    """
    channels = groups.channels
    graph = channels.graph
    kept = ~removal.removed[groups.class_of]
    model = graph.model.copy()
    protos = every_node(model.proto.graph)
    by_read: dict[tuple[int, int, str], list[tuple[int, Array]]] = defaultdict(list)
    for read in channels.reads:
        if not kept[read.labels].all():
            key = (read.node.index, read.place, read.zero)
            by_read[key].append((read.axis, kept[read.labels]))
    made: dict[tuple[Any, ...], str] = {}
    inserts: dict[int, list[onnx.NodeProto]] = defaultdict(list)
    masks: dict[str, Array] = {}
    mark = unused_mark("__masked", taken_names(model.proto.graph))
    for (index, place, zero), cuts in by_read.items():
        node = protos[index]
        name = node.input[place]
        shape = graph.shape(name) or ()
        mask = np.ones((1,) * len(shape), bool)
        for axis, keep in cuts:
            mask = mask & keep.reshape([-1 if k == axis else 1 for k in range(len(shape))])
        along = _along(graph, graph.nodes[index], zero, len(shape))
        same = (graph.nodes[index].scope, name, zero, along, mask.shape, mask.tobytes())
        if same not in made:
            made[same] = f"{name}{mark}_{len(made)}"
            dtype = _dtype(graph, zero or name)  # the type of a quantised tensor is its zero's
            found, nodes = _masking(name, zero, made[same], dtype, mask, along)
            masks |= found
            inserts[index] += nodes
        node.input[place] = made[same]
    replace_nodes(model.proto.graph, lambda index, node: (*inserts.get(index, ()), node))
    model.set_weights(masks)
    compute_on_kept(model, channels.narrowed, kept)
    return model


def _along(graph: Graph, node: Node, zero: str, rank: int) -> tuple[int, ...]:
    """The shape in which the zero points of a weight, one per channel, meet it; else nothing."""
    if not zero or len(points := graph.shape(zero) or ()) != 1 or points == (1,):
        return ()
    axis = channel_axis(node, rank)
    return tuple(-1 if k == axis else 1 for k in range(rank))


def _masking(
    name: str, zero: str, made: str, dtype: np.dtype[Any], mask: Array, along: Sequence[int]
) -> tuple[dict[str, Array], list[onnx.NodeProto]]:
    """The weights, and the nodes that make ``made`` from ``name`` by a mask.

    Runtimes neither multiply 8-bit integers nor choose among all of them: 32 bits hold both.
    """
    node, factor = onnx.helper.make_node, f"{made}__mask"
    if dtype.kind not in "iu" or dtype.itemsize > 2:
        return {factor: mask.astype(dtype)}, [node("Mul", [name, factor], [made])]
    kind, wide = onnx.helper.np_dtype_to_tensor_dtype(dtype), onnx.TensorProto.INT32
    numbers = node("Cast", [name], [f"{made}__wide"], to=wide)
    back = node("Cast", [f"{made}__chosen"], [made], to=kind)
    if not zero:
        product = node("Mul", [f"{made}__wide", factor], [f"{made}__chosen"])
        return {factor: mask.astype(np.int32)}, [numbers, product, back]
    point, weights = node("Cast", [zero], [f"{made}__zero"], to=wide), {factor: mask}
    aligned = f"{made}__along" if along else f"{made}__zero"
    choice = node("Where", [factor, f"{made}__wide", aligned], [f"{made}__chosen"])
    if not along:
        return weights, [numbers, point, choice, back]
    weights[f"{made}__shape"] = np.array(along)
    shaped = node("Reshape", [f"{made}__zero", f"{made}__shape"], [aligned])
    return weights, [numbers, point, shaped, choice, back]


def _dtype(graph: Graph, name: str) -> np.dtype[Any]:
    values = graph.constant(name)
    if values is not None:
        return values.dtype
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(graph.shapes.dtypes.get(name, 1)))


def difference(expected: Mapping[str, Array], found: Mapping[str, Array]) -> Difference:
    """Compares two runs' outputs.

    Returns:
        The largest absolute difference, and the largest of max|a - b| / max|a| over the outputs.
        Outputs that are not numbers count as equal or infinitely far.
    """
    absolute = relative = 0.0
    for name, a in expected.items():
        b = found[name]
        if a.shape != b.shape or a.dtype.kind not in "fiub":
            gap = 0.0 if np.array_equal(a, b) else np.inf
            absolute, relative = max(absolute, gap), max(relative, gap)
            continue
        if a.size == 0:
            continue
        first, second = a.astype(np.float64), b.astype(np.float64)
        same = (first == second) | (np.isnan(first) & np.isnan(second))
        with np.errstate(invalid="ignore"):
            gaps = np.where(same, 0.0, np.abs(first - second))
        gap = float(np.max(np.where(np.isnan(gaps), np.inf, gaps)))
        finite = np.abs(first[np.isfinite(first)])
        peak = float(finite.max()) if finite.size else 0.0
        absolute = max(absolute, gap)
        relative = max(relative, gap / peak if peak else gap)
    return Difference(absolute, relative)


_SQUASHING = frozenset(("HardSigmoid", "Sigmoid", "Softmax", "Tanh"))
_SHAPING = frozenset(("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"))


def before_squashing(graph: Graph, slimmed: Model) -> list[str]:
    """For every output the tensor before its last Sigmoid, Softmax or Tanh, else the output itself.

    Returns:
        names of tensors that both models make; nothing where no output is squashed.
    """
    made = {name for node in slimmed.proto.graph.node for name in node.output}
    found, squashed = [], False
    for output in graph.outputs:
        maker = graph.producer.get(output)
        while maker is not None and maker.op in _SHAPING:
            maker = graph.producer.get(maker.inputs[0])
        if maker is not None and maker.op in _SQUASHING and maker.inputs[0] in made:
            found.append(maker.inputs[0])
            squashed = True
        else:
            found.append(output)
    return list(dict.fromkeys(found)) if squashed else []


def showing(model: Model, names: Sequence[str]) -> Model:
    """Returns the model with ``names`` among its outputs."""
    shown = model.copy()
    known = {value.name for value in shown.proto.graph.output}
    for name in names:
        if name not in known:
            shown.proto.graph.output.add(name=name)
    return shown
