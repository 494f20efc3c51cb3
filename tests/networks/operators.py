"""Steps that stand for a whole formula in one operator, or run a body."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from networks.choices import Choices
from networks.convolutions import conv, dense
from networks.growing import Network, Tensor
from networks.mixing import activation
from networks.tokens import as_tokens


def einsum(g: Network, c: Choices, x: Tensor) -> Tensor:
    """A sum of products over a weight, or over two tensors."""
    if g.opset < 12:
        return dense(g, c, x)
    t, width = as_tokens(g, c, x), c.pick(4, 6)
    kind = c.pick("btc,cd->btd", "btc,dc->btd", "btc,chd->bthd", "heads", "btc,c->btc", "pairs")
    fan = t.channels
    if kind == "heads":
        query, key, value = (dense(g, Choices(), t, 2 * width) for _ in range(3))
        parts = [g.reshape(y.name, 0, 0, 2, width) for y in (query, key, value)]
        scores = g.op("Einsum", *parts[:2], equation="bthd,bshd->bhts")
        scores = g.op("Softmax", scores, axis=3)
        y = g.op("Einsum", scores, parts[2], equation="bhts,bshd->bthd")
        return Tensor(g.reshape(y, 0, 0, 2 * width), 2 * width, t.space, last=True)
    if kind == "pairs":
        y = g.op("Tanh", g.op("Einsum", t.name, t.name, equation="btc,btd->bcd"))
        return replace(t, name=g.op("Einsum", y, t.name, equation="bcd,btd->btc"))
    if kind == "btc,chd->bthd":
        y = g.op("Einsum", t.name, g.weight(t.channels, 2, width, fan=fan), equation=kind)
        return Tensor(g.reshape(y, 0, 0, 2 * width), 2 * width, t.space, last=True)
    if kind == "btc,c->btc":
        return replace(t, name=g.op("Einsum", t.name, g.weight(t.channels), equation=kind))
    shape = (t.channels, width) if kind == "btc,cd->btd" else (width, t.channels)
    y = g.op("Einsum", t.name, g.weight(*shape, fan=fan), equation=kind)
    return Tensor(y, width, t.space, last=True)


def attention_operator(g: Network, c: Choices, x: Tensor) -> Tensor:
    """The Attention of opset 23, keys and values of fewer heads than queries at times."""
    if g.opset < 23:
        return dense(g, c, x)
    t, each = as_tokens(g, c, x), c.pick(4, 2)
    heads, fewer = c.pick((2, 2), (4, 2), (2, 1))
    widths = (heads * each, fewer * each, fewer * each)
    parts = [dense(g, Choices(), t, width).name for width in widths]
    y = g.op("Attention", *parts, q_num_heads=heads, kv_num_heads=fewer)
    return Tensor(y, heads * each, t.space, last=True)


def integer_layer(g: Network, c: Choices, x: Tensor) -> Tensor:
    """QLinearConv, or MatMulInteger of what is quantised as it comes."""
    if g.opset < 11:
        return conv(g, c, x)
    if c.chance(50):
        return _integer_product(g, c, x)
    y, width = g.first(x), c.pick(4, 6)
    rank = len(y.space)
    if rank == 3:
        return conv(g, c, x)
    rng = g.net.rng
    scale, zero = np.float32(0.0173), np.uint8(128)
    stored = rng.integers(-80, 80, (width, y.channels, *[3] * rank)).astype(np.int8)
    spread = (rng.random(width) * 0.004 + 0.002).astype(np.float32)
    by_channel = c.chance(50)
    weight = (stored, spread if by_channel else spread[0], np.zeros(width, np.int8))
    if not by_channel:
        weight = (stored, spread[0], np.int8(0))
    bias = [rng.integers(-500, 500, width).astype(np.int32)] if c.chance(50) else []
    data = g.op("QuantizeLinear", y.name, scale, zero)
    out = (np.float32(0.0331), np.uint8(120))
    made = g.op("QLinearConv", data, scale, zero, *weight, *out, *bias, pads=[1] * 2 * rank)
    return g.as_was(Tensor(g.op("DequantizeLinear", made, *out), width, y.space), x)


def _integer_product(g: Network, c: Choices, x: Tensor) -> Tensor:
    t, width = g.last(x), c.pick(4, 6)
    stored = g.net.rng.integers(-80, 80, (t.channels, width)).astype(np.int8)
    data, scale, zero = g.net.many("DynamicQuantizeLinear", t.name, outputs=3)
    y = g.op("MatMulInteger", data, stored, zero, np.int8(2))
    y = g.op("Mul", g.op("Cast", y, to=TensorProto.FLOAT), scale)
    return Tensor(g.op("Mul", y, np.float32(0.01)), width, t.space, last=True)


def branched(g: Network, c: Choices, x: Tensor) -> Tensor:
    """An If whose branches read the tensor from outside, and weights at times."""
    if g.opset < 11:
        return activation(g, c, x)
    every = list(range(len(x.space) + 2))
    over = g.op("Greater", g.reduce("ReduceMean", x.name, every, 0), np.float32(0))
    scale = g.vector(x, x.channels) if c.chance(50) else None
    branches = []
    for op in ("Relu", "Neg"):
        names = [g.net.fresh("inside") for _ in range(2)]
        nodes = [helper.make_node(op, [x.name], names[:1])]
        second: Any = ("Mul", [names[0], scale]) if scale else ("Identity", [names[0]])
        nodes.append(helper.make_node(*second, names[1:]))
        value = helper.make_tensor_value_info(names[1], TensorProto.FLOAT, [None] * len(every))
        branches.append(helper.make_graph(nodes, op, [], [value]))
    name = g.op("If", over, then_branch=branches[0], else_branch=branches[1])
    return replace(x, name=name)


def reduced(g: Network, c: Choices, x: Tensor) -> Tensor:
    """A gate from a sum over channels and positions at once."""
    axes = [x.axis, *x.spaces[:1]]
    op = c.pick("ReduceSum", "ReduceL1", "ReduceSumSquare", "ReduceMax", "ReduceMean")
    gate = g.op("Tanh", g.reduce(op, x.name, sorted(axes)))
    return replace(x, name=g.op("Mul", x.name, gate))


STEPS = (einsum, einsum, attention_operator, integer_layer, branched, reduced)
