"""Steps that work on each element, on each channel, or across channels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from onnx import TensorProto

from networks.choices import Choices
from networks.growing import Network, Tensor

_SINCE = {  # activation -> opset that brought it
    "Relu": 6, "Sigmoid": 6, "Tanh": 6, "HardSigmoid": 6, "PRelu": 9, "Softplus": 1, "LeakyRelu": 6,
    "Elu": 6, "Selu": 6, "Softsign": 1, "Clip": 6, "Neg": 6, "Abs": 6, "Cos": 7, "Erf": 9,
    "ThresholdedRelu": 10, "Celu": 12, "HardSwish": 14, "Mish": 18, "Gelu": 20,
    "Dropout": 7, "Identity": 1, "Shrink": 9, "Exp": 6,
}  # fmt: skip


def activation(g: Network, c: Choices, x: Tensor) -> Tensor:
    op = c.pick(*(name for name, since in _SINCE.items() if since <= g.opset))
    if op == "PRelu":
        slope = g.weight(1) if c.chance(25) else g.vector(x, x.channels)
        return replace(x, name=g.op(op, x.name, slope))
    if op == "Clip":
        return replace(x, name=g.clip(x.name, -0.5, 0.75))
    if op == "Exp":
        return replace(x, name=g.op(op, g.op("Tanh", x.name)))
    return replace(x, name=g.op(op, x.name))


def scaled(g: Network, c: Choices, x: Tensor) -> Tensor:
    """A constant of any shape that broadcasts to the tensor."""
    op = c.pick("Add", "Mul", "Sub", "Div", "Max" if g.opset >= 8 else "Add")
    shapes: list[tuple[int, ...]] = [(), (1,)]
    full = [x.channels, *[1] * len(x.space)]
    if x.last:
        full = full[::-1]
    shapes += [tuple(full[1:] if x.last else full), (1, *full)]
    if x.last:
        shapes += [(x.channels,)]
    if x.fixed:
        shapes += [tuple(x.sizes()), (1, *x.sizes())]
        if x.space and not x.last:
            shapes += [(x.space[-1][0],)]
    shape = c.pick(*shapes)
    values = g.net.constant((np.abs(g.net.rng.standard_normal(shape)) + 0.3).astype(np.float32))
    if op != "Div":
        values = g.weight(*shape)
    pair = (x.name, values) if op == "Div" or c.chance(70) else (values, x.name)
    return replace(x, name=g.op(op, *pair))


def met(g: Network, c: Choices, x: Tensor) -> Tensor:
    """Two tensors of the same size, element by element."""
    others = g.partners(x, same_width=True)
    if not others:
        return activation(g, c, x)
    op = c.pick("Add", "Mul", "Max", "Sub", "Min", "Sum", "Mean")
    y = replace(x, name=g.op(op, x.name, c.pick(*others).name))
    return g.tanh(y) if op == "Mul" else y


def normalised(g: Network, c: Choices, x: Tensor) -> Tensor:
    """BatchNormalization on its own, InstanceNormalization, or a normalisation over channels."""
    kinds = ["batch", "batch", "batch", "instance", "instance", "lrn", "lp", "written"]
    kinds += ["layer"] if g.opset >= 17 else []
    kinds += ["rms"] if g.opset >= 23 else []
    kinds += ["group"] if g.opset >= 21 and x.channels % 2 == 0 else []
    kind = c.pick(*kinds)
    if kind in ("layer", "rms", "written"):
        return _over_channels(g, kind, x)
    y = g.first(x)
    if kind == "batch":
        name = g.net.norm(y.name, y.channels)
    elif kind == "instance":
        scale = g.positive(y.channels)
        name = g.op("InstanceNormalization", y.name, scale, g.weight(y.channels), epsilon=0.1)
    elif kind == "group":
        scale = g.positive(y.channels if g.opset >= 21 else 2)
        name = g.op("GroupNormalization", y.name, scale, g.weight(y.channels), num_groups=2)
    elif kind == "lp" or len(y.space) != 2:
        name = g.op("LpNormalization", y.name, axis=1)
    else:
        name = g.op("LRN", y.name, size=3)
    return g.as_was(replace(y, name=name), x)


def _over_channels(g: Network, kind: str, x: Tensor) -> Tensor:
    y = g.last(x)
    if kind == "layer":
        operands = [g.positive(y.channels), g.weight(y.channels)]
        name = g.op("LayerNormalization", y.name, *operands, axis=-1, epsilon=0.1)
    elif kind == "rms":
        name = g.op("RMSNormalization", y.name, g.positive(y.channels), epsilon=0.1)
    else:
        mean = g.reduce("ReduceMean", y.name, [y.axis])
        centred = g.op("Sub", y.name, mean)
        spread = g.reduce("ReduceMean", g.op("Mul", centred, centred), [y.axis])
        root = g.op("Sqrt", g.op("Add", spread, np.float32(0.1)))
        name = g.op("Mul", g.op("Div", centred, root), g.weight(y.channels))
    return Tensor(name, y.channels, y.space, last=True)


def gated(g: Network, c: Choices, x: Tensor) -> Tensor:
    """Gated by what a reduction over channels or over space gives."""
    op = c.pick("ReduceSum", "ReduceL2", "ReduceSumSquare", "ReduceL1", "ReduceMean", "ReduceMax")
    over = not x.space or c.chance(40 if op not in ("ReduceMean", "ReduceMax") else 10)
    axes = [x.axis] if over else x.spaces
    if c.chance(30):
        axes = [a - len(x.space) - 2 for a in axes]
        if g.opset < 11:
            axes = [a + len(x.space) + 2 for a in axes]
    kept = c.below(2)
    gate = g.reduce(op, x.name, axes, 1 - kept)
    if kept:
        rank = len(x.space) + 2
        gate = g.axes("Unsqueeze", gate, sorted(a % rank for a in axes))
    return replace(x, name=g.op("Mul", x.name, g.op("Tanh", gate)))


def across(g: Network, c: Choices, x: Tensor) -> Tensor:
    """What depends on all channels, or on all positions, at once."""
    op = c.pick("Softmax", "LogSoftmax", "CumSum" if g.opset >= 11 else "Softmax")
    axis = c.pick(*x.spaces, x.axis)
    if op == "CumSum":
        return g.tanh(replace(x, name=g.op(op, x.name, np.array(axis))))
    return replace(x, name=g.op(op, x.name, axis=axis))


def quantised(g: Network, c: Choices, x: Tensor) -> Tensor:
    """QuantizeLinear and DequantizeLinear, of the data or of a weight, per tensor or channel."""
    if g.opset < 10:
        return activation(g, c, x)
    kind = c.pick("data", "weight", "per channel")
    # no round number, or values such as a half would lie on a rounding edge
    scale, zero = g.net.constant(np.float32(0.0973)), g.net.constant(np.uint8(100))
    if kind == "data" or (kind == "per channel" and g.opset < 13):
        y = g.op("QuantizeLinear", x.name, scale, zero)
        return replace(x, name=g.op("DequantizeLinear", y, scale, zero))
    y, width = g.last(x), c.pick(4, 6, 3)
    stored = g.net.constant(g.net.rng.integers(-90, 90, (y.channels, width)).astype(np.int8))
    if kind == "weight":
        operands, attrs = [np.float32(0.0113), np.int8(3)], {}
    else:
        spread = (g.net.rng.random(width) * 0.01 + 0.003).astype(np.float32)
        operands, attrs = [spread, np.zeros(width, np.int8)], {"axis": 1}
    weight = g.op("DequantizeLinear", stored, *map(g.net.constant, operands), **attrs)
    return Tensor(g.op("MatMul", y.name, weight), width, y.space, last=True)


def compared(g: Network, c: Choices, x: Tensor) -> Tensor:
    """Keeps what is larger than a threshold of its channel, or of another tensor."""
    if g.opset < 9:
        return activation(g, c, x)
    others = g.partners(x, same_width=True)
    other = others[0].name if others and c.chance(50) else g.vector(x, x.channels)
    over = g.op("Greater", x.name, other)
    if c.chance(30):
        over = g.op("Not", over)
    y = g.op("Where", over, x.name, g.net.constant(np.float32(0.1)))
    if c.chance(50):
        y = g.op("Add", y, g.op("Cast", over, to=TensorProto.FLOAT))
    return replace(x, name=y)


def cast(g: Network, c: Choices, x: Tensor) -> Tensor:
    """Through double precision and back."""
    wide = g.op("Cast", x.name, to=TensorProto.DOUBLE)
    if c.chance(50):
        wide = g.op("Mul", wide, g.op("Cast", g.vector(x, x.channels), to=TensorProto.DOUBLE))
    return replace(x, name=g.op("Cast", wide, to=TensorProto.FLOAT))


STEPS = (
    activation, activation, scaled, scaled, met, met, normalised, gated, across, quantised,
    compared, cast,
)  # fmt: skip
