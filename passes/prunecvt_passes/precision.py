"""The same model in single precision: what two models are compared in.

Half precision rounds every result to three digits (bfloat16: two), so that two sums of the same
numbers in another order differ by more than a wrong channel may. Whether a cut is exact is a
question of the graph, not of its number type: the float32 copies of both models answer it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from prunecvt_passes.model import Array, Model

_STEP = {TensorProto.FLOAT16: 2.0**-10, TensorProto.BFLOAT16: 2.0**-7}
_OTHER = (*_STEP, TensorProto.DOUBLE)
FLOATS = frozenset((TensorProto.FLOAT, *_OTHER))  # types that gradients can be of
_TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype", "stash_type")


def holds_half(model: Model) -> bool:
    """Whether a weight, an input, an output or a Cast is of 16-bit floating point."""
    return not _types(model).isdisjoint(_STEP)


def holds_double(model: Model) -> bool:
    """Whether a weight, an input, an output or a Cast is of 64-bit floating point."""
    return TensorProto.DOUBLE in _types(model)


def output_step(model: Model) -> float:
    """The coarsest relative step of 16-bit outputs, 0 where none are."""
    outputs = model.proto.graph.output
    return max((_STEP.get(v.type.tensor_type.elem_type, 0.0) for v in outputs), default=0.0)


def in_single(model: Model) -> Model:
    """Returns a copy with float32 in place of float16, bfloat16 and float64 throughout.

    Weights, stated types, Casts, constants in attributes, the bodies of If, Loop and Scan, and
    local functions; the graph is otherwise the same.
    """
    copy = model.copy()
    copy.set_weights(
        {t.name: _single(copy.weights[t.name]) for t in copy.proto.graph.initializer if _odd(t)}
    )
    for graph in _graphs(copy.proto):
        if graph is not copy.proto.graph:
            for tensor in graph.initializer:
                _convert(tensor)
        for sparse in graph.sparse_initializer:
            _convert(sparse.values)
        for value in (*graph.input, *graph.output, *graph.value_info):
            _retype(value.type)
    for node in _nodes(copy.proto):
        for attribute in node.attribute:
            if attribute.name in _TYPE_ATTRIBUTES and attribute.i in _OTHER:
                attribute.i = TensorProto.FLOAT
            if attribute.HasField("t"):
                _convert(attribute.t)
            if attribute.HasField("sparse_tensor"):
                _convert(attribute.sparse_tensor.values)
    return copy


def feed_in_single(feed: Mapping[str, Array]) -> dict[str, Array]:
    """Inputs for a model that ``in_single`` made: floating point (V: bfloat16) as float32."""
    return {k: v.astype(np.float32) if v.dtype.kind in "fV" else v for k, v in feed.items()}


def _types(model: Model) -> set[int]:
    """Element types of weights, inputs, outputs and constants, and those that Casts make."""
    graph = model.proto.graph
    types = {tensor.data_type for tensor in graph.initializer}
    types |= {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    for node in _nodes(model.proto):
        for attribute in node.attribute:
            if attribute.name in _TYPE_ATTRIBUTES:
                types.add(attribute.i)
            if attribute.HasField("t"):
                types.add(attribute.t.data_type)
    return types


def _graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    waiting = [proto.graph]
    waiting += [g for f in proto.functions for n in f.node for g in _bodies(n)]
    while waiting:
        graph = waiting.pop()
        yield graph
        waiting += [body for node in graph.node for body in _bodies(node)]


def _bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    bodies: Iterable[onnx.FunctionProto | onnx.GraphProto] = (*_graphs(proto), *proto.functions)
    for body in bodies:
        yield from body.node


def _retype(kind: onnx.TypeProto) -> None:
    if kind.HasField("sequence_type"):
        _retype(kind.sequence_type.elem_type)
    elif kind.HasField("optional_type"):
        _retype(kind.optional_type.elem_type)
    elif kind.HasField("tensor_type") and kind.tensor_type.elem_type in _OTHER:
        kind.tensor_type.elem_type = TensorProto.FLOAT


def _odd(tensor: TensorProto) -> bool:
    return tensor.data_type in _OTHER


def _single(values: Array) -> Array:
    with np.errstate(over="ignore"):  # the largest double as a bound becomes infinity
        return values.astype(np.float32)


def _convert(tensor: TensorProto) -> None:
    if _odd(tensor):
        values = _single(numpy_helper.to_array(tensor))
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
