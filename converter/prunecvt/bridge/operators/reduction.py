"""Reductions, and what runs along an axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from prunecvt.bridge.operators.step import Operator, Step, Values

Reduction = Callable[[Tensor, list[int], bool], Tensor]


def reduces(function: Reduction) -> Operator:
    """An operator that reduces over axes, stated as an attribute or as an input."""

    def run(step: Step, values: Values) -> Tensor:
        x = values[0]
        axes = step.integers(values, 1, "axes")
        if not axes and step.get("noop_with_empty_axes", 0):
            return function(x, [], True) if x.ndim == 0 else x
        over = [axis % x.ndim for axis in axes] if axes else list(range(x.ndim))
        return function(x, over, bool(step.get("keepdims", 1))) if over else x

    return run


def _sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.sum(axes, keepdim=keep, dtype=x.dtype)


def _mean(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    if x.is_floating_point():
        return x.mean(axes, keepdim=keep)
    return x.double().mean(axes, keepdim=keep).to(x.dtype)


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keepdim=keep, dtype=x.dtype)
    return x


def _norm(order: int) -> Reduction:
    def run(x: Tensor, axes: list[int], keep: bool) -> Tensor:
        if x.is_floating_point():
            return torch.linalg.vector_norm(x, order, axes, keepdim=keep)
        return torch.linalg.vector_norm(x.double(), order, axes, keepdim=keep).to(x.dtype)

    return run


def _truth(function: Any) -> Reduction:
    """Of truth values too, which torch has no maximum of."""

    def run(x: Tensor, axes: list[int], keep: bool) -> Tensor:
        if x.dtype == torch.bool:
            return function(x.to(torch.uint8), axes, keep).bool()
        return function(x, axes, keep)

    return run


def arg_of(function: Any) -> Operator:
    """ArgMax or ArgMin; of equal values the first, or the last."""

    def run(step: Step, values: Values) -> Tensor:
        x, axis = values[0], step.get("axis", 0) % values[0].ndim
        keep = bool(step.get("keepdims", 1))
        if not step.get("select_last_index", 0):
            return function(x, axis, keepdim=keep)
        return x.shape[axis] - 1 - function(x.flip(axis), axis, keepdim=keep)

    return run


def cumulative(function: Any, neutral: int) -> Operator:
    """CumSum or CumProd; ``exclusive`` leaves out the element itself."""

    def run(step: Step, values: Values) -> Tensor:
        x, axis = values[0], int(values[1]) % values[0].ndim
        if step.get("reverse", 0):
            x = x.flip(axis)
        made = function(x, axis, dtype=x.dtype)
        if step.get("exclusive", 0):
            first = torch.full_like(made.narrow(axis, 0, 1), neutral)
            made = torch.cat([first, made.narrow(axis, 0, made.shape[axis] - 1)], axis)
        return made.flip(axis) if step.get("reverse", 0) else made

    return run


REDUCTIONS: dict[str, Operator] = {
    "ArgMax": arg_of(torch.argmax),
    "ArgMin": arg_of(torch.argmin),
    "CumProd": cumulative(torch.cumprod, 1),
    "CumSum": cumulative(torch.cumsum, 0),
    "ReduceL1": reduces(_norm(1)),
    "ReduceL2": reduces(_norm(2)),
    "ReduceLogSum": reduces(lambda x, axes, keep: torch.log(_sum(x, axes, keep))),
    "ReduceLogSumExp": reduces(lambda x, axes, keep: torch.logsumexp(x, axes, keepdim=keep)),
    "ReduceMax": reduces(_truth(torch.amax)),
    "ReduceMean": reduces(_mean),
    "ReduceMin": reduces(_truth(torch.amin)),
    "ReduceProd": reduces(_product),
    "ReduceSum": reduces(_sum),
    "ReduceSumSquare": reduces(lambda x, axes, keep: _sum(x * x, axes, keep)),
}
