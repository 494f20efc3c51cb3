"""Replaces BatchNormalization(Conv(x)) with Conv(x), and the same for ConvTranspose and Gemm.

W' = W * gamma / sqrt(var + epsilon) per output channel, b' = beta + (b - mean) * gamma / sqrt(var +
epsilon), computed in float64. Latency is the same, for both runtimes fold on loading; the file is
smaller and loads quicker.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prunecvt_passes.clean import drop_dead
from prunecvt_passes.graph import (
    DEFAULT_DOMAINS,
    Graph,
    Node,
    every_node,
    index,
    replace_nodes,
    taken_names,
    unused,
)
from prunecvt_passes.model import Array, Model

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Folding:
    """A layer and the BatchNormalization behind it that can be folded into it, exactly."""

    maker: Node
    batch_norm: Node


def fold_batch_norms(model: Model) -> Model:
    """Returns the model with every BatchNormalization folded that can be, exactly.

    One stays where its input is read elsewhere too, where it trains, where the weight before it is
    shared, or where no convolution or Gemm stands before it.
    """
    graph = index(model)
    pairs = list(foldings(graph))
    if not pairs:
        return model
    folded = model.copy()
    weights: dict[str, Array] = {}
    nodes, taken = every_node(folded.proto.graph), taken_names(model.proto.graph)
    for pair in pairs:
        weight, bias = folded_weights(graph, pair)
        maker = nodes[pair.maker.index]
        weights[pair.maker.inputs[1]] = weight
        bias_name = pair.maker.input(2)
        if not bias_name or graph.only_reader(bias_name) is None:
            bias_name = unused(f"{pair.batch_norm.outputs[0]}__bias", taken)
        weights[bias_name] = bias
        while len(maker.input) < 3:
            maker.input.append("")
        maker.input[2] = bias_name
        maker.output[0] = pair.batch_norm.outputs[0]
    doomed = {pair.batch_norm.index for pair in pairs}
    replace_nodes(folded.proto.graph, lambda k, node: () if k in doomed else (node,))
    folded.set_weights(weights)
    drop_dead(folded)
    return folded


def foldings(graph: Graph) -> Iterator[Folding]:
    """All that can be folded, in the order of the graph."""
    for node in graph.nodes:
        if node.op not in ("Conv", "ConvTranspose", "Gemm") or node.domain not in DEFAULT_DOMAINS:
            continue
        reader = graph.only_reader(node.outputs[0])
        if reader is None or reader[0].op != "BatchNormalization" or reader[1] != 0:
            continue
        batch_norm = reader[0]
        if batch_norm.scope != node.scope:
            continue
        parameters = [graph.constant(name) for name in batch_norm.inputs[1:]]
        weight, bias = graph.constant(node.inputs[1]), node.input(2)
        if (
            weight is None
            or any(p is None or p.dtype != weight.dtype for p in parameters)
            or weight.dtype not in (np.float32, np.float64)
            or graph.only_reader(node.inputs[1]) is None
            or (bias and (graph.constant(bias) is None or len(graph.shape(bias) or ()) != 1))
            or any(batch_norm.outputs[1:])
            or batch_norm.attributes.get("training_mode")
            or not batch_norm.attributes.get("spatial", 1)
        ):
            continue
        if node.op == "Gemm" and {node.attributes.get(k, 1.0) for k in ("alpha", "beta")} != {1.0}:
            continue
        yield Folding(node, batch_norm)


def folded_weights(graph: Graph, pair: Folding) -> tuple[Array, Array]:
    """Weight and bias of the layer with the normalisation in it."""
    names = pair.batch_norm.inputs
    gamma, beta, mean, variance = (_float64(graph, name) for name in names[1:5])
    scale = gamma / np.sqrt(variance + pair.batch_norm.attributes.get("epsilon", 1e-5))
    weight = graph.model.weights[pair.maker.inputs[1]]
    bias = _float64(graph, pair.maker.input(2)) if pair.maker.input(2) else np.zeros_like(mean)
    return (
        (weight * _along_outputs(pair.maker, weight, scale)).astype(weight.dtype),
        (beta + (bias - mean) * scale).astype(weight.dtype),
    )


def _float64(graph: Graph, name: str) -> Floats:
    return np.asarray(graph.model.weights[name], np.float64)


def _along_outputs(node: Node, weight: Array, scale: Floats) -> Floats:
    """``scale`` shaped to multiply the weight's output channels."""
    if node.op == "Conv":
        return scale.reshape(-1, *[1] * (weight.ndim - 1))
    if node.op == "Gemm":
        return scale.reshape(-1, 1) if node.attributes.get("transB", 0) else scale.reshape(1, -1)
    groups = node.attributes.get("group", 1)
    rows = np.repeat(scale.reshape(groups, -1), weight.shape[0] // groups, axis=0)
    return rows.reshape(*rows.shape, *[1] * (weight.ndim - 2))
