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
    sources = _sources(linear.node, values.shape[2:], out[2:], kernel[2:], places)
    batch, channels = values.shape[:2]
    each = channels // linear.blocks
    found = np.empty((linear.blocks, batch, places.size, each, sources.shape[1]), values.dtype)
    used, sources = np.unique(sources, return_inverse=True)
    sources = sources.reshape(places.size, -1)
    space = math.prod(values.shape[2:])
    lacking = used.size > 0 and used[-1] == space  # what lies in the padding is zero
    for sample, image in enumerate(values.reshape(batch, channels, space)):
        # channels last, so that a place's channels are copied at once
        spread = image.take(used, axis=1, mode="clip").T.copy()
        if lacking:
            spread[-1] = 0.0
        gathered = spread[sources].reshape(*sources.shape, linear.blocks, each)
        found[:, sample] = gathered.transpose(2, 0, 3, 1)
    rows: Array = found.reshape(linear.blocks, batch * places.size, -1)
    return rows


def _sources(
    node: Node, size: Sequence[int], out: Sequence[int], kernel: Sequence[int], places: Ints
) -> Ints:
    """Flat input place of each output place and entry of the kernel; behind the last: no place."""
    strides = node.attributes.get("strides", [1] * len(size))
    dilations = node.attributes.get("dilations", [1] * len(size))
    before, _ = padding(node, size, out, kernel, strides, dilations)
    where = np.unravel_index(places, tuple(out))
    found = np.empty((places.size, math.prod(kernel)), np.int64)
    for number, entry in enumerate(np.ndindex(*kernel)):
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
        found[:, number] = np.where(inside, index, math.prod(size))
    return found


def padding(
    node: Node,
    size: Sequence[int],
    out: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> tuple[list[int], list[int]]:
    """Padding before and after each axis, as given or as ``auto_pad`` says."""
    rule, rank = node.attributes.get("auto_pad", "NOTSET"), len(size)
    if rule in ("NOTSET", "") and "output_shape" not in node.attributes:
        pads = list(node.attributes.get("pads", [0] * 2 * rank))
        return pads[:rank], pads[rank:]
    before, after = [], []
    for axis, spread in enumerate((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)):
        if node.op == "Conv":
            total = max((out[axis] - 1) * strides[axis] + spread - size[axis], 0)
        else:
            extra = node.attributes.get("output_padding", [0] * len(size))[axis]
            total = strides[axis] * (size[axis] - 1) + extra + spread - out[axis]
        first = total - total // 2 if rule == "SAME_LOWER" else total // 2
        before.append(0 if rule == "VALID" else first)
        after.append(0 if rule == "VALID" else total - first)
    return before, after
