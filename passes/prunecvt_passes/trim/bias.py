"""Adds a constant per channel to what a node makes: in its bias where it has one, or can have."""

from __future__ import annotations

import numpy as np
import onnx

from prunecvt_passes.graph import Graph, Node, every_node, replace_nodes, taken_names, unused
from prunecvt_passes.model import Model
from prunecvt_passes.trim.geometry import Floats, weight_of


def add_bias(model: Model, output: str, shift: Floats) -> None:
    """Adds ``shift`` to the channels of ``output``, in place of a model that is being built.

    Args:
        model: its graph may be edited.
        output: what a Conv, ConvTranspose, Gemm, MatMul or BatchNormalization makes.
        shift: one value per channel (axis 1; of Gemm and MatMul the last).
    """
    node = next(n for n in every_node(model.proto.graph) if output in n.output)
    if node.op_type == "MatMul":
        _add_behind(model, node, shift)
        return
    place = 2
    old = node.input[place] if len(node.input) > place else ""
    dtype = model.weights[node.input[1]].dtype
    values = shift
    if old:
        factor = next((a.f for a in node.attribute if a.name == "beta"), 1.0)
        values = shift + (factor if node.op_type == "Gemm" else 1.0) * model.weights[old]
    for attribute in [a for a in node.attribute if a.name == "beta"]:
        node.attribute.remove(attribute)
    while len(node.input) <= place:
        node.input.append("")
    node.input[place] = unused(f"{output}__bias", taken_names(model.proto.graph))
    model.set_weight(node.input[place], np.asarray(values).astype(dtype))


def _add_behind(model: Model, node: onnx.NodeProto, shift: Floats) -> None:
    taken, output = taken_names(model.proto.graph), node.output[0]
    inner, name = unused(f"{output}__product", taken), unused(f"{output}__shift", taken)
    model.set_weight(name, shift.astype(model.weights[node.input[1]].dtype))
    added = onnx.helper.make_node("Add", [inner, name], [output])
    node.output[0] = inner
    replace_nodes(
        model.proto.graph, lambda _, each: (each, added) if inner in each.output else (each,)
    )


def receiver(graph: Graph, name: str) -> Node | None:
    """The node whose bias may take a constant that is added to ``name``, read by nothing else."""
    if graph.only_reader(name) is None:
        return None
    maker = graph.producer.get(name)
    if maker is None or maker.scope:
        return None
    if weight_of(graph, maker) is not None and maker.op != "MatMul":
        bias = maker.input(2)
        return maker if not bias or graph.is_initializer(bias) else None
    if maker.kind == "BatchNormalization" and graph.is_initializer(maker.inputs[2]):
        return None if maker.attributes.get("training_mode") else maker
    if maker.kind in ("Add", "Sum"):
        shape = graph.shape(name)
        alike = [n for n in maker.inputs if graph.shape(n) == shape]
        found = (receiver(graph, each) for each in alike if not graph.is_initializer(each))
        return next((each for each in found if each is not None), None)
    return None
