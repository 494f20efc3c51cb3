"""Normalisations, and Softmax and its kin."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from prunecvt.bridge.operators.step import Step, Values, given


def batch_normalization(step: Step, values: Values) -> Any:
    """BatchNormalization (Ioffe and Szegedy, 2015): by the batch in training, else as stored.

    In training the running statistics are updated as torch does: the variance without bias.
    """
    x, scale, shift, mean, variance = values
    eps, momentum = step.get("epsilon", 1e-5), step.get("momentum", 0.9)
    if not step.get("spatial", 1):
        raise step.refuse("spatial 0")
    if step.get("training_mode", 0):
        return _by_batch(values, eps, momentum)
    if step.context.training and not step.fixed:
        return functional.batch_norm(x, mean, variance, scale, shift, True, 1 - momentum, eps)
    return functional.batch_norm(x, mean, variance, scale, shift, False, 0.0, eps)


def _by_batch(values: Values, eps: float, momentum: float) -> tuple[Tensor, ...]:
    """What ONNX's own ``training_mode`` gives: with the new statistics, biased, as outputs."""
    x, scale, shift, mean, variance = values
    over = [axis for axis in range(x.ndim) if axis != 1]
    now, spread = x.mean(over), x.var(over, correction=0)
    y = functional.batch_norm(x, now, spread, scale, shift, False, 0.0, eps)
    kept = [old * momentum + new * (1 - momentum) for old, new in ((mean, now), (variance, spread))]
    return (y, *kept)


def instance_normalization(step: Step, values: Values) -> Tensor:
    """InstanceNormalization (Ulyanov et al., 2016)."""
    x, scale, shift = values
    over = list(range(2, x.ndim))
    mean, variance = x.mean(over, keepdim=True), x.var(over, keepdim=True, correction=0)
    shape = [1, -1, *[1] * len(over)]
    normal = (x - mean) * torch.rsqrt(variance + step.get("epsilon", 1e-5))
    return normal * scale.reshape(shape) + shift.reshape(shape)


def group_normalization(step: Step, values: Values) -> Tensor:
    """GroupNormalization (Wu and He, 2018); before opset 21 with one scale per group."""
    x, scale, shift = values
    groups = step.attributes["num_groups"]
    if step.opset < 21 and scale.numel() == groups:
        each = x.shape[1] // groups
        scale, shift = scale.repeat_interleave(each), shift.repeat_interleave(each)
    return functional.group_norm(x, groups, scale, shift, step.get("epsilon", 1e-5))


def layer_normalization(step: Step, values: Values) -> Any:
    """LayerNormalization (Ba et al., 2016), with its statistics where they are asked for."""
    x, scale, shift = values[0], values[1], given(values, 2)
    axis, eps = step.get("axis", -1) % x.ndim, step.get("epsilon", 1e-5)
    shape = x.shape[axis:]
    plain = len(step.node.outputs) == 1 and scale.shape == shape
    if plain and (shift is None or shift.shape == shape):
        return functional.layer_norm(x, shape, scale, shift, eps)
    over = list(range(axis, x.ndim))
    mean = x.mean(over, keepdim=True)
    inverse = torch.rsqrt(x.var(over, keepdim=True, correction=0) + eps)
    y = (x - mean) * inverse * scale
    return (y if shift is None else y + shift), mean, inverse


def skip_layer_normalization(step: Step, values: Values) -> Any:
    """SkipLayerNormalization: LayerNormalization of a sum."""
    total = values[0] + values[1]
    bias, shift = given(values, 4), given(values, 3)
    total = total if bias is None else total + bias
    eps = step.get("epsilon", 1e-12)
    y = functional.layer_norm(total, total.shape[-1:], values[2], shift, eps)
    empty = total.new_empty(0)
    return y, empty, empty, total


def rms_normalization(step: Step, values: Values) -> Tensor:
    """RMSNormalization (Zhang and Sennrich, 2019)."""
    x, scale = values[0], values[1]
    over = list(range(step.get("axis", -1) % x.ndim, x.ndim))
    square = (x * x).mean(over, keepdim=True)
    return x * torch.rsqrt(square + step.get("epsilon", 1e-5)) * scale


def local_response(step: Step, values: Values) -> Tensor:
    """LRN (Krizhevsky et al., 2012)."""
    x, size = values[0], step.attributes["size"]
    squares = (x * x).reshape(x.shape[0], 1, x.shape[1], -1)
    squares = functional.pad(squares, [0, 0, (size - 1) // 2, math.ceil((size - 1) / 2)])
    means = functional.avg_pool2d(squares, (size, 1), 1).reshape(x.shape)
    alpha, beta, bias = step.get("alpha", 1e-4), step.get("beta", 0.75), step.get("bias", 1.0)
    return x / (bias + alpha * means) ** beta


def lp_normalization(step: Step, values: Values) -> Tensor:
    """LpNormalization; where the norm is zero, so is what is divided by it."""
    x, axis = values[0], step.get("axis", -1)
    norm = torch.linalg.vector_norm(x, step.get("p", 2), axis, keepdim=True)
    return x / torch.where(norm == 0, torch.ones_like(norm), norm)


def mean_variance(step: Step, values: Values) -> Tensor:
    """MeanVarianceNormalization."""
    x, over = values[0], list(step.get("axes", [0, 2, 3]))
    centred = x - x.mean(over, keepdim=True)
    return centred / (torch.sqrt((centred * centred).mean(over, keepdim=True)) + 1e-9)


def softmax(step: Step, values: Values) -> Tensor:
    """Softmax; before opset 13 over all axes from ``axis`` on."""
    return _across(step, values[0], torch.softmax)


def log_softmax(step: Step, values: Values) -> Tensor:
    """LogSoftmax; axes as for Softmax."""
    return _across(step, values[0], torch.log_softmax)


def hardmax(step: Step, values: Values) -> Tensor:
    """Hardmax: one at the first maximum, zero elsewhere."""

    def largest(x: Tensor, axis: int) -> Tensor:
        return torch.zeros_like(x).scatter(axis, x.argmax(axis, keepdim=True), 1.0)

    return _across(step, values[0], largest)


def _across(step: Step, x: Tensor, function: Any) -> Tensor:
    if step.opset >= 13:
        return function(x, step.get("axis", -1))
    axis = step.get("axis", 1) % x.ndim
    return function(x.reshape(math.prod(x.shape[:axis]), -1), 1).reshape(x.shape)
