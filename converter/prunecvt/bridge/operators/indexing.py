"""Operators that read or write at places that other tensors name."""

from __future__ import annotations

import math
from typing import Any

import torch
from onnx import numpy_helper
from torch import Tensor
from torch.nn import functional

from prunecvt.bridge.operators.step import Step, Values
from prunecvt.bridge.tensors import dtype_of, tensor_of


def _wrapped(indices: Tensor, size: int) -> Tensor:
    """Negative places count from the end."""
    whole = indices.long()
    return torch.where(whole < 0, whole + size, whole)


def gather(step: Step, values: Values) -> Tensor:
    """Gather."""
    x, axis = values[0], step.get("axis", 0) % values[0].ndim
    indices = _wrapped(values[1], x.shape[axis])
    picked = x.index_select(axis, indices.reshape(-1))
    return picked.reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


def gather_elements(step: Step, values: Values) -> Tensor:
    """GatherElements."""
    axis = step.get("axis", 0)
    return torch.gather(values[0], axis, _wrapped(values[1], values[0].shape[axis]))


def gather_nd(step: Step, values: Values) -> Tensor:
    """GatherND."""
    x, indices, batch = values[0], values[1].long(), step.get("batch_dims", 0)
    lead = x.shape[:batch]
    count = math.prod(lead)
    flat = x.reshape(count, *x.shape[batch:])
    where = indices.reshape(count, -1, indices.shape[-1])
    rows = torch.arange(count, device=x.device)[:, None].expand(where.shape[:2])
    places = [rows]
    places += [_wrapped(where[..., k], flat.shape[1 + k]) for k in range(where.shape[-1])]
    picked = flat[tuple(places)]
    return picked.reshape((*lead, *indices.shape[batch:-1], *picked.shape[2:]))


def scatter_nd(step: Step, values: Values) -> Tensor:
    """ScatterND."""
    x, indices, updates = values
    reduction = step.get("reduction", "none")
    if reduction not in ("none", "add"):
        raise step.refuse(f"reduction '{reduction}'")
    places = tuple(_wrapped(indices[..., k], x.shape[k]) for k in range(indices.shape[-1]))
    return x.index_put(places, updates, accumulate=reduction == "add")


def scatter_elements(step: Step, values: Values) -> Tensor:
    """ScatterElements, and Scatter as it was called."""
    x, indices, updates = values
    axis, reduction = step.get("axis", 0), step.get("reduction", "none")
    places = _wrapped(indices, x.shape[axis])
    if reduction == "none":
        return x.scatter(axis, places, updates)
    name = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}[reduction]
    return x.scatter_reduce(axis, places, updates, name)


def one_hot(step: Step, values: Values) -> Tensor:
    """OneHot."""
    indices, depth, pair = values
    count, axis = int(depth.reshape(-1)[0]), step.get("axis", -1)
    places = indices.long()
    places = torch.where(places < 0, places + count, places)
    inside = (places >= 0) & (places < count)
    hot = functional.one_hot(places.clamp(0, count - 1), count).bool() & inside[..., None]
    return torch.where(hot, pair[1], pair[0]).movedim(-1, axis)


def top_k(step: Step, values: Values) -> tuple[Tensor, Tensor]:
    """TopK; equal values in the order of their places."""
    x, axis = values[0], step.get("axis", -1)
    count = (step.integers(values, 1, "k") or [0])[0]
    ordered, places = torch.sort(x, dim=axis, descending=bool(step.get("largest", 1)), stable=True)
    return ordered.narrow(axis, 0, count), places.narrow(axis, 0, count)


def non_zero(step: Step, values: Values) -> Tensor:
    """NonZero."""
    return torch.nonzero(values[0]).T


def max_unpool(step: Step, values: Values) -> Tensor:
    """MaxUnpool: puts maxima back to where a MaxPool found them."""
    x, indices = values[0], values[1]
    kernel = step.attributes["kernel_shape"]
    rank = len(kernel)
    strides, pads = step.get("strides", [1] * rank), step.get("pads", [0] * 2 * rank)
    sizes = step.integers(values, 2)
    if sizes is None:
        space = [
            (size - 1) * strides[k] + kernel[k] - pads[k] - pads[k + rank]
            for k, size in enumerate(x.shape[2:])
        ]
        sizes = [*x.shape[:2], *space]
    flat = x.new_zeros(math.prod(sizes))
    return flat.scatter(0, indices.reshape(-1).long(), x.reshape(-1)).reshape(sizes)


def grid_sample(step: Step, values: Values) -> Tensor:
    """GridSample (Jaderberg et al., 2015)."""
    mode = step.get("mode", "linear" if step.opset >= 20 else "bilinear")
    name = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    corners = bool(step.get("align_corners", 0))
    return functional.grid_sample(
        values[0], values[1], name, step.get("padding_mode", "zeros"), corners
    )


def range_(step: Step, values: Values) -> Tensor:
    """Range."""
    start, limit, delta = (value.reshape(()) for value in values)
    ends = start.item(), limit.item(), delta.item()
    count = max(math.ceil((ends[1] - ends[0]) / ends[2]), 0)
    return start + torch.arange(count, device=start.device).to(start.dtype) * delta


def shape(step: Step, values: Values) -> Tensor:
    """Shape, or a part of it; on the CPU."""
    sizes = list(values[0].shape)
    return torch.tensor(sizes[slice(step.get("start", 0), step.get("end"))], dtype=torch.int64)


def size(step: Step, values: Values) -> Tensor:
    """Size; on the CPU."""
    return torch.tensor(values[0].numel(), dtype=torch.int64)


def constant_of_shape(step: Step, values: Values) -> Any:
    """ConstantOfShape."""
    stated, sizes = step.get("value"), step.integers(values, 0) or []
    fill: Any = torch.zeros(1)
    if stated is not None:
        fill = tensor_of(numpy_helper.to_array(stated), step.node.title)
    return fill.reshape(-1)[0].to(values[0].device).expand(sizes).clone()


def eye_like(step: Step, values: Values) -> Tensor:
    """EyeLike."""
    x, offset = values[0], step.get("k", 0)
    kind = dtype_of(step.attributes["dtype"]) if "dtype" in step.attributes else x.dtype
    ones = torch.ones(x.shape, device=x.device)
    return (torch.triu(ones, offset) * torch.tril(ones, offset)).to(kind)
