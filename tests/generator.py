"""Random networks: branches, residuals, groups, shuffles, pads and shared weights, from a seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto

from models import Net
from prunecvt_passes.choose import Removal
from prunecvt_passes.groups import Groups

WIDTHS = (4, 6, 8, 12)
MOST = 48  # channels of a tensor; wider ones are brought down first


class Generator:
    """Grows a network step by step; every tensor keeps one of three sizes of space."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.net = Net(opset=int(self.rng.choice([11, 13, 17, 18, 21])), seed=seed)
        self.channels: dict[str, int] = {}
        self.sides: dict[str, int] = {}
        self.shared: dict[tuple[int, int], str] = {}
        self.batch: int | str = "N" if self.rng.random() < 0.7 else 2
        self.open = bool(self.rng.random() < 0.1)  # rows and columns are open too

    # What steps are made of.

    def pick(self, *options: int) -> int:
        return int(self.rng.choice(options))

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def made(self, name: str, channels: int, side: int) -> str:
        self.channels[name], self.sides[name] = channels, side
        return name

    def like(self, x: str, name: str, channels: int | None = None) -> str:
        return self.made(name, channels or self.channels[x], self.sides[x])

    def any(self) -> str:
        """A tensor, the later the likelier."""
        names = list(self.channels)
        place = int(len(names) * self.rng.random() ** 0.4)
        return names[min(place, len(names) - 1)]

    def axes(self, op: str, x: str, *axes: int) -> str:
        if self.net.opset >= 13:
            return self.net.add(op, x, np.array(axes))
        return self.net.add(op, x, axes=list(axes))

    def conv(self, x: str, outputs: int = 0, **attrs: object) -> str:
        outputs = outputs or self.pick(*WIDTHS)
        kernel, bias = self.pick(1, 3), self.chance(0.7)
        name = self.net.conv(x, self.channels[x], outputs, kernel, bias=bias, **attrs)
        return self.like(x, name, outputs)

    # Steps: each takes a tensor and gives one.

    def plain(self, x: str) -> str:
        return self.conv(x)

    def normed(self, x: str) -> str:
        y = self.conv(x)
        y = self.like(y, self.net.norm(y, self.channels[y]))
        return self.activation(y)

    def grouped(self, x: str) -> str:
        sizes = [g for g in (2, 3, 4) if self.channels[x] % g == 0]
        if not sizes:
            return self.conv(x)
        group = self.pick(*sizes)
        return self.conv(x, group * self.pick(1, 2, 3), group=group)

    def depthwise(self, x: str) -> str:
        width = self.channels[x]
        return self.conv(x, width * self.pick(1, 1, 2), group=width)

    def strided(self, x: str) -> str:
        if self.sides[x] < 4:
            return self.conv(x)
        pool = str(self.rng.choice(["MaxPool", "AveragePool"]))
        name = self.net.add(pool, x, kernel_shape=[2, 2], strides=[2, 2])
        return self.made(name, self.channels[x], self.sides[x] // 2)

    def transposed(self, x: str) -> str:
        if self.sides[x] > 8 or self.open:
            return self.conv(x)
        group = 2 if self.channels[x] % 2 == 0 and self.chance(0.4) else 1
        outputs = group * self.pick(2, 3, 4)
        weight = self.net.random(self.channels[x], outputs // group, 2, 2, scale=0.3)
        name = self.net.add("ConvTranspose", x, weight, strides=[2, 2], group=group)
        return self.made(name, outputs, 2 * self.sides[x])

    def resized(self, x: str) -> str:
        if self.sides[x] > 8 or self.open:
            return self.conv(x)
        scales, roi = np.array([1, 1, 2, 2], np.float32), np.zeros(0, np.float32)
        name = self.net.add("Resize", x, roi, scales, mode="nearest")
        return self.made(name, self.channels[x], 2 * self.sides[x])

    def activation(self, x: str) -> str:
        op = str(self.rng.choice(["Relu", "Sigmoid", "Tanh", "HardSigmoid", "PRelu", "Softplus"]))
        if op == "PRelu":
            return self.like(x, self.net.add(op, x, self.net.random(self.channels[x], 1, 1)))
        return self.like(x, self.net.add(op, x))

    def scaled(self, x: str) -> str:
        side, op = self.sides[x], str(self.rng.choice(["Add", "Mul", "Sub"]))
        shapes = [(), (1,), (self.channels[x], 1, 1), (1, side), (self.channels[x], side, side)]
        constant = self.net.random(
            *shapes[self.pick(0, 1, 2) if self.open else self.pick(*range(5))]
        )
        pair = (x, constant) if self.chance(0.7) else (constant, x)
        return self.like(x, self.net.add(op, *pair))

    def residual(self, x: str) -> str:
        y = self.activation(self.conv(x))
        y = self.conv(y, self.channels[x])
        if self.chance(0.3):
            y = self.like(y, self.net.norm(y, self.channels[y]))
        return self.like(x, self.net.add(str(self.rng.choice(["Add", "Mul", "Max"])), x, y))

    def padded_shortcut(self, x: str) -> str:
        before, after = self.pick(0, 1, 2), self.pick(0, 2, 3)
        width = self.channels[x] + before + after
        pads = np.array([0, before, 0, 0, 0, after, 0, 0])
        y = self.net.add("Pad", x, pads)
        return self.like(x, self.net.add("Add", y, self.conv(x, width)), width)

    def joined(self, x: str) -> str:
        others = [y for y in self.channels if self.sides[y] == self.sides[x]]
        parts = [x, *others[-3:]]
        parts = [str(p) for p in self.rng.permutation(parts)][: self.pick(2, 3)]
        width = sum(self.channels[p] for p in parts)
        return self.like(x, self.net.add("Concat", *parts, axis=self.pick(1, -3)), width)

    def split(self, x: str) -> str:
        width = self.channels[x]
        size = self.pick(*range(1, width)) if width > 1 else 0
        if not size:
            return self.conv(x)
        sizes = [size, width - size]
        if self.net.opset >= 13:
            parts = self.net.many("Split", x, np.array(sizes), outputs=2, axis=1)
        else:
            parts = self.net.many("Split", x, outputs=2, axis=1, split=sizes)
        for part, channels in zip(parts, sizes, strict=True):
            self.like(x, part, channels)
        if self.chance(0.4):
            return self.like(x, self.net.add("Concat", parts[1], self.activation(parts[0]), axis=1))
        return parts[self.pick(0, 1)]

    def sliced(self, x: str) -> str:
        width = self.channels[x]
        start = self.pick(*range(width))
        end = self.pick(*range(start + 1, width + 1))
        bounds = (start - width if self.chance(0.3) else start, end)
        y = self.net.add("Slice", x, *(np.array([k]) for k in bounds), np.array([1]))
        return self.like(x, y, end - start)

    def gathered(self, x: str) -> str:
        width = self.channels[x]
        indices = self.rng.permutation(width)[: self.pick(*range(1, width + 1))]
        return self.like(x, self.net.add("Gather", x, indices, axis=1), int(indices.size))

    def shuffled(self, x: str) -> str:
        width, side = self.channels[x], self.sides[x]
        groups = next((g for g in (3, 2) if width % g == 0), 1)
        if self.open or self.chance(0.2):
            y = self.net.add("Reshape", x, np.array([0, groups, width // groups, -1]))
            y = self.net.add("Transpose", y, perm=[0, 2, 1, 3])
            return self.like(x, self.net.add("Reshape", y, self.net.add("Shape", x)))
        y = self.net.add("Reshape", x, np.array([-1, groups, width // groups, side, side]))
        y = self.net.add("Transpose", y, perm=[0, 2, 1, 3, 4])
        return self.like(x, self.net.add("Reshape", y, np.array([0, width, side, -1])))

    def excited(self, x: str) -> str:
        y = self.made(self.net.add("GlobalAveragePool", x), self.channels[x], 1)
        y = self.activation(self.conv(y))
        y = self.net.add("Sigmoid", self.conv(y, self.channels[x]))
        del self.channels[next(reversed(self.channels))]
        return self.like(x, self.net.add("Mul", x, y))

    def shared_filter(self, x: str) -> str:
        key = (self.channels[x], self.pick(4, 8))
        if key not in self.shared:
            self.shared[key] = self.net.random(key[1], key[0], 3, 3, scale=0.2)
        return self.like(x, self.net.add("Conv", x, self.shared[key], pads=[1] * 4), key[1])

    def depth_to_space(self, x: str) -> str:
        if self.channels[x] % 4 or self.sides[x] > 8 or self.open:
            return self.conv(x)
        mode = str(self.rng.choice(["DCR", "CRD"]))
        y = self.net.add("DepthToSpace", x, blocksize=2, mode=mode)
        return self.made(y, self.channels[x] // 4, 2 * self.sides[x])

    def space_to_depth(self, x: str) -> str:
        if self.sides[x] % 2:
            return self.conv(x)
        y = self.net.add("SpaceToDepth", x, blocksize=2)
        return self.made(y, self.channels[x] * 4, self.sides[x] // 2)

    def channels_last(self, x: str) -> str:
        y = self.net.add("Transpose", x, perm=[0, 2, 3, 1])
        y = self.net.add("MatMul", y, self.net.random(self.channels[x], 6, scale=0.4))
        y = self.net.add("Add", y, self.net.random(6))
        return self.like(x, self.net.add("Transpose", y, perm=[0, 3, 1, 2]), 6)

    def attention(self, x: str) -> str:
        """Channels attend to channels, or positions to positions, over flattened space."""
        width, side = self.channels[x], self.sides[x]
        if self.open:
            return self.conv(x)
        query = self.net.add("Reshape", x, np.array([0, width, -1]))
        other = self.conv(x, width)
        key = self.net.add("Reshape", other, np.array([-1, width, side * side]))
        turned = self.net.add("Transpose", query, perm=[0, 2, 1])
        weights = self.net.add("Softmax", self.net.add("MatMul", turned, key), axis=2)
        y = self.net.add("MatMul", query, weights)
        return self.like(x, self.net.add("Reshape", y, np.array([-1, width, side, side])))

    def computed_shape(self, x: str) -> str:
        """Flattens and restores space by sizes that the model reads from its tensors."""
        shape = self.net.add("Shape", x)
        batch = self.net.add("Gather", shape, np.array([0]))
        width = np.array([self.channels[x]]) if self.chance(0.5) else None
        channels = width if width is not None else self.net.add("Gather", shape, np.array([1]))
        target = self.net.add("Concat", batch, channels, np.array([-1]), axis=0)
        y = self.net.add("Relu", self.net.add("Reshape", x, target))
        return self.like(x, self.net.add("Reshape", y, shape))

    def tiled(self, x: str) -> str:
        y = self.net.add("Tile", x, np.array([1, 2, 1, 1]))
        return self.like(x, y, 2 * self.channels[x])

    def reduced(self, x: str) -> str:
        """A gate that sums over the channels, or one per channel."""
        axes = [1] if self.chance(0.5) else [2, 3]
        if self.net.opset >= 13:
            gate = self.net.add("ReduceSum", x, np.array(axes))
        else:
            gate = self.net.add("ReduceSum", x, axes=axes)
        return self.like(x, self.net.add("Mul", x, self.net.add("Tanh", gate)))

    def across_channels(self, x: str) -> str:
        """What depends on all channels at once, so that they stay."""
        if self.chance(0.5):
            return self.like(x, self.net.add("Softmax", x, axis=1))
        return self.like(x, self.net.add("LRN", x, size=3))

    def quantised(self, x: str) -> str:
        # no round number, or values such as a half would lie on a rounding edge
        scale, zero = self.net.constant(np.float32(0.0973)), self.net.constant(np.uint8(100))
        y = self.net.add("QuantizeLinear", x, scale, zero)
        return self.like(x, self.net.add("DequantizeLinear", y, scale, zero))

    def compared(self, x: str) -> str:
        """Keeps what is larger than a threshold of its channel."""
        over = self.net.add("Greater", x, self.net.random(self.channels[x], 1, 1))
        y = self.net.add("Where", over, x, self.net.constant(np.float32(0.1)))
        mask = self.net.add("Cast", over, to=TensorProto.FLOAT)
        return self.like(x, self.net.add("Add", y, mask))

    def stacked(self, x: str) -> str:
        """Two branches on a new axis, mixed by their sum."""
        parts = [self.axes("Unsqueeze", self.activation(x), 1) for _ in range(2)]
        y = self.net.add("Concat", *parts, axis=1)
        if self.net.opset >= 13:
            return self.like(x, self.net.add("ReduceSum", y, np.array([1]), keepdims=0))
        return self.like(x, self.net.add("ReduceSum", y, axes=[1], keepdims=0))

    def head(self, x: str) -> None:
        """One of three ways to end."""
        kind, width, side = self.pick(0, 1, 2), self.channels[x], self.sides[x]
        kind = 2 if kind == 1 and self.open else kind
        if kind == 0:
            self.net.output(self.net.conv(x, width, 3), shape=[None] * 4)
        elif kind == 1:
            x = self.net.add("Flatten", x)
            features = width * side * side
            middle = self.net.add(
                "Gemm", x, self.net.random(features, 6, scale=0.1), self.net.random(6)
            )
            weight = self.net.random(3, 6)
            y = self.net.add("Gemm", self.net.add("Relu", middle), weight, transB=1)
            self.net.output(y, shape=[None] * 2)
        else:
            x = self.axes("Squeeze", self.net.add("GlobalAveragePool", x), 2, 3)
            y = self.net.add("MatMul", x, self.net.random(width, 3))
            self.net.output(y, shape=[None] * 2)


STEPS: tuple[Callable[[Generator, str], str], ...] = (
    Generator.plain,
    Generator.normed,
    Generator.normed,
    Generator.grouped,
    Generator.depthwise,
    Generator.strided,
    Generator.transposed,
    Generator.resized,
    Generator.activation,
    Generator.scaled,
    Generator.residual,
    Generator.residual,
    Generator.padded_shortcut,
    Generator.joined,
    Generator.joined,
    Generator.split,
    Generator.sliced,
    Generator.gathered,
    Generator.shuffled,
    Generator.excited,
    Generator.shared_filter,
    Generator.depth_to_space,
    Generator.space_to_depth,
    Generator.channels_last,
    Generator.attention,
    Generator.computed_shape,
    Generator.tiled,
    Generator.reduced,
    Generator.across_channels,
    Generator.quantised,
    Generator.compared,
    Generator.stacked,
)


def generate(seed: int) -> onnx.ModelProto:
    """The network of a seed."""
    g = Generator(seed)
    space = ("H", "W") if g.open else (8, 8)
    g.made(g.net.input(g.batch, 3, *space), 3, 8)
    x = g.conv("x")
    for _ in range(4 if g.open else g.pick(3, 5, 8, 12)):
        x = STEPS[g.pick(*range(len(STEPS)))](g, x if g.chance(0.7) else g.any())
        if g.channels[x] > MOST:
            x = g.conv(x)
        side = g.sides[x]
        norm = g.net.add("Tanh", x) if g.chance(0.3) else x
        x = g.made(norm, g.channels[x], side)
    g.head(x)
    if g.chance(0.3):
        g.head(g.any())
    return g.net.proto()


def random_classes(groups: Groups, seed: int) -> Removal:
    """Any subset of each group's classes that leaves every labelled axis a channel."""
    rng = np.random.default_rng(seed)
    removed = np.zeros(groups.total, bool)
    for group in groups.groups:
        share = rng.random()
        removed[group.classes] = rng.random(group.size) < share
    for axes in groups.channels.axes.values():
        for labels in axes:
            if labels is not None and removed[groups.class_of[labels]].all():
                removed[groups.class_of[labels[0]]] = False
    return Removal(removed, {})
