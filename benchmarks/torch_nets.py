"""The nets of ``nets`` as torch modules, for tools that prune torch modules."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from nets import CHAIN_WIDTH


def conv_bn(given: int, made: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(given, made, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(made))


def bn_relu_conv(given: int, made: int, kernel: int) -> nn.Sequential:
    conv = nn.Conv2d(given, made, kernel, 1, kernel // 2, bias=False)
    return nn.Sequential(nn.BatchNorm2d(given), nn.ReLU(), conv)


def head(width: int, classes: int = 1000) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


class DenseBlock(nn.Module):
    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(bn_relu_conv(width + 32 * k, 128, 1), bn_relu_conv(128, 32, 3))
            for k in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        parts = [x]
        for layer in self.layers:
            parts.append(layer(torch.cat(parts, 1)))
        return torch.cat(parts, 1)


class Bottleneck(nn.Module):
    def __init__(self, width: int, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv_bn(width, inner, 1),
            nn.ReLU(),
            conv_bn(inner, inner, 3, stride),
            nn.ReLU(),
            conv_bn(inner, outer, 1),
        )
        self.shortcut = nn.Identity() if width == outer else conv_bn(width, outer, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def densenet201() -> nn.Module:
    parts: list[nn.Module] = [conv_bn(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    width = 64
    for block, layers in enumerate((6, 12, 48, 32)):
        parts.append(DenseBlock(width, layers))
        width += 32 * layers
        if block < 3:
            parts += [bn_relu_conv(width, width // 2, 1), nn.AvgPool2d(2, 2)]
            width //= 2
    return nn.Sequential(*parts, nn.BatchNorm2d(width), nn.ReLU(), head(width))


def resnet50() -> nn.Module:
    parts: list[nn.Module] = [conv_bn(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    width = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            parts.append(Bottleneck(width, 64 << stage, 256 << stage, stride))
            width = 256 << stage
    return nn.Sequential(*parts, head(width))


def chain(nodes: int) -> nn.Module:
    widths = [3] + [CHAIN_WIDTH] * ((nodes - 3) // 3)
    parts: list[nn.Module] = []
    for given, made in itertools.pairwise(widths):
        parts += [conv_bn(given, made), nn.ReLU()]
    return nn.Sequential(*parts, head(CHAIN_WIDTH, 10))


MODULES: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "densenet201": (densenet201, 224),
    "resnet50": (resnet50, 224),
    "chain-1000": (lambda: chain(1_000), 8),
    "chain-5000": (lambda: chain(5_000), 8),
    "chain-10000": (lambda: chain(10_000), 8),
}
