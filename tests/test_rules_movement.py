"""Operators that move whole axes or pieces of them: Concat, Split, Slice, Gather, Pad, blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models import INT64, WIDTH, Net, Rows, check_row

row = Rows()
LARGEST = np.iinfo(np.int64).max


def other(net: Net, channels: int = WIDTH, name: str = "other") -> str:
    return net.conv("x", 3, channels, 3, name=name)


@row(lost={"first": 4})
def transpose_there_and_back(net: Net) -> None:
    x = net.add("Relu", net.add("Transpose", net.first(), perm=[0, 2, 3, 1]))
    net.last(net.add("Transpose", x, perm=[0, 3, 1, 2]))


@row(lost={"first": 4})
def transpose_without_order(net: Net) -> None:
    net.last(net.add("Transpose", net.add("Transpose", net.first())))


@row(lost={"first": 4, "other": 3}, opsets=(7, 11, 13))
def concat(net: Net) -> None:
    net.last(net.add("Concat", net.first(), other(net, 6), axis=1), 14)


@row(lost={"first": 4, "other": 3})
def concat_of_concats(net: Net) -> None:
    x = net.first()
    y = net.add("Concat", x, other(net, 6), axis=-3)
    net.last(net.add("Concat", y, x, axis=1), 22)


@row(lost={"first": 4})
def concat_with_the_input(net: Net) -> None:
    net.last(net.add("Concat", net.first(), "x", axis=1), 11)


@row(lost={"first": 4})
def concat_with_a_constant(net: Net) -> None:
    x = net.first(batch=2)
    net.last(net.add("Concat", net.random(2, 2, 6, 6), x, net.random(2, 1, 6, 6), axis=1), 11)


@row(lost={"first": 4, "other": 4})
def concat_over_space(net: Net) -> None:
    net.last(net.add("Concat", net.first(), other(net), axis=2))


@row(pinned={"first": "fixed-partner"})
def concat_over_space_with_the_input(net: Net) -> None:
    y = net.input("N", 8, 2, 6, name="y")
    net.last(net.add("Concat", net.first(), y, axis=2))


@row(lost={"first": 4})
def concat_of_one(net: Net) -> None:
    net.last(net.add("Concat", net.first(), axis=1))


def split(net: Net, x: str, sizes: list[int], given: bool = True) -> list[str]:
    options = {"axis": 1, "outputs": len(sizes)}
    if not given:
        return net.many("Split", x, **options)
    if net.opset >= 13:
        return net.many("Split", x, np.array(sizes), **options)
    return net.many("Split", x, split=sizes, **options)


@row(lost={"first": 3}, opsets=(7, 11, 13, 18))
def split_by_sizes(net: Net) -> None:
    a, b = split(net, net.first(), [3, 5])
    net.last(net.add("Concat", b, net.add("Relu", a), axis=1))


@row(lost={"first": 4}, opsets=(7, 11, 13))
def split_equally(net: Net) -> None:
    a, b = split(net, net.first(), [4, 4], given=False)
    net.last(net.add("Concat", net.add("Relu", a), b, axis=1))


@row(lost={"first": 3}, opsets=(18,))
def split_by_number(net: Net) -> None:
    parts = net.many("Split", net.first(), outputs=3, num_outputs=3, axis=1)  # 3, 3, 2
    net.last(net.add("Concat", *parts, axis=1))


@row(lost={"first": 4})
def split_whose_parts_are_added(net: Net) -> None:
    a, b = split(net, net.first(), [4, 4])
    net.last(net.add("Add", a, b), 4)


@row(lost={"first": 3})
def split_with_an_unread_part(net: Net) -> None:
    net.last(split(net, net.first(), [3, 5])[0], 3)


@row(lost={"first": 14}, ratio=0.9)
def split_keeps_one_channel_of_each_part(net: Net) -> None:
    a, b = split(net, net.first(16), [8, 8])
    net.output(net.add("Add", net.conv(a, 8, 4), net.conv(b, 8, 4)))


@row(pinned={"first": "computed-size"})
def split_by_computed_sizes(net: Net) -> None:
    sizes = net.input(2, name="sizes", type=INT64)
    x = net.conv(net.input(2, 3, 6, 6), 3, 2, name="first")
    a, b = net.many("Split", x, sizes, outputs=2, axis=1)
    net.last(net.add("Add", a, b), 1)


@row(lost={"first": 4})
def split_over_space(net: Net) -> None:
    a, b = net.many("Split", net.first(), outputs=2, axis=3)
    net.last(net.add("Add", a, b))


def cut(net: Net, x: str, start: int, end: int, axis: int = 1, step: int | None = None) -> str:
    if net.opset < 10:
        return net.add("Slice", x, starts=[start], ends=[end], axes=[axis])
    steps = [] if step is None else [np.array([step])]
    return net.add("Slice", x, np.array([start]), np.array([end]), np.array([axis]), *steps)


@pytest.mark.parametrize("opset", [7, 9, 10, 13])
@pytest.mark.parametrize(
    ("start", "end", "width"), [(0, 3, 3), (2, 7, 5), (-5, -1, 4), (3, 2**31, 5), (-99, 6, 6)]
)
def test_slice_of_channels(opset: int, start: int, end: int, width: int) -> None:
    def build(net: Net) -> None:
        x = net.first()
        net.last(net.add("Concat", x, net.add("Relu", cut(net, x, start, end)), axis=1), 8 + width)

    lost = 3 if width == 3 else 4  # of three and of five, each rounded down
    check_row((build, opset, {"first": lost}, {}, {}))


@row(lost={"first": 4})
def slice_to_the_largest_integer(net: Net) -> None:
    net.last(cut(net, net.first(), 4, LARGEST, axis=-3, step=1), 4)


@row(lost={"first": 4})
def slices_that_overlap(net: Net) -> None:
    x = net.first()
    net.last(net.add("Add", cut(net, x, 0, 6), cut(net, x, 2, 8)), 6)


@row(pinned={"first": "strided-slice"})
def slice_with_steps(net: Net) -> None:
    net.last(cut(net, net.first(), 0, 8, step=2), 4)


@row(pinned={"first": "strided-slice"})
def slice_backwards(net: Net) -> None:
    net.last(cut(net, net.first(), 7, -99, step=-1))


@row(lost={"first": 4})
def slice_over_space(net: Net) -> None:
    x = cut(net, cut(net, net.first(), 1, -1, axis=2), 0, 6, axis=3, step=2)
    net.last(x)


@row(lost={"first": 4})
def slice_of_all_axes_at_once(net: Net) -> None:
    x = net.first(batch=2)
    net.last(net.add("Slice", x, np.array([0, 2, 0]), np.array([2, 8, 5])), 6)


@row(pinned={"first": "strided-slice"})
def slice_by_computed_bounds(net: Net) -> None:
    start = net.input(1, name="start", type=INT64)
    x = net.add("Slice", net.first(), start, np.array([8]), np.array([1]))
    net.output(net.add("GlobalAveragePool", net.add("ReduceMax", x, axes=[1])), shape=[None] * 4)


@row(lost={"first": 4})
def gather_permutes(net: Net) -> None:
    net.last(net.add("Gather", net.first(), np.array([3, 1, 0, 2, 7, 6, 5, 4]), axis=1))


@row(lost={"first": 3})
def gather_repeats_and_counts_from_the_end(net: Net) -> None:
    net.last(net.add("Gather", net.first(), np.array([-1, 0, 0, 5, -8], np.int32), axis=1), 5)


@row(pinned={"first": "indexed"})
def gather_of_one_channel(net: Net) -> None:
    net.output(net.add("Gather", net.first(), np.array(2), axis=1))


@row(pinned={"first": "indexed"})
def gather_by_a_matrix(net: Net) -> None:
    net.output(net.add("Gather", net.first(), np.array([[0, 1], [2, 3]]), axis=1))


@row(pinned={"first": "indexed"})
def gather_by_computed_indices(net: Net) -> None:
    net.last(net.add("Gather", net.first(), net.input(3, name="i", type=INT64), axis=1), 3)


@row(lost={"first": 4})
def gather_over_space(net: Net) -> None:
    net.last(net.add("Gather", net.first(), np.array([0, 5, 1]), axis=3))


@row(lost={"middle": 4})
def gather_of_embeddings(net: Net) -> None:
    tokens = net.input("N", 5, name="tokens", type=INT64)
    x = net.add("Gather", net.random(11, 8), tokens)
    y = net.add("MatMul", net.input("N", 5, 3), net.random(3, 8), name="middle")
    net.head(net.add("Add", x, y), 8)


@row(pinned={"first": "indexed"})
def gather_by_labelled_indices(net: Net) -> None:
    index = net.add("Cast", net.add("Sigmoid", net.first(batch=2)), to=INT64)
    net.output(net.add("Gather", net.random(3, 2), index))


@row(lost={"first": 4})
def gather_nd_of_positions(net: Net) -> None:
    x = net.add("Transpose", net.first(), perm=[2, 3, 0, 1])
    x = net.add("GatherND", x, np.array([[[0, 0], [1, 2]], [[5, 5], [3, 1]]]))
    net.last(net.add("Transpose", x, perm=[2, 3, 0, 1]))


@row(pinned={"first": "indexed"})
def gather_nd_of_channels(net: Net) -> None:
    net.output(net.add("GatherND", net.first(), np.array([[0, 1], [0, 2]])))


def pad(net: Net, x: str, pads: list[int], mode: str = "constant", value: float = 0.0) -> str:
    if net.opset < 11:
        return net.add("Pad", x, pads=pads, mode=mode, value=value)
    fill = [np.float32(value)] if mode == "constant" else []
    return net.add("Pad", x, np.array(pads), *fill, mode=mode)


@row(lost={"first": 4}, opsets=(7, 10, 11, 13, 18))
def pad_over_space(net: Net) -> None:
    net.last(pad(net, net.first(), [0, 0, 1, 2, 0, 0, 0, 1], "reflect"))


@row(lost={"first": 4, "other": 7}, opsets=(7, 11, 18))
def pad_shortcut_with_zeros(net: Net) -> None:
    x = net.first()
    net.last(net.add("Add", pad(net, x, [0, 3, 0, 0, 0, 3, 0, 0]), other(net, 14)), 14)


@row(lost={"first": 4})
def pad_channels_with_a_value(net: Net) -> None:
    net.last(net.add("Relu", pad(net, net.first(), [0, 2, 0, 0, 0, 0, 0, 0], value=2.5)), 10)


@row(lost={"first": 4})
def pad_channels_by_one(net: Net) -> None:
    net.last(pad(net, net.first(), [0, 1, 0, 0, 0, 0, 0, 0]), 9)


@row(pinned={"first": "padded"})
def pad_channels_by_reflection(net: Net) -> None:
    net.last(pad(net, net.first(), [0, 2, 0, 0, 0, 0, 0, 0], "reflect"), 10)


@row(pinned={"first": "padded"})
def pad_crops_channels(net: Net) -> None:
    net.last(pad(net, net.first(), [0, -2, 0, 0, 0, 0, 0, 0]), 6)


@row(lost={"first": 4, "other": 6}, opsets=(18,))
def pad_named_axes(net: Net) -> None:
    x = net.add("Pad", net.first(), np.array([2, 1, 2, 1]), None, np.array([-3, 2]))
    y = net.add("Pad", other(net, 12), np.array([1, 1]), None, np.array([2]))
    net.last(net.add("Add", x, y), 12)


@row(pinned={"first": "padded"})
def pad_by_computed_amounts(net: Net) -> None:
    pads = net.add("Mul", net.input(8, name="pads", type=INT64), np.array([0] * 3 + [1] + [0] * 4))
    net.output(net.add("GlobalAveragePool", net.add("Pad", net.first(), pads)), shape=[None] * 4)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(mode: str) -> None:
    def build(net: Net) -> None:
        net.last(net.add("DepthToSpace", net.first(16), blocksize=2, mode=mode), 4)

    check_row((build, 17, {"first": 8}, {}, {}))


@row(lost={"first": 8})
def depth_to_space_before_modes(net: Net) -> None:
    net.opset = 9
    net.last(net.add("DepthToSpace", net.first(16), blocksize=2), 4)


@row(pinned={"first": "spread"})
def depth_to_space_of_everything(net: Net) -> None:
    net.last(net.add("DepthToSpace", net.first(4), blocksize=2), 1)


@row(lost={"first": 4})
def space_to_depth(net: Net) -> None:
    net.last(net.add("SpaceToDepth", net.first(), blocksize=2), 32)


@row(lost={"first": 4})
def space_to_depth_and_back(net: Net) -> None:
    x = net.add("Relu", net.add("SpaceToDepth", net.first(), blocksize=2))
    net.last(net.add("DepthToSpace", x, blocksize=2))


@pytest.mark.parametrize("case", row.cases)
def test_oracle(case: Any) -> None:
    check_row(case)
