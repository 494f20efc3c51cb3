"""Sparse tensors of a model file: what they state, checked before anything is made dense."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from prunecvt.loading.refusal import dims, invalid, place, title
from prunecvt.loading.structure import subgraphs

Found = Iterator[tuple[onnx.SparseTensorProto, str]]


def sparse_tensors(proto: onnx.ModelProto, source: str) -> Found:
    """Yields every sparse tensor of graphs, bodies and local functions, with its place."""
    graphs = [proto.graph]
    nodes = [node for function in proto.functions for node in function.node]
    while graphs or nodes:
        if not nodes:
            graph = graphs.pop()
            nodes = list(graph.node)
            for sparse in graph.sparse_initializer:
                yield sparse, place(source, f"initializer '{sparse.values.name}'")
            continue
        node = nodes.pop()
        graphs += subgraphs(node)
        for attribute in node.attribute:
            where = place(source, title(node), attribute.name)
            if attribute.HasField("sparse_tensor"):
                yield attribute.sparse_tensor, where
            yield from ((sparse, where) for sparse in attribute.sparse_tensors)


def dense_bytes(sparse: onnx.SparseTensorProto) -> int:
    """Bytes the tensor takes when it is dense, as runtimes make it."""
    itemsize = helper.tensor_dtype_to_np_dtype(sparse.values.data_type).itemsize
    return int(math.prod(max(size, 0) for size in sparse.dims) * itemsize)


def check_sparse(sparse: onnx.SparseTensorProto, where: str) -> None:
    """Checks that every value has one place inside of the dims, in ascending order.

    Args:
        sparse: its values and indices hold as much data as they state.
        where: what errors call it.

    Raises:
        InputError: E305.
    """
    count, rank = list(sparse.values.dims), len(sparse.dims)
    stated = list(sparse.indices.dims)
    reason = ""
    if not rank or any(size < 1 for size in sparse.dims):
        reason = f"its dims {dims(sparse.dims)} are not all positive"
    elif len(count) != 1:
        reason = f"its values are {dims(count)}, not a vector"
    elif sparse.indices.data_type != TensorProto.INT64:
        reason = "its indices are not 64-bit integers"
    elif stated not in (count, [*count, rank]):
        reason = f"its indices are {dims(stated)} for {count[0]} values in {dims(sparse.dims)}"
    elif count[0]:
        reason = _misplaced(sparse)
    if reason:
        raise invalid(
            "E305",
            "the stored values of a tensor are not what it states",
            f"{where}: {reason}",
            help="the file is damaged or was written wrongly; export the model again",
        )


def _misplaced(sparse: onnx.SparseTensorProto) -> str:
    """What is wrong with the indices; "" where nothing is."""
    indices, sizes = numpy_helper.to_array(sparse.indices), tuple(sparse.dims)
    bounds = np.array([math.prod(sizes)] if indices.ndim == 1 else sizes)
    rows = indices.reshape(len(indices), -1)
    if (rows < 0).any() or (rows >= bounds).any():
        return f"an index lies outside of {dims(sizes)}"
    places = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), sizes)
    if (places[1:] <= places[:-1]).any():
        return "its indices are not in ascending order, each once"
    return ""
