"""Random networks over tokens: linear layers, heads, gates and residuals, from a seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from models import Net

TOKENS = 5
WIDTHS = (4, 6, 8, 12)


class Tokens:
    """Grows a network of tensors [batch, tokens, features]."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.net = Net(opset=int(self.rng.choice([11, 13, 17, 21])), seed=seed)
        self.features: dict[str, int] = {}
        self.length: int | str = "T" if self.rng.random() < 0.4 else TOKENS

    def pick(self, *options: int) -> int:
        return int(self.rng.choice(options))

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def made(self, name: str, features: int) -> str:
        self.features[name] = features
        return name

    def any(self) -> str:
        return str(self.rng.choice(list(self.features)))

    def linear(self, x: str, outputs: int = 0) -> str:
        """A dense layer in one of the ways that exporters write it."""
        outputs, inputs = outputs or self.pick(*WIDTHS), self.features[x]
        scale = inputs**-0.5
        if self.chance(0.3):  # as a Gemm between two reshapes
            flat = self.net.add("Reshape", x, np.array([-1, inputs]))
            weight = self.net.random(outputs, inputs, scale=scale)
            y = self.net.add("Gemm", flat, weight, self.net.random(outputs), transB=1)
            if self.length == "T":
                shape = self.net.add(
                    "Slice", self.net.add("Shape", x), np.array([0]), np.array([2])
                )
                target = self.net.add("Concat", shape, np.array([outputs]), axis=0)
            else:
                target = np.array([-1, TOKENS, outputs])
            return self.made(self.net.add("Reshape", y, target), outputs)
        weight = self.net.random(inputs, outputs, scale=scale)
        if self.chance(0.3):
            weight = self.net.add("Transpose", self.net.random(outputs, inputs, scale=scale))
        y = self.net.add("MatMul", x, weight)
        if self.chance(0.7):
            pair = (y, self.net.random(outputs))
            y = self.net.add("Add", *(pair if self.chance(0.5) else pair[::-1]))
        return self.made(y, outputs)

    def activation(self, x: str) -> str:
        op = str(self.rng.choice(["Relu", "Sigmoid", "Tanh", "Erf", "Softplus"]))
        return self.made(self.net.add(op, x), self.features[x])

    def residual(self, x: str) -> str:
        y = self.linear(self.activation(self.linear(x)), self.features[x])
        return self.made(self.net.add("Add", x, y), self.features[x])

    def gated(self, x: str) -> str:
        half = self.pick(3, 4, 6)
        y = self.linear(x, 2 * half)
        if self.net.opset >= 13:
            a, b = self.net.many("Split", y, np.array([half, half]), outputs=2, axis=-1)
        else:
            a, b = self.net.many("Split", y, outputs=2, axis=2)
        return self.made(self.net.add("Mul", a, self.net.add("Sigmoid", b)), half)

    def joined(self, x: str) -> str:
        y = self.any()
        width = self.features[x] + self.features[y]
        joined = self.made(self.net.add("Concat", x, y, axis=-1), width)
        return self.linear(joined) if width > 24 else joined

    def heads(self, x: str, name: str, count: int) -> str:
        each = self.features[name] // count
        y = self.net.add("Reshape", name, np.array([0, 0, count, each]))
        return self.net.add("Transpose", y, perm=[0, 2, 1, 3])

    def attention(self, x: str) -> str:
        count = self.pick(1, 2, 3)
        width, inner = count * self.pick(2, 4), count * self.pick(2, 3)
        query, key = (self.heads(x, self.linear(x, width), count) for _ in range(2))
        value = self.heads(x, self.linear(x, inner), count)
        scores = self.net.add("MatMul", query, self.net.add("Transpose", key, perm=[0, 1, 3, 2]))
        weights = self.net.add("Softmax", self.net.add("Mul", scores, np.float32(0.5)), axis=3)
        y = self.net.add("Transpose", self.net.add("MatMul", weights, value), perm=[0, 2, 1, 3])
        y = self.made(self.net.add("Reshape", y, np.array([0, 0, inner])), inner)
        return self.linear(y, self.features[x])

    def fused_attention(self, x: str) -> str:
        """One layer makes queries, keys and values; they are told apart on an axis of three."""
        count, each = self.pick(1, 2), self.pick(2, 4)
        y = self.linear(x, 3 * count * each)
        y = self.net.add("Reshape", y, np.array([0, 0, 3, count, each]))
        y = self.net.add("Transpose", y, perm=[2, 0, 3, 1, 4])
        query, key, value = (self.net.add("Gather", y, np.array(k), axis=0) for k in range(3))
        scores = self.net.add("MatMul", query, self.net.add("Transpose", key, perm=[0, 1, 3, 2]))
        y = self.net.add("MatMul", self.net.add("Softmax", scores, axis=3), value)
        y = self.net.add("Transpose", y, perm=[0, 2, 1, 3])
        y = self.net.add("Reshape", y, np.array([0, 0, count * each]))
        return self.made(y, count * each)

    def positions(self, x: str) -> str:
        shape = (1, self.features[x]) if self.length == "T" else (TOKENS, self.features[x])
        return self.made(self.net.add("Add", x, self.net.random(*shape)), self.features[x])

    def normalised(self, x: str) -> str:
        """A layer normalisation written out, which keeps its width whole."""
        mean = self.net.add("GlobalAveragePool", self.net.add("Transpose", x, perm=[0, 2, 1]))
        y = self.net.add("Sub", x, self.net.add("Transpose", mean, perm=[0, 2, 1]))
        return self.made(
            self.net.add("Mul", y, self.net.random(self.features[x])), self.features[x]
        )

    def across_tokens(self, x: str) -> str:
        """A convolution along the tokens."""
        y = self.net.add("Transpose", x, perm=[0, 2, 1])
        outputs, group = self.features[x], self.features[x] if self.chance(0.5) else 1
        y = self.net.conv(y, self.features[x], outputs, 3, rank=1, group=group)
        return self.made(self.net.add("Transpose", y, perm=[0, 2, 1]), outputs)

    def mixed_tokens(self, x: str) -> str:
        if self.length == "T":
            return self.linear(x)
        y = self.net.add("MatMul", self.net.random(7, TOKENS), x)
        y = self.net.add("MatMul", self.net.random(TOKENS, 7), self.net.add("Relu", y))
        return self.made(y, self.features[x])

    def bilinear(self, x: str) -> str:
        """Features attend to features."""
        other = self.linear(x)
        y = self.net.add("MatMul", self.net.add("Transpose", x, perm=[0, 2, 1]), other)
        y = self.net.add("MatMul", x, self.net.add("Tanh", y))
        return self.made(y, self.features[other])


