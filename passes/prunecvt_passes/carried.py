"""Shapes inside bodies: ``onnx.shape_inference`` with what Loop and Scan carry taken into account.

onnx does not say what shape a carried value has, for it may change from one iteration to the next.
It is assumed to have the shape it starts with, in all bodies at once; an assumption that what the
body hands on does not bear out is given up, until all that are left hold. By induction over the
iterations they are then right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx

from prunecvt_passes.graph import bodies, every_scope

Sizes = dict[str, tuple[int, ...]]
_ROUNDS = 8  # of giving up; nets settle in two or three


@dataclass(frozen=True, eq=False)
class _Carried:
    """What a body takes over as ``entry``, first from ``first``, and hands on as ``handed``.

    ``final`` is what its owner gives back, in the graph ``around``; "" where it is left out.
    """

    first: str
    entry: onnx.ValueInfoProto
    handed: str
    final: str
    around: onnx.GraphProto


def infer_shapes(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Runs shape inference on ``proto``; what its bodies state of shapes is not believed.

    Args:
        proto: a model of which a name means one tensor; the shapes in its bodies are changed.

    Raises:
        Exception: of onnx, which share no public base class.
    """
    for body in list(every_scope(proto.graph))[1:]:
        del body.value_info[:]
        for value in (*body.input, *body.output):
            _clear_shape(value)
    waiting, assumed = list(_all_carried(proto.graph)), list[_Carried]()
    for _ in range(_ROUNDS):
        inferred = _inferred(proto)
        found = sizes_of(inferred.graph)
        wrong = dict.fromkeys(c for c in assumed if not _holds(c, found))
        ready = dict.fromkeys(c for c in waiting if c.first in found and not wrong)
        if not wrong and not ready:
            return inferred
        for carried in wrong:
            _state(carried, None)
        for carried in ready:
            _state(carried, found[carried.first])
        assumed = [*(c for c in assumed if c not in wrong), *ready]
        waiting = [c for c in waiting if c not in ready]
    for carried in assumed:
        _state(carried, None)
    return _inferred(proto)


def sizes_of(graph: onnx.GraphProto) -> Sizes:
    """The known dimensions of every tensor of ``graph`` and its bodies."""
    found: Sizes = {}
    for scope in every_scope(graph):
        found.update((t.name, tuple(t.dims)) for t in scope.initializer)
        for value in (*scope.value_info, *scope.output, *scope.input):
            tensor = value.type.tensor_type
            dims = tensor.shape.dim
            if tensor.HasField("shape") and all(d.HasField("dim_value") for d in dims):
                found[value.name] = tuple(d.dim_value for d in dims)
    return found


def set_shape(value: onnx.ValueInfoProto, sizes: tuple[int, ...]) -> None:
    """Makes ``value`` a tensor of these dimensions."""
    shape = value.type.tensor_type.shape
    shape.SetInParent()
    del shape.dim[:]
    for size in sizes:
        shape.dim.add(dim_value=size)


def _clear_shape(value: onnx.ValueInfoProto) -> None:
    if value.type.HasField("tensor_type"):  # else clearing would make it one
        value.type.tensor_type.ClearField("shape")


def _inferred(proto: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(proto, strict_mode=False, data_prop=True)


def _all_carried(graph: onnx.GraphProto) -> Iterator[_Carried]:
    for scope in every_scope(graph):
        for node in scope.node:
            for body in bodies(node):
                yield from _carried(scope, node, body)


def _carried(
    around: onnx.GraphProto, node: onnx.NodeProto, body: onnx.GraphProto
) -> Iterator[_Carried]:
    """A Loop's inputs are a count, a condition and what it carries; a Scan's begin with that."""
    if node.op_type == "If":
        return
    scanned = next((a.i for a in node.attribute if a.name == "num_scan_inputs"), 0)
    start, skipped = (2, 1) if node.op_type == "Loop" else (0, 0)
    for place in range(start, len(body.input) - scanned):
        final = place - start
        yield _Carried(
            node.input[place],
            body.input[place],
            body.output[final + skipped].name,
            node.output[final] if final < len(node.output) else "",
            around,
        )


def _holds(carried: _Carried, found: Sizes) -> bool:
    start = found.get(carried.first)
    return start == found.get(carried.entry.name) == found.get(carried.handed)


def _state(carried: _Carried, sizes: tuple[int, ...] | None) -> None:
    """States the shape of a carried value inside the body and behind it; None takes it back."""
    values = [carried.entry]
    stated = (*carried.around.output, *carried.around.value_info)
    final = next((value for value in stated if value.name == carried.final), None)
    if final is None and carried.final and sizes is not None:
        final = carried.around.value_info.add(name=carried.final)
        final.type.tensor_type.elem_type = carried.entry.type.tensor_type.elem_type
    if final is not None:
        values.append(final)
    for value in values:
        if sizes is None:
            _clear_shape(value)
        else:
            set_shape(value, sizes)
