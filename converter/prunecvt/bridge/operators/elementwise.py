"""Operators that work element by element."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from prunecvt.bridge.operators.step import Operator, Step, Values, given
from prunecvt.bridge.tensors import dtype_of

_LEAST = 1e-6  # share kept that what is left is scaled up by


def unary(function: Callable[[Tensor], Tensor]) -> Operator:
    """An operator of one input, without attributes."""
    return lambda step, values: function(values[0])


def binary(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    """An operator of two inputs, without attributes."""
    return lambda step, values: function(values[0], values[1])


def folded(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    """An operator of any number of inputs."""
    return lambda step, values: functools.reduce(function, values)


def divide(step: Step, values: Values) -> Tensor:
    """Div; of whole numbers towards zero."""
    whole = not values[0].is_floating_point()
    return torch.div(values[0], values[1], rounding_mode="trunc" if whole else None)


def modulo(step: Step, values: Values) -> Tensor:
    """Mod."""
    return (torch.fmod if step.get("fmod", 0) else torch.remainder)(values[0], values[1])


def power(step: Step, values: Values) -> Tensor:
    """Pow, in the type of the base."""
    base, exponent = values
    if exponent.numel() == 1 and not exponent.requires_grad:  # as exact as a product, and quicker
        made = torch.pow(base, exponent.item())
        return made.expand(torch.broadcast_shapes(base.shape, exponent.shape)).to(base.dtype)
    return torch.pow(base, exponent).to(base.dtype)


def mean(step: Step, values: Values) -> Tensor:
    """Mean of its inputs."""
    return functools.reduce(torch.add, values) / len(values)


def clip(step: Step, values: Values) -> Tensor:
    """Clip, with bounds in attributes (before opset 11) or inputs."""
    low = step.get("min", given(values, 1))
    high = step.get("max", given(values, 2))
    return values[0] if low is None and high is None else torch.clamp(values[0], low, high)


def cast(step: Step, values: Values) -> Tensor:
    """Cast."""
    try:
        return values[0].to(dtype_of(step.attributes["to"]))
    except KeyError as error:
        raise step.refuse(f"the element type {step.attributes['to']}") from error


def cast_like(step: Step, values: Values) -> Tensor:
    """CastLike."""
    return values[0].to(values[1].dtype)


def where(step: Step, values: Values) -> Tensor:
    """Where."""
    return torch.where(values[0], values[1], values[2])


def dropout(step: Step, values: Values) -> tuple[Tensor, Tensor]:
    """Dropout: drops in training mode, whatever the graph says; its mask is all ones in eval.

    What it drops is drawn on the CPU from the context's generator.
    """
    ratio = given(values, 1)
    share = float(ratio) if ratio is not None else step.get("ratio", 0.5)
    keep = torch.ones_like(values[0])
    if step.context.training and share > 0:
        drawn = torch.rand(keep.shape, generator=step.context.generator).to(keep.device)
        kept = drawn >= share
        return values[0] * kept.to(keep.dtype) / max(1 - share, _LEAST), kept
    return values[0], keep != 0


def prelu(step: Step, values: Values) -> Tensor:
    """PRelu, its slope broadcast as numpy does."""
    return torch.where(values[0] < 0, values[0] * values[1], values[0])


def gelu(step: Step, values: Values) -> Tensor:
    """Gelu (Hendrycks and Gimpel, 2016), exact or by tanh."""
    return functional.gelu(values[0], approximate=step.get("approximate", "none"))


def bias_gelu(step: Step, values: Values) -> Tensor:
    """BiasGelu: the exact one."""
    return functional.gelu(values[0] + values[1])


def fast_gelu(step: Step, values: Values) -> Tensor:
    """FastGelu: by tanh, with a bias where one is given."""
    bias = given(values, 1)
    return functional.gelu(values[0] if bias is None else values[0] + bias, approximate="tanh")


def quick_gelu(step: Step, values: Values) -> Tensor:
    """QuickGelu: x sigmoid(alpha x)."""
    return values[0] * torch.sigmoid(values[0] * step.get("alpha", 1.702))


def swish(step: Step, values: Values) -> Tensor:
    """Swish (Ramachandran et al., 2017)."""
    return values[0] * torch.sigmoid(values[0] * step.get("alpha", 1.0))


def hard_sigmoid(step: Step, values: Values) -> Tensor:
    """HardSigmoid."""
    return torch.clamp(values[0] * step.get("alpha", 0.2) + step.get("beta", 0.5), 0, 1)


def hard_swish(step: Step, values: Values) -> Tensor:
    """HardSwish (Howard et al., 2019)."""
    return functional.hardswish(values[0])


def leaky_relu(step: Step, values: Values) -> Tensor:
    """LeakyRelu."""
    return functional.leaky_relu(values[0], step.get("alpha", 0.01))


def elu(step: Step, values: Values) -> Tensor:
    """Elu (Clevert et al., 2015)."""
    return functional.elu(values[0], step.get("alpha", 1.0))


def celu(step: Step, values: Values) -> Tensor:
    """Celu (Barron, 2017)."""
    return functional.celu(values[0], step.get("alpha", 1.0))


def selu(step: Step, values: Values) -> Tensor:
    """Selu (Klambauer et al., 2017)."""
    x, alpha = values[0], step.get("alpha", 1.6732632423543772)
    return step.get("gamma", 1.0507009873554805) * functional.elu(x, alpha)


def softplus(step: Step, values: Values) -> Tensor:
    """Softplus."""
    return functional.softplus(values[0], threshold=60.0)


def thresholded_relu(step: Step, values: Values) -> Tensor:
    """ThresholdedRelu."""
    return functional.threshold(values[0], step.get("alpha", 1.0), 0.0)


def shrink(step: Step, values: Values) -> Tensor:
    """Shrink: towards zero by a bias, and zero in between."""
    x, bias, lambd = values[0], step.get("bias", 0.0), step.get("lambd", 0.5)
    zero = torch.zeros_like(x)
    return torch.where(x < -lambd, x + bias, torch.where(x > lambd, x - bias, zero))


def is_infinite(step: Step, values: Values) -> Tensor:
    """IsInf, of one sign or both."""
    x, off = values[0], torch.zeros_like(values[0], dtype=torch.bool)
    above = torch.isposinf(x) if step.get("detect_positive", 1) else off
    return above | (torch.isneginf(x) if step.get("detect_negative", 1) else off)


_UNARY: dict[str, Any] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "BitwiseNot": torch.bitwise_not,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "Identity": lambda x: x,
    "IsNaN": torch.isnan,
    "Log": torch.log,
    "Mish": functional.mish,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Softsign": functional.softsign,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
}
_BINARY: dict[str, Any] = {
    "Add": torch.add,
    "And": torch.logical_and,
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Mul": torch.mul,
    "Or": torch.logical_or,
    "Sub": torch.sub,
    "Xor": torch.logical_xor,
}
_FOLDED: dict[str, Any] = {"Max": torch.maximum, "Min": torch.minimum, "Sum": torch.add}

ELEMENTWISE: dict[str, Operator] = {
    **{name: unary(function) for name, function in _UNARY.items()},
    **{name: binary(function) for name, function in _BINARY.items()},
    **{name: folded(function) for name, function in _FOLDED.items()},
    "Cast": cast,
    "CastLike": cast_like,
    "Celu": celu,
    "Clip": clip,
    "Div": divide,
    "Dropout": dropout,
    "Elu": elu,
    "Gelu": gelu,
    "HardSigmoid": hard_sigmoid,
    "HardSwish": hard_swish,
    "IsInf": is_infinite,
    "LeakyRelu": leaky_relu,
    "Mean": mean,
    "Mod": modulo,
    "PRelu": prelu,
    "Pow": power,
    "Selu": selu,
    "Shrink": shrink,
    "Softplus": softplus,
    "Swish": swish,
    "ThresholdedRelu": thresholded_relu,
    "Where": where,
}
