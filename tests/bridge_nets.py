"""Small nets, one for each family of operators, that can be trained as torch modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from models import Net

NETS: dict[str, Callable[[], Net]] = {}


def net(build: Callable[[Net, str], Any]) -> Callable[[Net, str], Any]:
    """Registers a net: convolution, what ``build`` adds, global mean, projection."""

    def made() -> Net:
        graph = Net()
        x = build(graph, graph.first())
        mean = graph.add("ReduceMean", x, axes=[2, 3], keepdims=0)
        graph.output(graph.add("MatMul", mean, graph.random(8, 4)), shape=["N", 4])
        return graph

    NETS[build.__name__.strip("_")] = made
    return build


@net
def batch_norm_(g: Net, x: str) -> str:
    return g.add("Relu", g.norm(x, 8))


@net
def depthwise_(g: Net, x: str) -> str:
    return g.add("Clip", g.conv(x, 8, 8, 3, group=8), np.float32(0), np.float32(6))


@net
def uneven_padding(g: Net, x: str) -> str:
    return g.conv(x, 8, 8, 3, pads=[0, 1, 2, 0], strides=[2, 1])


@net
def transposed(g: Net, x: str) -> str:
    weight = g.random(8, 8, 3, 3, scale=0.2)
    return g.add(
        "ConvTranspose", x, weight, strides=[2, 2], pads=[1, 0, 0, 1], output_padding=[1, 1]
    )


@net
def pools(g: Net, x: str) -> str:
    x = g.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    return g.add("AveragePool", x, kernel_shape=[2, 2], pads=[0, 0, 1, 1], count_include_pad=1)


@net
def squeeze_excite(g: Net, x: str) -> str:
    inner = g.conv(g.conv(g.add("GlobalAveragePool", x), 8, 2), 2, 8)
    return g.add("Mul", x, g.add("HardSigmoid", inner))


@net
def shuffle(g: Net, x: str) -> str:
    size = g.add("Gather", g.add("Shape", x), np.array([0]), axis=0)
    target = g.add("Concat", size, np.array([2, 4, 6, 6]), axis=0)
    parts = g.add("Transpose", g.add("Reshape", x, target), perm=[0, 2, 1, 3, 4])
    back = g.add("Concat", size, np.array([8, 6, 6]), axis=0)
    return g.add("Reshape", parts, back)


@net
def normalisations(g: Net, x: str) -> str:
    x = g.add("InstanceNormalization", x, g.positive(8), g.random(8))
    last = g.add("Transpose", x, perm=[0, 2, 3, 1])
    last = g.add("LayerNormalization", last, g.positive(8), g.random(8))
    return g.add("Transpose", last, perm=[0, 3, 1, 2])


@net
def attention(g: Net, x: str) -> str:
    flat = g.add("Transpose", g.add("Reshape", x, np.array([0, 8, -1])), perm=[0, 2, 1])
    q, k, v = (g.add("MatMul", flat, g.random(8, 8, scale=0.3)) for _ in range(3))
    scores = g.add("MatMul", q, g.add("Transpose", k, perm=[0, 2, 1]))
    mixed = g.add("MatMul", g.add("Softmax", scores, axis=-1), v)
    mixed = g.add("Add", mixed, g.random(8))
    return g.add("Reshape", g.add("Transpose", mixed, perm=[0, 2, 1]), np.array([0, 8, 6, 6]))


@net
def resized(g: Net, x: str) -> str:
    return g.add("Resize", x, None, np.array([1, 1, 2, 2], np.float32), mode="linear")


@net
def prelu(g: Net, x: str) -> str:
    return g.add("PRelu", x, g.random(8, 1, 1))
