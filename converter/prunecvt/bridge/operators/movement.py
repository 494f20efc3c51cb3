"""Operators that move data: its values stay, their places change."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from prunecvt.bridge.operators.step import Step, Values, given


def reshape(step: Step, values: Values) -> Tensor:
    """Reshape; a target that repeats the batch the graph states follows the real batch."""
    x = values[0]
    target = step.integers(values, 1, "shape") or []
    stated, fed = step.context.stated, step.context.fed
    follows = stated is not None and target[:1] == [stated]
    if follows and fed is not None and x.ndim and x.shape[0] == fed:
        target[0] = fed
    if not step.get("allowzero", 0):
        target = [x.shape[k] if size == 0 else size for k, size in enumerate(target)]
    return x.reshape(target)


def flatten(step: Step, values: Values) -> Tensor:
    """Flatten into a matrix."""
    x, axis = values[0], step.get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def squeeze(step: Step, values: Values) -> Tensor:
    """Squeeze."""
    axes = step.integers(values, 1, "axes")
    return values[0].squeeze() if axes is None else values[0].squeeze(tuple(axes))


def unsqueeze(step: Step, values: Values) -> Tensor:
    """Unsqueeze; axes are those of what is made."""
    x, axes = values[0], step.integers(values, 1, "axes") or []
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def transpose(step: Step, values: Values) -> Tensor:
    """Transpose."""
    return values[0].permute(tuple(step.get("perm", range(values[0].ndim)[::-1])))


def concat(step: Step, values: Values) -> Tensor:
    """Concat."""
    return torch.cat(values, step.attributes["axis"])


def split(step: Step, values: Values) -> tuple[Tensor, ...]:
    """Split into stated sizes or equal parts, the last of which may be smaller."""
    x, axis = values[0], step.get("axis", 0)
    sizes = step.integers(values, 1, "split")
    if sizes is None:
        parts = step.get("num_outputs", len(step.node.outputs))
        each = math.ceil(x.shape[axis] / parts)
        sizes = [each] * (parts - 1) + [x.shape[axis] - each * (parts - 1)]
    return torch.split(x, sizes, axis)


def slice_(step: Step, values: Values) -> Tensor:
    """Slice; steps may be negative."""
    x = values[0]
    starts = step.integers(values, 1, "starts") or []
    ends = step.integers(values, 2, "ends") or []
    axes = step.integers(values, 3, "axes") or list(range(len(starts)))
    steps = step.integers(values, 4) or [1] * len(starts)
    for start, end, axis, stride in zip(starts, ends, axes, steps, strict=True):
        places = range(*slice(start, end, stride).indices(x.shape[axis]))
        if stride > 0:
            cut: list[Any] = [slice(None)] * x.ndim
            cut[axis] = slice(places.start, max(places.stop, places.start), stride)
            x = x[tuple(cut)]
        else:
            x = x.index_select(axis, torch.tensor(list(places), dtype=torch.int64, device=x.device))
    return x


def pad(step: Step, values: Values) -> Tensor:
    """Pad, in every mode; negative amounts crop."""
    x, mode = values[0], step.get("mode", "constant")
    stated = step.integers(values, 1, "pads") or []
    axes = step.integers(values, 3) or list(range(len(stated) // 2))
    before, after = [0] * x.ndim, [0] * x.ndim
    for k, axis in enumerate(axes):
        before[axis], after[axis] = stated[k], stated[k + len(axes)]
    if mode == "constant":
        fill = given(values, 2) if step.opset >= 11 else step.get("value", 0.0)
        value = 0 if fill is None else fill.item() if isinstance(fill, Tensor) else fill
        amounts = [n for pair in zip(before[::-1], after[::-1], strict=True) for n in pair]
        return _filled(x, amounts, value)
    for axis in range(x.ndim):
        x = _mirrored(x, axis, before[axis], after[axis], mode)
    return x


def _filled(x: Tensor, amounts: list[int], value: Any) -> Tensor:
    if x.dtype == torch.bool:
        return functional.pad(x.to(torch.uint8), amounts, value=int(value)).bool()
    return functional.pad(x, amounts, value=value)


def _mirrored(x: Tensor, axis: int, before: int, after: int, mode: str) -> Tensor:
    """Pads one axis by picking positions: torch pads only some ranks by mirroring."""
    if not before and not after:
        return x
    size = x.shape[axis]
    places = torch.arange(-before, size + after, device=x.device)
    if mode == "edge":
        places = places.clamp(0, size - 1)
    elif mode == "wrap":
        places = places % size
    else:
        period = max(2 * (size - 1), 1)
        places = places % period
        places = torch.where(places >= size, period - places, places)
    return x.index_select(axis, places)


def expand(step: Step, values: Values) -> Tensor:
    """Expand; both shapes broadcast."""
    target = step.integers(values, 1) or []
    return torch.broadcast_to(values[0], torch.broadcast_shapes(values[0].shape, tuple(target)))


def tile(step: Step, values: Values) -> Tensor:
    """Tile."""
    return values[0].repeat(step.integers(values, 1) or [])


def depth_to_space(step: Step, values: Values) -> Tensor:
    """DepthToSpace (Shi et al., 2016), blocks outermost (DCR) or innermost (CRD)."""
    x, block = values[0], step.attributes["blocksize"]
    n, c, h, w = x.shape
    if step.get("mode", "DCR") == "DCR":
        parts = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    else:
        parts = x.reshape(n, c // block**2, block, block, h, w).permute(0, 1, 4, 2, 5, 3)
    return parts.reshape(n, c // block**2, h * block, w * block)


def space_to_depth(step: Step, values: Values) -> Tensor:
    """SpaceToDepth, the inverse of DepthToSpace."""
    x, block = values[0], step.attributes["blocksize"]
    n, c, h, w = x.shape
    parts = x.reshape(n, c, h // block, block, w // block, block)
    deep_first = step.get("mode", "DCR") == "DCR"
    parts = parts.permute(0, 3, 5, 1, 2, 4) if deep_first else parts.permute(0, 1, 3, 5, 2, 4)
    return parts.reshape(n, c * block**2, h // block, w // block)


def trilu(step: Step, values: Values) -> Tensor:
    """Trilu: one triangle of each matrix."""
    offset = step.integers(values, 1) or [0]
    return (torch.triu if step.get("upper", 1) else torch.tril)(values[0], offset[0])
