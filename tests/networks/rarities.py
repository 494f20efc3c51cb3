"""Steps that real networks take seldom, and that rules are likeliest to get wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from onnx import numpy_helper

from networks.choices import Choices
from networks.convolutions import conv, dense
from networks.growing import INT_MAX, Network, Tensor
from networks.mixing import activation
from networks.tokens import as_tokens


def per_head(g: Network, c: Choices, x: Tensor) -> Tensor:
    """A matrix per head, or one that broadcasts over the heads."""
    heads = c.pick(2, 3)
    t = dense(g, c, as_tokens(g, c, x), heads * c.pick(2, 4))
    each, width = t.channels // heads, c.pick(2, 3)
    y = g.transpose(g.reshape(t.name, 0, 0, heads, each), 0, 2, 1, 3)
    shape = c.pick((heads, each, width), (1, each, width), (each, width), (1, heads, each, width))
    y = g.transpose(g.op("MatMul", y, g.weight(*shape, fan=each)), 0, 2, 1, 3)
    return Tensor(g.reshape(y, 0, 0, heads * width), heads * width, t.space, last=True)


def by_vector(g: Network, c: Choices, x: Tensor) -> Tensor:
    """A product with a vector, which takes the features away; the result gates the tensor."""
    t = g.last(x)
    gate = g.op("MatMul", t.name, g.weight(t.channels, fan=t.channels))
    gate = g.op("Sigmoid", g.axes("Unsqueeze", gate, [t.axis]))
    return replace(t, name=g.op("Mul", t.name, gate))


def one_channel_gate(g: Network, c: Choices, x: Tensor) -> Tensor:
    """A single channel that broadcasts over all (spatial attention, Woo et al., 2018)."""
    y = dense(g, c, g.last(x), 1)
    if not x.last:
        y = g.first(y) if x.space else y
    pair = (x.name, g.op("Sigmoid", y.name))
    return replace(x, name=g.op("Mul", *(pair if c.chance(50) else pair[::-1])))


def gram(g: Network, c: Choices, x: Tensor) -> Tensor:
    """Products of all pairs of channels, as a tensor or on the way back to one."""
    t = as_tokens(g, c, x)
    turned = g.transpose(t.name, 0, 2, 1)
    y = g.op("Tanh", g.op("MatMul", turned, t.name))
    if c.chance(40):
        y = g.op(c.pick("Add", "Mul", "Max"), y, g.transpose(y, 0, 2, 1))
    if c.chance(50):
        return replace(t, name=g.op("MatMul", t.name, y))
    return Tensor(y, t.channels, ((t.channels, t.channels),), last=True)


def steered_filter(g: Network, c: Choices, x: Tensor) -> Tensor:
    """A filter that is scaled at run time."""
    y, width = g.first(x), c.pick(4, 6)
    rank = len(y.space)
    every = list(range(rank + 2))
    scale = g.op("Sigmoid", g.reduce("ReduceMean", y.name, every, c.pick(0, 1)))
    shape = (width, y.channels, *[1] * rank)
    weight = g.weight(*shape, fan=y.channels)
    name = g.op("Conv", y.name, g.op("Mul", weight, scale))
    return g.as_was(Tensor(name, width, y.space), x)


def shared_groups(g: Network, c: Choices, x: Tensor) -> Tensor:
    """A grouped or depthwise filter that two layers read, one after the other or side by side."""
    y = conv(g, c, g.first(x), c.pick(6, 8))
    y = g.first(y)
    rank, width = len(y.space), y.channels
    group = c.pick(width, 2)
    weight = g.weight(width, width // group, *[3] * rank, fan=3**rank * width // group)
    attrs: dict[str, Any] = {"group": group, "pads": [1] * 2 * rank}
    first = g.op("Relu", g.op("Conv", y.name, weight, **attrs))
    if c.chance(50):
        return replace(y, name=g.op("Conv", first, weight, **attrs))
    other = g.op("Conv", g.op("Tanh", y.name), weight, **attrs)
    if c.chance(50):
        return replace(y, name=g.op("Concat", first, other, axis=1), channels=2 * width)
    return replace(y, name=g.op("Add", first, other))


def sliced_twice(g: Network, c: Choices, x: Tensor) -> Tensor:
    """Channels and positions cut by one Slice; ends may lie beyond the tensor."""
    if not x.space or not x.fixed or x.channels < 2 or x.space[0][0] < 2:
        return activation(g, c, x)
    side, start = x.space[0][0], c.below(x.channels - 1)
    bounds = ([start, 1], [c.pick(x.channels, INT_MAX, x.channels + 3), side])
    axes = [x.axis, x.spaces[0]]
    if c.chance(50):
        axes, bounds = axes[::-1], (bounds[0][::-1], bounds[1][::-1])
    if g.opset < 10:
        name = g.op("Slice", x.name, starts=bounds[0], ends=bounds[1], axes=axes)
    else:
        if c.chance(40):
            axes = [a - len(x.space) - 2 for a in axes]
        name = g.op("Slice", x.name, *[np.array(v) for v in (*bounds, axes)])
    return Tensor(name, x.channels - start, ((side - 1,) * 2, *x.space[1:]), x.last)


def grown_from_one(g: Network, c: Choices, x: Tensor) -> Tensor:
    """One channel expanded or tiled to as many as another tensor has."""
    y = g.first(x)
    one = g.reduce(c.pick("ReduceMean", "ReduceSum"), y.name, [1])
    ones = [1] * len(y.space)
    if c.chance(50) and g.opset >= 8:
        one = g.op("Expand", one, np.array([1, y.channels, *ones]))
    else:
        one = g.op("Tile", one, np.array([1, y.channels, *ones]))
    name = g.op(c.pick("Add", "Sub"), y.name, g.op("Tanh", one))
    return g.as_was(replace(y, name=name), x)


def filled_like(g: Network, c: Choices, x: Tensor) -> Tensor:
    """A constant of the tensor's own shape."""
    if g.opset < 9:
        return activation(g, c, x)
    value = numpy_helper.from_array(np.array([0.7], np.float32))
    same = g.op("ConstantOfShape", g.op("Shape", x.name), value=value)
    return replace(x, name=g.op(c.pick("Add", "Mul", "Max"), x.name, same))


