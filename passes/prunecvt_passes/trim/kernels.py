"""Crops rows and columns of zeros at the borders of kernels, and the padding with them.

A tap t of a convolution reads x[j s - p + t d]. Without the first a taps the kernel reads the same
with p - a d zeros in front, and without the last b with q - b d zeros behind: s strides, d dilates.
A transposed convolution writes to y[j s - p + t d], with the same consequence. What would need a
padding below zero stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from prunecvt_passes.clean import drop_dead
from prunecvt_passes.graph import Graph, Node, every_node, unused
from prunecvt_passes.graph import taken_names as names_of
from prunecvt_passes.model import Array, Model
from prunecvt_passes.trim.geometry import CONVOLUTIONS, pads_of, steps_of, weight_of

_SIZED = ("auto_pad", "kernel_shape", "pads")


@dataclass(frozen=True)
class KernelCut:
    """A kernel that has borders of zeros.

    Attributes:
        tensor: what the node makes.
        before, after: the kernel's sizes; the same where it stays.
        reason: why not all of the zeros went; "" where they did.
    """

    tensor: str
    before: tuple[int, ...]
    after: tuple[int, ...]
    reason: str = ""


def trim_kernels(graph: Graph) -> tuple[Model, tuple[KernelCut, ...]]:
    """Returns the model with its kernels cropped, the very same where none is, and what was found.

    Args:
        graph: an index with shapes, by which ``auto_pad`` is resolved.
    """
    cuts, edits = [], []
    for node in graph.nodes:
        weight = weight_of(graph, node)
        if weight is None or node.op not in CONVOLUTIONS:
            continue
        zeros = _border(weight)
        if not any(a or b for a, b in zeros):
            continue
        reason, pads, taken = _possible(graph, node, weight, zeros)
        kernel = weight.shape[2:]
        after = tuple(k - a - b for k, (a, b) in zip(kernel, taken, strict=True))
        cuts.append(KernelCut(node.outputs[0], kernel, after, reason))
        if after != kernel:
            edits.append((node, weight, pads, taken))
    if not edits:
        return graph.model, tuple(cuts)
    model = graph.model.copy()
    nodes, names = every_node(model.proto.graph), names_of(model.proto.graph)
    weights: dict[str, Array] = {}
    for node, weight, pads, taken in edits:
        proto = nodes[node.index]
        window = tuple(slice(a, k - b) for k, (a, b) in zip(weight.shape[2:], taken, strict=True))
        cropped = np.ascontiguousarray(weight[(slice(None),) * 2 + window])
        if graph.only_reader(node.inputs[1]) is None:  # another node keeps the whole kernel
            proto.input[1] = unused(f"{node.outputs[0]}__kernel", names)
        weights[proto.input[1]] = cropped
        for attribute in [a for a in proto.attribute if a.name in _SIZED]:
            proto.attribute.remove(attribute)
        for name, values in (("kernel_shape", cropped.shape[2:]), ("pads", pads)):
            proto.attribute.append(onnx.helper.make_attribute(name, list(values)))
    model.set_weights(weights)
    drop_dead(model)
    return model, tuple(cuts)


def _border(weight: Array) -> list[tuple[int, int]]:
    """Taps of zeros before and after what is none, by axis; one tap is left at least."""
    found = []
    for axis in range(2, weight.ndim):
        others = tuple(k for k in range(weight.ndim) if k != axis)
        used = np.flatnonzero(np.abs(weight).max(others))
        size = weight.shape[axis]
        first, last = (used[0], used[-1]) if used.size else (size // 2, size // 2)
        found.append((int(first), int(size - 1 - last)))
    return found


def _possible(
    graph: Graph, node: Node, weight: Array, zeros: list[tuple[int, int]]
) -> tuple[str, list[int], list[tuple[int, int]]]:
    """Why not all zeros can go, the pads that are left, and the taps that do go."""
    rank = weight.ndim - 2
    none = [(0, 0)] * rank
    if node.scope:
        return "it lies in a body", [], none
    if node.attributes.get("output_shape"):
        return "it states the shape of its output", [], none
    pads = pads_of(graph, node, weight)
    if pads is None:
        return "its padding follows from the size of its input", [], none
    dilations = steps_of(node, "dilations", rank)
    taken = [
        (min(a, first // d), min(b, last // d))
        for (a, b), first, last, d in zip(zeros, *pads, dilations, strict=True)
    ]
    first = [p - a * d for p, (a, _), d in zip(pads[0], taken, dilations, strict=True)]
    last = [p - b * d for p, (_, b), d in zip(pads[1], taken, dilations, strict=True)]
    reason = "" if taken == zeros else "without the others its padding would be below zero"
    return reason, [*first, *last], taken
