"""Asks onnx's checker and its strict shape inference about a model, and explains what they say."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator

import onnx

from prunecvt.loading.refusal import dims, invalid, label, one_line, place, title
from prunecvt.loading.structure import subgraphs
from prunecvt.loading.versions import opens
from prunecvt.loading.weight_fit import Shape, Shapes, check_fit, misfit
from prunecvt.loading.weightless import weightless
from prunecvt_passes.errors import PrunecvtError, UnsupportedError
from prunecvt_passes.model import Model

log = logging.getLogger("prunecvt")
_NODE_SIGNS = (  # how onnx's messages name a node
    re.compile(r"\(op_type:(?P<op>[^,)]*)(, node name: (?P<name>.*?))?\)"),
    re.compile(r"node name (?P<name>.*?)\. No opset import"),
    re.compile(r"Bad node spec for node\. Name: (?P<name>.*) OpType: (?P<op>\S*)"),
)
_NOISE = re.compile(
    r"\[\w+InferenceError\] ?|Inference error\(s\): |\(op_type:[^)]*\): |\s*==> Context:.*", re.S
)
_TYPE_SIGNS = ("inconsistent type", "unsupported type", "TypeInferenceError", "elem type")


def validate(model: Model) -> None:
    """Checks the nodes of ``model`` and that what they read fits together.

    Raises:
        InputError: E304, weights do not fit their node; E308, element types do not fit; E309, a
            node is not valid.
        UnsupportedError: E424, an operator is not part of the ONNX operator set.
    """
    _check_declared_types(model)
    probe = weightless(model)
    _check_nodes(probe, model.source)
    infer = onnx.shape_inference.infer_shapes
    complaint = ""
    try:
        inferred = infer(probe, check_type=True, strict_mode=True, data_prop=True)
    except Exception as error:  # onnx's C++ errors share no public base class
        complaint = str(error).strip().partition("\n")[0]  # later ones follow from the first
        inferred = _leniently(lambda: infer(probe), probe)
    shapes = _shapes(inferred.graph)
    graphs = [(inferred.graph, shapes)]
    while graphs:
        graph, seen = graphs.pop()
        check_fit(graph.node, seen, model.source)
        graphs += [(b, {**seen, **_shapes(b)}) for n in graph.node for b in subgraphs(n)]
    if not complaint:
        return
    if not opens(probe):
        raise _explained(complaint, probe, shapes, model.source)
    log.warning("%s: %s; onnxruntime takes it", model.source, one_line(_cleaned(complaint)))


def _check_declared_types(model: Model) -> None:
    """Refuses an input and an initializer of one name but different types."""
    types = {tensor.name: tensor.data_type for tensor in model.proto.graph.initializer}
    for value in model.proto.graph.input:
        declared = value.type.tensor_type.elem_type
        if declared and types.get(value.name, declared) != declared:
            raise invalid(
                "E308",
                "an input and its default value have different element types",
                place(model.source, f"input '{value.name}'"),
                help="export the model again",
            )


def _check_nodes(probe: onnx.ModelProto, source: str) -> None:
    """Runs onnx's checker, which looks at operators, attributes and numbers of inputs."""
    unshaped = [
        value.type.tensor_type
        for value in (*probe.graph.input, *probe.graph.output)
        if value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape")
    ]
    for tensor_type in unshaped:
        tensor_type.shape.SetInParent()  # the checker wants one, inference must not see it
    try:
        onnx.checker.check_model(probe)
    except Exception as error:  # onnx's C++ errors share no public base class
        # onnxruntime has operators of its own in this domain, and runs some that onnx gave up
        taken = ("No Op registered for", "is deprecated in domain_version")
        if not (any(text in str(error) for text in taken) and opens(probe)):
            raise _explained(str(error), probe, {}, source) from error
        log.warning("%s: %s; onnxruntime takes it", source, one_line(_cleaned(str(error))))
    for tensor_type in unshaped:
        tensor_type.ClearField("shape")


def _leniently(infer: Callable[[], onnx.ModelProto], probe: onnx.ModelProto) -> onnx.ModelProto:
    """As far as shapes can be found at all."""
    try:
        return infer()
    except Exception:  # as above
        return probe


def _shapes(graph: onnx.GraphProto) -> dict[str, Shape]:
    """Tensor -> sizes, None for those not known."""
    found: dict[str, Shape] = {t.name: tuple(t.dims) for t in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor_type = value.type.tensor_type
        if tensor_type.HasField("shape"):
            found[value.name] = tuple(
                d.dim_value if d.HasField("dim_value") else None for d in tensor_type.shape.dim
            )
    return found


def _explained(
    complaint: str, probe: onnx.ModelProto, shapes: Shapes, source: str
) -> PrunecvtError:
    """The error for what onnx complains about."""
    node, reason = _blamed(complaint, probe), _cleaned(complaint)
    where = place(source, *([title(node)] if node else []), reason)
    name = label(node) if node else ""
    if "No Op registered for" in complaint:
        return UnsupportedError(
            "E424",
            "an operator is not part of the ONNX operator set that the model states",
            where=where,
            node=name,
            help="export the model again with standard operators, or give the operator a domain",
        )
    again = "export the model again"
    if any(sign in complaint for sign in _TYPE_SIGNS):
        message = f"element types at node '{name}' do not fit" if node else "types do not fit"
        return invalid("E308", message, where, node=name, help=again)
    known = {tensor.name for tensor in (*probe.graph.initializer, *probe.graph.input)}
    if node and "InferenceError" in complaint and len(known.intersection(node.input)) > 0:
        read = ", ".join(f"'{n}' {dims(shapes[n])}" for n in node.input if n in shapes)
        return misfit(node, f"{reason} (it reads {read})" if read else reason, source)
    message = f"node '{name}' is not valid" if node else "the model is not valid"
    return invalid("E309", message, where, node=name, help=again)


def _cleaned(complaint: str) -> str:
    return _NOISE.sub("", complaint).strip().rstrip(".")


def _blamed(complaint: str, probe: onnx.ModelProto) -> onnx.NodeProto | None:
    """The node that a message of onnx names, by its name or else by its operator."""
    signs = next(filter(None, (sign.search(complaint) for sign in _NODE_SIGNS)), None)
    if signs is None:
        return None
    found = signs.groupdict()
    name, op = found.get("name") or "", found.get("op")
    return next(
        (n for n in _nodes(probe.graph) if n.name == name and op in (None, n.op_type)), None
    )


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    graphs = [graph]
    while graphs:
        current = graphs.pop()
        yield from current.node
        graphs += [body for node in current.node for body in subgraphs(node)]
