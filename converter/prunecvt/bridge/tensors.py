"""Numpy arrays as torch tensors and back, with the types that numpy itself does not know."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor

from prunecvt.errors import UnsupportedError
from prunecvt_passes.model import Array

_BFLOAT16 = onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.BFLOAT16)
DTYPES: dict[int, Any] = {  # ONNX element type -> its counterpart; torch has more
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.DOUBLE: torch.float64,
    onnx.TensorProto.FLOAT16: torch.float16,
    onnx.TensorProto.BFLOAT16: torch.bfloat16,
    onnx.TensorProto.INT8: torch.int8,
    onnx.TensorProto.INT16: torch.int16,
    onnx.TensorProto.INT32: torch.int32,
    onnx.TensorProto.INT64: torch.int64,
    onnx.TensorProto.UINT8: torch.uint8,
    onnx.TensorProto.UINT16: torch.uint16,
    onnx.TensorProto.UINT32: torch.uint32,
    onnx.TensorProto.UINT64: torch.uint64,
    onnx.TensorProto.BOOL: torch.bool,
}


def tensor_of(array: Array, where: str) -> Tensor | None:
    """A tensor with values of its own; None for texts. ``where`` is for messages.

    Raises:
        UnsupportedError: E440, torch has no such type.
    """
    if array.dtype.kind in "OSU":
        return None
    if array.dtype == _BFLOAT16:
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    try:
        return torch.from_numpy(np.array(array, order="C"))
    except TypeError as error:
        raise UnsupportedError(
            "E440",
            f"torch has no counterpart of the type {array.dtype.name}",
            where=where,
            help="train the model in floating point",
        ) from error


def array_of(tensor: Tensor) -> Array:
    """The values of a tensor, copied."""
    plain = tensor.detach().cpu().contiguous()
    if plain.dtype == torch.bfloat16:
        values: Array = plain.view(torch.int16).numpy().copy().view(_BFLOAT16)
        return values
    return np.array(plain.numpy())


def dtype_of(kind: int) -> Any:
    """The torch type of an ONNX element type.

    Raises:
        KeyError: torch has none.
    """
    return DTYPES[kind]
