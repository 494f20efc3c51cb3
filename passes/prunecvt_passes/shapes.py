"""Shapes of every tensor, at two probe sizes, so that fixed dimensions are told from dynamic ones.

``onnx.shape_inference`` runs on the graph without its weights; what it leaves open is deduced node
by node from shape arithmetic, and what that leaves open is asked of onnxruntime in one run that
gives out shapes only.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

import onnx
import onnxruntime

from prunecvt_passes import runtime
from prunecvt_passes.carried import Sizes, infer_shapes, set_shape, sizes_of
from prunecvt_passes.deduce import deduce
from prunecvt_passes.errors import PrunecvtError, UnsupportedError
from prunecvt_passes.graph import (
    DEFAULT_DOMAINS,
    Graph,
    Shapes,
    every_scope,
    index,
    taken_names,
    unused,
)
from prunecvt_passes.model import Model, fill
from prunecvt_passes.samples import InputSizes, graph_inputs, probes, random_inputs

log = logging.getLogger("prunecvt")
_VALUE_ELEMENTS = 4096  # integer constants up to here are shown to shape inference


def infer(model: Model, stated: InputSizes | None = None) -> tuple[Shapes, Sizes]:
    """Finds the shape of every tensor.

    Args:
        model: the model.
        stated: input -> sizes that the user gave for dynamic inputs.

    Returns:
        The shapes, and the sizes of the graph inputs they were found at.

    Raises:
        UnsupportedError: E402, no probed size runs.
        UsageError: E203, a stated size does not fit.
    """
    wiring = index(model)
    failure: PrunecvtError | None = None
    failed: list[Sizes] = []
    for first, second in probes(model, stated or {}):
        if first in failed:
            continue
        try:
            failed.append(first)
            sizes, dtypes, inferred = _at(wiring, first)
            failed.pop()
            other = sizes if first == second else _at(wiring, second)[0]
        except UnsupportedError as error:
            failure = failure or error
            log.debug("inputs of %s do not run: %s", first, error.where)
            continue
        sized = {name: shape for name, shape in sizes.items() if _same_rank(shape, other.get(name))}
        dynamic = {
            name: tuple(a != b for a, b in zip(shape, other[name], strict=True))
            for name, shape in sized.items()
            if other[name] != shape
        }
        loose = data_dependent(model, inferred)
        dynamic.update({name: (True,) * len(sized[name]) for name in loose & sized.keys()})
        return Shapes(sized, dynamic, dtypes, other), first
    raise UnsupportedError(
        "E402",
        "no input size was found that the model runs at",
        where=failure.where if failure else model.source,
        help="give the sizes of its inputs with --input-shape NAME:1,3,224,224",
    ) from failure


def _same_rank(shape: tuple[int, ...], other: tuple[int, ...] | None) -> bool:
    return other is not None and len(other) == len(shape)


def _at(wiring: Graph, inputs: Sizes) -> tuple[Sizes, dict[str, int], set[str]]:
    """Shapes and element types with the graph inputs at the given sizes.

    The third are the tensors whose shape needed no run.
    """
    model = wiring.model
    proto = _concrete(model, inputs)
    try:
        inferred = infer_shapes(proto).graph
    except Exception as error:  # onnx's C++ errors share no public base class
        raise UnsupportedError(
            "E402", "shape inference fails", where=f"{model.source}: {str(error)[:300]}"
        ) from error
    sizes = sizes_of(inferred)
    dtypes = {
        value.name: value.type.tensor_type.elem_type
        for scope in every_scope(inferred)
        for value in (*scope.value_info, *scope.output, *scope.input)
        if value.type.tensor_type.elem_type
    }
    stated = set(sizes)
    deduce(wiring, sizes, dtypes)
    typed = ((v.name, v.type.WhichOneof("value")) for v in inferred.value_info)
    others = {name for name, kind in typed if kind not in (None, "tensor_type")}
    missing = [name for name in _missing(model, sizes) if name not in others]
    if missing:
        found, types = _asked(model, inputs, missing, dtypes)
        sizes.update(found)
        dtypes.update(types)
    return sizes, dtypes, stated


def _concrete(model: Model, inputs: Sizes) -> onnx.ModelProto:
    """The graph with static inputs, and weights as inputs: nothing large inside."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    graph = proto.graph
    for value in graph.input:
        if value.name in inputs:
            set_shape(value, inputs[value.name])
    del graph.value_info[:]
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    headers = list(graph.initializer)
    del graph.initializer[:]
    for header in headers:
        values = model.weights[header.name]
        if values.size <= _VALUE_ELEMENTS and (values.dtype.kind in "iub" or values.size <= 16):
            tensor = graph.initializer.add()
            tensor.CopyFrom(header)
            fill(tensor, values)
        else:
            graph.input.append(
                onnx.helper.make_tensor_value_info(header.name, header.data_type, values.shape)
            )
    small = {tensor.name: tensor for tensor in graph.initializer}
    for body in list(every_scope(graph))[1:]:  # inference sees no values of the graph around it
        read = dict.fromkeys(name for node in body.node for name in node.input)
        body.initializer.extend(small[name] for name in read if name in small)
    return proto