def scaled_by_size(g: Network, c: Choices, x: Tensor) -> Tensor:
    """Divided by the root of the number of channels, read at run time."""
    size = g.op("Gather", g.op("Shape", x.name), np.array(x.axis))
    root = g.op("Sqrt", g.op("Cast", size, to=1))
    return replace(x, name=g.op("Div", x.name, root))


def shaped_like(g: Network, c: Choices, x: Tensor) -> Tensor:
    """Flattened, and restored to the shape of another tensor of the same size."""
    others = g.partners(x, same_width=True)
    like = others[0] if others and c.chance(60) else x
    flat = g.op("Flatten", x.name)
    shape = g.op("Shape", like.name)
    if c.chance(30) and g.opset >= 8 and like is not x and x.channels > 1:
        return replace(
            x, name=g.op("Mul", x.name, g.op("Expand", g.net.constant(np.float32(0.9)), shape))
        )
    return replace(x, name=g.op("Reshape", flat, shape))


def each_alone(g: Network, c: Choices, x: Tensor) -> Tensor:
    """Channels merged into the batch, filtered one by one, and told apart again."""
    if not x.fixed or not x.space:
        return conv(g, c, x)
    y, more = g.first(x), c.pick(2, 1)
    space = [a for a, _ in y.space]
    alone = g.reshape(y.name, -1, 1, *space)
    rank = len(space)
    alone = g.op("Conv", alone, g.weight(more, 1, *[3] * rank, fan=3**rank), pads=[1] * 2 * rank)
    width = y.channels * more
    return Tensor(g.reshape(alone, -1, width, *space), width, y.space)


