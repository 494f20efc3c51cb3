"""Turns a model into the bytes of its file, or files: past 2 GiB the weights go beside it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx

from prunecvt.writing.write import Part
from prunecvt_passes.model import PROTOBUF_LIMIT, Array, Model, fill

_ALIGNMENT = 4096  # lets a runtime map the weights from the file
_INLINE_BYTES = 1024  # smaller weights stay in the graph: shape inference reads them


def serialize_onnx(model: Model) -> bytes:
    """Returns the whole model as one message, the same bytes for the same model.

    Raises:
        ValueError: the model is larger than a message may be; see ``onnx_parts``.
    """
    if _message_bytes(model) > PROTOBUF_LIMIT:
        raise ValueError(f"{model.source} is too large for one file; use onnx_parts()")
    return bytes(model.to_proto().SerializeToString(deterministic=True))


def onnx_parts(model: Model, path: Path, *, limit: int = PROTOBUF_LIMIT) -> list[Part]:
    """Returns the files of a model for ``write_set``, the .onnx itself last.

    A model of more than ``limit`` bytes gets a second file, ``<name>.onnx.data``, to which the
    weights are written one by one.
    """
    if _message_bytes(model) <= limit:
        return [Part(path, lambda file: file.write(serialize_onnx(model)))]
    sidecar = weights_file(path)
    proto, layout = _outsourced(model, sidecar.name)

    def write_weights(file: BinaryIO) -> None:
        for name, offset in layout:
            file.write(b"\0" * (offset - file.tell()))
            file.write(_raw(model, name))

    message = bytes(proto.SerializeToString(deterministic=True))
    return [Part(sidecar, write_weights), Part(path, lambda file: file.write(message))]


def weights_file(path: Path) -> Path:
    """Where the weights of the model at ``path`` lie, if they do not fit into it."""
    return path.with_name(f"{path.name}.data")


def _message_bytes(model: Model) -> int:
    headers = 16 * len(model.weights)  # tag and length of each array
    return int(model.proto.ByteSize()) + model.nbytes + headers


def _outsourced(model: Model, location: str) -> tuple[onnx.ModelProto, list[tuple[str, int]]]:
    """Returns the graph with references to ``location``, and (weight, offset) in file order."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    layout: list[tuple[str, int]] = []
    end = 0
    for tensor in proto.graph.initializer:
        values = model.weights[tensor.name]
        if tensor.data_type == onnx.TensorProto.STRING or values.nbytes < _INLINE_BYTES:
            fill(tensor, values)
            continue
        offset = -(-end // _ALIGNMENT) * _ALIGNMENT
        length = len(_raw(model, tensor.name))
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
        layout.append((tensor.name, offset))
        end = offset + length
    return proto, layout


def _raw(model: Model, name: str) -> memoryview:
    """Returns a weight as ONNX stores it; ordinary ones without a copy."""
    values = model.weights[name]
    if values.dtype.kind in "fiubc" and values.dtype.isnative and sys.byteorder == "little":
        return _bytes_of(values)
    tensor = onnx.TensorProto()  # 4-bit types are packed, foreign byte orders swapped
    fill(tensor, values)
    return memoryview(tensor.raw_data)


def _bytes_of(values: Array) -> memoryview:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
