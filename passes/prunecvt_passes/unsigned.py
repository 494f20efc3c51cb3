"""The same model with unsigned 8-bit weights: what two quantised models are compared in.

Where a processor has no dot products of 8-bit integers (x86 without VNNI), onnxruntime multiplies
unsigned activations by signed weights in pairs and adds each pair up in 16 bits, which saturates.
What that loses depends on which channels share a pair, so that a model differs from itself with a
channel gone. Products of two unsigned numbers are exact everywhere, and a weight w with zero point
z says the same as w + 128 with zero point z + 128.
"""

from __future__ import annotations

import numpy as np
import onnx

from prunecvt_passes.graph import every_node, taken_names, unused
from prunecvt_passes.model import Array, Model
from prunecvt_passes.quantization import FACTORS, Operand

_DEFAULT = ("", "ai.onnx")


def unsigned(model: Model) -> Model:
    """Returns a copy whose integer products have unsigned weights; ``model`` where none has signed.

    Weights that are computed stay as they are, and so do those beside signed activations, for which
    onnxruntime has no kernels with unsigned weights.
    """
    if not any(values.dtype == np.int8 for values in model.weights.values()):
        return model
    copy = model.copy()
    edited = _Edited(copy, taken_names(copy.proto.graph))
    for node in every_node(copy.proto.graph):
        domain = "" if node.domain in _DEFAULT else f"{node.domain}:"
        found = FACTORS.get(domain + node.op_type)
        if found is not None and not _signed_data(copy, node, found[0]):
            edited.turn(node, found[1])
    if not edited.added:
        return model
    copy.set_weights(edited.added)
    return copy


class _Edited:
    """A model whose weights are being turned; ``added`` holds the new ones."""

    def __init__(self, model: Model, taken: set[str]) -> None:
        self.model, self.taken = model, taken
        self.added: dict[str, Array] = {}
        self.names: dict[str, str] = {}

    def turn(self, node: onnx.NodeProto, weight: Operand) -> None:
        """Gives the node an unsigned weight and zero point."""
        values = self.model.weights.get(node.input[weight.data])
        zero = node.input[weight.zero] if weight.zero < len(node.input) else ""
        stated = self.model.weights.get(zero)
        if values is None or values.dtype != np.int8 or (zero and stated is None):
            return
        node.input[weight.data] = self._turned(node.input[weight.data], values)
        while len(node.input) <= weight.zero:
            node.input.append("")
        absent = stated is None
        node.input[weight.zero] = self._turned(zero, np.int8(0) if absent else stated)

    def _turned(self, name: str, values: Array | np.int8 | None) -> str:
        if name not in self.names:
            self.names[name] = unused(f"{name or 'zero'}__unsigned", self.taken)
            turned = np.asarray(values).view(np.uint8) ^ np.uint8(128)
            self.added[self.names[name]] = np.asarray(turned)
        return self.names[name]


def _signed_data(model: Model, node: onnx.NodeProto, data: Operand) -> bool:
    """Whether the activations' zero point says that they are signed."""
    zero = node.input[data.zero] if 0 <= data.zero < len(node.input) else ""
    values = model.weights.get(zero)
    return values is not None and values.dtype == np.int8
