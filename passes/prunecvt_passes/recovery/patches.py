"""The patches of its input that a linear node multiplies, at chosen places of its output.

Letters as in ``linear``: g blocks, n rows, d columns, o outputs of a block.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from prunecvt_passes.graph import Node
from prunecvt_passes.model import Array
from prunecvt_passes.recovery.linear import Linear

Ints = npt.NDArray[np.int64]


def positions(
    linear: Linear, shape: Sequence[int], count: int, chance: np.random.Generator
) -> Ints:
    """Up to ``count`` places of an output of ``shape`` to look at, the same for every sample.

    For a convolution flat places over space, else rows of the output seen as a matrix.
    """
    total = math.prod(shape[2:]) if linear.spatial else math.prod(shape[:-1])
    if total <= count:
        return np.arange(total)
    return np.sort(chance.choice(total, count, replace=False))


def responses(linear: Linear, values: Array, places: Ints) -> Array:
    """Outputs at ``places`` as [n, channels]."""
    if not linear.spatial:
        return values.reshape(-1, values.shape[-1])[places]
    flat = values.reshape(*values.shape[:2], -1)[:, :, places]
    found: Array = flat.transpose(0, 2, 1).reshape(-1, flat.shape[1])
    return found


def blocked(linear: Linear, values: Array) -> Array:
    """Splits [n, channels] into [g, n, o]."""
    found: Array = values.reshape(len(values), linear.blocks, -1).transpose(1, 0, 2)
    return found


def patches(
    linear: Linear, values: Array, out: Sequence[int], kernel: Sequence[int], places: Ints
) -> Array:
    """What the node multiplies at ``places``, as [g, n, d].

    Args:
        linear: the node.
        values: its input, [batch, channels, ...] for a convolution.
        out: sizes of its output.
        kernel: sizes of its weight.
        places: as ``positions`` chose them.
    """
    if not linear.spatial:
        return values.reshape(-1, values.shape[-1])[places][None]
    taps = _taps(linear.node, values.shape[2:], out[2:], kernel[2:], places)
    flat = values.reshape(*values.shape[:2], -1)
    gathered = np.empty((len(values), values.shape[1], places.size, len(taps)), values.dtype)
    for number, (index, inside) in enumerate(taps):
        np.multiply(flat[:, :, index], inside, out=gathered[..., number], dtype=values.dtype)
    batch, channels, count, width = gathered.shape
    split = gathered.reshape(batch, linear.blocks, channels // linear.blocks, count, width)
    rows = split.transpose(1, 0, 3, 2, 4)
    found: Array = rows.reshape(linear.blocks, batch * count, -1)
    return found


def _taps(
    node: Node, size: Sequence[int], out: Sequence[int], kernel: Sequence[int], places: Ints
) -> list[tuple[Ints, Array]]:
    """For every entry of the kernel the flat input place of each output place, and if it is one."""
    strides = node.attributes.get("strides", [1] * len(size))
    dilations = node.attributes.get("dilations", [1] * len(size))
    before = padding(node, size, out, kernel, strides, dilations)
    where = np.unravel_index(places, tuple(out))
    found = []
    for entry in np.ndindex(*kernel):
        index, inside = np.zeros(places.size, np.int64), np.ones(places.size, bool)
        for axis, offset in enumerate(entry):
            if node.op == "Conv":
                at = where[axis] * strides[axis] + offset * dilations[axis] - before[axis]
            else:
                spread = where[axis] + before[axis] - offset * dilations[axis]
                at, rest = np.divmod(spread, strides[axis])
                inside &= rest == 0
            inside &= (at >= 0) & (at < size[axis])
            index = index * size[axis] + np.clip(at, 0, size[axis] - 1)
        found.append((index, inside.astype(np.float32)))
    return found


def padding(
    node: Node,
    size: Sequence[int],
    out: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> list[int]:
    """Padding in front of each axis, as given or as ``auto_pad`` says."""
    rule = node.attributes.get("auto_pad", "NOTSET")
    if rule == "NOTSET" and "output_shape" not in node.attributes:
        return list(node.attributes.get("pads", [0] * len(size)))[: len(size)]
    found = []
    for axis, spread in enumerate((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)):
        if node.op == "Conv":
            total = max((out[axis] - 1) * strides[axis] + spread - size[axis], 0)
        else:
            extra = node.attributes.get("output_padding", [0] * len(size))[axis]
            total = strides[axis] * (size[axis] - 1) + extra + spread - out[axis]
        first = total - total // 2 if rule == "SAME_LOWER" else total // 2
        found.append(0 if rule == "VALID" else first)
    return found
