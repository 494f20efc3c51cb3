"""Operators of com.microsoft that stand for several, against the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from models import Net, Rows, check_oracle, check_row
from prunecvt_passes.units import Units
from test_rules_attention import finish, projected

INT32 = 6
row = Rows()


def fused(net: Net, op: str, *inputs: Any, outputs: int = 1, **attrs: Any) -> list[str]:
    return net.many(op, *inputs, outputs=outputs, domain="com.microsoft", **attrs)


def last(net: Net, x: str) -> None:
    net.output(net.conv(x, 8, 4, name="last"), shape=[None] * 4)


ACTIVATIONS = ("Gelu", "FastGelu", "QuickGelu", "ScaledSiLU")


@pytest.mark.parametrize("op", ACTIVATIONS)
def test_activation(op: str) -> None:
    def build(net: Net) -> None:
        last(net, *fused(net, op, net.first()))

    check_row((build, 17, {"first": 4}, {}, {}))


@pytest.mark.parametrize("op", ["BiasGelu", "FastGelu"])
def test_activation_with_bias(op: str) -> None:
    def build(net: Net) -> None:
        (x,) = projected(net, 8)
        finish(net, *fused(net, op, x, net.random(8)), 8)

    check_row((build, 17, {"query": 4}, {}, {}))


@row(lost={"query": 4, "key": 4})
def gated_add(net: Net) -> None:
    x, y = projected(net, 8, 8)
    gate = net.add("MatMul", "x", net.random(3, 1))
    finish(net, *fused(net, "GatedAdd", x, y, gate), 8)


@pytest.mark.parametrize("activation", ["Relu", "HardSigmoid"])
@pytest.mark.parametrize("added", [True, False])
@pytest.mark.parametrize("group", [1, 2, 8])
def test_fused_conv(activation: str, added: bool, group: int) -> None:
    def build(net: Net) -> None:
        x = net.first()
        y = net.conv(x, 8, 8, 3, bias=False)
        weight = net.random(8, 8 // group, 1, 1)
        params = {"activation_params": [0.3, 0.6]} if activation == "HardSigmoid" else {}
        more = [y] if added else []
        attrs = {"activation": activation, "group": group, "kernel_shape": [1, 1]}
        (x,) = fused(net, "FusedConv", x, weight, net.random(8), *more, **attrs, **params)
        last(net, x)

    check_row((build, 17, {"first": 4}, {}, {}))


@row(lost={"first": 4, "middle": 5})
def fused_gemm(net: Net) -> None:
    x = net.add("Flatten", net.add("GlobalAveragePool", net.first()))
    fused(net, "FusedGemm", x, net.random(10, 8), net.random(10), transB=1, activation="Relu")
    net.nodes[-1].output[0] = "middle"
    net.output(net.add("MatMul", "middle", net.random(10, 4)), shape=[None] * 2)


@pytest.mark.parametrize("op", ["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"])
@pytest.mark.parametrize("outputs", [1, 4])
def test_skip_normalization(op: str, outputs: int) -> None:
    def build(net: Net) -> None:
        x, y, z = projected(net, 8, 8, 8)
        parameters = [net.random(8) for _ in range(2 if op.startswith("SkipL") else 1)]
        made = fused(net, op, x, y, *parameters, net.random(8), outputs=outputs)
        if outputs == 4:
            net.nodes[-1].output[1] = net.nodes[-1].output[2] = ""
        finish(net, net.add("Add", net.add("Add", made[0], made[-1]), z), 8)

    check_row((build, 17, {}, {"query": "mixed-axis", "key": "mixed-axis"}, {}))


@pytest.mark.parametrize("op", ["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"])
@pytest.mark.parametrize("outputs", [1, 4])
def test_skip_normalization_inexactly(op: str, outputs: int) -> None:
    net = Net()
    x, y = projected(net, 8, 8)
    parameters = [net.random(8) for _ in range(2 if op.startswith("SkipL") else 1)]
    made = fused(net, op, x, y, *parameters, net.random(8), outputs=outputs)
    if outputs == 4:
        net.nodes[-1].output[1] = net.nodes[-1].output[2] = ""
    finish(net, net.add("Add", made[0], made[-1]), 8)
    outcome = check_oracle(net.proto(), units=Units(inexact=True))
    assert outcome.lost == {"query": 4, "key": 4}


@row(lost={"query": 4})
def skip_normalization_across_tokens(net: Net) -> None:
    x = net.add("Transpose", projected(net, 8)[0], perm=[0, 2, 1])
    inputs = [net.random(8, 5), net.random(5), net.random(5), net.random(5)]
    (x,) = fused(net, "SkipLayerNormalization", x, *inputs)
    finish(net, net.add("Transpose", x, perm=[0, 2, 1]), 8)


@pytest.mark.parametrize("axis", [-1, 1, 2])
def test_simplified_normalization(axis: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx.checker, "check_model", lambda *_, **__: None)  # it knows no such

    def build(net: Net) -> None:
        x = net.add("Transpose", projected(net, 8)[0], perm=[0, 2, 1])
        scale = net.random(8, 5) if axis == 1 else net.random(5)
        x = net.add("SimplifiedLayerNormalization", x, scale, axis=axis)
        finish(net, net.add("Transpose", x, perm=[0, 2, 1]), 8)

    stays = {"query": "mixed-axis"} if axis == 1 else {}
    check_row((build, 17, {} if axis == 1 else {"query": 4}, stays, {}))


@row(lost={"middle": 4})
def embed_normalization(net: Net) -> None:
    ids = net.add("Mod", net.input("N", 5, name="ids", type=INT32), np.array(9, np.int32))
    tables = [net.random(9, 8), net.random(5, 8), net.random(9, 8), net.random(8), net.random(8)]
    made = fused(net, "EmbedLayerNormalization", ids, ids, *tables, outputs=3)
    x = net.add("Add", made[0], made[2])
    x = net.add("MatMul", x, net.random(8, 8), name="middle")
    finish(net, x, 8)


@row(pinned={"first": "size-read"})
def size_read_by_a_fused_operator(net: Net) -> None:
    x = net.add("Relu", net.first())
    size = net.add("Slice", net.add("Shape", x), np.array([0]), np.array([2]))  # batch, channels
    factors = net.add("Cast", size, to=1)
    factors = net.add("Reshape", net.add("ReduceSum", *fused(net, "Gelu", factors)), np.array([1]))
    last(net, net.add("Mul", x, factors))


@row(lost={"first": 4}, tolerance=2e-2)
def half_precision(net: Net) -> None:
    net.dtype = np.dtype(np.float16)
    last(net, *fused(net, "Gelu", net.first()))


@pytest.mark.parametrize("case", row.cases)
def test_oracle(case: Any) -> None:
    check_row(case)
