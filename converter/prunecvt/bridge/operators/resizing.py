"""Resize and Upsample: along each axis a matrix of interpolation weights, as ONNX defines them.

Every mode is the same product with another matrix, [made, read]: nearest picks one position,
linear weights 2, cubic 4 (Keys, 1981), anti-aliasing as many as the kernel, widened by the scale,
reaches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prunecvt.bridge.operators.step import Step, Values, given
from prunecvt_passes.model import Array


@dataclass(frozen=True)
class _Axis:
    """How one axis is resized; ``start`` and ``end`` are its region of interest."""

    axis: int
    read: int
    made: int
    scale: float
    start: float = 0.0
    end: float = 1.0


def resize(step: Step, values: Values) -> Tensor:
    """Resize (opset 10 on) and Upsample."""
    x = values[0]
    for axis in _axes(step, values):
        if axis.read != axis.made or step.get("coordinate_transformation_mode", "").startswith(
            "tf_crop"
        ):
            x = _resized(step, x, axis)
    return x


def _axes(step: Step, values: Values) -> list[_Axis]:
    x, old = values[0], step.opset < 11
    axes = step.get("axes", range(x.ndim))
    axes = [axis % x.ndim for axis in axes]
    scales = given(values, 1 if old else 2)
    stated = step.get("scales") or (scales.tolist() if scales is not None else None)
    sizes = None if old else step.integers(values, 3)
    roi = None if old else given(values, 1)
    region = (
        roi.tolist() if roi is not None and roi.numel() else [0.0] * len(axes) + [1.0] * len(axes)
    )
    if sizes:
        sizes, stated = _kept_aspect(step, [x.shape[axis] for axis in axes], sizes)
    if not stated:
        raise step.refuse("a size that is neither scales nor sizes")
    made = sizes or [math.floor(x.shape[a] * s) for a, s in zip(axes, stated, strict=True)]
    return [
        _Axis(axis, x.shape[axis], made[k], stated[k], region[k], region[k + len(axes)])
        for k, axis in enumerate(axes)
    ]


def _kept_aspect(step: Step, read: list[int], sizes: list[int]) -> tuple[list[int], list[float]]:
    """Sizes and scales under ``keep_aspect_ratio_policy``."""
    scales = [size / n for size, n in zip(sizes, read, strict=True)]
    policy = step.get("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return sizes, scales
    scale = min(scales) if policy == "not_larger" else max(scales)
    return [math.floor(scale * n + 0.5) for n in read], [scale] * len(read)


def _resized(step: Step, x: Tensor, axis: _Axis) -> Tensor:
    mode = step.get("mode", "nearest")
    places = _places(step, axis)
    outside = None
    if step.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        outside = (places < 0) | (places > axis.read - 1)
    if mode == "nearest":
        picked = torch.from_numpy(_nearest(step, places, axis.read)).to(x.device)
        x = x.index_select(axis.axis, picked)
    else:
        kind = x.dtype if x.is_floating_point() else torch.float32
        matrix = torch.from_numpy(_matrix(step, places, axis, mode)).to(x.device, kind)
        made = (x.to(kind).movedim(axis.axis, -1) @ matrix.T).movedim(-1, axis.axis)
        x = made if x.is_floating_point() else made.round().to(x.dtype)
    if outside is not None and outside.any():
        mask = torch.from_numpy(outside).to(x.device)
        mask = mask.reshape([-1 if k == axis.axis else 1 for k in range(x.ndim)])
        x = x.masked_fill(mask, step.get("extrapolation_value", 0.0))
    return x


def _places(step: Step, axis: _Axis) -> Array:
    """The position in what is read of every position that is made, in float32 as runtimes do."""
    usual = "asymmetric" if step.opset < 11 else "half_pixel"
    mode = step.get("coordinate_transformation_mode", usual)
    made: Array = np.arange(axis.made, dtype=np.float32)
    scale, last = np.float32(axis.scale), np.float32(axis.read - 1)
    if mode == "asymmetric":
        return np.asarray(made / scale, np.float32)
    if mode == "align_corners":
        return np.asarray(made * last / np.float32(max(axis.made - 1, 1)), np.float32)
    if mode == "tf_crop_and_resize":
        start, end = np.float32(axis.start), np.float32(axis.end)
        if axis.made == 1:
            return np.asarray(0.5 * (start + end) * last + made, np.float32)
        return np.asarray(start * last + made * (end - start) * last / (axis.made - 1), np.float32)
    half = np.asarray((made + np.float32(0.5)) / scale, np.float32)
    if mode == "tf_half_pixel_for_nn":
        return half
    places = half - np.float32(0.5)
    if mode == "pytorch_half_pixel":
        return places if axis.made > 1 else made
    if mode == "half_pixel_symmetric":
        ratio = axis.made / (axis.scale * axis.read)
        return np.asarray(places + axis.read / 2 * (1 - ratio), np.float32)
    return places


def _nearest(step: Step, places: Array, read: int) -> Array:
    usual = "floor" if step.opset < 11 else "round_prefer_floor"
    roundings: dict[str, Any] = {
        "round_prefer_floor": lambda p: np.ceil(p - np.float32(0.5)),
        "round_prefer_ceil": lambda p: np.floor(p + np.float32(0.5)),
        "floor": np.floor,
        "ceil": np.ceil,
    }
    rounded = roundings[step.get("nearest_mode", usual)](places)
    return np.asarray(np.clip(rounded, 0, read - 1), np.int64)


def _matrix(step: Step, places: Array, axis: _Axis, mode: str) -> Array:
    """Interpolation weights, [made, read]."""
    smooth = bool(step.get("antialias", 0)) and axis.scale < 1
    shrink = min(axis.scale, 1.0) if smooth else 1.0
    reach = math.ceil((1 if mode == "linear" else 2) / shrink)
    exact = places.astype(np.float64)
    taps = np.floor(exact)[:, None] + np.arange(1 - reach, reach + 1)[None, :]
    distance = np.abs(exact[:, None] - taps) * shrink
    if mode == "linear":
        weights = np.maximum(1 - distance, 0)
    else:
        weights = _cubic(distance, step.get("cubic_coeff_a", -0.75))
    if step.get("exclude_outside", 0):
        weights = np.where((taps < 0) | (taps > axis.read - 1), 0, weights)
    if step.get("exclude_outside", 0) or smooth:
        weights = weights / weights.sum(1, keepdims=True)
    matrix = np.zeros((axis.made, axis.read))
    rows = np.broadcast_to(np.arange(axis.made)[:, None], taps.shape)
    np.add.at(matrix, (rows, np.clip(taps, 0, axis.read - 1).astype(np.int64)), weights)
    return np.asarray(matrix)


def _cubic(distance: Array, a: float) -> Any:
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))