STEPS: tuple[Callable[[Tokens, str], str], ...] = (
    Tokens.linear,
    Tokens.linear,
    Tokens.activation,
    Tokens.residual,
    Tokens.gated,
    Tokens.joined,
    Tokens.attention,
    Tokens.fused_attention,
    Tokens.positions,
    Tokens.normalised,
    Tokens.across_tokens,
    Tokens.mixed_tokens,
    Tokens.bilinear,
)


def generate_tokens(seed: int) -> onnx.ModelProto:
    """The network of a seed."""
    g = Tokens(seed)
    x = g.linear(g.made(g.net.input("N", g.length, 3), 3))
    for _ in range(g.pick(2, 4, 6, 9)):
        x = STEPS[g.pick(*range(len(STEPS)))](g, x if g.chance(0.7) else g.any())
        if g.chance(0.4):
            x = g.activation(x)
    x = g.net.add("Tanh", x) if g.chance(0.5) else x
    g.features[x] = g.features.get(x) or next(reversed(g.features.values()))
    if g.chance(0.5):
        mean = g.net.add("GlobalMaxPool", g.net.add("Transpose", x, perm=[0, 2, 1]))
        flat = g.net.add("Flatten", mean)
        y = g.net.add("Gemm", flat, g.net.random(g.features[x], 3), g.net.random(3))
        g.net.output(y, shape=[None] * 2)
    else:
        y = g.net.add("MatMul", x, g.net.random(g.features[x], 3))
        g.net.output(y, shape=[None] * 3)
    return g.net.proto()
