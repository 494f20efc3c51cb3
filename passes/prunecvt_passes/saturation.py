"""The same model with products of 8-bit integers that add up to what ONNX says on every processor.

Products of unsigned by signed 8-bit integers are summed in pairs in 16 bits by processors that have
no instruction for dot products (x86 before AVX-512 VNNI and AVX-VNNI), and 255 * 127 * 2 does not
fit: the sum ends at 32767. What such an operator gives then depends on which channels stand side by
side, and a correct cut moves them. Sums of factors that are both unsigned or both signed are exact
everywhere, and a factor changes sides for nothing: adding 128 to the integers and to their zero
point changes no difference of the two, and it is the differences that are multiplied.

onnxruntime does the same on request (``session.x64quantprecision``), but as an optimisation, on x86
alone and to constant weights alone; models are compared without optimisations.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto

from prunecvt_passes.graph import (
    captured_names,
    every_node,
    every_scope,
    replace_nodes,
    taken_names,
    unused,
)
from prunecvt_passes.model import Array, Model
from prunecvt_passes.quantization import FACTORS, MICROSOFT, Operand

_Pair = tuple[Operand, Operand]
_ITSELF = Operand(0)  # floats, which the operator makes unsigned integers of by itself
# What is multiplied by what. The outputs' type is tied to that of the first factor in some
# operators and to that of the second in none, so it is the second that changes.
_PAIRS: dict[str, tuple[_Pair, ...]] = {
    **{kind: (pair,) for kind, pair in FACTORS.items()},
    f"{MICROSOFT}:QLinearConv": (FACTORS["QLinearConv"],),
    f"{MICROSOFT}:QAttention": ((Operand(0, zero=6), Operand(1, zero=7)),),
    f"{MICROSOFT}:DynamicQuantizeLSTM": (
        (_ITSELF, Operand(1, zero=9)),
        (_ITSELF, Operand(2, zero=11)),
    ),
}
_BYTES = (TensorProto.UINT8, TensorProto.INT8)
_TOP = 0x80  # the bit in which q and q + 128 differ, whatever the sign


def multiplies_integers(model: Model) -> bool:
    """Whether an operator multiplies 8-bit integers, so that it may run otherwise elsewhere."""
    return any(_pairs(node) for node in every_node(model.proto.graph))


def unsaturated(model: Model) -> Model:
    """Returns a copy in which both factors of every product of 8-bit integers have the same sign.

    Constants are replaced, other tensors shifted by nodes. The very same model where no operator
    multiplies one kind by the other; local functions are left alone.
    """
    if not multiplies_integers(model):
        return model
    shifts = _Shifts(model, _types(model), taken_names(model.proto.graph))
    copy = model.copy()
    replace_nodes(copy.proto.graph, lambda _, node: (*shifts.before(node), node))
    if not shifts.changed:
        return model
    copy.set_weights(shifts.weights)
    graph = copy.proto.graph
    read = {name for node in graph.node for name in node.input} | captured_names(graph)
    read |= {value.name for value in (*graph.input, *graph.output)}
    copy.drop_weights({name for name, _ in shifts.made if name and name not in read})
    return copy


def _pairs(node: onnx.NodeProto) -> tuple[_Pair, ...]:
    kind = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}:{node.op_type}"
    return _PAIRS.get(kind, ())


def _types(model: Model) -> dict[str, int]:
    """Element types as far as onnx tells them; weights go in as inputs, for they hold no data."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    own = {value.name for value in proto.graph.input}
    for tensor in proto.graph.initializer:
        if tensor.name not in own:
            proto.graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    del proto.graph.initializer[:]
    with contextlib.suppress(Exception):  # onnx's share no public base class; what is stated stays
        proto = onnx.shape_inference.infer_shapes(proto)
    types: dict[str, int] = {}
    for scope in every_scope(proto.graph):
        types.update((tensor.name, tensor.data_type) for tensor in scope.initializer)
        for value in (*scope.input, *scope.value_info, *scope.output):
            types.setdefault(value.name, value.type.tensor_type.elem_type)
    return types


@dataclass
class _Shifts:
    """Makes tensors of the other type, each constant once.

    Attributes:
        weights: what is to be added.
        made: a constant and a type -> its counterpart of that type.
        changed: whether any node was.
    """

    model: Model
    types: dict[str, int]
    taken: set[str]
    weights: dict[str, Array] = field(default_factory=dict)
    made: dict[tuple[str, int], str] = field(default_factory=dict)
    changed: bool = False

    def before(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        """Gives the second factors of ``node`` the type of the first; yields what precedes."""
        for first, second in _pairs(node):
            kind, other = self._type(node, first), self._type(node, second)
            if first == _ITSELF:
                kind = TensorProto.UINT8
            if kind == other or kind not in _BYTES or other not in _BYTES:
                continue
            yield from self._shift(node, second.data, kind)
            yield from self._shift(node, second.zero, kind)

    def _type(self, node: onnx.NodeProto, operand: Operand) -> int:
        """Element type of a factor: that of its zero point where there is one."""
        for place in (operand.zero, operand.data):
            name = node.input[place] if 0 <= place < len(node.input) else ""
            if self.types.get(name):
                return self.types[name]
        return TensorProto.UNDEFINED

    def _shift(self, node: onnx.NodeProto, place: int, kind: int) -> Iterator[onnx.NodeProto]:
        """Puts a counterpart in the place of an input; one that is left out stands for 0."""
        node.input.extend([""] * (place + 1 - len(node.input)))
        name = node.input[place]
        values = self.model.weights.get(name) if name else np.zeros((), np.uint8)
        if values is None:
            node.input[place] = unused(f"{name}__unsaturated", self.taken)
            self.changed = True
            yield from self._nodes(name, node.input[place], kind)
            return
        if (name, kind) not in self.made:
            made = unused(f"{name or 'zero'}__unsaturated", self.taken)
            self.made[name, kind] = made
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
            self.weights[made] = np.asarray(values.view(np.uint8) ^ np.uint8(_TOP)).view(dtype)
        node.input[place] = self.made[name, kind]
        self.changed = True

    def _nodes(self, name: str, made: str, kind: int) -> list[onnx.NodeProto]:
        """The nodes that shift a tensor that is computed; runtimes add no 8-bit integers."""
        wide, moved = (unused(f"{made}__{step}", self.taken) for step in ("wide", "moved"))
        sign = 1 if kind == TensorProto.UINT8 else -1
        by = unused(f"{made}__by", self.taken)
        self.weights[by] = np.array(sign * _TOP, np.int32)
        node = onnx.helper.make_node
        return [
            node("Cast", [name], [wide], to=TensorProto.INT32),
            node("Add", [wide, by], [moved]),
            node("Cast", [moved], [made], to=kind),
        ]