def _missing(model: Model, sizes: Sizes) -> list[str]:
    """Tensors of the main graph that have no shape yet, sequences and the like included."""
    return [
        name
        for node in model.proto.graph.node
        for name in node.output
        if name and name not in sizes
    ]


def _asked(
    model: Model, inputs: Sizes, missing: list[str], typed: Mapping[str, int]
) -> tuple[Sizes, dict[str, int]]:
    """Shapes of ``missing`` from one run that outputs them, and types of those not ``typed``.

    What is no tensor stays unknown.
    """
    probe = model.copy()
    graph = probe.proto.graph
    graph.value_info.extend(value for value in graph.output if value.name in missing)
    leave_types(graph)
    types = _tensor_types(probe, set(missing))
    asked = [name for name in missing if name in types]
    taken = taken_names(graph)
    shown = {unused(f"{name}__shape", taken): name for name in asked}
    for output, name in shown.items():
        graph.node.add(op_type="Shape", input=[name], output=[output])
    del graph.output[:]
    for output in shown:
        graph.output.add(name=output).type.tensor_type.elem_type = onnx.TensorProto.INT64
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in asked if name not in typed)
    if not shown:
        return {}, {}
    opened = _opened(probe)
    results = runtime.run_session(opened, random_inputs(model, inputs), list(shown), model.source)
    sizes = {shown[output]: tuple(int(v) for v in dims) for output, dims in results.items()}
    kinds = {output.name: _TENSOR.fullmatch(output.type) for output in opened.get_outputs()}
    return sizes, {
        name: onnx.TensorProto.DataType.Value(kind[1].upper())
        for name, kind in kinds.items()
        if kind and name not in shown
    }


def _opened(probe: Model) -> onnxruntime.InferenceSession:
    """As it is, for its element types; in float32 where onnxruntime has no kernels for them."""
    try:
        return runtime.session(probe)
    except UnsupportedError:
        return runtime.session(runtime.comparable(probe))


_TENSOR = re.compile(r"tensor\((\w+)\)")


def leave_types(graph: onnx.GraphProto) -> None:
    """Leaves of the declared inner tensors the element types of what foreign operators make.

    onnxruntime cannot tell all of these; everything else it infers, and shapes may have changed.
    """
    made = {name for n in graph.node if n.domain not in DEFAULT_DOMAINS for name in n.output}
    types = {v.name: v.type.tensor_type.elem_type for v in graph.value_info}
    del graph.value_info[:]
    for name, kind in types.items():
        if kind and name in made:
            graph.value_info.add(name=name).type.tensor_type.elem_type = kind


def data_dependent(model: Model, inferred: set[str]) -> set[str]:
    """Tensors whose shape may depend on the values of the graph inputs, not on their shapes alone.

    Args:
        model: the model.
        inferred: tensors whose shape follows from the inputs' shapes.
    """
    steering: set[str] = {
        value.name for value in graph_inputs(model)
    }  # values that follow from data
    found: set[str] = set()
    for node in model.proto.graph.node:
        by_data = any(name in steering for name in node.input)
        chosen = node.input[1:] if node.op_type == "Compress" else node.input
        picked = node.op_type in _BY_DATA and any(name in steering for name in chosen)
        bodies = any(a.HasField("g") or a.graphs for a in node.attribute)
        if node.op_type not in ("Shape", "Size") and (by_data or bodies):
            steering.update(node.output)
        by_shape = any(name in found for name in node.input)
        if by_shape:
            steering.update(node.output)
        first = 0 if node.op_type in _FROM_VALUES else 2 if node.op_type == "MaxUnpool" else 1
        steered = node.input[first:]
        origin = picked or (node.op_type in _BY_SIZES and any(n in steering for n in steered))
        if bodies or origin or by_shape:
            found.update(name for name in node.output if name not in inferred)
    return found


_BY_DATA = ("NonZero", "Unique", "Compress", "NonMaxSuppression", "StringSplit")
_WINDOWS = ("BlackmanWindow", "HammingWindow", "HannWindow", "MelWeightMatrix")
_FROM_VALUES = ("Range", "ConstantOfShape", "RandomNormal", "RandomUniform", *_WINDOWS)
_BY_SIZES = (
    *("Reshape", "Expand", "Tile", "Resize", "Upsample", "Slice", "Pad", "TopK", "OneHot", "Split"),
    *("Squeeze", "Unsqueeze", "CenterCropPad", "SequenceAt", "Range", "ConstantOfShape"),
    *("AffineGrid", "Col2Im", "DFT", "MaxUnpool", "STFT", *_WINDOWS),
)


def _tensor_types(model: Model, names: set[str]) -> set[str]:
    """Those of ``names`` that are tensors, as far as can be told: not made as sequences."""
    sequences = ("Empty", "Construct", "Insert", "Map")
    makers = (*(f"Sequence{kind}" for kind in sequences), "SplitToSequence", "Optional")
    return {
        name
        for node in model.proto.graph.node
        if node.op_type not in makers
        for name in node.output
        if name in names
    }
