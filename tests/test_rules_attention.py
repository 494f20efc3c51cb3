"""Attention in one node, of the newest opsets and of com.microsoft, against the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models import INT64, Net, Rows, check_row, grouped
from prunecvt_passes.cost import cost
from prunecvt_passes.units import Units

row = Rows()
CHANNELS = {"units": Units(attention="channel")}
ALL = ("query", "key", "value")


def lost(query: int, key: int | None = None, value: int | None = None) -> dict[str, int]:
    key = query if key is None else key
    return {"query": query, "key": key, "value": key if value is None else value}


def pinned(code: str, *names: str) -> dict[str, str]:
    return dict.fromkeys(names or ALL, code)


def projected(net: Net, *features: int, batch: Any = "N") -> list[str]:
    """Tokens [batch, 5, 3] projected to query, key and value."""
    x = net.input(batch, 5, 3)
    return [
        net.add("MatMul", x, net.random(3, size), name=name)
        for name, size in zip(ALL, features, strict=False)
    ]


def by_head(net: Net, name: str, count: int, width: int) -> str:
    """[N, 5, heads * width] as [N, heads, 5, width]."""
    x = net.add("Reshape", name, np.array([0, 0, count, width]))
    return net.add("Transpose", x, perm=[0, 2, 1, 3])


def finish(net: Net, x: str, features: int) -> None:
    x = net.add("MatMul", x, net.random(features, 4), name="last")
    net.output(x, shape=[None] * 3)


def onnx_attention(net: Net, *inputs: Any, outputs: int = 1, **attrs: Any) -> list[str]:
    return net.many("Attention", *inputs, outputs=outputs, **attrs)


HEADS = {"q_num_heads": 4, "kv_num_heads": 4}
GROUPED = {"q_num_heads": 4, "kv_num_heads": 2}
SINGLE = {"q_num_heads": 4, "kv_num_heads": 1}


@row(lost=lost(12), opsets=[23, 24])
def flat_heads(net: Net) -> None:
    finish(net, *onnx_attention(net, *projected(net, 24, 24, 24), **HEADS), 24)


@row(lost=lost(12), opsets=[23], **CHANNELS)
def flat_channels(net: Net) -> None:
    finish(net, *onnx_attention(net, *projected(net, 24, 24, 24), **HEADS), 24)


@row(lost=lost(12), opsets=[23], **CHANNELS)
def flat_channels_with_scale(net: Net) -> None:
    finish(net, *onnx_attention(net, *projected(net, 24, 24, 24), scale=0.7, **HEADS), 24)


@row(lost=lost(12, 12, 20), opsets=[23])
def values_of_another_width(net: Net) -> None:
    finish(net, *onnx_attention(net, *projected(net, 24, 24, 40), **HEADS), 40)


@row(lost=lost(12, 12, 20), opsets=[23], **CHANNELS)
def values_of_another_width_channels(net: Net) -> None:
    finish(net, *onnx_attention(net, *projected(net, 24, 24, 40), **HEADS), 40)


@row(lost=lost(12, 6), opsets=[23])
def grouped_heads(net: Net) -> None:
    finish(net, *onnx_attention(net, *projected(net, 24, 12, 12), **GROUPED), 24)


@row(lost=lost(12, 6), opsets=[23], **CHANNELS)
def grouped_channels(net: Net) -> None:
    finish(net, *onnx_attention(net, *projected(net, 24, 12, 12), **GROUPED), 24)


@row(lost={"query": 12}, pinned=pinned("single", "key", "value"), opsets=[23])
def one_head_of_keys(net: Net) -> None:
    finish(net, *onnx_attention(net, *projected(net, 24, 6, 6), **SINGLE), 24)


@row(lost=lost(12, 3), opsets=[23], **CHANNELS)
def one_head_of_keys_channels(net: Net) -> None:
    finish(net, *onnx_attention(net, *projected(net, 24, 6, 6), **SINGLE), 24)


@row(lost=lost(4), opsets=[23])
def one_head(net: Net) -> None:
    attrs = {"q_num_heads": 1, "kv_num_heads": 1}
    finish(net, *onnx_attention(net, *projected(net, 8, 8, 8), **attrs), 8)


@row(pinned=pinned("single"), opsets=[23], **CHANNELS)
def heads_of_one_channel(net: Net) -> None:
    finish(net, *onnx_attention(net, *projected(net, 4, 4, 4), **HEADS), 4)


@row(lost=lost(12), opsets=[23])
def causal_capped(net: Net) -> None:
    x = onnx_attention(net, *projected(net, 24, 24, 24), is_causal=1, softcap=2.0, **HEADS)
    finish(net, *x, 24)


@row(lost=lost(12), opsets=[23], **CHANNELS)
def causal_capped_channels(net: Net) -> None:
    x = onnx_attention(net, *projected(net, 24, 24, 24), is_causal=1, softcap=2.0, **HEADS)
    finish(net, *x, 24)


MASKS = [(5, 5), (4, 5, 5), (1, 4, 5, 5), (1, 1, 5, 5), (1, 5, 5)]


@pytest.mark.parametrize("unit", ["head", "channel"])
@pytest.mark.parametrize("shape", MASKS)
def test_constant_mask_of_shape(shape: tuple[int, ...], unit: Any) -> None:
    def build(net: Net) -> None:
        names = projected(net, 24, 24, 24)
        finish(net, *onnx_attention(net, *names, net.random(*shape), **HEADS), 24)

    check_row((build, 23, lost(12), {}, {"units": Units(attention=unit)}))


@row(lost=lost(12), opsets=[23])
def boolean_mask(net: Net) -> None:
    names = projected(net, 24, 24, 24)
    finish(net, *onnx_attention(net, *names, np.tri(5, dtype=bool), **HEADS), 24)


@row(pinned=pinned("fixed-partner"), opsets=[23])
def mask_per_head_from_outside(net: Net) -> None:
    names = projected(net, 24, 24, 24)
    mask = net.input("N", 4, 5, 5, name="mask")
    finish(net, *onnx_attention(net, *names, mask, **HEADS), 24)


@row(lost=lost(12), opsets=[23])
def mask_for_all_heads_from_outside(net: Net) -> None:
    names = projected(net, 24, 24, 24)
    mask = net.input("N", 1, 5, 5, name="mask")
    finish(net, *onnx_attention(net, *names, mask, **HEADS), 24)


@row(lost=lost(12), opsets=[23])
def mask_made_per_head(net: Net) -> None:
    names = projected(net, 24, 24, 24)
    mask = net.add("Transpose", net.add("MatMul", "x", net.random(3, 4)), perm=[0, 2, 1])
    mask = net.add("Unsqueeze", mask, np.array([3]))
    mask = net.add("Expand", mask, np.array([1, 1, 1, 5]))
    finish(net, *onnx_attention(net, *names, mask, **HEADS), 24)


@row(pinned=pinned("fixed-partner"), opsets=[23])
def past_and_present(net: Net) -> None:
    names = projected(net, 24, 24, 24)
    past = [net.input("N", 4, 3, 6, name=name) for name in ("past_key", "past_value")]
    made = onnx_attention(net, *names, None, *past, outputs=3, **HEADS)
    finish(net, made[0], 24)
    for name in made[1:]:
        net.output(name, shape=[None] * 4)


@pytest.mark.parametrize("unit", ["head", "channel"])
@pytest.mark.parametrize("own", [2, 4])
def test_constant_past(unit: Any, own: int) -> None:
    def build(net: Net) -> None:
        names = projected(net, 24, own * 6, own * 6, batch=2)
        past = [net.random(2, own, 3, 6) for _ in range(2)]
        x = onnx_attention(net, *names, None, *past, outputs=3, q_num_heads=4, kv_num_heads=own)
        finish(net, x[0], 24)

    check_row((build, 23, lost(12, own * 3), {}, {"units": Units(attention=unit)}))


@row(lost=lost(12), opsets=[23])
def present_that_is_summed(net: Net) -> None:
    names = projected(net, 24, 24, 24)
    made = onnx_attention(net, *names, None, None, None, outputs=3, **HEADS)
    finish(net, made[0], 24)
    net.output(net.add("ReduceSum", made[1], np.array([1]), keepdims=0), shape=[None] * 3)


@pytest.mark.parametrize("mode", [0, 1, 2, 3])
@pytest.mark.parametrize("unit", ["head", "channel"])
def test_products_summed_over_heads(mode: int, unit: Any) -> None:
    def build(net: Net) -> None:
        names = projected(net, 24, 24, 24)
        made = onnx_attention(net, *names, outputs=4, qk_matmul_output_mode=mode, **HEADS)
        net.nodes[-1].output[1] = net.nodes[-1].output[2] = ""
        finish(net, made[0], 24)
        net.output(net.add("ReduceSum", made[3], np.array([1]), keepdims=0), shape=[None] * 3)

    check_row((build, 23, lost(12), {}, {"units": Units(attention=unit)}))


@row(pinned=pinned("graph-output"), opsets=[23])
def products_seen_from_outside(net: Net) -> None:
    made = onnx_attention(net, *projected(net, 24, 24, 24), outputs=4, **HEADS)
    net.nodes[-1].output[1] = net.nodes[-1].output[2] = ""
    finish(net, made[0], 24)
    net.output(made[3], shape=[None] * 4)


@pytest.mark.parametrize("own", [1, 2, 4])
def test_four_dimensional(own: int) -> None:
    def build(net: Net) -> None:
        names = projected(net, 24, own * 6, own * 6)
        parts = [by_head(net, n, h, 6) for n, h in zip(names, (4, own, own), strict=True)]
        x = net.add("Attention", *parts)
        x = net.add("Reshape", net.add("Transpose", x, perm=[0, 2, 1, 3]), np.array([0, 0, 24]))
        finish(net, x, 24)

    found = check_row((build, 23, {}, {}, {}))
    assert found.lost == lost(12, own * 3) or found.lost == {"query": 12}


@row(lost=lost(4), opsets=[23])
def four_dimensional_heads_made_one_by_one(net: Net) -> None:
    x = net.input("N", 1, 5, 3)
    parts = [net.add("MatMul", x, net.random(1, 4, 3, 8), name=name) for name in ALL]
    x = net.add("Attention", *parts)
    x = net.add("MatMul", x, net.random(4, 8, 4), name="last")
    net.output(net.add("ReduceSum", x, np.array([1]), keepdims=0), shape=[None] * 3)


@row(lost=lost(12), opsets=[23])
def two_attentions_in_a_row(net: Net) -> None:
    x = onnx_attention(net, *projected(net, 24, 24, 24), **HEADS)[0]
    y = onnx_attention(net, x, x, x, q_num_heads=2, kv_num_heads=2)[0]
    finish(net, y, 24)


def rope(net: Net, x: str, columns: int, where: bool = True, **attrs: Any) -> str:
    """RotaryEmbedding of opset 23 with tables of ``columns`` angles."""
    shape = (9, columns) if where else (2, 5, columns)
    tables = [net.random(*shape), net.random(*shape)]
    if not where:
        return net.add("RotaryEmbedding", x, *tables, **attrs)
    places = net.input("N", 5, name="places", type=INT64) if len(net.inputs) < 2 else "places"
    places = net.add("Mod", places, np.array(9))
    return net.add("RotaryEmbedding", x, *tables, places, **attrs)


@pytest.mark.parametrize("unit", ["head", "channel"])
@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("partial", [0, 4, 8])
@pytest.mark.parametrize("where", [True, False])
def test_rotary(unit: Any, interleaved: int, partial: int, where: bool) -> None:
    def build(net: Net) -> None:
        query, key, value = projected(net, 32, 32, 32, batch="N" if where else 2)
        attrs = {"interleaved": interleaved, "num_heads": 4}
        attrs |= {"rotary_embedding_dim": partial} if partial else {}
        query, key = (rope(net, n, (partial or 8) // 2, where, **attrs) for n in (query, key))
        finish(net, *onnx_attention(net, query, key, value, **HEADS), 32)

    check_row((build, 23, lost(16), {}, {"units": Units(attention=unit)}))


@pytest.mark.parametrize("partial", [0, 4])
def test_rotary_four_dimensional(partial: int) -> None:
    def build(net: Net) -> None:
        query, key, value = (by_head(net, n, 4, 8) for n in projected(net, 32, 32, 32))
        attrs = {"rotary_embedding_dim": partial} if partial else {}
        query, key = (rope(net, n, (partial or 8) // 2, **attrs) for n in (query, key))
        x = net.add("Attention", query, key, value)
        x = net.add("Reshape", net.add("Transpose", x, perm=[0, 2, 1, 3]), np.array([0, 0, 32]))
        finish(net, x, 32)

    check_row((build, 23, lost(16), {}, {}))


@row(pinned=pinned("fixed-partner", "query", "key"), opsets=[23], **CHANNELS)
def rotary_tables_from_outside(net: Net) -> None:
    query, key, value = projected(net, 32, 32, 32)
    tables = [net.input("N", 5, 4, name=name) for name in ("cos", "sin")]
    query, key = (net.add("RotaryEmbedding", n, *tables, num_heads=4) for n in (query, key))
    finish(net, *onnx_attention(net, query, key, value, **HEADS), 32)


@pytest.mark.parametrize("case", row.cases)
def test_oracle(case: Any) -> None:
    check_row(case)


def test_multiply_accumulates() -> None:
    net = Net(opset=23)
    finish(net, *onnx_attention(net, *projected(net, 24, 12, 12), **GROUPED), 24)
    dense, _ = grouped(net.proto())
    projections = 5 * 3 * (24 + 12 + 12) + 5 * 24 * 4
    assert cost(dense.graph, dense.batch).macs == projections + 2 * 5 * 5 * 24
