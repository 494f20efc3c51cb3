"""The criterion ``fpgm``: filters near the geometric median of their layer can be replaced.

A filter's score is the sum of its Euclidean distances to all other filters of its layer (He et al.,
2019). A filter is its folded weights with its folded bias as one more entry, which is what the next
layer sees of it up to the activation.
"""

from __future__ import annotations

import numpy as np

from prunecvt_passes.criteria.evidence import Evidence, Floats, spread, summed
from prunecvt_passes.criteria.norms import folded_affine
from prunecvt_passes.flow import Use
from prunecvt_passes.graph import Graph, Node
from prunecvt_passes.groups import Groups
from prunecvt_passes.quantization import INTEGER_BIASES, factors, weight_values

_HELD = 1 << 23  # distances held at once: 64 MB


def fpgm(given: Evidence) -> Floats:
    """Sum of the distances to the other filters, over every weight that makes the channel."""
    groups = given.groups
    members = []
    for use in groups.channels.uses:
        filters = folded_filters(groups, use) if use.role == "weight_out" else None
        if filters is not None:
            members.append((use, _distances(filters)))
    return summed(groups, members)


def folded_filters(groups: Groups, use: Use) -> Floats | None:
    """The filters [channels, entries] of a weight, each with its bias behind its weights.

    A grouped transposed convolution makes a channel once per group: its filters lie side by side.
    None where the weight is not known or none of its channels can be cut.
    """
    graph = groups.channels.graph
    weight = weight_values(graph, use.node, use.tensor)
    if weight is None or weight.ndim < 2:
        return None
    size = weight.shape[use.axis]
    found = spread(groups, use, np.zeros(size))
    if found is None or (groups.group_of[found[0]] < 0).all():
        return None
    rows = np.moveaxis(weight, use.axis, 0).reshape(size, -1).astype(np.float64)
    scale, shift = _affine(graph, use.node, size)
    blocks = scale.size // size
    if scale.size % size or rows.shape[1] % max(blocks, 1):
        return rows
    scaled = rows.reshape(size, blocks, -1) * scale.reshape(blocks, size).T[:, :, None]
    return np.concatenate([scaled.reshape(size, -1), shift.reshape(blocks, size).T], axis=1)


def _affine(graph: Graph, node: Node, size: int) -> tuple[Floats, Floats]:
    """What a weight's outputs are multiplied by, and what is added to them, one value for each."""
    bias = _bias(graph, node)
    folded = folded_affine(graph, node)
    if folded is None:
        return (np.ones(size), np.zeros(size)) if bias is None else (np.ones(bias.size), bias)
    scale, shift = folded
    return scale, shift if bias is None or bias.size != scale.size else shift + bias * scale


def _bias(graph: Graph, node: Node) -> Floats | None:
    """A constant vector that is added to what the node makes, as the numbers it stands for."""
    name = node.input(2) if node.kind in ("Conv", "ConvTranspose", "Gemm") else ""
    if node.kind == "MatMul":
        reader = graph.only_reader(node.outputs[0])
        if reader is not None and reader[0].kind == "Add":
            name = reader[0].inputs[1 - reader[1]]
    if node.kind in INTEGER_BIASES:
        name = node.input(INTEGER_BIASES[node.kind])
    values = weight_values(graph, node, name) if name else None
    if values is None or values.ndim == 0 or values.size != values.shape[-1] or values.size < 2:
        return None
    found: Floats = values.ravel().astype(np.float64)
    for operand in factors(node) if node.kind in INTEGER_BIASES else ():
        scale = graph.constant(node.input(operand.scale))  # a step is the product of both scales
        if scale is None or scale.size not in (1, found.size):
            return None
        found = found * scale.ravel()
    return found


def _distances(filters: Floats) -> Floats:
    """Row -> sum of its distances to all rows, by blocks of the Gram matrix."""
    squares = np.einsum("ij,ij->i", filters, filters)
    total = np.zeros(len(filters))
    step = max(1, _HELD // max(len(filters), 1))
    for start in range(0, len(filters), step):
        block = slice(start, start + step)
        gaps = squares[block, None] + squares - 2 * filters[block] @ filters.T
        own = np.arange(start, min(start + step, len(filters)))
        gaps[own - start, own] = 0.0  # rounding leaves something of it
        total[block] = np.sqrt(np.maximum(gaps, 0.0)).sum(1)
    return total
