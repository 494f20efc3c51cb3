"""The bytes of a tensor as a file stores them, checked against the type and dims it states.

onnx accepts raw data that is too long, and some of its versions data that is too short; here both
are errors. Types below eight bits are packed in files and hold one element per byte in memory.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from prunecvt.loading.refusal import dims, invalid, one_line
from prunecvt_passes.errors import InputError
from prunecvt_passes.model import Array

_BITS = {
    number: bits
    for name, bits in {
        **dict.fromkeys(("INT4", "UINT4", "FLOAT4E2M1"), 4),
        **dict.fromkeys(("INT2", "UINT2"), 2),
        **dict.fromkeys(("FLOAT6E2M3", "FLOAT6E3M2"), 6),
    }.items()
    if (number := dict(TensorProto.DataType.items()).get(name))  # older onnx lacks some
}
_COMPLEX = (TensorProto.COMPLEX64, TensorProto.COMPLEX128)
_FIELDS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")
# Types whose values lie one to one in the typed field, so that they can be read without a list.
_PLAIN: tuple[int, ...] = (
    TensorProto.FLOAT,
    TensorProto.DOUBLE,
    TensorProto.INT32,
    TensorProto.INT64,
    TensorProto.UINT64,
)


def check_header(tensor: TensorProto, where: str) -> None:
    """Checks the type and dims that ``tensor`` states.

    Raises:
        InputError: E305.
    """
    reason = ""
    if tensor.data_type not in TensorProto.DataType.values() or not tensor.data_type:
        reason = f"its element type {tensor.data_type} is unknown"
    elif any(size < 0 for size in tensor.dims):
        reason = f"its dims {dims(tensor.dims)} are negative"
    elif tensor.HasField("segment"):
        reason = "it is stored in segments, which no runtime reads"
    elif is_external(tensor) and tensor.data_type == TensorProto.STRING:
        reason = "strings cannot be external data"
    if reason:
        raise _mismatch(reason, where)


def is_external(tensor: TensorProto) -> bool:
    """Whether the values lie in another file."""
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def memory_bytes(tensor: TensorProto) -> int:
    """Bytes of memory that the values stated by the header take; 0 for strings."""
    if tensor.data_type == TensorProto.STRING:
        return 0
    itemsize = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return int(math.prod(tensor.dims) * itemsize)


def stored_bytes(tensor: TensorProto) -> int:
    """Bytes that the values stated by the header take in a file, packed."""
    bits = _BITS.get(tensor.data_type)
    if bits is None:
        return memory_bytes(tensor)
    return int(-(-math.prod(tensor.dims) * bits // 8))


def check_size(tensor: TensorProto, where: str) -> None:
    """Checks that an inline tensor holds exactly as much data as its header states.

    Raises:
        InputError: E305.
    """
    fields = [name for name in _FIELDS if len(getattr(tensor, name))]
    raw_length = len(tensor.raw_data)
    if raw_length and fields:
        raise _mismatch(f"it holds both raw_data and {fields[0]}", where)
    if len(fields) > 1:
        raise _mismatch(f"it holds both {fields[0]} and {fields[1]}", where)
    if fields:
        _check_field(tensor, fields[0], where)
    elif raw_length != stored_bytes(tensor) or _lacks_strings(tensor):
        raise _mismatch(
            f"{_stated(tensor)} is {stored_bytes(tensor)} bytes, but {raw_length} are stored", where
        )


def _lacks_strings(tensor: TensorProto) -> bool:
    return bool(tensor.data_type == TensorProto.STRING and math.prod(tensor.dims))


def _check_field(tensor: TensorProto, field: str, where: str) -> None:
    right = helper.tensor_dtype_to_field(tensor.data_type)
    if field != right:
        raise _mismatch(f"{_stated(tensor)} lies in {field} instead of {right}", where)
    count = math.prod(tensor.dims)
    bits = _BITS.get(tensor.data_type, 8)
    if tensor.data_type in _COMPLEX:
        count *= 2
    elif bits in (2, 4):
        count = -(-count * bits // 8)
    stored = len(getattr(tensor, field))
    if stored != count:
        raise _mismatch(f"{_stated(tensor)} wants {count} entries, {field} holds {stored}", where)


def inline_values(tensor: TensorProto, where: str) -> Array:
    """Returns the values of an inline tensor as a read-only array.

    Raises:
        InputError: E305.
    """
    check_size(tensor, where)
    field = helper.tensor_dtype_to_field(tensor.data_type)
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    values: Array
    if tensor.data_type in _PLAIN and len(getattr(tensor, field)):
        values = np.fromiter(getattr(tensor, field), dtype=dtype).reshape(tuple(tensor.dims))
    elif not math.prod(tensor.dims):
        values = np.zeros(tuple(tensor.dims), dtype=dtype)
    else:
        values = numpy_helper.to_array(tensor)
    values.flags.writeable = False
    return values


def values_from_bytes(tensor: TensorProto, data: Array) -> Array:
    """Returns stored bytes as a read-only array of the type and dims of the header ``tensor``.

    Args:
        tensor: the header.
        data: ``stored_bytes(tensor)`` values of type uint8.
    """
    if tensor.data_type in _BITS:
        packed = TensorProto(data_type=tensor.data_type, dims=tensor.dims, raw_data=data.tobytes())
        values = numpy_helper.to_array(packed)
    else:
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        values = data.view(dtype).reshape(tuple(tensor.dims))
    values.flags.writeable = False
    return values


def _stated(tensor: TensorProto) -> str:
    return f"{onnx.TensorProto.DataType.Name(tensor.data_type).lower()}{dims(tensor.dims)}"


def _mismatch(reason: str, where: str) -> InputError:
    return invalid(
        "E305",
        "the stored values of a tensor are not what it states",
        f"{where}: {one_line(reason)}",
        help="the file is damaged or was written wrongly; export the model again",
    )
