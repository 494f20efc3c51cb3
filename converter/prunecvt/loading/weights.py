"""Splitting a parsed model into a skeleton and its weights, external data included.

The skeleton is copied field by field around the weights: the model given is never written to, and
each weight is copied once, straight to where it stays.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Container, Iterator

import onnx
from google.protobuf.message import Message  # type: ignore[import-untyped]
from onnx import TensorProto

from prunecvt.loading.external_data import read_external
from prunecvt.loading.refusal import place, title
from prunecvt.loading.sparse import check_sparse, dense_bytes, sparse_tensors
from prunecvt.loading.stored import (
    check_header,
    check_size,
    inline_values,
    is_external,
    memory_bytes,
    values_from_bytes,
)
from prunecvt_passes.errors import ResourceError
from prunecvt_passes.model import Array, Model

_DATA_FIELDS = frozenset(
    ("raw_data", "float_data", "int32_data", "string_data", "int64_data", "double_data")
) | {"uint64_data", "external_data", "data_location"}


def memory_limit(stated: int | None) -> int:
    """Bytes a model may take: as stated, else the memory of this machine where it is known."""
    if stated is not None:
        return stated
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return sys.maxsize


def check_budget(proto: onnx.ModelProto, source: str, limit: int) -> None:
    """Checks the headers of all tensors, and that together they take at most ``limit`` bytes.

    Nothing is allocated: what a hostile file states is judged before it is believed.

    Raises:
        InputError: E305, a header states what no tensor can be.
        ResourceError: E801, the weights are larger than the limit.
    """
    total = 0
    everything = [*_initializers(proto, source), *_inner_tensors(proto, source)]
    for tensor, where in everything:
        check_header(tensor, where)
        total += memory_bytes(tensor)
    total += sum(dense_bytes(sparse) for sparse, _ in sparse_tensors(proto, source))
    if total <= limit:
        return
    for tensor, where in everything:  # a header that lies about its data is the better message
        if not is_external(tensor):
            check_size(tensor, where)
    raise ResourceError(
        "E801",
        f"the weights take {total} bytes, more than the limit of {limit}",
        where=place(source),
        help="raise --max-memory, or run on a machine with more memory",
    )


def split(proto: onnx.ModelProto, source: str, folder: str | None) -> Model:
    """Splits ``proto``, which is left untouched, into skeleton and weights.

    Args:
        proto: a model whose names and headers are checked.
        source: what errors call it.
        folder: of the model file, for external data; None where there is none.

    Raises:
        InputError: E305, E306 or E307; stored values are wrong, missing or in an unsafe place.
    """
    skeleton = onnx.ModelProto()
    copy_fields(proto, skeleton, leave_out=("graph",))
    copy_fields(proto.graph, skeleton.graph, leave_out=("initializer",))
    weights: dict[str, Array] = {}
    for tensor, where in _initializers(proto, source):
        weights[tensor.name] = _values(tensor, folder, where)
        copy_fields(tensor, skeleton.graph.initializer.add(), leave_out=_DATA_FIELDS)
    for tensor, where in _inner_tensors(skeleton, source):
        if is_external(tensor):
            tensor.raw_data = read_external(tensor, folder, where).tobytes()
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
        check_size(tensor, where)
    for sparse, where in sparse_tensors(skeleton, source):
        check_sparse(sparse, where)
    return Model(skeleton, weights, source)


def copy_fields(source: Message, target: Message, leave_out: Container[str]) -> None:
    """Copies all set fields of one message to another of the same type, but for some."""
    for descriptor in source.DESCRIPTOR.fields:
        name = descriptor.name
        if name in leave_out:
            continue
        value = getattr(source, name)
        if hasattr(value, "MergeFrom"):  # messages and repeated fields
            if not isinstance(value, Message) or source.HasField(name):
                getattr(target, name).MergeFrom(value)
        elif source.HasField(name):
            setattr(target, name, value)


def _values(tensor: TensorProto, folder: str | None, where: str) -> Array:
    if is_external(tensor):
        return values_from_bytes(tensor, read_external(tensor, folder, where))
    return inline_values(tensor, where)


def _initializers(proto: onnx.ModelProto, source: str) -> Iterator[tuple[TensorProto, str]]:
    for tensor in proto.graph.initializer:
        yield tensor, place(source, f"initializer '{tensor.name}'")


def _inner_tensors(proto: onnx.ModelProto, source: str) -> Iterator[tuple[TensorProto, str]]:
    """Every other tensor of a model, with its place: in attributes, subgraphs, sparse values."""
    for sparse in proto.graph.sparse_initializer:
        yield from _sparse_parts(sparse, place(source, f"initializer '{sparse.values.name}'"))
    graphs = [proto.graph]
    for training in proto.training_info:
        graphs += [training.initialization, training.algorithm]
    nodes = [node for function in proto.functions for node in function.node]
    while graphs or nodes:
        if not nodes:
            graph = graphs.pop()
            nodes = list(graph.node)
            if graph is not proto.graph:
                yield from _graph_tensors(graph, source)
            continue
        node = nodes.pop()
        for attribute in node.attribute:
            yield from _attribute_tensors(attribute, place(source, title(node), attribute.name))
            graphs += [attribute.g] if attribute.HasField("g") else []
            graphs += attribute.graphs


def _graph_tensors(graph: onnx.GraphProto, source: str) -> Iterator[tuple[TensorProto, str]]:
    for tensor in graph.initializer:
        yield tensor, place(source, f"initializer '{tensor.name}' of a subgraph")
    for sparse in graph.sparse_initializer:
        yield from _sparse_parts(sparse, place(source, "a sparse initializer of a subgraph"))


def _attribute_tensors(
    attribute: onnx.AttributeProto, where: str
) -> Iterator[tuple[TensorProto, str]]:
    if attribute.HasField("t"):
        yield attribute.t, where
    for tensor in attribute.tensors:
        yield tensor, where
    if attribute.HasField("sparse_tensor"):
        yield from _sparse_parts(attribute.sparse_tensor, where)
    for sparse in attribute.sparse_tensors:
        yield from _sparse_parts(sparse, where)


def _sparse_parts(sparse: onnx.SparseTensorProto, where: str) -> Iterator[tuple[TensorProto, str]]:
    yield sparse.values, f"{where}, values"
    yield sparse.indices, f"{where}, indices"
