"""Steps that move data: joins, cuts, shuffles, pads, reshapes."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np

from networks.choices import Choices
from networks.convolutions import conv
from networks.growing import INT_MAX, Network, Tensor
from networks.mixing import activation


def joined(g: Network, c: Choices, x: Tensor) -> Tensor:
    """A concatenation, at times of concatenations, at times of a tensor with itself."""
    parts = [x, *g.partners(x)[:3]]
    if len(parts) == 1 or c.chance(15):
        parts.append(activation(g, c, x) if c.chance(60) else x)
    parts = [parts[k] for k in c.order(len(parts))][: c.pick(2, 3, 4)]
    axis = x.axis if g.opset < 11 or c.chance(50) else x.axis - len(x.space) - 2
    if len(parts) > 2 and c.chance(50):
        inner = g.op("Concat", *[p.name for p in parts[1:]], axis=axis)
        name = g.op("Concat", parts[0].name, inner, axis=axis)
    else:
        name = g.op("Concat", *[p.name for p in parts], axis=axis)
    return replace(x, name=name, channels=sum(p.channels for p in parts))


def joined_space(g: Network, c: Choices, x: Tensor) -> Tensor:
    """A concatenation along space: the channels of both live and die together."""
    others = g.partners(x, same_width=True)
    if not x.space or not others:
        return conv(g, c, x)
    place = c.below(len(x.space))
    name = g.op("Concat", x.name, c.pick(*others).name, axis=x.spaces[place])
    space = tuple((2 * a, 2 * b) if k == place else (a, b) for k, (a, b) in enumerate(x.space))
    return replace(x, name=name, space=space)


def split(g: Network, c: Choices, x: Tensor) -> Tensor:
    """Parts of any sizes; some are joined again, gated by one another, or left unread."""
    if x.channels < 2:
        return conv(g, c, x)
    count = c.pick(*[n for n in (2, 3, 4) if n <= x.channels])
    equal = x.channels % count == 0 and c.chance(50)
    if equal:
        sizes = [x.channels // count] * count
    else:
        cuts = sorted(c.order(x.channels - 1)[: count - 1])
        edges = [0, *[k + 1 for k in cuts], x.channels]
        sizes = [b - a for a, b in itertools.pairwise(edges)]
    names = g.split(x.name, sizes, x.axis, stated=not equal or c.chance(50))
    parts = [replace(x, name=n, channels=s) for n, s in zip(names, sizes, strict=True)]
    kind = c.pick("one", "gated", "joined", "all")
    if kind == "gated" and sizes[0] == sizes[1]:
        gate = g.op(c.pick("Sigmoid", "Tanh"), parts[1].name)
        return replace(parts[0], name=g.op("Mul", parts[0].name, gate))
    if kind == "joined":
        parts[0] = activation(g, c, parts[0])
        order = c.order(count)
        name = g.op("Concat", *[parts[k].name for k in order], axis=x.axis)
        return replace(x, name=name)
    if kind == "all":
        g.tensors.extend(parts[1:])
        return parts[0]
    return c.pick(*parts)


def sliced(g: Network, c: Choices, x: Tensor) -> Tensor:
    """A run of channels or of positions, by bounds of any sign, at times by steps."""
    axis = x.axis
    if x.fixed and x.space and c.chance(25):
        axis = c.pick(*x.spaces)
    width = x.channels if axis == x.axis else x.sizes()[axis - 1]
    start = c.below(width)
    end = start + 1 + c.below(width - start)
    step = 1
    if g.opset >= 10 and c.chance(20):
        step = c.pick(2, 3, -1)
    indices = list(range(width))[start:end:step] if step > 0 else list(range(width))[::-1]
    if step < 0:
        name = g.slice(x.name, -1, -INT_MAX, axis, -1)
    else:
        last = INT_MAX if end == width and c.chance(40) else end
        if c.chance(30):
            start, last = start - width, last if end == width else end - width
        name = g.slice(x.name, start, last, axis, step)
    if axis == x.axis:
        return replace(x, name=name, channels=len(indices))
    space = list(x.space)
    space[x.spaces.index(axis)] = (len(indices),) * 2
    return replace(x, name=name, space=tuple(space))


def focus(g: Network, c: Choices, x: Tensor) -> Tensor:
    """Every second row and column, four times, joined: what SpaceToDepth does, by Slices."""
    if g.opset < 10 or not x.space or any(a % 2 or b % 2 for a, b in x.space[-1:]):
        return conv(g, c, x)
    axis = x.spaces[-1]
    parts = [g.slice(x.name, k, INT_MAX, axis, 2) for k in range(2)]
    name = g.op("Concat", *parts, axis=x.axis)
    a, b = x.space[-1]
    return Tensor(name, 2 * x.channels, (*x.space[:-1], (a // 2, b // 2)), x.last)


def rolled(g: Network, c: Choices, x: Tensor) -> Tensor:
    """The channels turned round by two Slices and a Concat."""
    if x.channels < 2:
        return conv(g, c, x)
    cut = 1 + c.below(x.channels - 1)
    parts = [g.slice(x.name, cut, x.channels, x.axis), g.slice(x.name, 0, cut, x.axis)]
    return replace(x, name=g.op("Concat", *parts, axis=x.axis))


def gathered(g: Network, c: Choices, x: Tensor) -> Tensor:
    """Channels picked by constant indices, some twice, some from the end."""
    width = x.channels
    indices = c.order(width)[: 1 + c.below(width)]
    if c.chance(30):
        indices.append(indices[0])
    if g.opset >= 11 and c.chance(30):
        indices = [k - width for k in indices]
    kind = np.int32 if c.chance(30) else np.int64
    name = g.op("Gather", x.name, np.array(indices, kind), axis=x.axis)
    return replace(x, name=name, channels=len(indices))


def shuffled(g: Network, c: Choices, x: Tensor) -> Tensor:
    """Channel shuffle (Zhang et al., 2018), written in one of several ways."""
    if not x.space:
        return rolled(g, c, x)
    if x.channels % 2 and x.channels % 3:
        x = conv(g, c, x, c.pick(6, 8))
    groups = [n for n in (2, 3, 4) if x.channels % n == 0]
    group, x = c.pick(*groups), g.first(x)
    each = x.channels // group
    if x.fixed and c.chance(60):
        space = [a for a, _ in x.space]
        y = g.reshape(x.name, c.pick(-1, 0), group, each, *space)
        y = g.transpose(y, 0, 2, 1, *range(3, 3 + len(space)))
        back = [c.pick(-1, 0), x.channels, *space]
    else:
        y = g.reshape(x.name, 0, group, each, -1)
        y = g.transpose(y, 0, 2, 1, 3)
        if not x.fixed:
            return replace(x, name=g.op("Reshape", y, g.op("Shape", x.name)))
        back = [0, -1, *[a for a, _ in x.space]]
    return replace(x, name=g.reshape(y, *back))


def padded(g: Network, c: Choices, x: Tensor) -> Tensor:
    """Padding of space by zeros, by a value, or by reflection, at times of channels too."""
    if not x.space or any(a < 2 for a, _ in x.space):
        return conv(g, c, x)
    before, after, more = c.pick(1, 0), c.pick(0, 1), c.pick(0, 0, 1)
    mode = c.pick("constant", "reflect", "edge")
    rank, space = len(x.space) + 2, x.space
    pads = [0] * 2 * rank
    for axis in x.spaces:
        pads[axis], pads[axis + rank] = before, after
    space = tuple((a + before + after, b + before + after) for a, b in space)
    width = x.channels
    if mode == "constant":
        pads[x.axis], width = more, width + more
    name = g.pad(x.name, pads, mode, c.pick(0, 0, 0.5) if mode == "constant" else 0)
    return Tensor(name, width, space, x.last)


def depth_to_space(g: Network, c: Choices, x: Tensor) -> Tensor:
    if len(x.space) != 2 or x.positions > 64:
        return conv(g, c, x)
    y = g.first(x if x.channels % 4 == 0 else conv(g, c, x, c.pick(8, 12)))
    if y.positions > 64:
        return g.as_was(y, x)
    modes = {"mode": c.pick("DCR", "CRD")} if g.opset >= 11 else {}
    name = g.op("DepthToSpace", y.name, blocksize=2, **modes)
    space = tuple((2 * a, 2 * b) for a, b in y.space)
    return g.as_was(Tensor(name, y.channels // 4, space), x)


def space_to_depth(g: Network, c: Choices, x: Tensor) -> Tensor:
    y = g.first(x)
    if len(y.space) != 2 or any(a % 2 or b % 2 for a, b in y.space):
        return conv(g, c, x)
    if c.chance(40) and y.fixed:  # as Reshape and Transpose, which is how exporters write it
        (h, _), (w, _) = y.space
        name = g.reshape(y.name, -1, y.channels, h // 2, 2, w // 2, 2)
        order = c.pick((0, 3, 5, 1, 2, 4), (0, 1, 3, 5, 2, 4))
        name = g.reshape(g.transpose(name, *order), -1, 4 * y.channels, h // 2, w // 2)
    else:
        name = g.op("SpaceToDepth", y.name, blocksize=2)
    space = tuple((a // 2, b // 2) for a, b in y.space)
    return g.as_was(Tensor(name, 4 * y.channels, space), x)


def resized(g: Network, c: Choices, x: Tensor) -> Tensor:
    """Twice the size: Upsample or Resize by scales or by sizes."""
    y = g.first(x)
    rank = len(y.space)
    if y.positions > 64 or rank not in (1, 2):
        return conv(g, c, x)
    mode = c.pick("nearest", "linear") if rank == 2 else "nearest"
    scales = [1.0, 1.0] + [2.0] * rank
    space = tuple((2 * a, 2 * b) for a, b in y.space)
    nothing = None if g.opset >= 13 else np.zeros(0, np.float32)
    if g.opset < 9:
        name = g.op("Upsample", y.name, scales=scales, mode=mode)
    elif g.opset < 11:
        op = "Upsample" if g.opset == 9 else "Resize"
        name = g.op(op, y.name, np.array(scales, np.float32), mode=mode)
    elif c.chance(50) or not y.fixed:
        name = g.op("Resize", y.name, nothing, np.array(scales, np.float32), mode=mode)
    else:
        known = c.pick(1, 2)  # sizes that the model reads from its tensor; the rest is stated
        read = g.op("Gather", g.op("Shape", y.name), np.arange(known))
        rest = [y.channels, *[a for a, _ in space]][known - 1 :]
        sizes = g.op("Concat", read, np.array(rest), axis=0)
        name = g.op("Resize", y.name, nothing, nothing, sizes, mode=mode)
    return g.as_was(Tensor(name, y.channels, space), x)


def tiled(g: Network, c: Choices, x: Tensor) -> Tensor:
    """Channels repeated, or a gate with one position tiled or expanded over space."""
    rank = len(x.space) + 2
    if c.chance(50) or not x.space or not x.fixed:
        repeats = [2 if axis == x.axis else 1 for axis in range(rank)]
        return replace(x, name=g.op("Tile", x.name, np.array(repeats)), channels=2 * x.channels)
    gate = g.op("Sigmoid", g.reduce("ReduceMean", x.name, x.spaces))
    sizes = [1, *x.sizes()]
    if c.chance(50) or g.opset < 8:
        repeats = [sizes[axis] if axis in x.spaces else 1 for axis in range(rank)]
        gate = g.op("Tile", gate, np.array(repeats))
    else:
        target = [s if axis in x.spaces else 1 for axis, s in enumerate(sizes)]
        gate = g.op("Expand", gate, np.array(target if c.chance(50) else sizes))
    return replace(x, name=g.op("Mul", x.name, gate))


def flattened(g: Network, c: Choices, x: Tensor) -> Tensor:
    """Space merged into one axis, or into the channels, and at times restored."""
    if len(x.space) < 1 or not x.fixed:
        return conv(g, c, x)
    kind = c.pick("space", "restored", "channels", "through a layer")
    space = x.positions
    if kind == "space":
        target = [0, -1, x.channels] if x.last else [0, x.channels, -1]
        return Tensor(g.reshape(x.name, *target), x.channels, ((space, space),), x.last)
    flat = g.op("Flatten", x.name) if c.chance(50) else g.reshape(x.name, 0, -1)
    if kind == "restored":
        flat = g.op(c.pick("Relu", "Tanh"), flat)
        return replace(x, name=g.reshape(flat, c.pick(-1, 0), *x.sizes()))
    total = x.channels * space
    if kind == "channels" and total <= 48:
        return Tensor(flat, total)
    width = c.pick(4, 6, 2)
    y = g.op("MatMul", flat, g.weight(total, width * space, fan=total))
    target = [-1, *[a for a, _ in x.space], width]
    if not x.last:
        target = [-1, width, *target[1:-1]]
    return Tensor(g.reshape(y, *target), width, x.space, x.last)


def computed_shape(g: Network, c: Choices, x: Tensor) -> Tensor:
    """Flattens and restores space by sizes that the model reads from its tensors."""
    if not x.space or x.last:
        return activation(g, c, x)
    shape = g.op("Shape", x.name)
    batch = g.op("Gather", shape, np.array([0]))
    if c.chance(40):
        batch = g.axes("Unsqueeze", g.op("Gather", shape, np.array(0)), [0])
    channels: Any = np.array([x.channels])
    if c.chance(50):
        channels = g.op("Gather", shape, np.array([1]))
    target = g.op("Concat", batch, channels, np.array([-1]), axis=0)
    y = g.op("Relu", g.op("Reshape", x.name, target))
    return replace(x, name=g.op("Reshape", y, shape))


def stacked(g: Network, c: Choices, x: Tensor) -> Tensor:
    """Two branches on a new axis, mixed by their sum or looked up again."""
    parts = [activation(g, c, x) for _ in range(2)]
    axis = c.pick(1, x.axis, x.axis + 1)
    y = g.op("Concat", *[g.axes("Unsqueeze", p.name, [axis]) for p in parts], axis=axis)
    if c.chance(50):
        return replace(x, name=g.reduce(c.pick("ReduceSum", "ReduceMax"), y, [axis], 0))
    if c.chance(50):
        picked = g.slice(y, 1, 2, axis)
        return replace(x, name=g.axes("Squeeze", picked, [axis]))
    return replace(x, name=g.op("Gather", y, np.array(c.below(2)), axis=axis))


def turned(g: Network, c: Choices, x: Tensor) -> Tensor:
    """The other layout; where a space of one axis stands, space and channels trade places."""
    if len(x.space) == 1 and x.fixed and c.chance(30):
        side = x.space[0][0]
        return Tensor(x.name, side, ((x.channels, x.channels),), not x.last)
    if not x.space:
        return g.first(x)
    return g.first(x) if x.last else g.last(x)


def unfolded(g: Network, c: Choices, x: Tensor) -> Tensor:
    """Channels become [groups, each] with space behind, and one of the two moves to space."""
    if not x.fixed or not x.space:
        return rolled(g, c, x)
    x = g.first(x if x.channels % 2 == 0 or x.channels % 3 == 0 else conv(g, c, x, c.pick(6, 8)))
    groups = [n for n in (2, 3, 4) if x.channels % n == 0]
    group = c.pick(*groups)
    each, space = x.channels // group, [a for a, _ in x.space]
    y = g.reshape(x.name, -1, group, each, *space)
    if c.chance(50):
        y, group, each = g.transpose(y, 0, 2, 1, *range(3, 3 + len(space))), each, group
    y = g.reshape(y, -1, group, each * space[0], *space[1:])
    return Tensor(y, group, ((each * space[0],) * 2, *x.space[1:]))


STEPS = (
    joined, joined, joined, joined_space, split, split, sliced, focus, rolled, gathered, shuffled,
    shuffled, padded, depth_to_space, space_to_depth, resized, tiled, flattened, flattened,
    computed_shape, stacked, turned, turned, unfolded,
)  # fmt: skip
