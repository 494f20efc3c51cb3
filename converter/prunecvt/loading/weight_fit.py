"""Checks that weights fit what their node reads, beyond what shape inference does.

``onnx.shape_inference`` (and so onnxruntime, when it opens a model) lets a convolution with the
wrong number of input channels, a wrong bias or group 0 pass; those fail in the middle of a run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import onnx

from prunecvt.loading.refusal import dims, invalid, label, place, title
from prunecvt_passes.errors import InputError
from prunecvt_passes.graph import DEFAULT_DOMAINS

Shape = tuple[int | None, ...]
Shapes = Mapping[str, Shape]
# Of the data, the weight and the bias. QLinearConv: the rest are scales and zero points.
_INPUT_PLACES = {"QLinearConv": (0, 3, 8), "ConvInteger": (0, 1, 4)}  # 4: there is no bias
_NORMALISATION_WEIGHTS = {"BatchNormalization": (1, 2, 3, 4), "InstanceNormalization": (1, 2)}


def check_fit(nodes: Iterable[onnx.NodeProto], shapes: Shapes, source: str) -> None:
    """Checks the nodes whose shapes are known.

    Args:
        nodes: of any graph.
        shapes: tensor -> sizes, None for those not known.
        source: what errors call the model.

    Raises:
        InputError: E304, weights do not fit; E309, a group count is not positive.
    """
    for node in nodes:
        rule = _RULES.get(node.op_type)
        if rule is None or node.domain not in DEFAULT_DOMAINS:
            continue
        group = _integer(node, "group", 1)
        if group < 1:
            raise invalid(
                "E309",
                f"node '{label(node)}' is not a valid {node.op_type}",
                place(source, title(node), f"group is {group}, at least 1 is needed"),
                node=label(node),
                help="export the model again",
            )
        for reason in rule(node, shapes):
            raise misfit(node, reason, source)


def misfit(node: onnx.NodeProto, reason: str, source: str) -> InputError:
    """The error for weights of ``node`` that do not fit."""
    return invalid(
        "E304",
        f"weights of node '{label(node)}' do not fit its input",
        place(source, title(node), reason),
        node=label(node),
        help="re-export the model; its weights come from another one, or were cut wrongly",
    )


def _convolution(node: onnx.NodeProto, shapes: Shapes) -> Iterator[str]:
    data, weight, bias = (_shape(node, i, shapes) for i in _places(node))
    if weight is None or len(weight) < 2:
        return
    group = _integer(node, "group", 1)
    outputs, inputs = weight[0], weight[1]
    wanted = None if inputs is None else inputs * group
    yield from _channels(node, data, weight, wanted, group)
    if outputs is not None and outputs % group:
        yield f"{outputs} output channels of weight {dims(weight)} do not divide by group {group}"
    yield from _bias(bias, outputs)
    yield from _kernel(node, weight)


def _transposed_convolution(node: onnx.NodeProto, shapes: Shapes) -> Iterator[str]:
    data, weight, bias = (_shape(node, i, shapes) for i in _places(node))
    if weight is None or len(weight) < 2:
        return
    group = _integer(node, "group", 1)
    yield from _channels(node, data, weight, weight[0], 1)
    if weight[0] is not None and weight[0] % group:
        yield f"{weight[0]} input channels of weight {dims(weight)} do not divide by group {group}"
    yield from _bias(bias, None if weight[1] is None else weight[1] * group)
    yield from _kernel(node, weight)


def _places(node: onnx.NodeProto) -> tuple[int, int, int]:
    return _INPUT_PLACES.get(node.op_type, (0, 1, 2))


def _channels(
    node: onnx.NodeProto, data: Shape | None, weight: Shape, wanted: int | None, group: int
) -> Iterator[str]:
    if data is None or len(data) < 2 or data[1] is None or wanted in (None, data[1]):
        return
    groups = f" in {group} groups" if group > 1 else ""
    yield f"weight {dims(weight)}{groups} wants {wanted} input channels, {_has(node, data[1])}"


def _bias(bias: Shape | None, outputs: int | None) -> Iterator[str]:
    if bias is not None and outputs is not None and None not in bias and bias != (outputs,):
        yield f"bias {dims(bias)} does not fit {outputs} output channels"


def _kernel(node: onnx.NodeProto, weight: Shape) -> Iterator[str]:
    stated = next((tuple(a.ints) for a in node.attribute if a.name == "kernel_shape"), None)
    if stated is not None and None not in weight and stated != weight[2:]:
        yield f"weight {dims(weight)} does not fit kernel_shape {dims(stated)}"


def _normalisation(node: onnx.NodeProto, shapes: Shapes) -> Iterator[str]:
    data = _shape(node, 0, shapes)
    if data is None or len(data) < 2 or data[1] is None:
        return
    for index in _NORMALISATION_WEIGHTS[node.op_type]:
        vector = _shape(node, index, shapes)
        if vector is not None and None not in vector and vector != (data[1],):
            yield f"weight '{node.input[index]}' {dims(vector)} does not fit, {_has(node, data[1])}"


def _gemm(node: onnx.NodeProto, shapes: Shapes) -> Iterator[str]:
    data, weight, bias = (_shape(node, i, shapes) for i in range(3))
    if weight is None or len(weight) != 2:
        return
    inputs, outputs = weight[::-1] if _integer(node, "transB", 0) else weight
    if data is not None and len(data) == 2:
        size = data[0] if _integer(node, "transA", 0) else data[1]
        if None not in (size, inputs) and size != inputs:
            yield f"weight {dims(weight)} wants {inputs} input channels, {_has(node, size)}"
    last = bias[-1] if bias else None
    if None not in (last, outputs) and last not in (1, outputs):
        yield f"bias {dims(bias or ())} does not fit {outputs} output channels"


def _matmul(node: onnx.NodeProto, shapes: Shapes) -> Iterator[str]:
    data, weight = (_shape(node, i, shapes) for i in range(2))
    if not data or not weight:
        return
    inputs = weight[-2] if len(weight) > 1 else weight[0]
    if None not in (data[-1], inputs) and data[-1] != inputs:
        yield f"weight {dims(weight)} wants {inputs} input channels, {_has(node, data[-1])}"


def _has(node: onnx.NodeProto, size: int | None) -> str:
    return f"'{node.input[0]}' has {size}"


def _shape(node: onnx.NodeProto, index: int, shapes: Shapes) -> Shape | None:
    return shapes.get(node.input[index]) if index < len(node.input) else None


def _integer(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), default)


_RULES: dict[str, Callable[[onnx.NodeProto, Shapes], Iterator[str]]] = {
    "Conv": _convolution,
    "ConvInteger": _convolution,
    "QLinearConv": _convolution,
    "ConvTranspose": _transposed_convolution,
    "BatchNormalization": _normalisation,
    "InstanceNormalization": _normalisation,
    "Gemm": _gemm,
    "MatMul": _matmul,
}
