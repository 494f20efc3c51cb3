"""The same model with unsigned 8-bit weights: what two quantised models are compared in.

Where a processor has no dot products of 8-bit integers (x86 without VNNI), onnxruntime multiplies
unsigned activations by signed weights in pairs and adds each pair up in 16 bits, which saturates.
What that loses depends on which channels share a pair, so that a model differs from itself with a
channel gone. Products of two unsigned numbers are exact everywhere, and a weight w with zero point
z says the same as w + 128 with zero point z + 128.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from prunecvt_passes.graph import every_node, taken_names, unused
from prunecvt_passes.model import Array, Model
from prunecvt_passes.quantization import FACTORS, Operand

_DEFAULT = ("", "ai.onnx")


def unsigned(model: Model) -> Model:
    """Returns a copy whose integer products have unsigned weights; ``model`` where none has signed.

    Weights that are computed stay as they are, and so do those beside signed activations, for which
    onnxruntime has no kernels with unsigned weights.
    """
    signed = _signed(model)
    if not signed:
        return model
    copy = model.copy()
    edited = _Edited(signed, taken_names(copy.proto.graph))
    for node in every_node(copy.proto.graph):
        domain = "" if node.domain in _DEFAULT else f"{node.domain}:"
        found = FACTORS.get(domain + node.op_type)
        if found is not None and _input(node, found[0].zero) not in signed:
            edited.turn(node, found[1])
    if not edited.added:
        return model
    copy.set_weights(edited.added)
    return copy


def _signed(model: Model) -> dict[str, Array]:
    """Constants of signed bytes by name: initializers, and what Constant nodes hold."""
    found = {name: values for name, values in model.weights.items() if values.dtype == np.int8}
    for node in every_node(model.proto.graph):
        if node.op_type == "Constant" and node.domain in _DEFAULT:
            for attribute in node.attribute:
                if attribute.name == "value" and attribute.t.data_type == onnx.TensorProto.INT8:
                    found[node.output[0]] = numpy_helper.to_array(attribute.t)
    return found


def _input(node: onnx.NodeProto, place: int) -> str:
    return node.input[place] if 0 <= place < len(node.input) else ""


class _Edited:
    """A model whose weights are being turned; ``added`` holds the new ones."""

    def __init__(self, signed: Mapping[str, Array], taken: set[str]) -> None:
        self.signed, self.taken = signed, taken
        self.added: dict[str, Array] = {}
        self.names: dict[str, str] = {}

    def turn(self, node: onnx.NodeProto, weight: Operand) -> None:
        """Gives the node an unsigned weight and zero point."""
        name, zero = _input(node, weight.data), _input(node, weight.zero)
        if name not in self.signed or (zero and zero not in self.signed):
            return
        while len(node.input) <= weight.zero:
            node.input.append("")
        node.input[weight.data] = self._turned(name, self.signed[name])
        node.input[weight.zero] = self._turned(zero, self.signed.get(zero, np.zeros((), np.int8)))

    def _turned(self, name: str, values: Array) -> str:
        if name not in self.names:
            self.names[name] = unused(f"{name or 'zero'}__unsigned", self.taken)
            self.added[self.names[name]] = np.asarray(values.view(np.uint8) ^ np.uint8(128))
        return self.names[name]
