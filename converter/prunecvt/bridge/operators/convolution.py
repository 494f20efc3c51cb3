"""Convolutions, of any rank up to 3, with every way that ONNX states padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional

from prunecvt.bridge.operators.step import Step, Values, given

_CONV: dict[int, Any] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSED: dict[int, Any] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


def padding_of(
    step: Step, sizes: Sequence[int], spans: Sequence[int], strides: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Padding before and after each spatial axis.

    Args:
        step: the node, with ``pads`` or ``auto_pad``.
        sizes: of the input's spatial axes.
        spans: how far a (dilated) kernel reaches along each.
        strides: along each.
    """
    rank, automatic = len(sizes), step.get("auto_pad", "NOTSET")
    if automatic == "NOTSET":
        pads = list(step.get("pads", [0] * 2 * rank))
        return pads[:rank], pads[rank:]
    if automatic == "VALID":
        return [0] * rank, [0] * rank
    total = [
        max((-(-size // stride) - 1) * stride + span - size, 0)
        for size, span, stride in zip(sizes, spans, strides, strict=True)
    ]
    less, more = [n // 2 for n in total], [n - n // 2 for n in total]
    return (less, more) if automatic == "SAME_UPPER" else (more, less)


def pad_space(x: Tensor, before: Sequence[int], after: Sequence[int], value: float = 0.0) -> Tensor:
    """Pads the spatial axes; negative amounts crop."""
    amounts = [n for pair in zip(reversed(before), reversed(after), strict=True) for n in pair]
    return functional.pad(x, amounts, value=value) if any(amounts) else x


def conv(step: Step, values: Values) -> Tensor:
    """Conv."""
    x, weight, bias = values[0], values[1], given(values, 2)
    rank = weight.ndim - 2
    strides = step.get("strides", [1] * rank)
    dilations = step.get("dilations", [1] * rank)
    spans = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    before, after = padding_of(step, x.shape[2:], spans, strides)
    if max(strides, default=1) > max(weight.shape[2:], default=1) == 1:
        x, before, after = _met(pad_space(x, before, after), strides), [0] * rank, [0] * rank
        strides = [1] * rank
    even = before == after and min(before, default=0) >= 0
    if not even:
        x = pad_space(x, before, after)
    padding = before if even else [0] * rank
    group = step.get("group", 1)
    return _run(step, _CONV, rank)(x, weight, bias, strides, padding, dilations, group)


def _met(x: Tensor, strides: Sequence[int]) -> Tensor:
    """The places that a kernel of one tap meets.

    With fewer than 8 channels, last in memory, oneDNN's gradient of a strided convolution with such
    a kernel writes beyond its memory (torch 2.13, AVX2), and the process crashes.
    """
    places: tuple[Any, ...] = (..., *(slice(None, None, stride) for stride in strides))
    return x[places]


def conv_transpose(step: Step, values: Values) -> Tensor:
    """ConvTranspose: the whole product, cropped to what the padding leaves."""
    x, weight, bias = values[0], values[1], given(values, 2)
    rank = weight.ndim - 2
    strides = step.get("strides", [1] * rank)
    dilations = step.get("dilations", [1] * rank)
    extra = step.get("output_padding", [0] * rank)
    whole = [
        (size - 1) * stride + (kernel - 1) * dilation + 1
        for size, stride, kernel, dilation in zip(
            x.shape[2:], strides, weight.shape[2:], dilations, strict=True
        )
    ]
    before, after = _cropped(step, x.shape[2:], [w + e for w, e in zip(whole, extra, strict=True)])
    group, run = step.get("group", 1), _run(step, _TRANSPOSED, rank)
    if before == after and not any(extra):
        return run(x, weight, bias, strides, before, 0, group, dilations)
    y = run(x, weight, None, strides, 0, 0, group, dilations)
    y = pad_space(y, [-n for n in before], [e - n for e, n in zip(extra, after, strict=True)])
    return y if bias is None else y + bias.reshape(-1, *[1] * rank)


def _cropped(step: Step, sizes: Sequence[int], whole: list[int]) -> tuple[list[int], list[int]]:
    """What is cropped before and after each axis of the whole product."""
    rank, automatic = len(sizes), step.get("auto_pad", "NOTSET")
    wanted = step.get("output_shape")
    if wanted is None and automatic.startswith("SAME"):
        strides = step.get("strides", [1] * rank)
        wanted = [size * stride for size, stride in zip(sizes, strides, strict=True)]
    if wanted is None:
        pads = list(step.get("pads", [0] * 2 * rank)) if automatic == "NOTSET" else [0] * 2 * rank
        return pads[:rank], pads[rank:]
    total = [w - n for w, n in zip(whole, wanted[-rank:], strict=True)]
    less, more = [n // 2 for n in total], [n - n // 2 for n in total]
    return (less, more) if automatic == "SAME_UPPER" else (more, less)


def _run(step: Step, table: dict[int, Any], rank: int) -> Any:
    if rank not in table:
        raise step.refuse(f"a convolution over {rank} axes")
    return table[rank]
