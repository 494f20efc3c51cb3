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


class BasicBlock(nn.Module):
    def __init__(self, width: int, outer: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv_bn(width, outer, 3, stride), nn.ReLU(), conv_bn(outer, outer)
        )
        self.shortcut = nn.Identity() if stride == 1 else conv_bn(width, outer, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def resnet18() -> nn.Module:
    parts: list[nn.Module] = [conv_bn(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    width = 64
    for stage in range(4):
        for block in range(2):
            parts.append(BasicBlock(width, 64 << stage, 2 if stage and not block else 1))
            width = 64 << stage
    return nn.Sequential(*parts, head(width))


class InvertedResidual(nn.Module):
    def __init__(self, width: int, outer: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = width * expansion
        depthwise = nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False)
        wide = [conv_bn(width, hidden, 1), nn.ReLU6()] if expansion > 1 else []
        deep = [depthwise, nn.BatchNorm2d(hidden), nn.ReLU6(), conv_bn(hidden, outer, 1)]
        self.body = nn.Sequential(*wide, *deep)
        self.adds = stride == 1 and width == outer

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.body(x)
        return x + made if self.adds else made


def mobilenet_v2() -> nn.Module:
    parts: list[nn.Module] = [conv_bn(3, 32, 3, 2), nn.ReLU6()]
    width = 32
    settings = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2))
    settings += ((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expansion, outer, blocks, first in settings:
        for block in range(blocks):
            parts.append(InvertedResidual(width, outer, expansion, first if not block else 1))
            width = outer
    return nn.Sequential(*parts, conv_bn(width, 1280, 1), nn.ReLU6(), head(1280))


def vgg16() -> nn.Module:
    parts, width = list[nn.Module](), 3
    for made, layers in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(layers):
            parts += [conv_bn(width, made), nn.ReLU()]
            width = made
        parts.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*parts, head(width))


def pair(given: int, made: int) -> nn.Sequential:
    return nn.Sequential(conv_bn(given, made), nn.ReLU(), conv_bn(made, made), nn.ReLU())


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        widths = [32 << level for level in range(5)]
        self.down = nn.ModuleList(pair(a, b) for a, b in itertools.pairwise([3, *widths]))
        ups = [(wide, wide // 2) for wide in reversed(widths[1:])]
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, 2, bias=False) for a, b in ups)
        self.join = nn.ModuleList(pair(a, b) for a, b in ups)
        self.last = nn.Conv2d(32, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        skips = list[Tensor]()
        for level, block in enumerate(self.down):
            x = block(nn.functional.max_pool2d(x, 2, 2) if level else x)
            skips.append(x)
        skips.pop()
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat([up(x), skips.pop()], 1))
        made: Tensor = self.last(x)
        return made


def chain(nodes: int) -> nn.Module:
    widths = [3] + [CHAIN_WIDTH] * ((nodes - 3) // 3)
    parts: list[nn.Module] = []
    for given, made in itertools.pairwise(widths):
        parts += [conv_bn(given, made), nn.ReLU()]
    return nn.Sequential(*parts, head(CHAIN_WIDTH, 10))


MODULES: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "densenet201": (densenet201, 224),
    "resnet18": (resnet18, 224),
    "resnet50": (resnet50, 224),
    "mobilenet_v2": (mobilenet_v2, 224),
    "vgg16": (vgg16, 224),
    "unet": (UNet, 224),
    "chain-1000": (lambda: chain(1_000), 8),
    "chain-5000": (lambda: chain(5_000), 8),
    "chain-10000": (lambda: chain(10_000), 8),
}
