"""Writes fitted weights and biases into a model that is being built."""

from __future__ import annotations

import numpy as np

from prunecvt_passes.graph import Graph, taken_names, unused
from prunecvt_passes.recovery.aim import Aim, bias_name
from prunecvt_passes.recovery.linear import matrix, weight_of
from prunecvt_passes.recovery.normal import Floats


def set_matrix(graph: Graph, aim: Aim, values: Floats) -> None:
    """Replaces the weight by a matrix [g, o, d]."""
    old = graph.model.weights[aim.linear.weight]
    new = weight_of(aim.linear, values.astype(old.dtype), old.shape)
    graph.model.set_weight(aim.linear.weight, new)


def set_bias(graph: Graph, aim: Aim, values: Floats) -> None:
    """Replaces the bias by one value per output channel; adds one where there is none."""
    if aim.bias is None:
        return
    model, name = graph.model, bias_name(graph, aim.bias)
    if name:
        old = model.weights[name]
        model.set_weight(name, values.reshape(old.shape).astype(old.dtype))
        return
    node = graph.nodes[aim.bias[0]].proto
    taken = taken_names(model.proto.graph)
    while len(node.input) <= aim.bias[1]:
        node.input.append("")
    node.input[aim.bias[1]] = unused(f"{node.output[0]}__bias", taken)
    model.set_weight(node.input[aim.bias[1]], values.ravel().astype(np.float32))


def matrix_of(graph: Graph, aim: Aim) -> Floats:
    """The weight as it is by now, [g, o, d]."""
    return matrix(aim.linear, graph.model.weights[aim.linear.weight]).astype(np.float64)
