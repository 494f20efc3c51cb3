"""Steps that make channels by convolutions, and what is built of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from networks.choices import Choices
from networks.growing import WIDTHS, Network, Size, Tensor
from networks.mixing import activation


def _kernel(c: Choices, x: Tensor) -> tuple[list[int], dict[str, Any], tuple[Size, ...]]:
    """Sizes, strides, dilations and padding of a kernel, and the space that comes out."""
    odd = c.pick(1, 3, 0)
    sizes, strides, dilations, begins, ends, made = [], [], [], [], [], []
    for a, b in x.space:
        kernel, stride, dilation = odd or c.pick(2, 1, 3, 5), 1, 1
        if not odd:
            stride, dilation = c.pick(1, 2, 3) if a == b else c.pick(1, 2), c.pick(1, 2)
        span = dilation * (kernel - 1) + 1
        before = c.below(kernel) if not odd and a == b else span // 2
        after = span - 1 - before if before < span else 0
        if a < 2 or (a + before + after - span) // stride < 1:
            stride = 1
        out = tuple((s + before + after - span) // stride + 1 for s in (a, b))
        sizes.append(kernel)
        strides.append(stride)
        dilations.append(dilation)
        begins.append(before)
        ends.append(after)
        made.append((out[0], out[1]))
    attrs: dict[str, Any] = {"pads": begins + ends}
    if strides != [1] * len(strides):
        attrs["strides"] = strides
    if dilations != [1] * len(dilations):
        attrs["dilations"] = dilations
    return sizes, attrs, tuple(made)


def conv(g: Network, c: Choices, x: Tensor, width: int = 0, group: int = 1) -> Tensor:
    """A convolution of any kernel; a dense layer where channels come last or there is no space."""
    if (x.last or not x.space) and group == 1:
        return dense(g, c, x, width)
    y = g.first(x)
    width = width or c.pick(*WIDTHS)
    sizes, attrs, space = _kernel(c, y)
    if group == 1 and attrs.keys() == {"pads"} and c.chance(15):
        attrs = {"auto_pad": c.pick("SAME_UPPER", "SAME_LOWER")}
        space = y.space
    inputs = y.channels // group
    operands = [y.name, g.weight(width, inputs, *sizes, fan=inputs * int(np.prod(sizes)))]
    if c.chance(60):
        operands.append(g.weight(width))
    if c.chance(50):
        attrs["kernel_shape"] = sizes
    if group > 1:
        attrs["group"] = group
    return g.as_was(Tensor(g.op("Conv", *operands, **attrs), width, space), x)


def dense(g: Network, c: Choices, x: Tensor, width: int = 0) -> Tensor:
    """MatMul with the weight on the right, as it is or transposed in the graph, or a Gemm."""
    x, width = g.last(x), width or c.pick(*WIDTHS)
    kind = c.pick("plain", "transposed", "gemm")
    if kind == "gemm":
        return _gemm(g, c, x, width)
    weight = g.weight(x.channels, width, fan=x.channels)
    if kind == "transposed":
        weight = g.transpose(g.weight(width, x.channels, fan=x.channels), 1, 0)
    y = g.op("MatMul", x.name, weight)
    if c.chance(60):
        pair = (y, g.weight(width))
        y = g.op("Add", *(pair if c.chance(50) else pair[::-1]))
    return Tensor(y, width, x.space, last=True)


def _gemm(g: Network, c: Choices, x: Tensor, width: int) -> Tensor:
    flat = g.reshape(x.name, -1, x.channels) if x.space else x.name
    attrs: dict[str, Any] = {}
    if c.chance(25):
        flat, attrs["transA"] = g.transpose(flat, 1, 0), 1
    shape = [x.channels, width]
    if c.chance(50):
        shape, attrs["transB"] = shape[::-1], 1
    if c.chance(30):
        attrs["alpha"], attrs["beta"] = 0.7, 1.5
    bias = c.pick((width,), (1, width), (1,), None)
    if bias is None and g.opset < 11:
        bias = (width,)
    operands = [flat, g.weight(*shape, fan=x.channels)]
    y = g.op("Gemm", *operands, *([] if bias is None else [g.weight(*bias)]), **attrs)
    return Tensor(_unflattened(g, y, x, width), width, x.space, last=True)


def _unflattened(g: Network, y: str, x: Tensor, width: int) -> str:
    if not x.space:
        return y
    if x.fixed:
        return g.reshape(y, -1, *[a for a, _ in x.space], width)
    kept = g.slice(g.op("Shape", x.name), 0, len(x.space) + 1, 0)
    return g.op("Reshape", y, g.op("Concat", kept, np.array([width]), axis=0))


def grouped(g: Network, c: Choices, x: Tensor) -> Tensor:
    if x.channels % 2 and x.channels % 3:
        x = conv(g, c, x, c.pick(6, 8))
    sizes = [n for n in (2, 3, 4) if x.channels % n == 0]
    group = c.pick(*sizes)
    return conv(g, c, x, group * c.pick(2, 1, 3), group)


def depthwise(g: Network, c: Choices, x: Tensor) -> Tensor:
    return conv(g, c, x, x.channels * c.pick(1, 2, 3), x.channels)


def normed(g: Network, c: Choices, x: Tensor) -> Tensor:
    y = g.first(conv(g, c, x))
    name = g.net.norm(y.name, y.channels)
    return g.as_was(activation(g, c, replace(y, name=name)), x)


def transposed(g: Network, c: Choices, x: Tensor) -> Tensor:
    """ConvTranspose, grouped or depthwise too."""
    y = g.first(x)
    if y.positions > 64 or not y.fixed:
        return conv(g, c, x)
    width = y.channels
    group = c.pick(*[n for n in (1, 2, 3, width) if width % n == 0])
    stride, kernel = c.pick(2, 1), c.pick(2, 3)
    each = c.pick(2, 1, 3)
    rank = len(y.space)
    attrs: dict[str, Any] = {"group": group, "strides": [stride] * rank}
    extra = 1 if stride == 2 and c.chance(25) else 0
    if extra:
        attrs["output_padding"] = [1] * rank
    weight = g.weight(width, each, *[kernel] * rank, fan=width // group * kernel)
    bias = [g.weight(each * group)] if c.chance(50) else []
    name = g.op("ConvTranspose", y.name, weight, *bias, **attrs)
    sizes = tuple(((a - 1) * stride + kernel + extra,) * 2 for a, _ in y.space)
    return g.as_was(Tensor(name, each * group, sizes), x)


def pooled(g: Network, c: Choices, x: Tensor) -> Tensor:
    y = g.first(x)
    if not all(a > 1 for a, _ in y.space):
        return conv(g, c, x)
    op = c.pick("MaxPool", "AveragePool", "LpPool")
    rank = len(y.space)
    name = g.op(op, y.name, kernel_shape=[2] * rank, strides=[2] * rank)
    return g.as_was(Tensor(name, y.channels, tuple((a // 2, b // 2) for a, b in y.space)), x)


def residual(g: Network, c: Choices, x: Tensor) -> Tensor:
    """Two branches of unequal depth that meet, or a shortcut."""
    y = x
    for _ in range(c.pick(1, 2, 3)):
        y = activation(g, c, _same_size(g, c, y, c.pick(*WIDTHS)))
    y = _same_size(g, c, y, x.channels)
    short = _same_size(g, c, x, x.channels) if c.chance(30) else x
    op = c.pick("Add", "Sub", "Mul", "Max", "Sum", "Mean")
    met = Tensor(g.op(op, short.name, y.name), x.channels, x.space, x.last)
    return g.tanh(met) if op == "Mul" else met


def _same_size(g: Network, c: Choices, x: Tensor, width: int) -> Tensor:
    """A layer that keeps the space."""
    if x.last or not x.space:
        return replace(dense(g, c, x, width), last=x.last)
    kernel = c.pick(1, 3)
    rank = len(x.space)
    weight = g.weight(width, x.channels, *[kernel] * rank, fan=x.channels * kernel**rank)
    bias = [g.weight(width)] if c.chance(50) else []
    name = g.op("Conv", x.name, weight, *bias, pads=[kernel // 2] * 2 * rank)
    return Tensor(name, width, x.space)


def padded_shortcut(g: Network, c: Choices, x: Tensor) -> Tensor:
    """A shortcut whose missing channels are zeros (option A of He et al., 2016)."""
    before, after = c.pick(0, 1, 2), c.pick(2, 0, 3)
    width, rank = x.channels + before + after, len(x.space)
    pads = [0] * 2 * (rank + 2)
    pads[x.axis], pads[x.axis + rank + 2] = before, after
    y = g.pad(x.name, pads, value=c.pick(0, 0, 1))
    return Tensor(g.op("Add", y, _same_size(g, c, x, width).name), width, x.space, x.last)


def excited(g: Network, c: Choices, x: Tensor) -> Tensor:
    """Squeeze-and-excitation (Hu et al., 2018), by convolutions or by dense layers."""
    if not x.space:
        return conv(g, c, x)
    y = g.first(x)
    if c.chance(50):
        gate = g.op("GlobalAveragePool", y.name)
    else:
        gate = g.reduce("ReduceMean", y.name, y.spaces)
    middle, rank = c.pick(2, 3, 4), len(y.space)
    if c.chance(50):
        flat = Tensor(g.op("Flatten", gate), y.channels)
        gate = dense(g, c, activation(g, c, dense(g, c, flat, middle)), y.channels).name
        gate = g.axes("Unsqueeze", gate, y.spaces)
    else:
        gate = g.op("Conv", gate, g.weight(middle, y.channels, *[1] * rank, fan=y.channels))
        gate = g.op("Relu", gate)
        gate = g.op("Conv", gate, g.weight(y.channels, middle, *[1] * rank), g.weight(y.channels))
    gate = g.op(c.pick("Sigmoid", "HardSigmoid"), gate)
    pair = (y.name, gate)
    name = g.op("Mul", *(pair if c.chance(50) else pair[::-1]))
    return g.as_was(replace(y, name=name), x)


def shared_filter(g: Network, c: Choices, x: Tensor) -> Tensor:
    """One filter that several layers read."""
    y, width = g.first(x), c.pick(4, 8)
    rank = len(y.space)
    key = (width, y.channels, *[3] * rank)
    weight = g.shared.setdefault(key, "") or g.weight(*key, fan=y.channels * 3**rank)
    g.shared[key] = weight
    return g.as_was(Tensor(g.op("Conv", y.name, weight, pads=[1] * 2 * rank), width, y.space), x)


def two_roles(g: Network, c: Choices, x: Tensor) -> Tensor:
    """One matrix that is read along its rows and along its columns."""
    y, width = g.last(x), c.pick(*WIDTHS)
    kind = c.pick("back", "again", "filter")
    if kind == "again":
        weight = g.weight(y.channels, y.channels, fan=y.channels)
        name = g.op("MatMul", g.op("Tanh", g.op("MatMul", y.name, weight)), weight)
        return Tensor(name, y.channels, y.space, last=True)
    weight = g.weight(y.channels, width, fan=y.channels)
    middle = g.op("Tanh", g.op("MatMul", y.name, weight))
    if kind == "back":
        name = g.op("MatMul", middle, g.transpose(weight, 1, 0))
        return Tensor(name, y.channels, y.space, last=True)
    back = g.first(Tensor(middle, width, y.space, last=True))
    filter = g.axes("Unsqueeze", weight, list(range(2, 2 + len(back.space))))
    return Tensor(g.op("Conv", back.name, filter), y.channels, back.space)


def dense_block(g: Network, c: Choices, x: Tensor) -> Tensor:
    """Every layer reads what all before it made (Huang et al., 2017)."""
    for _ in range(c.pick(1, 2, 3)):
        y = activation(g, c, _same_size(g, c, x, c.pick(2, 3, 4)))
        pair = (x.name, y.name) if c.chance(70) else (y.name, x.name)
        width = x.channels + y.channels
        x = Tensor(g.op("Concat", *pair, axis=x.axis), width, x.space, x.last)
    return x


STEPS = (
    conv, conv, normed, grouped, grouped, depthwise, depthwise, transposed, pooled, residual,
    residual, padded_shortcut, excited, shared_filter, two_roles, dense_block, dense,
)  # fmt: skip
