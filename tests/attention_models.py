"""Attention in the forms that exporters write it: tokens in, one linear layer out.

Sizes: ``TOKENS`` tokens of ``WIDTH`` features, ``HEADS`` heads of ``EACH`` channels.
"""

from __future__ import annotations

import numpy as np

from models import Dim, Net

TOKENS, WIDTH, HEADS, EACH = 5, 6, 4, 3
INNER = HEADS * EACH
FUSED = "qkv"  # the layer that makes queries, keys and values at once
APART = ("query", "key", "value")


def linear(net: Net, x: str, inputs: int, outputs: int, name: str) -> str:
    weight = net.random(inputs, outputs, scale=inputs**-0.5)
    return net.add("Add", net.random(outputs), net.add("MatMul", x, weight, name=name))


def tokens(net: Net, batch: Dim = "N", length: Dim = TOKENS) -> str:
    return net.input(batch, length, WIDTH)


def reshape(net: Net, x: str, *target: int) -> str:
    return net.add("Reshape", x, np.array(target))


def turn(net: Net, x: str, *order: int) -> str:
    return net.add("Transpose", x, perm=list(order))


def attend(net: Net, query: str, key: str, value: str, bias: str = "") -> str:
    """Of [..., heads, tokens, channels] each."""
    scores = net.add("MatMul", query, turn(net, key, 0, 1, 3, 2))
    scores = net.add("Mul", scores, np.float32(EACH**-0.5))
    scores = net.add("Add", scores, bias) if bias else scores
    return net.add("MatMul", net.add("Softmax", scores, axis=-1), value)


def merged(net: Net, x: str, inner: int = INNER) -> None:
    net.head(reshape(net, turn(net, x, 0, 2, 1, 3), 0, -1, inner), inner)


def in_heads(net: Net, x: str, heads: int = HEADS) -> str:
    return turn(net, reshape(net, x, 0, -1, heads, EACH), 0, 2, 1, 3)


def fused(net: Net, x: str) -> str:
    return linear(net, x, WIDTH, 3 * INNER, FUSED)
