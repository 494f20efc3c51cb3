"""Operators that look entries up or put them in place, crop, sample and deform."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models import INT64, SIDE, Net, Rows, check_row

row = Rows()
INDICES = np.arange(2 * SIDE).reshape(1, 1, 2, SIDE) % SIDE


def top(net: Net, x: str) -> tuple[str, str]:
    """The two largest of every column, and where they are."""
    values, places = net.many("TopK", x, np.array([2]), outputs=2, axis=2)
    return values, places


@row(lost={"first": 4})
def gather_elements_by_computed_places(net: Net) -> None:
    x = net.first()
    net.last(net.add("GatherElements", x, top(net, x)[1], axis=2))


@row(lost={"first": 4})
def gather_elements_by_constant_places(net: Net) -> None:
    indices = np.tile(INDICES, (2, 8, 1, 1))
    net.last(net.add("GatherElements", net.first(batch=2), indices, axis=-2))


@row(lost={"first": 4})
def gather_elements_by_expanded_places(net: Net) -> None:
    indices = net.add("Expand", INDICES, np.array([2, 8, 2, SIDE]))
    net.last(net.add("GatherElements", net.first(batch=2), indices, axis=2))


@row(pinned={"first": "indexed"})
def gather_elements_along_channels(net: Net) -> None:
    indices = np.arange(2 * 8 * SIDE * SIDE).reshape(2, 8, SIDE, SIDE) % 8
    net.last(net.add("GatherElements", net.first(batch=2), indices, axis=1))


@row(pinned={"first": "indexed"})
def gather_elements_of_the_first_channels(net: Net) -> None:
    indices = np.tile(INDICES, (2, 5, 1, 1))
    net.last(net.add("GatherElements", net.first(batch=2), indices, axis=2), 5)


@row(pinned={"first": "fixed-partner"})
def gather_elements_by_places_that_are_fed(net: Net) -> None:
    places = net.input(2, 8, 3, SIDE, name="places", type=INT64)
    net.last(net.add("GatherElements", net.first(batch=2), places, axis=2))


@row(lost={"first": 4})
def scatter_elements(net: Net) -> None:
    x = net.first()
    values, places = top(net, x)
    net.last(net.add("ScatterElements", x, places, net.add("Neg", values), axis=2))


@row(lost={"first": 4}, opsets=(18,))
def scatter_elements_that_add(net: Net) -> None:
    values, indices = net.random(2, 8, 2, SIDE), np.tile(INDICES, (2, 8, 1, 1))
    x = net.add("ScatterElements", net.first(batch=2), indices, values, axis=2, reduction="add")
    net.last(x)


@row(lost={"first": 4}, opsets=(9,))
def scatter(net: Net) -> None:
    values, indices = net.random(2, 8, 2, SIDE), np.tile(INDICES, (2, 8, 1, 1))
    net.last(net.add("Scatter", net.first(batch=2), indices, values, axis=2))


@row(pinned={"first": "indexed"})
def scatter_elements_along_channels(net: Net) -> None:
    values, indices = net.random(2, 8, 2, SIDE), np.tile(INDICES, (2, 8, 1, 1))
    net.last(net.add("ScatterElements", net.first(batch=2), indices, values, axis=1))


@row(lost={"first": 4})
def scatter_nd_of_whole_entries(net: Net) -> None:
    x = net.add("Transpose", net.first(batch=2), perm=[0, 2, 3, 1])
    x = net.add("ScatterND", x, np.array([[0, 1], [1, 4]]), net.random(2, SIDE, 8))
    net.last(net.add("Transpose", x, perm=[0, 3, 1, 2]))


@row(pinned={"first": "indexed"})
def scatter_nd_into_channels(net: Net) -> None:
    x = net.add("ScatterND", net.first(batch=2), np.array([[0, 1]]), net.random(1, SIDE, SIDE))
    net.last(x)


@row(lost={"first": 4}, opsets=(24,))
def tensor_scatter(net: Net) -> None:
    update, places = net.random(2, 8, 2, SIDE), net.input(2, name="places", type=INT64)
    net.last(net.add("TensorScatter", net.first(batch=2), update, places, axis=2))


@row(pinned={"first": "indexed"}, opsets=(24,))
def tensor_scatter_along_channels(net: Net) -> None:
    update, places = net.random(2, 2, SIDE, SIDE), net.input(2, name="places", type=INT64)
    net.last(net.add("TensorScatter", net.first(batch=2), update, places, axis=1))


CHOSEN = np.array([1, 0, 1, 1, 0, 1, 1, 0], bool)


@row(lost={"first": 3})  # 2 of the 5 that it chooses, 1 of the others
def compress_channels(net: Net) -> None:
    net.last(net.add("Compress", net.first(batch=2), CHOSEN, axis=1), 5)


@row(lost={"first": 4})
def compress_rows(net: Net) -> None:
    net.last(net.add("Compress", net.first(batch=2), CHOSEN[:SIDE], axis=2))


@row(pinned={"first": "indexed"})
def compress_the_first_channels(net: Net) -> None:
    net.last(net.add("Compress", net.first(batch=2), CHOSEN[:4], axis=1), 3)


@row(pinned={"first": "indexed"})
def compress_everything(net: Net) -> None:
    x = net.add("Compress", net.first(batch=2), CHOSEN)
    net.output(net.add("MatMul", x, net.random(5, 3)), shape=[3])


@row(lost={"first": 4})
def one_hot(net: Net) -> None:
    places = net.add("ArgMax", net.first(), axis=2, keepdims=0)
    x = net.add("OneHot", places, np.array([SIDE]), np.array([0.5, 2], np.float32), axis=2)
    net.last(x)


@row(lost={"first": 4})
def reverse_sequence(net: Net) -> None:
    x = net.add("Transpose", net.first(batch=2), perm=[2, 0, 1, 3])
    x = net.add("ReverseSequence", x, np.array([3, 5]), time_axis=0, batch_axis=1)
    net.last(net.add("Transpose", x, perm=[1, 2, 0, 3]))


@row(pinned={"first": "mixed-axis"})
def reverse_channels(net: Net) -> None:
    x = net.add("ReverseSequence", net.first(batch=2), np.array([3, 5]), time_axis=1, batch_axis=0)
    net.last(x)


@row(lost={"first": 4})
def triangles_and_determinants(net: Net) -> None:
    x = net.add("Trilu", net.first(), np.array(1), upper=0)
    x = net.add("Unsqueeze", net.add("Det", x), np.array([2, 3]))
    net.last(x)


@row(pinned={"first": "mixed-axis"})
def triangle_over_channels(net: Net) -> None:
    x = net.add("Transpose", net.first(), perm=[0, 2, 3, 1])
    net.last(net.add("Transpose", net.add("Trilu", x), perm=[0, 3, 1, 2]))


@row(lost={"first": 4}, opsets=(16, 20))
def grid_sample(net: Net) -> None:
    grid = np.tanh(net.rng.standard_normal((2, 4, 4, 2))).astype(np.float32)
    net.last(net.add("GridSample", net.first(batch=2), grid))


@row(lost={"first": 4})
def grid_that_a_convolution_makes(net: Net) -> None:
    x = net.first()
    grid = net.conv(x, 8, 2, name="grid")
    grid = net.add("Transpose", net.add("Tanh", grid), perm=[0, 2, 3, 1])
    net.last(net.add("GridSample", x, grid))


@row(lost={"first": 4}, opsets=(18,))
def crop_and_pad_space(net: Net) -> None:
    net.last(net.add("CenterCropPad", net.first(), np.array([4, 9]), axes=[2, 3]))


@row(lost={"first": 4}, opsets=(18,))
def crop_that_states_the_channels(net: Net) -> None:
    net.last(net.add("CenterCropPad", net.first(batch=2), np.array([8, 9]), axes=[1, 3]))


@row(pinned={"first": "padded"}, opsets=(18,))
def crop_channels(net: Net) -> None:
    net.last(net.add("CenterCropPad", net.first(batch=2), np.array([5]), axes=[1]), 5)


@row(lost={"first": 8}, opsets=(18,))
def columns_to_image(net: Net) -> None:
    x = net.add("Reshape", net.first(16, batch=2), np.array([2, 16, SIDE * SIDE]))
    net.last(net.add("Col2Im", x, np.array([7, 7]), np.array([2, 2])), 4)


@row(pinned={"first": "spread"}, opsets=(18,))
def columns_to_one_channel(net: Net) -> None:
    x = net.add("Reshape", net.first(4, batch=2), np.array([2, 4, SIDE * SIDE]))
    net.output(net.add("Col2Im", x, np.array([7, 7]), np.array([2, 2])), shape=[None] * 4)


def deformed(net: Net, bias: bool = True, **attributes: Any) -> None:
    """A DeformConv whose offsets and mask are convolutions of what it reads."""
    x = net.first()
    offset = net.conv(x, 8, 18 * attributes.get("offset_group", 1), 3, name="offset")
    mask = net.add("Sigmoid", net.conv(x, 8, 9 * attributes.get("offset_group", 1), 3))
    weight = net.random(6, 8 // attributes.get("group", 1), 3, 3)
    values = [x, weight, offset, net.random(6) if bias else None, mask]
    net.last(net.add("DeformConv", *values, name="deformed", pads=[1] * 4, **attributes), 6)


@row(lost={"first": 4, "deformed": 3}, pinned={"offset": "pooled"}, opsets=(19,))
def deformable_convolution(net: Net) -> None:
    deformed(net)


@row(lost={"first": 4, "deformed": 3}, opsets=(22,))
def deformable_convolution_without_bias(net: Net) -> None:
    deformed(net, bias=False)


@row(pinned={"first": "grouped-offsets"}, opsets=(19,))
def deformable_convolution_of_two_offset_groups(net: Net) -> None:
    deformed(net, offset_group=2)


@row(pinned={"first": "grouped-offsets"}, opsets=(19,))
def grouped_deformable_convolution(net: Net) -> None:
    deformed(net, group=2)


@pytest.mark.parametrize("case", row.cases)
def test_indexing(case: Any) -> None:
    check_row(case)
