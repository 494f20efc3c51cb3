"""Steps over [batch, tokens, features]: attention in several forms, gates, matrices of tokens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from networks.choices import Choices
from networks.convolutions import dense
from networks.growing import Network, Tensor


def as_tokens(g: Network, c: Choices, x: Tensor) -> Tensor:
    """The tensor as [batch, tokens, features]."""
    x = g.last(x)
    if not x.space:
        return Tensor(g.axes("Unsqueeze", x.name, [1]), x.channels, ((1, 1),), last=True)
    if len(x.space) == 1:
        return x
    if not x.fixed:
        positions = 1, 1
        for a, b in x.space:
            positions = positions[0] * a, positions[1] * b
        return Tensor(g.reshape(x.name, 0, -1, x.channels), x.channels, (positions,), last=True)
    count = x.positions
    target = [c.pick(0, -1), count, x.channels]
    return Tensor(g.reshape(x.name, *target), x.channels, ((count, count),), last=True)


def _heads(g: Network, x: Tensor, heads: int, order: tuple[int, ...] = (0, 2, 1, 3)) -> str:
    y = g.reshape(x.name, 0, 0, heads, x.channels // heads)
    return g.transpose(y, *order)


def _mixed(g: Network, c: Choices, query: str, key: str, value: str) -> str:
    """softmax(query key) value, with a scale and at times a bias; the last two axes are matrices.

    ``key`` is transposed already.
    """
    scores = g.op("MatMul", query, key)
    if c.chance(60):
        scores = g.op(c.pick("Mul", "Div"), scores, np.float32(1.7))
    return g.op("MatMul", g.op("Softmax", scores, axis=c.pick(3, -1) if g.opset > 12 else 3), value)


def attention(g: Network, c: Choices, x: Tensor) -> Tensor:
    """Self-attention by three layers; keys may be fewer than queries, values of another width."""
    t = as_tokens(g, c, x)
    heads = c.pick(2, 1, 3)
    width, inner = heads * c.pick(2, 4), heads * c.pick(2, 3)
    query, key = (dense(g, Choices(), t, width) for _ in range(2))
    value = dense(g, c, t, inner)
    if c.chance(25):
        query = replace(query, name=g.op("Mul", query.name, np.float32(0.6)))
    if c.chance(25):  # rotary: halves turned, as a slice and a concat of the head's channels
        keys = g.transpose(_heads(g, _turned_halves(g, key, heads), heads), 0, 1, 3, 2)
    elif c.chance(50):
        keys = _heads(g, key, heads, (0, 2, 3, 1))
    else:
        keys = g.transpose(_heads(g, key, heads), 0, 1, 3, 2)
    y = _mixed(g, c, _heads(g, query, heads), keys, _heads(g, value, heads))
    y = g.reshape(g.transpose(y, 0, 2, 1, 3), 0, 0, inner)
    made = Tensor(y, inner, t.space, last=True)
    return dense(g, c, made, t.channels) if c.chance(70) else made


def _turned_halves(g: Network, x: Tensor, heads: int) -> Tensor:
    half = x.channels // 2
    parts = [g.op("Neg", g.slice(x.name, half, x.channels, 2)), g.slice(x.name, 0, half, 2)]
    return replace(x, name=g.op("Concat", *parts, axis=2))


def fused_attention(g: Network, c: Choices, x: Tensor) -> Tensor:
    """One layer makes queries, keys and values, told apart by an axis of three or by a Split."""
    t = as_tokens(g, c, x)
    heads, each = c.pick(2, 1, 3), c.pick(2, 4)
    inner = heads * each
    made = dense(g, c, t, 3 * inner)
    kind = c.pick("gather", "split", "split heads")
    if kind == "gather":
        y = g.reshape(made.name, 0, 0, 3, heads, each)
        y = g.transpose(y, 2, 0, 3, 1, 4)
        query, key, value = (g.op("Gather", y, np.array(k), axis=0) for k in range(3))
    elif kind == "split":
        parts = [replace(made, name=n, channels=inner) for n in g.split(made.name, [inner] * 3, 2)]
        query, key, value = (_heads(g, p, heads) for p in parts)
    else:
        y = g.transpose(g.reshape(made.name, 0, 0, heads, 3 * each), 0, 2, 1, 3)
        query, key, value = g.split(y, [each] * 3, 3)
    y = _mixed(g, c, query, g.transpose(key, 0, 1, 3, 2), value)
    y = g.reshape(g.transpose(y, 0, 2, 1, 3), 0, 0, inner)
    return Tensor(y, inner, t.space, last=True)


def batched_attention(g: Network, c: Choices, x: Tensor) -> Tensor:
    """Heads merged into the batch, as early exporters wrote it."""
    t = as_tokens(g, c, x)
    if not t.fixed:
        return attention(g, c, x)
    heads, each, count = c.pick(2, 3), c.pick(2, 4), t.space[0][0]
    inner = heads * each
    parts = [
        g.reshape(_heads(g, dense(g, Choices(), t, inner), heads), -1, count, each)
        for _ in range(3)
    ]
    scores = g.op("MatMul", parts[0], g.transpose(parts[1], 0, 2, 1))
    y = g.op("MatMul", g.op("Softmax", scores, axis=2), parts[2])
    y = g.transpose(g.reshape(y, -1, heads, count, each), 0, 2, 1, 3)
    return Tensor(g.reshape(y, -1, count, inner), inner, t.space, last=True)


def channel_attention(g: Network, c: Choices, x: Tensor) -> Tensor:
    """Channels attend to channels (Fu et al., 2019; Zamir et al., 2022)."""
    t = as_tokens(g, c, x)
    query, key = dense(g, c, t), dense(g, Choices(), t)
    scores = g.op("MatMul", g.transpose(query.name, 0, 2, 1), key.name)
    scores = g.op("Softmax", scores, axis=2) if c.chance(50) else g.op("Tanh", scores)
    return replace(key, name=g.op("Tanh", g.op("MatMul", query.name, scores)))


def glu(g: Network, c: Choices, x: Tensor) -> Tensor:
    """A gated linear unit (Dauphin et al., 2017): one layer cut in two, or two layers."""
    half = c.pick(3, 4, 6)
    if c.chance(40):
        a, b = dense(g, c, x, half), dense(g, c, x, half)
        return replace(a, name=g.op("Mul", a.name, g.op("Sigmoid", b.name)))
    y = dense(g, c, x, 2 * half)
    if c.chance(50):
        first, second = g.split(y.name, [half, half], y.axis, stated=c.chance(50))
    else:
        first = g.slice(y.name, 0, half, y.axis)
        second = g.slice(y.name, half, 2 * half, y.axis)
    return replace(y, name=g.op("Mul", first, g.op("Sigmoid", second)), channels=half)


def positions(g: Network, c: Choices, x: Tensor) -> Tensor:
    """A learned vector per position, or a token put in front."""
    t = as_tokens(g, c, x)
    if t.fixed and c.chance(50):
        values = g.weight(1, t.space[0][0], t.channels)
        return replace(t, name=g.op("Add", t.name, values))
    ones = g.reduce("ReduceMean", t.name, [1])
    token = g.op("Add", g.op("Mul", ones, np.float32(0)), g.weight(1, 1, t.channels))
    a, b = t.space[0]
    name = g.op("Concat", token, t.name, axis=1)
    return replace(t, name=name, space=((a + 1, b + 1),))


def mixed_tokens(g: Network, c: Choices, x: Tensor) -> Tensor:
    """Layers along the tokens, their weights on the left (Tolstikhin et al., 2021)."""
    t = as_tokens(g, c, x)
    if not t.fixed:
        return glu(g, c, x)
    count, middle = t.space[0][0], c.pick(7, 3)
    y = g.op("Relu", g.op("MatMul", g.weight(middle, count, fan=count), t.name))
    out = c.pick(count, 2)
    y = g.op("MatMul", g.weight(out, middle, fan=middle), y)
    return Tensor(y, t.channels, ((out, out),), last=True)


def block(g: Network, c: Choices, x: Tensor) -> Tensor:
    """An encoder block: attention and two layers, each beside a shortcut."""
    t = as_tokens(g, c, x)
    y = attention(g, c, t)
    y = dense(g, Choices(), y, t.channels)
    t = replace(t, name=g.op("Add", t.name, y.name))
    y = dense(g, c, t)
    y = replace(y, name=g.op(c.pick("Relu", "Tanh"), y.name))
    return replace(t, name=g.op("Add", t.name, dense(g, c, y, t.channels).name))


def pooled_token(g: Network, c: Choices, x: Tensor) -> Tensor:
    """One position, or the mean over all, as a vector."""
    if not x.space:
        return glu(g, c, x)
    if len(x.space) == 1 and c.chance(50):
        name = g.op("Gather", x.name, np.array(0), axis=x.spaces[0])
        return Tensor(name, x.channels)
    if x.last or c.chance(50):
        return Tensor(g.reduce("ReduceMean", x.name, x.spaces, 0), x.channels)
    y = g.op(c.pick("GlobalAveragePool", "GlobalMaxPool"), x.name)
    y = g.op("Flatten", y) if c.chance(50) else g.axes("Squeeze", y, x.spaces)
    return Tensor(y, x.channels)


STEPS = (
    attention, attention, fused_attention, batched_attention, channel_attention, glu, glu,
    positions, mixed_tokens, block, pooled_token,
)  # fmt: skip
