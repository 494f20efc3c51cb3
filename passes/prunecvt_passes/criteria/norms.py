"""Norms of weights, as the next layer sees them: BatchNormalization folded in."""

from __future__ import annotations

import numpy as np

from prunecvt_passes.criteria.evidence import Evidence, Floats, summed
from prunecvt_passes.flow import Read, Use
from prunecvt_passes.graph import Graph, Node
from prunecvt_passes.groups import Groups
from prunecvt_passes.model import Array
from prunecvt_passes.quantization import weight_values

ReaderNorms = dict[int, list[tuple[Use, Floats]]]


def l1(given: Evidence) -> Floats:
    """Sum of the absolute folded weights of each filter (Li et al., 2017)."""
    return summed(given.groups, weight_norms(given.groups, 1, "weight_out"))


def l2(given: Evidence) -> Floats:
    """Euclidean norm of the folded weights of each filter (Li et al., 2017)."""
    return summed(given.groups, weight_norms(given.groups, 2, "weight_out"))


def product(given: Evidence) -> Floats:
    """Norm of the filters that make a channel times the norm of the weights that read it."""
    return l2(given) * summed(given.groups, weight_norms(given.groups, 2, "weight_in"))


def weight_norms(groups: Groups, order: int, role: str) -> list[tuple[Use, Floats]]:
    """The norms of every channel's slices of the weights that play ``role``."""
    uses = [use for use in groups.channels.uses if use.role == role]
    found = [(use, channel_norms(groups, use, order)) for use in uses]
    return [(use, norms) for use, norms in found if norms is not None]


def channel_norms(groups: Groups, use: Use, order: int) -> Floats | None:
    """Norm of each channel's slice of a weight, with the BatchNormalization behind it folded in."""
    graph = groups.channels.graph
    weight = weight_values(graph, use.node, use.tensor)
    if weight is None or weight.ndim < 2:
        return None
    norms = _norms(weight, use.axis, order)
    affine = folded_affine(graph, use.node)
    if use.role == "weight_out" and affine is not None:
        scale = np.abs(affine[0])
        if scale.size != norms.size:  # grouped transposed convolutions make outputs per group
            return (
                None if scale.size % norms.size else norms * scale.reshape(-1, norms.size).mean(0)
            )
        return norms * scale
    return norms


def folded_affine(graph: Graph, node: Node) -> tuple[Floats, Floats] | None:
    """Scale and shift of a BatchNormalization that alone reads the node's output.

    Returns:
        gamma / sqrt(var + epsilon) and beta - mean * scale; None where there is none.
    """
    reader = graph.only_reader(node.outputs[0])
    if reader is None or reader[0].op != "BatchNormalization" or reader[1] != 0:
        return None
    batch_norm = reader[0]
    found = [graph.constant(batch_norm.inputs[k]) for k in (1, 2, 3, 4)]
    gamma, beta, mean, variance = (
        None if values is None else np.asarray(values, np.float64) for values in found
    )
    if gamma is None or beta is None or mean is None or variance is None:
        return None
    scale = gamma / np.sqrt(variance + batch_norm.attributes.get("epsilon", 1e-5))
    return scale, beta - mean * scale


def reader_norms(groups: Groups) -> ReaderNorms:
    """Node index -> the axes of its weights that it sums over, and the norms along them."""
    found: ReaderNorms = {}
    for use, norms in weight_norms(groups, 2, "weight_in"):
        found.setdefault(use.node.index, []).append((use, norms))
    return found


def norms_of(groups: Groups, read: Read, known: ReaderNorms) -> Floats | None:
    """Norms of the weights that a read meets: of several axes the one with the same classes."""
    candidates = known.get(read.node.index, [])
    if len(candidates) > 1:
        classes = groups.class_of[read.labels]
        for use, norms in candidates:
            labels = groups.channels.axes[use.tensor][use.axis]
            if labels is not None and np.array_equal(groups.class_of[labels], classes):
                return norms
        return None
    return candidates[0][1] if candidates else None


def _norms(weight: Array, axis: int, order: int) -> Floats:
    others = tuple(k for k in range(weight.ndim) if k != axis)
    if order == 1:
        return np.asarray(np.abs(weight).sum(axis=others, dtype=np.float64))
    letters = "abcdefgh"[: weight.ndim]
    squares = np.einsum(f"{letters},{letters}->{letters[axis]}", weight, weight, dtype=np.float64)
    return np.asarray(np.sqrt(squares), np.float64)
