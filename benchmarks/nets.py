"""Graphs built in code, with random weights: sizes to measure by, no download, no torch.

The layers are those of torchvision's densenet201, resnet18, resnet50, mobilenet_v2 and vgg16_bn
(one linear layer behind a pool in the place of three); ``unet`` has five levels of two
convolutions, and transposed ones on the way up; ``chain`` is Conv, BatchNormalization, Relu over
and over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

OPSET = 17
CHAIN_WIDTH = 16


class Builder:
    """Adds layers one by one; every method takes and returns names of tensors."""

    def __init__(self, size: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.random = np.random.default_rng(0)
        self.size = size

    def weight(self, shape: tuple[int, ...], scale: float, shift: float = 0.0) -> str:
        name = f"w{len(self.weights)}"
        values = self.random.standard_normal(shape, np.float32)
        values = values * np.float32(scale) + np.float32(shift)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def node(self, op: str, inputs: list[str], **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        made = helper.make_node(op, inputs, [name], f"{op.lower()}_{len(self.nodes)}", **attributes)
        self.nodes.append(made)
        return name

    def conv(
        self, x: str, given: int, made: int, kernel: int = 3, stride: int = 1, group: int = 1
    ) -> str:
        each = given // group
        scale = (2 / (each * kernel * kernel)) ** 0.5
        pads = [kernel // 2] * 4
        return self.node(
            "Conv",
            [x, self.weight((made, each, kernel, kernel), scale)],
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=pads,
            group=group,
        )

    def bn(self, x: str, width: int) -> str:
        gamma, beta = self.weight((width,), 0.1, 1), self.weight((width,), 0.1)
        mean, variance = self.weight((width,), 0.1), self.weight((width,), 0.01, 1)
        return self.node("BatchNormalization", [x, gamma, beta, mean, variance])

    def relu(self, x: str) -> str:
        return self.node("Relu", [x])

    def relu6(self, x: str) -> str:
        """A Relu that ends at 6."""
        bounds = []
        for value in (0.0, 6.0):
            bounds.append(f"w{len(self.weights)}")
            self.weights.append(numpy_helper.from_array(np.float32(value), bounds[-1]))
        return self.node("Clip", [x, *bounds])

    def pool(self, x: str, op: str, kernel: int, stride: int, pad: int = 0) -> str:
        shape, strides = [kernel, kernel], [stride, stride]
        return self.node(op, [x], kernel_shape=shape, strides=strides, pads=[pad] * 4)

    def classifier(self, x: str, width: int, classes: int = 1000) -> onnx.ModelProto:
        """Pools, flattens, adds the linear layer and returns the model."""
        flat = self.node("Flatten", [self.node("GlobalAveragePool", [x])])
        matrix, bias = self.weight((classes, width), width**-0.5), self.weight((classes,), 0.1)
        self.node("Gemm", [flat, matrix, bias], transB=1)
        return self.model(["batch", classes])

    def model(self, shape: list[int | str]) -> onnx.ModelProto:
        """The model, whose output is what the last node makes."""
        self.nodes[-1].output[0] = "logits"
        given = helper.make_tensor_value_info("input", 1, ["batch", 3, self.size, self.size])
        made = helper.make_tensor_value_info("logits", 1, shape)
        graph = helper.make_graph(self.nodes, "net", [given], [made], self.weights)
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8
        )


def densenet201() -> onnx.ModelProto:
    """20.0 M parameters, 707 nodes; blocks of 6, 12, 48 and 32 layers, growth 32."""
    net = Builder(224)
    x = net.relu(net.bn(net.conv("input", 3, 64, 7, 2), 64))
    x, width = net.pool(x, "MaxPool", 3, 2, 1), 64
    for block, layers in enumerate((6, 12, 48, 32)):
        parts = [x]
        for _ in range(layers):
            joined = net.node("Concat", list(parts), axis=1) if len(parts) > 1 else parts[0]
            inner = net.conv(net.relu(net.bn(joined, width)), width, 128, 1)
            parts.append(net.conv(net.relu(net.bn(inner, 128)), 128, 32, 3))
            width += 32
        x = net.relu(net.bn(net.node("Concat", parts, axis=1), width))
        if block < 3:
            x = net.pool(net.conv(x, width, width // 2, 1), "AveragePool", 2, 2)
            width //= 2
    return net.classifier(x, width)


def resnet18(size: int = 224) -> onnx.ModelProto:
    """11.7 M parameters; four stages of two basic blocks."""
    net = Builder(size)
    x = net.relu(net.bn(net.conv("input", 3, 64, 7, 2), 64))
    x, width = net.pool(x, "MaxPool", 3, 2, 1), 64
    for stage in range(4):
        outer = 64 << stage
        for block in range(2):
            stride = 2 if stage and not block else 1
            y = net.relu(net.bn(net.conv(x, width, outer, 3, stride), outer))
            y = net.bn(net.conv(y, outer, outer), outer)
            if stride > 1:
                x = net.bn(net.conv(x, width, outer, 1, stride), outer)
            x, width = net.relu(net.node("Add", [y, x])), outer
    return net.classifier(x, width)


def mobilenet_v2(size: int = 224) -> onnx.ModelProto:
    """3.5 M parameters; 17 inverted residuals."""
    net = Builder(size)
    x, width = net.relu6(net.bn(net.conv("input", 3, 32, 3, 2), 32)), 32
    settings = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2))
    settings += ((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expansion, outer, blocks, first in settings:
        for block in range(blocks):
            stride, hidden, y = first if not block else 1, width * expansion, x
            if expansion > 1:
                y = net.relu6(net.bn(net.conv(y, width, hidden, 1), hidden))
            y = net.relu6(net.bn(net.conv(y, hidden, hidden, 3, stride, hidden), hidden))
            y = net.bn(net.conv(y, hidden, outer, 1), outer)
            x = net.node("Add", [x, y]) if stride == 1 and width == outer else y
            width = outer
    return net.classifier(net.relu6(net.bn(net.conv(x, width, 1280, 1), 1280)), 1280)


def vgg16(size: int = 224) -> onnx.ModelProto:
    """14.7 M parameters of convolutions, and one linear layer."""
    net, x, width = Builder(size), "input", 3
    for made, layers in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(layers):
            x, width = net.relu(net.bn(net.conv(x, width, made), made)), made
        x = net.pool(x, "MaxPool", 2, 2)
    return net.classifier(x, width)


def resnet50(size: int = 224) -> onnx.ModelProto:
    """25.6 M parameters; stages of 3, 4, 6 and 3 bottlenecks."""
    net = Builder(size)
    x = net.relu(net.bn(net.conv("input", 3, 64, 7, 2), 64))
    x, width = net.pool(x, "MaxPool", 3, 2, 1), 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        inner, outer = 64 << stage, 256 << stage
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            y = net.relu(net.bn(net.conv(x, width, inner, 1), inner))
            y = net.relu(net.bn(net.conv(y, inner, inner, 3, stride), inner))
            y = net.bn(net.conv(y, inner, outer, 1), outer)
            if not block:
                x = net.bn(net.conv(x, width, outer, 1, stride), outer)
            x, width = net.relu(net.node("Add", [y, x])), outer
    return net.classifier(x, width)


def unet(size: int = 224) -> onnx.ModelProto:
    """7.8 M parameters; 32 channels at first, 512 at the bottom."""
    net, x, width, skips = Builder(size), "input", 3, list[str]()

    def pair(x: str, given: int, made: int) -> str:
        x = net.relu(net.bn(net.conv(x, given, made), made))
        return net.relu(net.bn(net.conv(x, made, made), made))

    for level in range(5):
        x, width = pair(x, width, 32 << level), 32 << level
        if level < 4:
            skips.append(x)
            x = net.pool(x, "MaxPool", 2, 2)
    for skip in reversed(skips):
        matrix = net.weight((width, width // 2, 2, 2), width**-0.5)
        x = net.node("ConvTranspose", [x, matrix], kernel_shape=[2, 2], strides=[2, 2])
        x = pair(net.node("Concat", [x, skip], axis=1), width, width // 2)
        width //= 2
    net.conv(x, width, 1, 1)
    return net.model(["batch", 1, size, size])


def chain(nodes: int) -> onnx.ModelProto:
    """``nodes`` nodes: Conv, BatchNormalization, Relu in turn, then the classifier's three."""
    net = Builder(8)
    x, width = "input", 3
    for _ in range((nodes - 3) // 3):
        x, width = net.relu(net.bn(net.conv(x, width, CHAIN_WIDTH), CHAIN_WIDTH)), CHAIN_WIDTH
    return net.classifier(x, width, 10)


SIZED: dict[str, Callable[[int], onnx.ModelProto]] = {
    "resnet18": resnet18,
    "resnet50": resnet50,
    "mobilenet_v2": mobilenet_v2,
    "vgg16": vgg16,
    "unet": unet,
}
MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "densenet201": densenet201,
    "resnet18": resnet18,
    "resnet50": resnet50,
    "mobilenet_v2": mobilenet_v2,
    "vgg16": vgg16,
    "unet": unet,
    "chain-1000": lambda: chain(1_000),
    "chain-5000": lambda: chain(5_000),
    "chain-10000": lambda: chain(10_000),
}
