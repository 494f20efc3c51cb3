"""The model as passes see it: a skeleton graph and its weights kept apart.

``Model.proto`` is an ordinary ``ModelProto`` whose initializers are headers only (name, type,
dims); their values lie in ``Model.weights`` as read-only numpy arrays. So copying a model to edit
it costs nothing, unchanged weights are shared between the original and the slimmed model, and a
runtime session reads the arrays in place.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

Array = npt.NDArray[Any]
PROTOBUF_LIMIT = 2**31 - 2**20  # serialized messages end at 2 GiB; leave room for the graph
_DATA_FIELDS = (
    "raw_data",
    "float_data",
    "int32_data",
    "string_data",
    "int64_data",
    "double_data",
    "uint64_data",
    "external_data",
    "data_location",
)


@dataclass(frozen=True)
class Model:
    """A graph and its weights.

    Invariants: every entry of ``proto.graph.initializer`` is a header without data whose name is a
    key of ``weights``, with equal dims and dtype; arrays are never written to; ``proto`` is treated
    as frozen (a pass that edits works on ``copy()``).

    Attributes:
        proto: the graph, opsets, IR version, metadata.
        weights: initializer name -> values.
        source: where the model came from, for messages.
    """

    proto: onnx.ModelProto
    weights: dict[str, Array]
    source: str = "model"

    @staticmethod
    def from_proto(proto: onnx.ModelProto, source: str = "model") -> Model:
        """Splits ``proto`` (left untouched) into skeleton and weights."""
        skeleton = onnx.ModelProto()
        skeleton.CopyFrom(proto)
        return Model.take(skeleton, source)

    @staticmethod
    def take(proto: onnx.ModelProto, source: str = "model") -> Model:
        """As ``from_proto``, but takes ``proto`` over and empties it: no weight is copied."""
        weights: dict[str, Array] = {}
        for tensor in proto.graph.initializer:
            values = numpy_helper.to_array(tensor)
            values.flags.writeable = False
            weights[tensor.name] = values
            for name in _DATA_FIELDS:
                tensor.ClearField(name)
        skeleton = onnx.ModelProto()
        skeleton.CopyFrom(proto)  # a fresh arena: the emptied one still holds the bytes
        return Model(skeleton, weights, source)

    def copy(self) -> Model:
        """Returns a model whose graph may be edited; the weights are shared."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        return Model(proto, dict(self.weights), self.source)

    def set_weight(self, name: str, values: Array) -> None:
        """Adds or replaces an initializer of a model being built (only on a ``copy()``)."""
        self.set_weights({name: np.asarray(values)})

    def set_weights(self, values: dict[str, Array]) -> None:
        """As ``set_weight`` for many, in one walk over the initializers."""
        headers = {t.name: t for t in self.proto.graph.initializer if t.name in values}
        for name, array in values.items():
            old, tensor = self.weights.get(name), headers.get(name)
            if tensor is None:
                tensor = self.proto.graph.initializer.add(name=name)
            if old is None or old.dtype != array.dtype:
                tensor.data_type = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            tensor.dims[:] = array.shape
            array.flags.writeable = False
            self.weights[name] = array

    def drop_weights(self, names: Iterable[str]) -> None:
        """Removes initializers of a model being built (only on a ``copy()``)."""
        doomed = set(names)
        kept = [t for t in self.proto.graph.initializer if t.name not in doomed]
        del self.proto.graph.initializer[:]
        self.proto.graph.initializer.extend(kept)
        for name in doomed:
            del self.weights[name]

    @property
    def nbytes(self) -> int:
        """Bytes of all weights."""
        return sum(values.nbytes for values in self.weights.values())

    def to_proto(self) -> onnx.ModelProto:
        """Returns a complete ``ModelProto`` with the values filled in."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        for tensor in proto.graph.initializer:
            fill(tensor, self.weights[tensor.name])
        return proto


def fill(tensor: onnx.TensorProto, values: Array) -> None:
    """Writes ``values`` into the header ``tensor``; type and dims are the header's."""
    if tensor.data_type == onnx.TensorProto.STRING:
        tensor.string_data[:] = [
            v if isinstance(v, bytes) else str(v).encode() for v in values.flat
        ]
        return
    if values.dtype.isbuiltin == 1 and values.dtype.isnative and sys.byteorder == "little":
        tensor.raw_data = values.tobytes()  # as from_array does, without its second copy
    else:
        tensor.raw_data = numpy_helper.from_array(values).raw_data
