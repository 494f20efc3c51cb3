"""Sparse constants made dense, as runtimes do when they load them."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from prunecvt_passes.model import Array, Model


def dense_values(sparse: onnx.SparseTensorProto) -> Array:
    """Values of a sparse tensor in all its places, zero where it holds none.

    Args:
        sparse: well formed; its indices count through all places or name one per axis.
    """
    values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    dims = tuple(sparse.dims)
    filled = np.zeros(dims, values.dtype)
    if values.size:
        places = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), dims)
        filled.reshape(-1)[places] = values
    return filled


def make_dense(model: Model) -> None:
    """Turns the sparse initializers of the main graph into plain ones, in place; texts stay."""
    graph = model.proto.graph
    found = {
        sparse.values.name: dense_values(sparse)
        for sparse in graph.sparse_initializer
        if sparse.values.data_type != TensorProto.STRING
    }
    if found:
        kept = [sparse for sparse in graph.sparse_initializer if sparse.values.name not in found]
        del graph.sparse_initializer[:]
        graph.sparse_initializer.extend(kept)
        model.set_weights(found)