def maxout(g: Network, c: Choices, x: Tensor) -> Tensor:
    """The larger of each pair of channels (Goodfellow et al., 2013)."""
    if not x.fixed:
        return conv(g, c, x)
    y = g.first(x if x.channels % 2 == 0 else conv(g, c, x, 6))
    half, space = y.channels // 2, [a for a, _ in y.space]
    inner = c.chance(50)
    pairs = [half, 2] if inner else [2, half]
    name = g.reshape(y.name, -1, *pairs, *space)
    name = g.reduce(c.pick("ReduceMax", "ReduceSum"), name, [2 if inner else 1], 0)
    return replace(y, name=name, channels=half)


def rotated_pairs(g: Network, c: Choices, x: Tensor) -> Tensor:
    """Every two features turned by an angle of their position (Su et al., 2021)."""
    t = dense(g, c, as_tokens(g, c, x), 2 * c.pick(2, 3, 4))
    half = t.channels // 2
    pairs = g.reshape(t.name, 0, 0, half, 2) if c.chance(50) else None
    if pairs is None:
        first, second = (g.slice(t.name, k * half, (k + 1) * half, 2) for k in (0, 1))
        turned = [g.op("Sub", first, second), g.op("Add", first, second)]
        return replace(t, name=g.op("Concat", *turned, axis=2))
    first, second = (g.slice(pairs, k, k + 1, 3) for k in (0, 1))
    turned = g.op("Concat", g.op("Sub", first, second), g.op("Add", first, second), axis=3)
    return replace(t, name=g.reshape(turned, 0, 0, 2 * half))


def recurrent(g: Network, c: Choices, x: Tensor) -> Tensor:
    """A GRU or an LSTM over the tokens, in both directions at times."""
    t, hidden = as_tokens(g, c, x), c.pick(2, 3)
    op, gates = c.pick(("GRU", 3), ("LSTM", 4), ("RNN", 1))
    ways = c.pick(1, 2)
    attrs: dict[str, Any] = {"hidden_size": hidden}
    if ways == 2:
        attrs["direction"] = "bidirectional"
    weights = [
        g.weight(ways, gates * hidden, t.channels, fan=t.channels),
        g.weight(ways, gates * hidden, hidden, fan=hidden),
        g.weight(ways, 2 * gates * hidden),
    ]
    y = g.op(op, g.transpose(t.name, 1, 0, 2), *weights, **attrs)
    y = g.transpose(y, 2, 0, 1, 3)  # [batch, tokens, ways, hidden]
    return Tensor(g.reshape(y, 0, 0, ways * hidden), ways * hidden, t.space, last=True)


def largest(g: Network, c: Choices, x: Tensor) -> Tensor:
    """The k largest along an axis, or those positions as numbers."""
    if g.opset < 11 or not x.fixed:
        return activation(g, c, x)
    axis = c.pick(*x.spaces, x.axis)
    count = min(2, x.sizes()[axis - 1])
    values, places = g.net.many("TopK", x.name, np.array([count]), outputs=2, axis=axis)
    name = g.op("Cast", places, to=1) if c.chance(20) else values
    if axis == x.axis:
        return replace(x, name=name, channels=count)
    space = list(x.space)
    space[x.spaces.index(axis)] = (count, count)
    return replace(x, name=name, space=tuple(space))


def unpooled(g: Network, c: Choices, x: Tensor) -> Tensor:
    """MaxPool with its positions, and MaxUnpool."""
    y = g.first(x)
    if not y.fixed or any(a % 2 for a, _ in y.space) or g.opset < 9:
        return conv(g, c, x)
    attrs = {"kernel_shape": [2] * len(y.space), "strides": [2] * len(y.space)}
    small, places = g.net.many("MaxPool", y.name, outputs=2, **attrs)
    return g.as_was(replace(y, name=g.op("MaxUnpool", small, places, **attrs)), x)


STEPS = (
    per_head, by_vector, one_channel_gate, gram, steered_filter, shared_groups, sliced_twice,
    grown_from_one, filled_like, scaled_by_size, shaped_like, each_alone, maxout, rotated_pairs,
    recurrent, largest, unpooled,
)  # fmt: skip
