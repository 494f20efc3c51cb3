"""Small nets that the training-time methods are tried on, and data to train them with."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx

from models import SIDE, Net
from prunecvt_passes.model import Model


def residual(blocks: int = 2, channels: int = 8, seed: int = 0) -> Model:
    """A stem, residual blocks of two normalised convolutions each, a mean, four classes."""
    g = Net(seed=seed)
    x = g.conv(g.input("N", 3, SIDE, SIDE), 3, channels, 3, bias=False, name="stem")
    x = g.add("Relu", g.norm(x, channels), name="stem_out")
    for number in range(blocks):
        inner = g.conv(x, channels, channels, 3, bias=False, name=f"b{number}_first")
        inner = g.add("Relu", g.norm(inner, channels))
        inner = g.conv(inner, channels, channels, 3, bias=False, name=f"b{number}_second")
        x = g.add("Relu", g.add("Add", g.norm(inner, channels), x, name=f"b{number}_sum"))
    return ended(g, x, channels)


def plain(channels: int = 8, group: int = 1) -> Model:
    """Two convolutions with biases and no normalisation but that of the second, a mean, classes."""
    g = Net()
    x = g.add("Relu", g.conv(g.input("N", 3, SIDE, SIDE), 3, channels, 3, name="first"))
    x = g.conv(x, channels, channels, 3, group=group, bias=False, name="second")
    return ended(g, g.add("Relu", g.norm(x, channels)), channels)


def ended(g: Net, x: str, channels: int) -> Model:
    mean = g.add("ReduceMean", x, axes=[2, 3], keepdims=0)
    weight, bias = g.random(channels, 4, name="head"), g.random(4, name="head_bias")
    g.output(g.add("Gemm", mean, weight, bias, name="logits"), shape=["N", 4])
    return Model.from_proto(g.proto())


def weight_of(model: Model, tensor: str, place: int = 1) -> str:
    """The name of a constant that the node which makes ``tensor`` reads."""
    for node in model.proto.graph.node:
        if tensor in node.output:
            return str(node.input[place])
    raise KeyError(tensor)


def examples(count: int = 64, seed: int = 0) -> Any:
    """Images whose class is the quarter that is brightest."""
    import torch

    from prunecvt.bridge.methods.fit import Examples

    draw = np.random.default_rng(seed)
    labels = np.arange(count) % 4
    images = draw.standard_normal((count, 3, SIDE, SIDE)).astype(np.float32) * 0.3
    half = SIDE // 2
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[label % 3, row * half : (row + 1) * half, column * half : (column + 1) * half] += 2
    return Examples(torch.from_numpy(images), torch.from_numpy(labels))


def reshaped(g: Net, name: str, *shape: int) -> str:
    """A weight whose shape comes from an input: nothing says what its fans are."""
    target = g.input(len(shape), name="target", type=onnx.TensorProto.INT64)
    return g.add("Reshape", g.random(math.prod(shape), name=name), target)
