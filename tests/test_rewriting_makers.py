"""Clean-ups before writing: picked channels that the weights before them take over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from models import SIDE, WIDTH, Net
from test_rewriting import END, REVERSED, cut, gather, op, operators, rewritten, through

Build = Callable[[Net], Any]


@pytest.mark.parametrize(
    "steps",
    [
        (gather(REVERSED),),
        (gather([4, 1, 1]),),
        (gather([-1, 0]),),
        (cut(1, 6),),
        (cut(-1, -END, -2),),
        (op("Relu"), gather([4, 1, 1])),
        (op("Relu"), op("Sigmoid"), cut(2, 7)),
        (lambda net, x: net.add("Clip", x, np.float32(0), np.float32(6)), gather(REVERSED)),
    ],
)
def test_channels_are_made_as_they_are_picked(
    steps: tuple[Callable[[Net, str], str], ...],
) -> None:
    found = rewritten(through(*steps))
    assert not {"Slice", "Gather"} & set(operators(found))
    assert [each.rule for each in found.done] == ["folded into the weights before it"]


@pytest.mark.parametrize(
    "step",
    [
        lambda net, x: net.conv(x, WIDTH, WIDTH, 3, bias=False),
        lambda net, x: net.add("ConvTranspose", x, net.random(8, 8, 2, 2), net.random(8)),
    ],
)
def test_other_makers(step: Callable[[Net, str], str]) -> None:
    found = rewritten(through(step, gather([4, 1, 0])))
    assert "Gather" not in operators(found)


@pytest.mark.parametrize("trans", [0, 1])
@pytest.mark.parametrize("bias", [(5,), (1, 5), (1,), (), None])
def test_gemm_makes_what_is_picked(trans: int, bias: tuple[int, ...] | None) -> None:
    def build(net: Net) -> None:
        weight = net.random(*((5, 4) if trans else (4, 5)))
        added = () if bias is None else (net.random(*bias),)
        x = net.add("Gemm", net.input("N", 4), weight, *added, transB=trans)
        net.output(net.add("Gather", x, np.array([3, 0]), axis=-1), shape=[None] * 2)

    assert operators(rewritten(build)) == ["Gemm"]


def test_matmul_makes_and_reads_what_is_picked() -> None:
    def build(net: Net) -> None:
        x = net.add("MatMul", net.input("N", 3, 4), net.random(4, 6))
        x = net.add("Softmax", gather(REVERSED[-6:], 2)(net, x))
        x = gather([3, 0, 5, 1, 2, 4], -1)(net, x)
        net.output(net.add("MatMul", x, net.random(6, 4)), shape=[None] * 3)

    found = rewritten(build)
    assert operators(found) == ["MatMul", "Softmax", "MatMul"]
    assert [each.rule[-9:] for each in found.done] == ["before it", " after it"]


def test_more_channels_than_are_made_stay_picked() -> None:
    found = rewritten(through(gather([0, 1] * WIDTH)))
    assert "Gather" in operators(found)
    assert "would have to make more" in found.done[0].left[0]


def shared_weight(net: Net) -> str:
    weight = net.random(8, 3, 1, 1)
    x = net.input("N", 3, SIDE, SIDE)
    one, other = (net.add("Conv", each, weight) for each in (x, net.add("Relu", x)))
    return net.output(net.add("Add", gather(REVERSED)(net, one), other), shape=[None] * 4)


def shared_output(net: Net) -> str:
    x = net.first()
    return net.output(net.add("Add", x, gather(REVERSED)(net, x)), shape=[None] * 4)


def output_too(net: Net) -> str:
    x = net.output(net.first(), shape=[None] * 4)
    return net.output(gather(REVERSED)(net, x), shape=[None] * 4)


def grouped(net: Net) -> str:
    x = net.conv(net.first(), 8, 8, 3, group=2)
    return net.output(gather(REVERSED)(net, x), shape=[None] * 4)


def across_the_batch(net: Net) -> str:
    return net.output(gather([0, 0], 0)(net, net.first(batch=2)), shape=[None] * 4)


def across_rows(net: Net) -> str:
    return net.output(gather([1, 0], 2)(net, net.first()), shape=[None] * 4)


def indices_of_rank_two(net: Net) -> str:
    x = net.add("Gather", net.first(), np.array([[1, 0], [2, 3]]), axis=1)
    return net.output(x, shape=[None] * 5)


def open_channels(net: Net) -> str:
    x = net.input("N", "C", 4)
    return net.output(cut(0, 2)(net, net.add("Relu", x)), shape=[None] * 3)


def bounds_that_are_computed(net: Net) -> str:
    x = net.first()
    count = net.add("Min", net.add("Shape", net.add("NonZero", x), end=1), np.array([4]))
    cast = net.add("Slice", x, np.array([0]), count, np.array([1]))
    return net.output(cast, shape=[None] * 4)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (shared_weight, "shares its weight"),
        (shared_output, ""),
        (output_too, ""),
        (grouped, "works in groups of channels"),
        (across_the_batch, ""),
        (across_rows, ""),
        (indices_of_rank_two, ""),
        (open_channels, ""),
        (bounds_that_are_computed, ""),
    ],
)
def test_what_the_weights_before_cannot_do_stays(build: Build, reason: str) -> None:
    found = rewritten(build)
    assert not found.changed
    left = [each for row in found.done for each in row.left]
    assert reason in "".join(left)
    assert len(left) == bool(reason)
    assert {"Gather", "Slice"} & set(operators(found))
