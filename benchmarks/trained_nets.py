"""The trained classifiers as torch modules with the weights of their ONNX files.

For tools that prune torch modules. The parameters have the names of the ONNX initializers.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

INVERTED = (  # expansion, width, blocks, stride
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class Shortcut(nn.Module):
    """Every other pixel, with zero channels before and after: Slice and Pad.

    Which input each output channel shows is a matrix of zeros and ones, so that channels can go on
    either side; it costs no products.
    """

    selection: Tensor

    def __init__(self, given: int, made: int) -> None:
        super().__init__()
        first = (made - given) // 2
        chosen = functional.pad(torch.eye(given), (0, 0, first, made - given - first))
        self.register_buffer("selection", chosen[:, :, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.selection, stride=2)


class Block(nn.Module):
    """Two convolutions beside a shortcut without weights."""

    def __init__(self, given: int, made: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(given, made, 3, made // given, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(made)
        self.conv2 = nn.Conv2d(made, made, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(made)
        self.shortcut = nn.Identity() if made == given else Shortcut(given, made)

    def forward(self, x: Tensor) -> Tensor:
        inner = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(inner)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """ResNet-20, -56 and so on, 32 x 32 pixels, ten classes."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        given = 16
        for stage, made in enumerate((16, 32, 64), 1):
            parts = [Block(given if k == 0 else made, made) for k in range(blocks)]
            self.add_module(f"layer{stage}", nn.Sequential(*parts))
            given = made
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        for stage in ("layer1", "layer2", "layer3"):
            x = self.get_submodule(stage)(x)
        return self.linear(x.mean((2, 3)))


def conv_bn(given: int, made: int, kernel: int, stride: int = 1, group: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(given, made, kernel, stride, kernel // 2, groups=group, bias=False)
    return [conv, nn.BatchNorm2d(made)]


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, projection."""

    def __init__(self, given: int, made: int, factor: int, stride: int) -> None:
        super().__init__()
        wide = given * factor
        parts = [] if factor == 1 else [nn.Sequential(*conv_bn(given, wide, 1), nn.ReLU6())]
        parts.append(nn.Sequential(*conv_bn(wide, wide, 3, stride, wide), nn.ReLU6()))
        self.conv = nn.Sequential(*parts, *conv_bn(wide, made, 1))
        self.residual = stride == 1 and given == made

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    """MobileNetV2 of width 1, a thousand classes."""

    def __init__(self) -> None:
        super().__init__()
        parts: list[nn.Module] = [nn.Sequential(*conv_bn(3, 32, 3, 2), nn.ReLU6())]
        given = 32
        for factor, made, blocks, stride in INVERTED:
            for block in range(blocks):
                parts.append(InvertedResidual(given, made, factor, 1 if block else stride))
                given = made
        parts.append(nn.Sequential(*conv_bn(given, 1280, 1), nn.ReLU6()))
        self.features = nn.Sequential(*parts)
        self.classifier = nn.Sequential(OrderedDict({"1": nn.Linear(1280, 1000)}))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


def load(path: Path) -> nn.Module:
    """The module of an ONNX file that keeps its BatchNormalization and its names."""
    tensors = onnx.load(path).graph.initializer
    state = {t.name: torch.from_numpy(np.array(numpy_helper.to_array(t))) for t in tensors}
    blocks = sum(n.startswith("layer1.") and n.endswith("conv1.weight") for n in state)
    module = CifarResNet(blocks) if blocks else MobileNetV2()
    wanted = {name for name in module.state_dict() if not name.endswith("num_batches_tracked")}
    if not wanted <= set(state):
        raise ValueError(f"{path.name} lacks {', '.join(sorted(wanted - set(state))[:3])} ...")
    module.load_state_dict({name: state[name] for name in wanted}, strict=False)
    return module.eval()


def outer_layers(module: nn.Module) -> list[nn.Module]:
    """The layers that make the residual stream; what else makes channels is inside one block."""
    if isinstance(module, CifarResNet):
        blocks = [m for m in module.modules() if isinstance(m, Block)]
        return [module.conv1, *(block.conv2 for block in blocks)]
    inverted = [m for m in module.modules() if isinstance(m, InvertedResidual)]
    return [block.conv[-2] for block in inverted]
