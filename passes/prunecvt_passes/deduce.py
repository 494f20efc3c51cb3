"""Deduces shapes node by node where whole-graph shape inference stops.

``onnx.shape_inference`` propagates few operators' values, so one Reshape whose target it cannot
follow leaves everything behind it open. Here one walk evaluates the shape arithmetic at the given
input sizes and infers each open node with those values at hand: as a run would, without a run.
"""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from functools import lru_cache

import onnx
from onnx import numpy_helper

from prunecvt_passes.arithmetic import Known, step
from prunecvt_passes.errors import UnsupportedError
from prunecvt_passes.graph import DEFAULT_DOMAINS, Graph, Node, Shapes
from prunecvt_passes.model import Array

log = logging.getLogger("prunecvt")
_VALUE_ELEMENTS = 4096  # larger constants steer no shape
# Without a shape function in onnx, and with the shape and type of their first input.
_LIKE_INPUT = (
    "GroupNormalization",
    "MeanVarianceNormalization",
    *(f"com.microsoft:{op}" for op in ("BiasGelu", "FastGelu", "Gelu", "QuickGelu")),
)
Sizes = dict[str, tuple[int, ...]]


def deduce(wiring: Graph, sizes: Sizes, dtypes: dict[str, int]) -> None:
    """Adds to ``sizes`` and ``dtypes`` what follows node by node.

    What does not follow stays open: shapes that depend on data, bodies, operators without a schema.

    Args:
        wiring: the model's index; its shapes are not read.
        sizes: tensor -> dimensions with the graph inputs at concrete sizes; filled in.
        dtypes: tensor -> ONNX element type; filled in.

    Raises:
        UnsupportedError: E402, the model does not run at these sizes.
    """
    graph = replace(wiring, shapes=Shapes(sizes, {}, dtypes))
    known: dict[str, Known] = {}
    incomplete = any(name and name not in sizes for node in graph.nodes for name in node.outputs)
    for node in graph.nodes:
        found = step(graph, node, known) if incomplete else None
        if found is not None:
            name = node.outputs[0]
            known[name] = found
            sizes.setdefault(name, found.value.shape)
            dtypes.setdefault(name, onnx.helper.np_dtype_to_tensor_dtype(found.value.dtype))
        elif incomplete and any(name and name not in sizes for name in node.outputs):
            _infer(graph, node, known)
        if node.scope == 0:  # a body may be one that is not run at these sizes
            _check(graph, node)


def _infer(graph: Graph, node: Node, known: dict[str, Known]) -> None:
    """Infers the outputs of one node whose inputs all have a shape."""
    if node.kind in _LIKE_INPUT:
        _copy_first(graph.shapes, node)
        return
    schema = _schema(node.op, graph.opset) if node.domain in DEFAULT_DOMAINS else None
    types = {name: _type(graph, name) for name in node.inputs if name}
    if schema is None or node.subgraphs or any(t is None for t in types.values()):
        return
    data = {name: _value(graph, name, known) for name in types}
    opsets = list(graph.model.proto.opset_import)
    try:
        found = onnx.shape_inference.infer_node_outputs(
            schema,
            node.proto,
            {name: made for name, made in types.items() if made is not None},
            {name: value for name, value in data.items() if value is not None},
            opset_imports=opsets,
            ir_version=graph.model.proto.ir_version,
        )
    except Exception as error:  # onnx's C++ errors share no public base class
        log.debug("%s is not inferred: %s", node.title, str(error)[:300])
        return
    for name, made in found.items():
        tensor = made.tensor_type
        if tensor.elem_type:
            graph.shapes.dtypes.setdefault(name, tensor.elem_type)
        dims = tensor.shape.dim
        if tensor.HasField("shape") and all(d.HasField("dim_value") for d in dims):
            graph.shapes.sizes.setdefault(name, tuple(d.dim_value for d in dims))


def _copy_first(shapes: Shapes, node: Node) -> None:
    """Gives the output of ``node`` the shape and type of its first input, as far as known."""
    source, made = node.inputs[0], node.outputs[0]
    if source in shapes.sizes:
        shapes.sizes.setdefault(made, shapes.sizes[source])
    if source in shapes.dtypes:
        shapes.dtypes.setdefault(made, shapes.dtypes[source])


@lru_cache(maxsize=1024)
def _schema(operator: str, opset: int) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(operator, opset, "")
    except onnx.defs.SchemaError:
        return None


def _type(graph: Graph, name: str) -> onnx.TypeProto | None:
    weight, dtype = graph.constant(name), graph.shapes.dtypes.get(name)
    if weight is not None and dtype is None:
        dtype = onnx.helper.np_dtype_to_tensor_dtype(weight.dtype)
    sizes = graph.shape(name)
    if dtype is None or sizes is None:
        return None
    return onnx.helper.make_tensor_type_proto(dtype, sizes)


def _value(graph: Graph, name: str, known: dict[str, Known]) -> onnx.TensorProto | None:
    value: Array | None = known[name].value if name in known else graph.constant(name)
    if value is None or value.size > _VALUE_ELEMENTS or value.dtype.kind not in "iufb":
        return None
    return numpy_helper.from_array(value, name)


def _check(graph: Graph, node: Node) -> None:
    """Refuses sizes that inference lets pass although no runtime would."""
    sizes = [graph.shapes.sizes.get(name) for name in node.outputs]
    if any(min(shape, default=1) < 0 for shape in sizes if shape is not None):
        raise _misfit(graph, node)
    if node.domain not in DEFAULT_DOMAINS or node.op not in ("Conv", "Gemm", "Reshape"):
        return
    first, made = graph.shape(node.inputs[0]), sizes[0]
    if node.op == "Reshape":
        misfit = first is not None and made is not None and math.prod(first) != math.prod(made)
    else:
        second = graph.shape(node.inputs[1])
        if first is None or second is None:
            return
        if node.op == "Conv":
            misfit = first[1] != second[1] * node.attributes.get("group", 1)
        else:
            read = first[0 if node.attributes.get("transA", 0) else 1]
            misfit = read != second[1 if node.attributes.get("transB", 0) else 0]
    if misfit:
        raise _misfit(graph, node)


def _misfit(graph: Graph, node: Node) -> UnsupportedError:
    return UnsupportedError(
        "E402", "the inputs have sizes that do not fit", where=f"{graph.model.source}: {node.title}"
    )
