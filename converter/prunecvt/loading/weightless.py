"""A model with its large weights turned into graph inputs of the same type and shape.

onnx's checker and shape inference copy what they are given several times over; what they check does
not depend on the values of weights. Small constants stay, since shapes are computed from them.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from prunecvt.loading.weights import copy_fields
from prunecvt_passes.model import Model, fill

_KEPT_BYTES = 1024
_INITIALIZERS_ALONE = 4  # IR version since which initializers need not be graph inputs too
_REBUILT = ("node", "initializer", "sparse_initializer", "value_info", "input")


def weightless(model: Model) -> onnx.ModelProto:
    """Returns the graph of ``model`` without large weights, and without shapes stated in between.

    Stated shapes are often stale (a batch size changed by hand); runtimes go by their own.
    """
    proto = onnx.ModelProto()
    copy_fields(model.proto, proto, leave_out=("graph", "training_info"))
    given, graph = model.proto.graph, proto.graph
    copy_fields(given, graph, leave_out=_REBUILT)
    graph.name = given.name or "graph"  # the checker wants one, runtimes do not care
    for value in graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    inputs = {value.name: value for value in given.input}
    for sparse in given.sparse_initializer:  # runtimes make them dense
        inputs[sparse.values.name] = _value(
            sparse.values.name, sparse.values.data_type, sparse.dims
        )
    for node in given.node:
        large = _large_constant(node)
        if large is None:
            graph.node.add().CopyFrom(node)
        else:
            inputs[node.output[0]] = _value(node.output[0], large.data_type, large.dims)
    for header in given.initializer:
        name, values = header.name, model.weights[header.name]
        if values.nbytes <= _KEPT_BYTES:
            tensor = graph.initializer.add()
            tensor.CopyFrom(header)
            fill(tensor, values)
            if name not in inputs and proto.ir_version >= _INITIALIZERS_ALONE:
                continue
        inputs[name] = _value(name, header.data_type, header.dims)
    graph.input.extend(inputs.values())
    return proto


def _value(name: str, dtype: int, shape: Sequence[int]) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, dtype, list(shape))


def _large_constant(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """The tensor of a Constant node that is too large to keep, else None."""
    if node.op_type != "Constant" or len(node.attribute) != 1 or len(node.output) != 1:
        return None
    attribute = node.attribute[0]
    if attribute.name != "value" or not attribute.HasField("t"):
        return None
    tensor = attribute.t
    elements = 1
    for size in tensor.dims:
        elements *= size
    return tensor if elements > _KEPT_BYTES else None
