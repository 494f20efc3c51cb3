"""Which channels hold a constant whatever goes in, proven operator by operator.

What a tensor is known to hold is an array that broadcasts to it, NaN where nothing is known: a
filter of zeros makes its bias, a BatchNormalization with gamma 0 its beta, a factor of zero makes
zeros, and a constant goes through whatever works element by element, pools or moves. A convolution
with zero padding makes something else at the borders, so there only zeros go through. Values are
finite: zero times infinity would be no zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from prunecvt_passes import runtime
from prunecvt_passes.errors import UnsupportedError
from prunecvt_passes.graph import DEFAULT_DOMAINS, Graph, Node, integers
from prunecvt_passes.model import Array
from prunecvt_passes.recovery.walk import part_of
from prunecvt_passes.rules import RULES
from prunecvt_passes.rules.elementwise import elementwise
from prunecvt_passes.trim.geometry import CONVOLUTIONS, Floats, Taps, is_float, pads_of, weight_of

_MOVING = (
    *("DepthToSpace", "Expand", "Flatten", "Gather", "Pad", "Reshape", "Slice", "SpaceToDepth"),
    *("Split", "Squeeze", "Tile", "Unsqueeze"),
)
_SAMPLING = ("Resize", "Upsample")
_POOLING = ("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool")
_REDUCING: dict[str, Any] = {"ReduceMax": np.max, "ReduceMean": np.mean, "ReduceMin": np.min}
_FLOATS: dict[int, type[np.floating[Any]]] = {
    onnx.TensorProto.FLOAT: np.float32,
    onnx.TensorProto.DOUBLE: np.float64,
}
_MOST = 1 << 23  # elements of a tensor that is laid out in full
Known = dict[str, Floats]


def still(graph: Graph) -> Known:
    """Tensor of the main graph -> what it is known to hold; absent where nothing is known."""
    found: Known = {}
    for node in graph.nodes:
        if node.scope or node.subgraphs or node.domain not in DEFAULT_DOMAINS:
            continue
        with np.errstate(all="ignore"):  # NaN is what is not known, of weights too
            made = _made(graph, node, found)
        for name, values in zip(node.outputs, made, strict=False):
            settled = None if values is None or not name else _settled(graph, name, values)
            if settled is not None:
                found[name] = settled
    return found


def known(graph: Graph, found: Known, name: str) -> Floats | None:
    """What a tensor or a constant holds, as far as it is known; None where nothing is."""
    values = graph.constant(name)
    if values is not None:
        return values.astype(np.float64) if is_float(values) else None
    return found.get(name)


def along(graph: Graph, found: Known, name: str, axis: int) -> Floats:
    """One value per index of an axis; NaN where it is not known, or not the same elsewhere."""
    shape, values = graph.shape(name) or (), found.get(name)
    size = shape[axis] if shape else 0
    if values is None:
        return np.full(size, np.nan)
    rows = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
    same = (rows == rows[:, :1]).all(1)
    line: Floats = np.broadcast_to(np.where(same, rows[:, 0], np.nan), (size,))
    return line


def compact(values: Floats) -> Floats:
    """The array with axes of one that hold the same all along."""
    for axis, size in enumerate(values.shape):
        first = values.take([0], axis) if size > 1 else values
        if size > 1 and np.array_equal(values, np.broadcast_to(first, values.shape), True):
            values = first
    return values


def _settled(graph: Graph, name: str, values: Floats) -> Floats | None:
    """What is told of a tensor; nothing where it would depend on a size that may change."""
    values = compact(values)
    if np.isnan(values).all():
        return None
    sizes = zip(values.shape, graph.dynamic(name), strict=True)
    return None if any(size > 1 and moves for size, moves in sizes) else values


def _made(graph: Graph, node: Node, found: Known) -> Sequence[Floats | None]:
    if any(graph.shape(name) is None for name in node.outputs[:1] if name):
        return ()
    if weight_of(graph, node) is not None:
        return (_product(graph, node, found),)
    if node.op == "BatchNormalization":
        return (_normalised(graph, node, found),)
    if RULES.get(node.kind) is elementwise:
        return (_elementwise(graph, node, found),)
    if not any(name in found for name in node.inputs):
        return ()
    if node.op in _POOLING:
        return (_pooled(graph, node, found),)
    if node.op in _REDUCING:
        return (_reduced(graph, node, found),)
    if node.op in _SAMPLING:
        return (_sampled(node, found),)
    if node.op == "Transpose":
        order = node.attributes.get("perm")
        return (np.transpose(found[node.inputs[0]], order),)
    if node.op == "Concat":
        return (_joined(graph, node, found),)
    return _moved(graph, node, found) if node.op in _MOVING else ()


def _product(graph: Graph, node: Node, found: Known) -> Floats | None:
    """Outputs of a convolution or product that read nothing but constants."""
    taps, bias = Taps.of(graph, node), node.input(2)
    if taps is None or (bias and graph.constant(bias) is None):
        return None
    spatial = node.op in CONVOLUTIONS
    line = along(graph, found, node.inputs[0], 1 if spatial else -1)
    blocks, outputs, inputs = taps.largest.shape
    if line.size != blocks * inputs:
        return None
    given = line.reshape(blocks, 1, inputs)
    uneven = spatial and padded(graph, node)
    finite = np.isfinite(taps.total)
    unknown = ~np.isfinite(given) | ((given != 0) & uneven) | ~finite
    open_rows = ((taps.largest != 0) & unknown).any(-1)
    sums = (np.where(finite, taps.total, 0.0) * np.where(unknown, 0.0, given)).sum(-1)
    made: Floats = np.where(open_rows, np.nan, sums).reshape(blocks * outputs)
    rank = len(graph.shape(node.outputs[0]) or ())
    added = graph.model.weights[bias].astype(np.float64) if bias else np.zeros(1)
    if node.op == "Gemm":
        return np.atleast_2d(made + node.attributes.get("beta", 1.0) * added)
    return (made + added).reshape(
        [1, -1, *[1] * (rank - 2)] if spatial else [*[1] * (rank - 1), -1]
    )


def padded(graph: Graph, node: Node) -> bool:
    """Whether a convolution may read zeros beside its input; a transposed one always does."""
    weight = graph.constant(node.inputs[1])
    if node.op == "ConvTranspose" or weight is None:
        return True
    pads = pads_of(graph, node, weight)
    return pads is None or any(pads[0]) or any(pads[1])


def _normalised(graph: Graph, node: Node, found: Known) -> Floats | None:
    parameters = [graph.constant(name) for name in node.inputs[1:5]]
    if any(p is None or not is_float(p) for p in parameters):
        return None
    if node.attributes.get("training_mode") or not node.attributes.get("spatial", 1):
        return None
    gamma, beta, mean, variance = (np.asarray(p, np.float64) for p in parameters)
    line = along(graph, found, node.inputs[0], 1)
    scale = gamma / np.sqrt(variance + node.attributes.get("epsilon", 1e-5))
    made = np.where(gamma == 0, beta, (line - mean) * scale + beta)
    rank = len(graph.shape(node.outputs[0]) or ())
    return made.reshape([1, -1, *[1] * (rank - 2)])


def _elementwise(graph: Graph, node: Node, found: Known) -> Floats | None:
    """What an operator makes of known elements, as onnxruntime computes it."""
    dtype = _FLOATS.get(graph.shapes.dtypes.get(node.outputs[0], 0))
    if dtype is None or (node.op == "Dropout" and node.input(2)):
        return None
    fed: dict[str, Array] = {}
    there: list[Array] = []
    vanishing: list[Array] = []
    for name in dict.fromkeys(filter(None, node.inputs)):
        values = known(graph, found, name)
        if values is None and not graph.is_initializer(name):
            if graph.shapes.dtypes.get(name) not in _FLOATS:
                return None
            values = np.full([1] * len(graph.shape(name) or ()), np.nan)
        if values is not None:
            there.append(~np.isnan(values))
            vanishing.append(values == 0)
            if not graph.is_initializer(name):
                fed[name] = np.where(np.isnan(values), 1.0, values).astype(dtype)
    zeros = _any(vanishing) if node.op == "Mul" else np.zeros((), bool)
    if not fed or not (zeros.any() or all(mask.any() for mask in there)):
        return None
    run = _run(graph, node, fed)
    if run is None:
        return None
    values = run[0].astype(np.float64)
    sure = np.logical_and.reduce(np.broadcast_arrays(*there))
    told = np.where(np.broadcast_to(sure, values.shape), values, np.nan)
    return np.where(np.broadcast_to(zeros, values.shape), 0.0, told)


def _any(masks: Sequence[Array]) -> Array:
    made: Array = np.logical_or.reduce(np.broadcast_arrays(*masks))
    return made


def _run(graph: Graph, node: Node, fed: dict[str, Array]) -> list[Array] | None:
    """Runs one node; None where onnxruntime will not."""
    outputs = [name for name in node.outputs if name]
    part = part_of(graph.model, [node.proto], outputs)
    for name, values in fed.items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
        shape = [None] * values.ndim
        part.proto.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, shape))
    try:
        results = runtime.run(part, fed, outputs)
    except UnsupportedError:
        return None
    return [results[name] for name in outputs]


def _even(values: Floats, first: int = 2) -> bool:
    """Whether what is known does not change from position to position."""
    return all(size == 1 for size in values.shape[first:])


def _pooled(graph: Graph, node: Node, found: Known) -> Floats | None:
    values = found[node.inputs[0]]
    if not _even(values):
        return None
    counted = node.op == "AveragePool" and node.attributes.get("count_include_pad", 0)
    unpadded = not any(node.attributes.get("pads", ())) and not node.attributes.get("ceil_mode", 0)
    if counted and not (unpadded and node.attributes.get("auto_pad", "NOTSET") == "NOTSET"):
        return np.where(values == 0, 0.0, np.nan)
    return values


def _reduced(graph: Graph, node: Node, found: Known) -> Floats | None:
    values, stated = found[node.inputs[0]], integers(graph, node.input(1))
    if node.input(1) and stated is None:
        return None
    axes = tuple(node.attributes.get("axes", ()) if stated is None else stated)
    if not axes and node.attributes.get("noop_with_empty_axes", 0):
        return values
    axes = axes or tuple(range(values.ndim))
    kept = bool(node.attributes.get("keepdims", 1))
    made: Floats = _REDUCING[node.op](values, axis=axes, keepdims=kept)
    return made


def _sampled(node: Node, found: Known) -> Floats | None:
    values = found.get(node.inputs[0])
    beyond = node.attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize"
    return None if values is None or beyond or not _even(values) else values


def _joined(graph: Graph, node: Node, found: Known) -> Floats | None:
    axis = node.attributes["axis"] % len(graph.shape(node.outputs[0]) or ())
    parts: list[Floats] = []
    for name in node.inputs:
        shape, values = graph.shape(name), known(graph, found, name)
        if shape is None or graph.dynamic(name)[axis]:
            return None
        values = np.full([1] * len(shape), np.nan) if values is None else values
        wide = [shape[axis] if k == axis else size for k, size in enumerate(values.shape)]
        parts.append(np.broadcast_to(values, wide))
    most = [max(p.shape[k] for p in parts) for k in range(parts[0].ndim)]
    if math.prod(most) > _MOST:
        return None
    wide_parts = [
        np.broadcast_to(p, [p.shape[k] if k == axis else n for k, n in enumerate(most)])
        for p in parts
    ]
    return np.concatenate(wide_parts, axis)


def _moved(graph: Graph, node: Node, found: Known) -> Sequence[Floats | None]:
    """Runs what only moves elements on what is known of them, NaN and all."""
    data, others = node.inputs[0], [name for name in node.inputs[1:] if name]
    shape, dtype = graph.shape(data), _FLOATS.get(graph.shapes.dtypes.get(node.outputs[0], 0))
    if data not in found or shape is None or dtype is None:
        return ()
    if not all(graph.is_initializer(name) for name in others) or math.prod(shape) > _MOST:
        return ()
    laid_out = np.ascontiguousarray(np.broadcast_to(found[data], shape)).astype(dtype)
    results = _run(graph, node, {data: laid_out}) or []
    made = iter(results)
    return [next(made).astype(np.float64) if name and results else None for name in node.outputs]
