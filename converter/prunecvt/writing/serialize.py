"""Turns a model into the bytes of its file, or files: past 2 GiB the weights go beside it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
from google.protobuf.message import Message  # type: ignore[import-untyped]

from prunecvt.loading.weights import copy_fields
from prunecvt.writing.write import Part
from prunecvt_passes.model import PROTOBUF_LIMIT, Array, Model, fill

_ALIGNMENT = 4096  # lets a runtime map the weights from the file
_LENGTH_DELIMITED = 2  # protobuf's wire type of bytes, texts and messages
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
        return [Part(path, lambda file: _write_message(model, file))]
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


def _write_message(model: Model, file: BinaryIO) -> None:
    """Writes the bytes of ``serialize_onnx`` weight by weight: no message is ever held whole.

    The wire format is protobuf's: fields by number, each a tag, a length and its bytes.
    """
    graph = model.proto.graph
    before, after = _around(model.proto, "graph")
    graph_before, graph_after = _around(graph, "initializer")
    sizes = [_tensor_bytes(model, tensor) for tensor in graph.initializer]
    stored = sum(len(_prefix(graph, "initializer", size)) + size for size in sizes)
    length = len(graph_before) + stored + len(graph_after)
    file.write(before + _prefix(model.proto, "graph", length) + graph_before)
    for tensor, size in zip(graph.initializer, sizes, strict=True):
        file.write(_prefix(graph, "initializer", size))
        for piece in _tensor_pieces(model, tensor):
            file.write(piece)
    file.write(graph_after + after)


def _tensor_pieces(model: Model, tensor: onnx.TensorProto) -> Iterator[bytes | memoryview]:
    """Yields the bytes of an initializer, its values without a copy where they are ordinary."""
    values = model.weights[tensor.name]
    if tensor.data_type == onnx.TensorProto.STRING or values.nbytes < _INLINE_BYTES:
        whole = onnx.TensorProto()
        whole.CopyFrom(tensor)
        fill(whole, values)
        yield whole.SerializeToString(deterministic=True)
        return
    before, after = _around(tensor, "raw_data")
    raw = _raw(model, tensor.name)
    yield before + _prefix(tensor, "raw_data", len(raw))
    yield raw
    yield after


def _tensor_bytes(model: Model, tensor: onnx.TensorProto) -> int:
    return sum(len(piece) for piece in _tensor_pieces(model, tensor))


def _around(message: Message, name: str) -> tuple[bytes, bytes]:
    """The bytes of a message's fields numbered below that of ``name``, and of those above."""
    number = message.DESCRIPTOR.fields_by_name[name].number
    parts = []
    for below in (True, False):
        others = {f.name for f in message.DESCRIPTOR.fields if (f.number < number) != below}
        part = type(message)()
        copy_fields(message, part, leave_out={*others, name})
        parts.append(bytes(part.SerializeToString(deterministic=True)))
    return parts[0], parts[1]


def _prefix(message: Message, name: str, length: int) -> bytes:
    """Tag and length of a field of bytes."""
    tag = message.DESCRIPTOR.fields_by_name[name].number << 3 | _LENGTH_DELIMITED
    return _varint(tag) + _varint(length)


def _varint(number: int) -> bytes:
    digits = [number >> shift & 0x7F for shift in range(0, max(number.bit_length(), 1), 7)]
    return bytes([*(digit | 0x80 for digit in digits[:-1]), digits[-1]])


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
