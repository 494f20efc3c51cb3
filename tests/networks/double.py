"""Models in double precision, to tell a wrong cut from a rounding error."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from prunecvt_passes.model import Array

_TYPES = ("to", "dtype")


def widened(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose float32 weights, casts and declared types are float64."""
    wide = onnx.ModelProto()
    wide.CopyFrom(proto)
    graph = wide.graph
    for tensor in graph.initializer:
        _widen(tensor)
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    del graph.value_info[:]
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _widen(attribute.t)
            elif attribute.name in _TYPES and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE
            elif attribute.name in ("value_float", "value_floats"):
                values = onnx.helper.get_attribute_value(attribute)
                attribute.CopyFrom(onnx.helper.make_attribute("value", _tensor(values)))
    return wide


def _tensor(values: float | list[float]) -> TensorProto:
    return numpy_helper.from_array(np.array(values, np.float64))


def _widen(tensor: TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT:
        values = numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def run_double(proto: onnx.ModelProto, inputs: dict[str, Array]) -> dict[str, Array]:
    """Outputs of the model in double precision, by onnx's reference implementation."""
    wide = widened(proto)
    names = [value.name for value in wide.graph.output]
    fed = {k: v.astype(np.float64) if v.dtype == np.float32 else v for k, v in inputs.items()}
    return dict(zip(names, ReferenceEvaluator(wide).run(names, fed), strict=True))
