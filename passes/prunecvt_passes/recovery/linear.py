"""Nodes that multiply patches of their input by one matrix.

Conv, ConvTranspose, Gemm and MatMul with a constant weight all compute ``y = P W' + b`` for a
matrix of patches P that depends on the input and the node's geometry alone. Seen so, statistics
and fits need one form for all of them.

Letters: g blocks (groups of a grouped convolution), n rows, d columns, o outputs of a block.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from prunecvt_passes.graph import Graph, Node
from prunecvt_passes.model import Array

_OPERATORS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class Linear:
    """A node with a constant weight.

    Attributes:
        node: Conv, ConvTranspose, Gemm or MatMul.
        weight: its initializer, which nothing else reads.
        blocks: groups of a convolution, each with a matrix of its own.
    """

    node: Node
    weight: str
    blocks: int

    @property
    def spatial(self) -> bool:
        """Whether channels are axis 1 and positions follow; else channels are the last axis."""
        return self.node.op in ("Conv", "ConvTranspose")

    @property
    def transposed(self) -> bool:
        """Whether the weight holds inputs by outputs."""
        if self.node.op == "Gemm":
            return not self.node.attributes.get("transB", 0)
        return self.node.op in ("ConvTranspose", "MatMul")


def linear_nodes(graph: Graph) -> list[Linear]:
    """Every such node, in the order of the graph."""
    return [found for node in graph.nodes if (found := linear(graph, node)) is not None]


def others(graph: Graph) -> list[tuple[Node, str]]:
    """Nodes that multiply by a weight and are no linear ones, and why; not products of two."""
    found = []
    for node in graph.nodes:
        if node.kind not in _OPERATORS or linear(graph, node) is not None:
            continue
        weight, maker = graph.constant(node.input(1)), graph.producer.get(node.input(1))
        quantized = maker is not None and maker.op == "DequantizeLinear"
        if weight is None and node.op == "MatMul" and not quantized:
            continue
        if weight is None:
            reason = "its weight is quantised" if quantized else "its weight is computed"
        elif weight.dtype != np.float32:
            reason = f"its weight is {weight.dtype}"
        elif graph.only_reader(node.inputs[1]) is None:
            reason = "its weight is read elsewhere too"
        else:
            reason = "it lies in a body" if node.scope else "its bias or its attributes are unusual"
        found.append((node, reason))
    return found


def linear(graph: Graph, node: Node) -> Linear | None:
    """``node`` as a linear one; None where it is something else or shares its weight."""
    if node.kind not in _OPERATORS or len(node.inputs) < 2:
        return None
    weight = graph.constant(node.inputs[1])
    if weight is None or weight.dtype != np.float32 or graph.only_reader(node.inputs[1]) is None:
        return None
    if node.scope or graph.is_initializer(node.inputs[0]) or not _bias_fits(graph, node):
        return None
    if node.op in ("Conv", "ConvTranspose"):
        return Linear(node, node.inputs[1], node.attributes.get("group", 1))
    plain = {node.attributes.get(name, 1.0) for name in ("alpha", "beta")} == {1.0}
    if node.op == "Gemm" and plain and not node.attributes.get("transA", 0):
        return Linear(node, node.inputs[1], 1)
    if node.op == "MatMul" and weight.ndim == 2:
        return Linear(node, node.inputs[1], 1)
    return None


def _bias_fits(graph: Graph, node: Node) -> bool:
    """Whether there is no bias, or a constant with one value per output channel."""
    if not node.input(2):
        return True
    bias, shape = graph.constant(node.input(2)), graph.shape(node.outputs[0])
    width = (shape or (0, 0))[1 if node.op != "Gemm" else -1]
    return bias is not None and bias.size == width == bias.shape[-1]


def matrix(linear: Linear, weight: Array) -> Array:
    """The weight as [g, o, d]; columns are input channel by input channel, kernel inside."""
    if not linear.spatial:
        return (weight.T if linear.transposed else weight)[None]
    taps = math.prod(weight.shape[2:])
    if linear.transposed:
        split = weight.reshape(linear.blocks, -1, weight.shape[1], taps).transpose(0, 2, 1, 3)
    else:
        split = weight.reshape(linear.blocks, -1, weight.shape[1], taps)
    found: Array = split.reshape(*split.shape[:2], -1)
    return found


def weight_of(linear: Linear, values: Array, shape: tuple[int, ...]) -> Array:
    """The inverse of ``matrix``: a weight of ``shape``."""
    if not linear.spatial:
        return np.ascontiguousarray(values[0].T if linear.transposed else values[0])
    if linear.transposed:
        taps = math.prod(shape[2:])
        split = values.reshape(linear.blocks, values.shape[1], -1, taps).transpose(0, 2, 1, 3)
        return np.ascontiguousarray(split).reshape(shape)
    found: Array = np.ascontiguousarray(values).reshape(shape)
    return found
