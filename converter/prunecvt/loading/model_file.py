"""Reading and parsing the model file itself.

Protobuf parses some garbage "successfully" into an empty message, so a parsed file counts as a
model only if it states an IR version, an operator set and a graph.
"""

from __future__ import annotations

import os

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from google.protobuf.unknown_fields import UnknownFieldSet  # type: ignore[import-untyped]

from prunecvt.loading.refusal import invalid, place
from prunecvt.loading.regular_file import open_regular
from prunecvt_passes.errors import InputError, ResourceError
from prunecvt_passes.graph import DEFAULT_DOMAINS

_PROTOBUF_END = 2**31  # bytes; serialized messages cannot be longer
_KNOWN_STARTS = (
    (b"PK\x03\x04", "a zip archive, such as a PyTorch .pt/.pth file", "export it to ONNX first"),
    (b"\x80", "a pickle, such as an old PyTorch file", "export it to ONNX first"),
    (b"\x89HDF", "an HDF5 file, such as a Keras .h5 model", "convert it with tf2onnx first"),
    (b"\x1f\x8b", "gzip-compressed", "unpack it first"),
    (b"version https://git-lfs", "a Git LFS pointer", "run 'git lfs pull' to get the file itself"),
    (b"<!DOCTYPE", "an HTML page", "the download went wrong; get the file again"),
    (b"<html", "an HTML page", "the download went wrong; get the file again"),
    (b"<?xml", "an XML file, such as an OpenVINO IR", "give the ONNX model it was made from"),
)
_KNOWN_FIFTH = (
    (b"ORTM", "an ORT-format model", "give the ONNX model it was made from"),
    (b"TFL3", "a TensorFlow Lite model", "convert it with tf2onnx first"),
)
_EXPORT_AGAIN = "check that this is an ONNX file, or export the model again"


def read_model_file(path: str, limit: int) -> onnx.ModelProto:
    """Reads and parses ``path``; external data is left where it lies.

    Args:
        path: the file.
        limit: bytes the model may take.

    Raises:
        InputError: E301, the file cannot be read; E302, it is not an ONNX model.
        ResourceError: E801, it is larger than ``limit``.
    """
    where = place(path)
    with open_regular(path, "E301", where) as handle:
        size = os.fstat(handle.fileno()).st_size
        if size == 0:
            raise invalid("E302", "the file is empty", where, help=_EXPORT_AGAIN)
        if size >= _PROTOBUF_END:
            raise invalid(
                "E302",
                "the file is larger than 2 GiB, more than an ONNX file can be",
                where,
                help="save the model with its weights as external data",
            )
        if size > limit:
            raise ResourceError(
                "E801",
                f"the model takes {size} bytes, more than the limit of {limit}",
                where=where,
                help="raise --max-memory",
            )
        try:
            data = handle.read()
        except OSError as error:
            raise invalid("E301", f"the file cannot be read: {error.strerror}", where) from error
    return parse(data, path)


def parse(data: bytes, source: str) -> onnx.ModelProto:
    """Parses a serialized model; ``source`` is what errors call it.

    Raises:
        InputError: E302, it is not an ONNX model.
    """
    try:
        proto: onnx.ModelProto = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise _not_onnx(data[:64], source) from error
    if not proto.HasField("graph"):
        raise _not_onnx(data[:64], source)
    if len(UnknownFieldSet(proto)):
        raise invalid(
            "E302",
            "the file holds data that is not part of an ONNX model",
            place(source),
            help=_EXPORT_AGAIN,
        )
    return proto


def _not_onnx(start: bytes, source: str) -> InputError:
    """The error for bytes that are no ONNX model; says what they look like instead."""
    where = place(source)
    signs = [(start.startswith(sign), what, help) for sign, what, help in _KNOWN_STARTS]
    signs += [(start[4:8] == sign, what, help) for sign, what, help in _KNOWN_FIFTH]
    for found, what, help in signs:
        if found:
            return invalid("E302", f"not an ONNX model but {what}", where, help=help)
    if start and all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in start):
        return invalid("E302", "not an ONNX model but a text file", where, help=_EXPORT_AGAIN)
    if start.startswith(b"\x08") and len(start) > 1 and 0 < start[1] < 64:
        return invalid(
            "E302",
            "the file starts as an ONNX model but is cut off or damaged",
            where,
            help="copy or download the file again",
        )
    return invalid("E302", "not an ONNX model", where, help=_EXPORT_AGAIN)


def check_presence(proto: onnx.ModelProto, source: str) -> None:
    """Checks that ``proto`` states what every model must.

    Raises:
        InputError: E302.
    """
    domains = {entry.domain for entry in proto.opset_import}
    missing = [
        what
        for what, present in (
            ("graph", proto.HasField("graph")),
            ("IR version", proto.ir_version > 0),
            ("version of the ONNX operator set", not domains.isdisjoint(DEFAULT_DOMAINS)),
        )
        if not present
    ]
    if missing:
        raise invalid(
            "E302", f"the model states no {missing[0]}", place(source), help=_EXPORT_AGAIN
        )
