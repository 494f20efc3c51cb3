"""Attention loses whole heads, or the same channels of every head, whichever way it is written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from attention_models import (
    APART,
    EACH,
    FUSED,
    HEADS,
    INNER,
    TOKENS,
    WIDTH,
    attend,
    fused,
    in_heads,
    linear,
    merged,
    reshape,
    tokens,
    turn,
)
from models import Net, Outcome, Rows, check_row
from prunecvt_passes.plan import write_down
from prunecvt_passes.units import Units

HALF = dict.fromkeys(APART, INNER // 2)
THIRD = dict.fromkeys(APART, HEADS)  # one channel of three, in every head
heads, channels = Rows(), Rows()


def both(lost: dict[str, int], by_channel: dict[str, int], **options: Any) -> Any:
    """A row for each unit."""

    def register(build: Any) -> Any:
        heads(lost, **options)(build)
        channels(by_channel, units=Units(attention="channel"), **options)(build)
        return build

    return register


@both(HALF, THIRD, opsets=(11, 17))
def separate_projections(net: Net) -> None:
    x = tokens(net)
    merged(net, attend(net, *(in_heads(net, linear(net, x, WIDTH, INNER, n)) for n in APART)))


@both(HALF, THIRD)
def separate_projections_of_open_length(net: Net) -> None:
    x = tokens(net, length="T")
    merged(net, attend(net, *(in_heads(net, linear(net, x, WIDTH, INNER, n)) for n in APART)))


@both({FUSED: 3 * INNER // 2}, {FUSED: 3 * HEADS})
def one_projection_parted_by_split(net: Net) -> None:
    parts = net.many("Split", fused(net, tokens(net)), outputs=3, axis=2)
    merged(net, attend(net, *(in_heads(net, part) for part in parts)))


@both({FUSED: 3 * INNER // 2}, {FUSED: 3 * HEADS})
def one_projection_parted_by_slice(net: Net) -> None:
    x = fused(net, tokens(net))
    bounds = [(k * INNER, (k + 1) * INNER) for k in range(3)]
    parts = [net.add("Slice", x, np.array([a]), np.array([b]), np.array([2])) for a, b in bounds]
    merged(net, attend(net, *(in_heads(net, part) for part in parts)))


def gathered(net: Net, x: str, axis: int = 0) -> list[str]:
    return [net.add("Gather", x, np.array(k), axis=axis) for k in range(3)]


@both({FUSED: 3 * INNER // 2}, {FUSED: 3 * HEADS})
def one_projection_parted_by_gather(net: Net) -> None:
    x = reshape(net, fused(net, tokens(net)), 0, TOKENS, 3, HEADS, EACH)
    merged(net, attend(net, *gathered(net, turn(net, x, 2, 0, 3, 1, 4))))


@both({FUSED: 3 * INNER // 2}, {FUSED: 3 * HEADS})
def one_projection_with_heads_outside(net: Net) -> None:
    x = reshape(net, fused(net, tokens(net)), 0, TOKENS, HEADS, 3, EACH)
    merged(net, attend(net, *gathered(net, turn(net, x, 3, 0, 2, 1, 4))))


@both({FUSED: 3 * INNER // 2}, {})
def one_projection_with_channels_parted_in_the_head(net: Net) -> None:
    x = turn(net, reshape(net, fused(net, tokens(net)), 0, TOKENS, HEADS, 3 * EACH), 0, 2, 1, 3)
    merged(net, attend(net, *net.many("Split", x, outputs=3, axis=3)))


@both({FUSED: 3 * INNER // 2}, {FUSED: 3 * HEADS})
def one_projection_with_heads_merged_into_the_batch(net: Net) -> None:
    """Tokens first, as torch.nn.MultiheadAttention writes it."""
    x = fused(net, turn(net, tokens(net), 1, 0, 2))
    x = turn(net, reshape(net, x, TOKENS, -1, 3, INNER), 2, 0, 1, 3)
    parts = [turn(net, reshape(net, p, TOKENS, -1, EACH), 1, 0, 2) for p in gathered(net, x)]
    query, key, value = (reshape(net, p, -1, HEADS, TOKENS, EACH) for p in parts)
    x = turn(net, attend(net, query, key, value), 2, 0, 1, 3)
    net.head(reshape(net, x, -1, INNER), INNER)


@both(HALF, THIRD)
def product_with_heads_merged_into_the_batch(net: Net) -> None:
    x = tokens(net)
    parts = (in_heads(net, linear(net, x, WIDTH, INNER, name)) for name in APART)
    query, key, value = (reshape(net, part, -1, TOKENS, EACH) for part in parts)
    weights = net.add("Softmax", net.add("MatMul", query, turn(net, key, 0, 2, 1)), axis=-1)
    x = reshape(net, net.add("MatMul", weights, value), -1, HEADS, TOKENS, EACH)
    merged(net, x)


@both(HALF, THIRD)
def merged_batch_is_copied_by_a_zero(net: Net) -> None:
    x = tokens(net)
    parts = (in_heads(net, linear(net, x, WIDTH, INNER, name)) for name in APART)
    query, key, value = (reshape(net, part, -1, TOKENS, EACH) for part in parts)
    weights = net.add("Softmax", net.add("MatMul", query, turn(net, key, 0, 2, 1)), axis=-1)
    x = reshape(net, net.add("MatMul", weights, value), 0, 0, EACH, 1)
    merged(net, reshape(net, x, -1, HEADS, TOKENS, EACH))


@channels(dict.fromkeys(APART[:2], HEADS))
def merged_batch_is_cut_at_a_place(net: Net) -> None:
    """Entry 1 of the merged axis is the second head of the first sample, or is it?"""
    x = tokens(net)
    parts = (in_heads(net, linear(net, x, WIDTH, INNER, name)) for name in APART[:2])
    query, key = (reshape(net, part, -1, TOKENS, EACH) for part in parts)
    x = net.add("MatMul", query, turn(net, key, 0, 2, 1))
    net.output(net.add("Slice", x, np.array([1]), np.array([4]), np.array([0])))


@channels(dict.fromkeys(APART[:2], HEADS))
def merged_batch_is_summed_over(net: Net) -> None:
    x = tokens(net)
    parts = (in_heads(net, linear(net, x, WIDTH, INNER, name)) for name in APART[:2])
    query, key = (reshape(net, part, -1, TOKENS, EACH) for part in parts)
    x = net.add("MatMul", query, turn(net, key, 0, 2, 1))
    net.output(net.add("ReduceSum", x, np.array([0])))


@both(HALF, THIRD)
def key_that_is_made_transposed(net: Net) -> None:
    x = tokens(net)
    query, key, value = (linear(net, x, WIDTH, INNER, name) for name in APART)
    key = turn(net, reshape(net, key, 0, TOKENS, HEADS, EACH), 0, 2, 3, 1)
    query = net.add("Mul", in_heads(net, query), np.float32(0.5))
    weights = net.add("Softmax", net.add("MatMul", query, key), axis=-1)
    merged(net, net.add("MatMul", weights, in_heads(net, value)))


@both(HALF, THIRD)
def scales_of_each_head(net: Net) -> None:
    x = tokens(net)
    query, key, value = (in_heads(net, linear(net, x, WIDTH, INNER, n)) for n in APART)
    query = net.add("Mul", net.random(HEADS, 1, 1), query)
    merged(net, attend(net, query, key, value, bias=net.random(1, HEADS, TOKENS, TOKENS)))


@both(HALF, {"value": HEADS})
def queries_and_keys_normalised_in_each_head(net: Net) -> None:
    x = tokens(net)
    query, key, value = (in_heads(net, linear(net, x, WIDTH, INNER, n)) for n in APART)
    query, key = (
        net.add("LayerNormalization", part, net.random(EACH), axis=-1) for part in (query, key)
    )
    merged(net, attend(net, query, key, value))


@both(HALF, {"query": HEADS})
def channels_attend_to_channels(net: Net) -> None:
    """Cross-covariance attention; softmax works across channels, so only heads are free."""
    x = tokens(net)
    query, key, value = (in_heads(net, linear(net, x, WIDTH, INNER, n)) for n in APART)
    scores = net.add("MatMul", turn(net, query, 0, 1, 3, 2), key)
    weights = turn(net, net.add("Softmax", scores, axis=-1), 0, 1, 3, 2)
    merged(net, net.add("MatMul", value, weights))


@both({FUSED: 3 * INNER // 2}, {FUSED: 3 * HEADS})
def windows_with_a_table_of_biases(net: Net) -> None:
    """Windows of three by three tokens, a bias per head from a table, a mask per window."""
    side = 9
    x = reshape(net, net.input("N", 6, 6, WIDTH), 0, 2, 3, 2, 3, WIDTH)
    x = reshape(net, turn(net, x, 0, 1, 3, 2, 4, 5), -1, side, WIDTH)
    x = reshape(net, fused(net, x), -1, side, 3, HEADS, EACH)
    query, key, value = gathered(net, turn(net, x, 2, 0, 3, 1, 4))
    places = net.rng.integers(0, 25, side * side)
    table = net.add("Gather", net.random(25, HEADS, name="table"), places, axis=0)
    table = turn(net, reshape(net, table, side, side, HEADS), 2, 0, 1)
    scores = net.add("MatMul", query, turn(net, key, 0, 1, 3, 2))
    scores = net.add("Add", scores, net.add("Unsqueeze", table, np.array([0])))
    scores = reshape(net, scores, -1, 4, HEADS, side, side)
    scores = net.add("Add", scores, net.random(1, 4, 1, side, side))
    weights = net.add("Softmax", reshape(net, scores, -1, HEADS, side, side), axis=-1)
    x = turn(net, net.add("MatMul", weights, value), 0, 2, 1, 3)
    x = net.add("MatMul", reshape(net, x, -1, side, INNER), net.random(INNER, 4))
    x = turn(net, reshape(net, x, -1, 2, 2, 3, 3, 4), 0, 1, 3, 2, 4, 5)
    net.output(reshape(net, x, -1, 6, 6, 4))


GROUPED = {"query": INNER // 2, "key": EACH, "value": EACH}  # two heads share a key and a value


def repeated(net: Net, x: str, way: str, batch: int) -> str:
    """[N, 2, T, C] -> [N, 4, T, C], each twice in turn."""
    x = net.add("Unsqueeze", x, np.array([2]))
    if way == "Expand":
        x = net.add("Expand", x, np.array([batch, 2, 2, TOKENS, EACH]))
    else:
        x = net.add("Tile", x, np.array([1, 1, 2, 1, 1]))
    return reshape(net, x, -1, HEADS, TOKENS, EACH)


@both(GROUPED, {"query": HEADS, "key": 2, "value": 2})
def heads_share_keys_by_expand(net: Net) -> None:
    x = tokens(net, batch=2)
    query, key, value = shared(net, x)
    key, value = (repeated(net, part, "Expand", 2) for part in (key, value))
    merged(net, attend(net, query, key, value))


def shared(net: Net, x: str) -> list[str]:
    sizes = zip(APART, (HEADS, 2, 2), strict=True)
    return [in_heads(net, linear(net, x, WIDTH, n * EACH, name), n) for name, n in sizes]


@both(GROUPED, {"query": HEADS, "key": 2, "value": 2})
def heads_share_keys_by_tile(net: Net) -> None:
    query, key, value = shared(net, tokens(net))
    key, value = (repeated(net, part, "Tile", 0) for part in (key, value))
    merged(net, attend(net, query, key, value))


@both(GROUPED, {"query": HEADS, "key": 2, "value": 2})
def heads_share_keys_by_broadcast(net: Net) -> None:
    x = tokens(net)
    query = linear(net, x, WIDTH, INNER, "query")
    query = turn(net, reshape(net, query, 0, TOKENS, 2, 2, EACH), 0, 2, 3, 1, 4)
    key, value = (linear(net, x, WIDTH, 2 * EACH, name) for name in APART[1:])
    key = turn(net, reshape(net, key, 0, TOKENS, 2, 1, EACH), 0, 2, 3, 4, 1)
    value = turn(net, reshape(net, value, 0, TOKENS, 2, 1, EACH), 0, 2, 3, 1, 4)
    weights = net.add("Softmax", net.add("MatMul", query, key), axis=-1)
    x = turn(net, net.add("MatMul", weights, value), 0, 3, 1, 2, 4)
    net.head(reshape(net, x, 0, TOKENS, INNER), INNER)


@channels({**THIRD}, units=Units(attention="head"))
def heads_that_are_pinned_leave_channels(net: Net) -> None:
    x = tokens(net)
    query, key, value = (in_heads(net, linear(net, x, WIDTH, INNER, n)) for n in APART)
    scores = net.add("MatMul", query, turn(net, key, 0, 1, 3, 2))
    merged(net, net.add("MatMul", net.add("Softmax", scores, axis=1), value))


@channels({"value": HEADS}, units=Units(attention="head"))
def one_head_that_is_pinned_leaves_the_values(net: Net) -> None:
    """Queries and keys could lose the other heads, but only if the values lost them too."""
    x = tokens(net)
    query, key, value = (in_heads(net, linear(net, x, WIDTH, INNER, n)) for n in APART)
    query, key = (
        net.add("LayerNormalization", part, net.random(EACH), axis=-1) for part in (query, key)
    )
    net.output(net.add("Slice", query, np.array([0]), np.array([1]), np.array([1])))
    merged(net, attend(net, query, key, value))


@channels({"query": INNER // 2}, units=Units(attention="head"))
def shuffle_in_front_of_a_single_head(net: Net) -> None:
    """Nothing here counts heads: the shuffle keeps its default, four triples of channels."""
    x = tokens(net)
    query = reshape(net, linear(net, x, WIDTH, INNER, "query"), 0, TOKENS, 3, HEADS)
    query = reshape(net, turn(net, query, 0, 1, 3, 2), 0, TOKENS, INNER)
    key = turn(net, linear(net, x, WIDTH, INNER, "key"), 0, 2, 1)
    net.output(net.add("Softmax", net.add("MatMul", query, key), axis=-1))


def whole_heads(outcome: Outcome, name: str, each: int) -> bool:
    """Whether the kept channels come in runs of ``each``."""
    plan = write_down(outcome.groups, outcome.removal, "")
    kept = next(np.array(c.kept) for c in plan.channels if c.tensor == name)
    runs = kept.reshape(-1, each)
    return bool((runs == runs[:, :1] // each * each + np.arange(each)).all())


@pytest.mark.parametrize("case", heads.cases)
def test_whole_heads_go(case: Any) -> None:
    outcome = check_row(case)
    for name in case[2]:
        assert whole_heads(outcome, name, EACH), name


@pytest.mark.parametrize("case", channels.cases)
def test_channels_of_every_head_go(case: Any) -> None:
    outcome = check_row(case)
    for name in case[2]:
        assert name in outcome.lost


def test_softmax_across_heads_that_repeat_along_the_batch_is_not_narrowed() -> None:
    """How many channels it would work on changes with the batch, so not even inexact cuts can."""

    def build(net: Net) -> None:
        x = tokens(net)
        query, key, value = (in_heads(net, linear(net, x, WIDTH, INNER, name)) for name in APART)
        query, key, value = (reshape(net, t, -1, TOKENS, EACH) for t in (query, key, value))
        scores = net.add("MatMul", query, turn(net, key, 0, 2, 1))
        mixed = net.add("MatMul", net.add("Softmax", scores, axis=0), value)
        merged(net, reshape(net, mixed, -1, HEADS, TOKENS, EACH))

    lost = dict.fromkeys(APART, HEADS)
    check_row((build, 17, lost, {}, {"units": Units(inexact=True)}))
