"""Attention of com.microsoft: packed, by head and grouped, against the oracle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from models import INT64, Net, Rows, check_oracle, check_row, grouped
from prunecvt_passes.budget import Removal
from prunecvt_passes.cost import cost
from prunecvt_passes.groups import Groups
from prunecvt_passes.units import Units
from test_rules_attention import CHANNELS, finish, lost, pinned, projected

INT32 = 6
row = Rows()


def fused(net: Net, op: str, *inputs: Any, outputs: int = 1, **attrs: Any) -> list[str]:
    return net.many(op, *inputs, outputs=outputs, domain="com.microsoft", **attrs)


def mha(net: Net, *inputs: Any, outputs: int = 1, **attrs: Any) -> list[str]:
    return fused(net, "MultiHeadAttention", *inputs, outputs=outputs, num_heads=4, **attrs)


@pytest.mark.parametrize("unit", ["head", "channel"])
@pytest.mark.parametrize("width", [24, 40])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("attrs", [{}, {"scale": 0.3}, {"scale": 0.0}, {"unidirectional": 1}])
def test_multi_head_attention(unit: Any, width: int, bias: bool, attrs: dict[str, Any]) -> None:
    def build(net: Net) -> None:
        names = projected(net, 24, 24, width)
        added = net.random(48 + width) if bias else None
        finish(net, *mha(net, *names, added, **attrs), width)

    check_row((build, 17, lost(12, 12, width // 2), {}, {"units": Units(attention=unit)}))


@pytest.mark.parametrize("unit", ["head", "channel"])
@pytest.mark.parametrize("shape", [(1, 4, 5, 5), (1, 1, 5, 5)])
def test_attention_bias_of_shape(shape: tuple[int, ...], unit: Any) -> None:
    def build(net: Net) -> None:
        names = projected(net, 24, 24, 24)
        finish(net, *mha(net, *names, None, None, net.random(*shape)), 24)

    check_row((build, 17, lost(12), {}, {"units": Units(attention=unit)}))


def test_products_of_a_declared_type() -> None:
    net = Net()
    made = mha(net, *projected(net, 24, 24, 24), outputs=4)
    net.nodes[-1].output[1] = net.nodes[-1].output[2] = ""
    finish(net, made[0], 24)
    net.output(net.add("ReduceSum", made[3], np.array([1]), keepdims=0), shape=[None] * 3)
    proto = net.proto()
    proto.graph.value_info.add(name=made[3]).type.tensor_type.elem_type = net.type
    assert check_oracle(proto).lost == lost(12)


@row(lost=lost(12))
def padding_mask(net: Net) -> None:
    names = projected(net, 24, 24, 24)
    mask = net.input("N", 5, name="mask", type=INT32)
    finish(net, *mha(net, *names, net.random(72), mask), 24)


@row(pinned=pinned("fixed-partner"))
def bias_from_outside(net: Net) -> None:
    names = projected(net, 24, 24, 24)
    finish(net, *mha(net, *names, net.input(72, name="bias")), 24)


@row(pinned=pinned("fixed-partner"))
def past_from_outside(net: Net) -> None:
    names = projected(net, 24, 24, 24)
    past = [net.input("N", 4, 3, 6, name=name) for name in ("past_key", "past_value")]
    made = mha(net, *names, None, None, None, *past, outputs=3)
    finish(net, made[0], 24)
    for name in made[1:]:
        net.output(name, shape=[None] * 4)


@pytest.mark.parametrize("unit", ["head", "channel"])
def test_constant_past(unit: Any) -> None:
    def build(net: Net) -> None:
        names = projected(net, 24, 24, 24, batch=2)
        past = [net.random(2, 4, 3, 6) for _ in range(2)]
        finish(net, mha(net, *names, None, None, None, *past, outputs=3)[0], 24)

    check_row((build, 17, lost(12), {}, {"units": Units(attention=unit)}))


@pytest.mark.parametrize("unit", ["head", "channel"])
def test_keys_that_come_by_head(unit: Any) -> None:
    def build(net: Net) -> None:
        names = projected(net, 24, 24, 24, batch=2)
        past = [net.random(2, 4, 5, 6) for _ in range(2)]
        finish(net, *mha(net, names[0], *past), 24)

    check_row((build, 17, {"query": 12}, {}, {"units": Units(attention=unit)}))


@row(pinned=pinned("graph-output"))
def products_seen_from_outside(net: Net) -> None:
    made = mha(net, *projected(net, 24, 24, 24), outputs=4)
    net.nodes[-1].output[1] = net.nodes[-1].output[2] = ""
    finish(net, made[0], 24)
    net.output(made[3], shape=[None] * 4)  # its type is stated here alone


def packed(net: Net, sizes: tuple[int, ...], *inputs: Any, outputs: int = 1, **attrs: Any) -> str:
    x = net.add("MatMul", net.input(attrs.pop("batch", "N"), 5, 3), net.random(3, 8), name="first")
    weight, bias = net.random(8, sum(sizes), scale=0.4), net.random(sum(sizes))
    made = [net.fresh() for _ in range(outputs - 1)]
    fused(net, "Attention", x, weight, bias, *inputs, num_heads=4, **attrs)
    net.nodes[-1].output[0] = "middle"
    net.nodes[-1].output.extend(made)
    finish(net, "middle", sizes[2])
    return made[0] if made else ""


@pytest.mark.parametrize("attrs", [{}, {"scale": 0.3}, {"unidirectional": 1}])
@pytest.mark.parametrize("unit", ["head", "channel"])
def test_packed_attention(unit: Any, attrs: dict[str, Any]) -> None:
    def build(net: Net) -> None:
        packed(net, (24, 24, 24), **attrs)

    check_row((build, 17, {"first": 4, "middle": 36}, {}, {"units": Units(attention=unit)}))


@pytest.mark.parametrize("unit", ["head", "channel"])
def test_packed_attention_with_sizes(unit: Any) -> None:
    def build(net: Net) -> None:
        packed(net, (24, 24, 40), qkv_hidden_sizes=[24, 24, 40])

    check_row((build, 17, {"first": 4, "middle": 44}, {}, {"units": Units(attention=unit)}))


@pytest.mark.parametrize("unit", ["head", "channel"])
def test_packed_attention_with_a_bias_of_scores(unit: Any) -> None:
    def build(net: Net) -> None:
        packed(net, (24, 24, 24), None, None, net.random(1, 4, 5, 5))

    check_row((build, 17, {"first": 4, "middle": 36}, {}, {"units": Units(attention=unit)}))


@pytest.mark.parametrize("unit", ["head", "channel"])
def test_packed_attention_with_a_constant_past(unit: Any) -> None:
    def build(net: Net) -> None:
        present = packed(net, (24, 24, 24), None, net.random(2, 2, 4, 3, 6), outputs=2, batch=2)
        net.output(net.add("ReduceSum", present, np.array([2, 4])), shape=[None] * 5)

    check_row((build, 17, {"first": 4, "middle": 36}, {}, {"units": Units(attention=unit)}))


@row(lost={"first": 4}, pinned={"middle": "graph-output"})
def packed_attention_with_a_present(net: Net) -> None:
    net.output(packed(net, (24, 24, 24), outputs=2), shape=[None] * 5)


@row(lost={"first": 4, "middle": 36})
def packed_attention_with_a_mask(net: Net) -> None:
    mask = net.input("N", 5, name="mask", type=INT32)
    net.inputs.reverse()
    packed(net, (24, 24, 24), mask)
    net.inputs.reverse()


def gqa(net: Net, *inputs: Any, own: int = 2, width: int = 8, **attrs: Any) -> list[str]:
    """GroupQueryAttention of a prompt: 4 heads on ``own`` heads, two sentences of 5 tokens."""
    lengths = np.array([4, 4], np.int32)
    places = {"num_heads": 4, "kv_num_heads": own, **attrs}
    state = [net.constant(np.zeros((2, own, 0, width), np.float32)) for _ in range(2)]
    five = np.array(5, np.int32)
    names = [*inputs[:3], *state, lengths, five, *inputs[3:]]
    return fused(net, "GroupQueryAttention", *names, outputs=3, **places)


@pytest.mark.parametrize("own", [1, 2, 4])
@pytest.mark.parametrize("attrs", [{}, {"scale": 0.3, "softcap": 3.0, "local_window_size": 3}])
def test_group_query_attention(own: int, attrs: dict[str, Any]) -> None:
    def build(net: Net) -> None:
        names = projected(net, 32, own * 8, own * 8, batch=2)
        finish(net, gqa(net, *names, own=own, **attrs)[0], 32)

    expected = {"query": 16} if own == 1 else lost(16, own * 4)
    check_row((build, 17, expected, {}, {}))


@row(lost=lost(32, 16))
def group_query_attention_that_rotates(net: Net) -> None:
    names = projected(net, 64, 32, 32, batch=2)
    tables = [net.random(9, 8), net.random(9, 8)]
    finish(net, gqa(net, *names, *tables, width=16, do_rotary=1)[0], 64)


@row(lost={"query": 32})
def group_query_attention_packed(net: Net) -> None:
    (x,) = projected(net, 64, batch=2)
    finish(net, gqa(net, x, None, None)[0], 32)


@row(lost=lost(16, 8))
def group_query_attention_with_sinks_and_biases(net: Net) -> None:
    names = projected(net, 32, 16, 16, batch=2)
    x = gqa(net, *names, None, None, None, net.random(1, 4, 5, 5), net.random(4))
    finish(net, x[0], 32)


@row(pinned=pinned("head-size"), **CHANNELS)
def group_query_attention_channels(net: Net) -> None:
    finish(net, gqa(net, *projected(net, 32, 16, 16, batch=2))[0], 32)


@row(pinned=pinned("graph-output"))
def group_query_attention_with_a_present(net: Net) -> None:
    made = gqa(net, *projected(net, 32, 16, 16, batch=2))
    finish(net, made[0], 32)
    net.output(made[1], shape=[None] * 4)


@pytest.mark.parametrize("unit", ["head", "channel"])
@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("partial", [0, 4])
def test_rotary(unit: Any, interleaved: int, partial: int) -> None:
    def build(net: Net) -> None:
        query, key, value = projected(net, 32, 32, 32)
        places = net.add("Mod", net.input("N", 5, name="places", type=INT64), np.array(9))
        attrs = {"rotary_embedding_dim": partial, "num_heads": 4} if partial else {}
        query, key = (
            fused(
                net,
                "RotaryEmbedding",
                name,
                places,
                net.random(9, (partial or 8) // 2),
                net.random(9, (partial or 8) // 2),
                interleaved=interleaved,
                **attrs,
            )[0]
            for name in (query, key)
        )
        finish(net, *mha(net, query, key, value), 32)

    check_row((build, 17, lost(16), {}, {"units": Units(attention=unit)}))


def part_of(member: str, share: float) -> Callable[[Groups], Removal]:
    """Removes a share of the groups that ``member`` makes channels of."""

    def decide(groups: Groups) -> Removal:
        removed = np.zeros(groups.total, bool)
        for group in groups.groups:
            if member in group.members:
                removed[group.classes[: int(group.size * share)]] = True
        return Removal(removed, {})

    return decide


@pytest.mark.parametrize("member", ["query", "value"])
@pytest.mark.parametrize("unit", ["head", "channel"])
@pytest.mark.parametrize("layout", ["plain", "present", "past"])
def test_uneven_cuts(member: str, unit: Any, layout: str) -> None:
    net = Net()
    names = projected(net, 24, 24, 24, batch=2)
    past = [net.random(2, 4, 3, 6) for _ in range(2)] if layout == "past" else []
    made = mha(
        net, *names, net.random(72), None, None, *past, outputs=1 if layout == "plain" else 3
    )
    finish(net, made[0], 24)
    decide = part_of(member, 2 / 3)
    outcome = check_oracle(net.proto(), decide=decide, units=Units(attention=unit))
    together = unit == "head" or layout == "past"  # onnxruntime wants past states of one size
    assert ("query" in outcome.lost) == (member == "query" or together)
    assert ("value" in outcome.lost) == (member == "value" or together)


@pytest.mark.parametrize("which", [0, 1])
def test_packed_attention_cuts_products_and_values_apart(which: int) -> None:
    net = Net()
    packed(net, (24, 24, 24))

    def decide(groups: Groups) -> Removal:
        made = [group for group in groups.groups if group.members == ("middle",)]
        removed = np.zeros(groups.total, bool)
        removed[made[which].classes[:4]] = True
        return Removal(removed, {})

    outcome = check_oracle(net.proto(), decide=decide, units=Units(attention="channel"))
    assert outcome.lost == {"middle": (32, 16)[which]}


@pytest.mark.parametrize("case", row.cases)
def test_oracle(case: Any) -> None:
    check_row(case)


@pytest.mark.parametrize(
    ("op", "macs"),
    [("mha", 2 * 5 * 5 * 24), ("packed", 5 * 8 * 72 + 2 * 5 * 5 * 24 - 5 * 3 * 64)],
)
def test_multiply_accumulates(op: str, macs: int) -> None:
    net = Net()
    if op == "mha":
        finish(net, *mha(net, *projected(net, 24, 24, 24)), 24)
    else:
        packed(net, (24, 24, 24))
    dense, _ = grouped(net.proto())
    assert cost(dense.graph, dense.batch).macs == 5 * 3 * 72 + 5 * 24 * 4 + macs
