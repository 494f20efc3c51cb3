"""Masks of small weights, and structures of small weights made to zeros.

A mask zeroes the smallest weights one by one (Han et al., 2015, "Learning both weights and
connections for efficient neural networks"). Dense kernels multiply by its zeros like by any other
number: it makes files compress better and nothing faster. Biases and what normalises are exempt.
"""

from __future__ import annotations

import zlib
from typing import Literal

import numpy as np

from prunecvt_passes.graph import Graph
from prunecvt_passes.model import Array, Model
from prunecvt_passes.trim.geometry import CONVOLUTIONS, WEIGHTED, is_float, weight_of

MaskScope = Literal["layer", "global"]


def mask_weights(graph: Graph, sparsity: float, scope: MaskScope = "layer") -> Model:
    """Returns the model with a share of its weights zeroed, the smallest first.

    Args:
        graph: its weights of Conv, ConvTranspose, Gemm and MatMul are masked.
        sparsity: share that is zero afterwards, 0 to below 1, rounded down; equal sizes go in the
            order in which they lie.
        scope: ``layer`` the same share of every weight, ``global`` one threshold for all.
    """
    names = dict.fromkeys(n.inputs[1] for n in graph.nodes if weight_of(graph, n) is not None)
    weights = {name: graph.model.weights[name] for name in names}
    if not weights or sparsity <= 0:
        return graph.model
    if scope == "layer":
        masked = {name: _masked(values, sparsity) for name, values in weights.items()}
    else:
        together = np.concatenate([values.ravel() for values in weights.values()])
        flat = _masked(together, sparsity)
        parts = np.split(flat, np.cumsum([values.size for values in weights.values()])[:-1])
        masked = {
            name: part.reshape(weights[name].shape).astype(weights[name].dtype)
            for name, part in zip(weights, parts, strict=True)
        }
    model = graph.model.copy()
    model.set_weights({name: np.ascontiguousarray(values) for name, values in masked.items()})
    return model


def _masked(values: Array, share: float) -> Array:
    flat = values.ravel().copy()
    order = np.argsort(np.abs(flat), kind="stable")
    flat[order[: int(share * flat.size + 1e-9)]] = 0
    found: Array = flat.reshape(values.shape)
    return found


def silence(graph: Graph, tolerance: float) -> tuple[Model, int]:
    """Returns the model with every structure zeroed that no entry of exceeds ``tolerance``.

    The number is that of the structures which were not zero already.

    Structures are the filters of a weight, its input channels, the rows and columns of its kernels,
    gammas of BatchNormalization, and factors of a Mul; single small weights stay.
    """
    if tolerance <= 0:
        return graph.model, 0
    found: dict[str, Array] = {}
    counts: dict[str, int] = {}
    for node in graph.nodes:
        weight = weight_of(graph, node)
        if weight is not None:
            first = 2 if node.op in CONVOLUTIONS else weight.ndim
            axes = (0, 1, *range(first, weight.ndim))
            name = node.inputs[1]
            found[name], counts[name] = _silenced(weight, axes, tolerance)
        elif node.op in ("BatchNormalization", "Mul"):
            for name in node.inputs[1:2] if node.op == "BatchNormalization" else node.inputs:
                values = graph.constant(name)
                if values is not None and is_float(values):
                    small = np.abs(values) <= tolerance
                    found[name] = np.where(small, 0, values)
                    counts[name] = int((small & (values != 0)).sum())
    model = graph.model.copy()
    changed = {n: v for n, v in found.items() if not np.array_equal(v, graph.model.weights[n])}
    model.set_weights(
        {n: np.ascontiguousarray(v, graph.model.weights[n].dtype) for n, v in changed.items()}
    )
    return (model, sum(counts[n] for n in changed)) if changed else (graph.model, 0)


def _silenced(weight: Array, axes: tuple[int, ...], tolerance: float) -> tuple[Array, int]:
    """Zeroes the slices along each axis that hold nothing larger; how many were not zero."""
    values: Array = weight.copy()
    sizes, count = np.abs(weight), 0
    for axis in axes:
        others = tuple(k for k in range(weight.ndim) if k != axis)
        small = np.flatnonzero(sizes.max(others) <= tolerance)
        window = (slice(None),) * axis + (small,)
        count += int((values[window] != 0).any(others).sum())
        values[window] = 0
    return values, count


def nonzero(graph: Graph) -> tuple[int, int]:
    """Weights of convolutions and products that are not zero, and all of them."""
    names = {node.inputs[1] for node in graph.nodes if node.op in WEIGHTED and len(node.inputs) > 1}
    found = [graph.model.weights[name] for name in names if name in graph.model.weights]
    return sum(int(np.count_nonzero(v)) for v in found), sum(v.size for v in found)


def compressed_bytes(model: Model) -> int:
    """Bytes of graph and weights after zlib at its usual level, as a zip file would store them."""
    packer = zlib.compressobj()
    size = len(packer.compress(model.proto.SerializeToString(deterministic=True)))
    for name in model.weights:
        values = model.weights[name]
        if values.dtype != object:
            size += len(packer.compress(np.ascontiguousarray(values).tobytes()))
    return size + len(packer.flush())
