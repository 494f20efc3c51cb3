"""Pools: windows over the spatial axes, or over all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from prunecvt.bridge.operators.convolution import pad_space, padding_of
from prunecvt.bridge.operators.step import Step, Values

_MAX: dict[int, Any] = {
    1: functional.max_pool1d,
    2: functional.max_pool2d,
    3: functional.max_pool3d,
}
_AVERAGE: dict[int, Any] = {
    1: functional.avg_pool1d,
    2: functional.avg_pool2d,
    3: functional.avg_pool3d,
}


@dataclass(frozen=True)
class _Windows:
    """Where the windows of a pool lie; ``extra`` is what rounding up adds behind the padding."""

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    before: list[int]
    after: list[int]
    extra: list[int]

    @property
    def padded(self) -> bool:
        return any(self.before) or any(self.after) or any(self.extra)

    @property
    def behind(self) -> list[int]:
        return [a + e for a, e in zip(self.after, self.extra, strict=True)]


def _windows(step: Step, x: Tensor) -> _Windows:
    kernel = list(step.attributes["kernel_shape"])
    rank, sizes = len(kernel), list(x.shape[2:])
    if rank not in _MAX:
        raise step.refuse(f"a pool over {rank} axes")
    strides = list(step.get("strides", [1] * rank))
    dilations = list(step.get("dilations", [1] * rank))
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    before, after = padding_of(step, sizes, spans, strides)
    extra = [0] * rank
    if step.get("ceil_mode", 0):
        for axis, size in enumerate(sizes):
            room = before[axis] + size + after[axis] - spans[axis]
            count = math.ceil(room / strides[axis]) + 1
            if (count - 1) * strides[axis] >= before[axis] + size:
                count -= 1  # a window that starts behind the input is left out
            extra[axis] = max((count - 1) * strides[axis] - room, 0)
    return _Windows(kernel, strides, dilations, before, after, extra)


def max_pool(step: Step, values: Values) -> Any:
    """MaxPool, with the positions of the maxima where they are asked for."""
    x, windows = values[0], _windows(step, values[0])
    run = _MAX[len(windows.kernel)]
    kind = x.dtype
    if not x.is_floating_point():
        x = x.double()
    if len(step.node.outputs) > 1 and step.node.outputs[1]:
        made, places = _positions(step, x, windows, run)
        return made.to(kind), places
    padding: Any = 0
    fits = all(2 * b <= k for b, k in zip(windows.before, windows.kernel, strict=True))
    if fits and windows.before == windows.behind:
        padding = windows.before
    else:
        x = pad_space(x, windows.before, windows.behind, -math.inf)
    return run(x, windows.kernel, windows.strides, padding, windows.dilations).to(kind)


def _positions(step: Step, x: Tensor, windows: _Windows, run: Any) -> tuple[Tensor, Tensor]:
    """Maxima and their places in the flattened input."""
    if step.get("storage_order", 0):
        raise step.refuse("storage_order 1")
    padded = pad_space(x, windows.before, windows.behind, -math.inf)
    made, flat = run(
        padded, windows.kernel, windows.strides, 0, windows.dilations, return_indices=True
    )
    places, step_size = torch.zeros_like(flat), 1
    for axis in reversed(range(len(windows.kernel))):
        along = flat % padded.shape[2 + axis] - windows.before[axis]
        flat = flat // padded.shape[2 + axis]
        places = places + along * step_size
        step_size *= x.shape[2 + axis]
    planes = torch.arange(x.shape[0] * x.shape[1], device=x.device) * step_size
    planes = planes.reshape(*x.shape[:2], *[1] * len(windows.kernel))
    return made, places + planes


def average_pool(step: Step, values: Values) -> Tensor:
    """AveragePool: the mean of each window, over the padding too where it counts."""
    x, windows = values[0], _windows(step, values[0])
    if not windows.padded:
        return _mean(x, windows)
    counted = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype, device=x.device)
    own = 1.0 if step.get("count_include_pad", 0) else 0.0
    counted = pad_space(counted, windows.before, windows.after, own)
    counted = pad_space(counted, [0] * len(windows.extra), windows.extra)
    return _mean(pad_space(x, windows.before, windows.behind), windows) / _mean(counted, windows)


def _mean(x: Tensor, windows: _Windows) -> Tensor:
    """Means over windows that all lie inside."""
    rank = len(windows.kernel)
    if max(windows.dilations) == 1:
        return _AVERAGE[rank](x, windows.kernel, windows.strides)
    run = (functional.conv1d, functional.conv2d, functional.conv3d)[rank - 1]
    taps = torch.ones((x.shape[1], 1, *windows.kernel), dtype=x.dtype, device=x.device)
    sums = run(x, taps, None, windows.strides, 0, windows.dilations, x.shape[1])
    return sums / math.prod(windows.kernel)


def lp_pool(step: Step, values: Values) -> Tensor:
    """LpPool: the p-norm of each window."""
    x, windows, power = values[0], _windows(step, values[0]), step.get("p", 2)
    powers = pad_space(x.abs() ** power, windows.before, windows.behind)
    return (_mean(powers, windows) * math.prod(windows.kernel)) ** (1.0 / power)


def _space(x: Tensor) -> list[int]:
    return list(range(2, x.ndim))


def global_average_pool(step: Step, values: Values) -> Tensor:
    """GlobalAveragePool."""
    return values[0].mean(_space(values[0]), keepdim=True)


def global_max_pool(step: Step, values: Values) -> Tensor:
    """GlobalMaxPool."""
    return values[0].amax(_space(values[0]), keepdim=True)


def global_lp_pool(step: Step, values: Values) -> Tensor:
    """GlobalLpPool."""
    power = step.get("p", 2)
    return torch.linalg.vector_norm(values[0], power, _space(values[0]), keepdim=True)
