"""How a graph is written down: where its constants stand, and what its tensors are called."""

from __future__ import annotations

from dataclasses import dataclass

import onnx
from onnx import helper, numpy_helper

from networks.choices import Choices

_ODD = ("/a b/{}", "t:{}", "{}", "größe.{}", "x__{}", "w__{}__target", "a\\b'{}", "{}__masked_0")


@dataclass(frozen=True)
class Forms:
    """Choices that do not change what a model computes."""

    constants: str  # "initializers", "nodes" or "both"
    listed: bool  # initializers are graph inputs too, as IR version 3 has it
    names: str  # a pattern; "" leaves names alone
    ir: int

    @staticmethod
    def drawn(c: Choices) -> Forms:
        constants = c.pick("initializers", "both", "nodes")
        ir = c.pick(8, 3, 4, 6, 9, 10, 13)
        listed = ir == 3 or c.chance(15)
        return Forms(constants, listed, c.pick("", *_ODD), ir)


def rewritten(proto: onnx.ModelProto, forms: Forms) -> tuple[onnx.ModelProto, dict[str, str]]:
    """The model in another form, and the new names of its tensors."""
    proto.ir_version = forms.ir
    graph = proto.graph
    names: dict[str, str] = {}
    if forms.names:
        public = {v.name for v in (*graph.input, *graph.output)}
        for number, name in enumerate(dict.fromkeys(_named(graph))):
            if name not in public:
                names[name] = forms.names.format(number)
        _rename(graph, names)
    if forms.constants != "initializers":
        _as_nodes(graph, 1 if forms.constants == "nodes" else 2)
    if forms.listed:
        for tensor in graph.initializer:
            graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    return proto, names


def _named(graph: onnx.GraphProto) -> list[str]:
    bodies = [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    made = [name for node in graph.node for name in node.output if name]
    made += [name for body in bodies for name in _named(body)]
    return [t.name for t in graph.initializer] + made


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for number, node in enumerate(graph.node):
        node.input[:] = [names.get(n, n) for n in node.input]
        node.output[:] = [names.get(n, n) for n in node.output]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, names)
        node.name = "" if number % 3 == 0 else f"{node.op_type}/{number}"
    for value in graph.output:
        value.name = names.get(value.name, value.name)
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)


def _as_nodes(graph: onnx.GraphProto, every: int) -> None:
    """Every ``every``-th initializer becomes a Constant node."""
    moved = list(graph.initializer)[::every]
    nodes = []
    for tensor in moved:
        value = numpy_helper.from_array(numpy_helper.to_array(tensor))
        nodes.append(helper.make_node("Constant", [], [tensor.name], value=value))
    for tensor in moved:
        graph.initializer.remove(tensor)
    nodes += list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)
