"""The three small networks behind the sample models, in plain torch.

Each shows another way in which channels hang together: residual sums tie widths, depthwise
convolutions and squeeze-excite follow the width they are given, and skip connections join two
widths by concatenation.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn


def convolution(
    inputs: int,
    outputs: int,
    kernel: int = 3,
    stride: int = 1,
    groups: int = 1,
    activation: nn.Module | None = None,
) -> nn.Sequential:
    """Returns convolution without bias, BatchNorm and, where given, an activation."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *([activation] if activation is not None else []))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut: identity, or 1x1 where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        """Takes the channels of input and output, and the stride of the first convolution."""
        super().__init__()
        self.first = convolution(inputs, outputs, stride=stride, activation=nn.ReLU())
        self.second = convolution(outputs, outputs)
        changes = stride != 1 or inputs != outputs
        self.shortcut = convolution(inputs, outputs, 1, stride) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Adds the two branches and rectifies the sum."""
        return torch.relu(self.second(self.first(x)) + self.shortcut(x))


class ResNet(nn.Module):
    """A residual classifier: a strided stem, three stages of two blocks, pooling, one linear."""

    def __init__(self, widths: tuple[int, int, int] = (48, 96, 144), classes: int = 10) -> None:
        """Takes the width of each stage and the number of classes."""
        super().__init__()
        self.stem = convolution(1, widths[0], stride=2, activation=nn.ReLU())
        stages: list[nn.Module] = []
        inputs = widths[0]
        for index, outputs in enumerate(widths):
            stages.append(ResidualBlock(inputs, outputs, stride=1 if index == 0 else 2))
            stages.append(ResidualBlock(outputs, outputs, stride=1))
            inputs = outputs
        self.stages = nn.Sequential(*stages)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits of a batch of images."""
        return self.head(self.stages(self.stem(x)))


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate computed from the means of all channels."""

    def __init__(self, channels: int, squeezed: int) -> None:
        """Takes the channels that are gated and the width in between."""
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(),
            nn.Conv2d(squeezed, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Multiplies the input by its gate."""
        return x * self.gate(x)


class InvertedResidual(nn.Module):
    """Expand (1x1), depthwise, optional squeeze-excite, project (1x1); identity where it fits."""

    def __init__(
        self, inputs: int, expanded: int, outputs: int, kernel: int, stride: int, excite: bool
    ) -> None:
        """Takes the three widths; `excite` adds the gate and replaces ReLU by HardSwish."""
        super().__init__()
        activation = nn.Hardswish if excite else nn.ReLU
        self.adds = stride == 1 and inputs == outputs
        self.branch = nn.Sequential(
            convolution(inputs, expanded, 1, activation=activation()),
            convolution(expanded, expanded, kernel, stride, expanded, activation()),
            *([SqueezeExcite(expanded, expanded // 4)] if excite else []),
            convolution(expanded, outputs, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Runs the branch and adds the input where the shapes agree."""
        return x + self.branch(x) if self.adds else self.branch(x)


class MobileNet(nn.Module):
    """A classifier in the manner of MobileNet-V3 for 32x32 images."""

    def __init__(self, classes: int = 10) -> None:
        """Takes the number of classes."""
        super().__init__()
        self.features = nn.Sequential(
            convolution(1, 32, activation=nn.Hardswish()),
            InvertedResidual(32, 96, 32, kernel=3, stride=1, excite=False),
            InvertedResidual(32, 128, 48, kernel=3, stride=2, excite=False),
            InvertedResidual(48, 192, 48, kernel=3, stride=1, excite=False),
            InvertedResidual(48, 192, 80, kernel=5, stride=2, excite=True),
            InvertedResidual(80, 320, 80, kernel=5, stride=1, excite=True),
            InvertedResidual(80, 320, 80, kernel=5, stride=1, excite=True),
            convolution(80, 480, 1, activation=nn.Hardswish()),
        )
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(480, 320),
            nn.Hardswish(),
            nn.Linear(320, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits of a batch of images."""
        return self.head(self.features(x))


def double_convolution(inputs: int, outputs: int) -> nn.Sequential:
    """Returns two 3x3 convolutions, each with BatchNorm and ReLU."""
    return nn.Sequential(
        convolution(inputs, outputs, activation=nn.ReLU()),
        convolution(outputs, outputs, activation=nn.ReLU()),
    )


class UNet(nn.Module):
    """A denoiser: pool down, transposed convolutions up, skips joined by concatenation."""

    def __init__(self, widths: tuple[int, ...] = (24, 48, 96, 144)) -> None:
        """Takes the width at each resolution, from the largest image to the smallest."""
        super().__init__()
        pairs = list(pairwise(widths))
        self.first = double_convolution(1, widths[0])
        self.down = nn.ModuleList(
            nn.Sequential(nn.MaxPool2d(2), double_convolution(upper, lower))
            for upper, lower in pairs
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(lower, upper, 2, stride=2) for upper, lower in reversed(pairs)
        )
        self.join = nn.ModuleList(
            double_convolution(2 * upper, upper) for upper, _ in reversed(pairs)
        )
        self.last = nn.Conv2d(widths[0], 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the denoised images, as large as the input."""
        x = self.first(x)
        skips: list[Tensor] = []
        for down in self.down:
            skips.append(x)
            x = down(x)
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat([skips.pop(), up(x)], dim=1))
        return self.last(x)
