"""Einsum of any equation and FusedMatMul, against the oracle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from models import Net, Rows, check_row, grouped
from prunecvt_passes.cost import Cost, cost
from prunecvt_passes.rules.einsum import subscripts
from prunecvt_passes.score import Criterion, score
from prunecvt_passes.units import Units

row = Rows()
CHANNELS = Units(attention="channel")


def tokens(net: Net, name: str = "first", batch: Any = "N", features: int = 8) -> str:
    x = net.inputs[0].name if net.inputs else net.input(batch, 5, 3)
    return net.add("MatMul", x, net.random(3, features), name=name)


def project(net: Net, equation: str, *shape: int, name: str = "middle") -> str:
    """An Einsum of the tokens ``first`` and a weight."""
    return net.add("Einsum", tokens(net), net.random(*shape), name=name, equation=equation)


@row(lost={"first": 4, "middle": 5})
def weight_on_the_right(net: Net) -> None:
    net.head(project(net, "bsc,cd->bsd", 8, 10), 10)


@row(lost={"first": 4, "middle": 5})
def weight_on_the_left(net: Net) -> None:
    x = net.add("Einsum", net.random(10, 8), tokens(net), name="middle", equation="dc,bsc->bsd")
    net.head(x, 10)


@row(lost={"first": 4, "middle": 5})
def spaces_and_capitals(net: Net) -> None:
    net.head(project(net, " b S c , c D -> b S D ", 8, 10), 10)


@row(lost={"first": 4, "middle": 5})
def ellipsis(net: Net) -> None:
    net.head(project(net, "...c,cd->...d", 8, 10), 10)


@row(lost={"first": 4, "middle": 5})
def implicit_output(net: Net) -> None:
    net.head(project(net, "bsc,cz", 8, 10), 10)  # -> bsz


@row(lost={"first": 4, "middle": 5})
def implicit_output_with_ellipsis(net: Net) -> None:
    net.head(project(net, "...c,cd", 8, 10), 10)


@row(lost={"first": 4, "middle": 5})
def transposed_output(net: Net) -> None:
    x = project(net, "bsc,cd->dbs", 8, 10)
    net.head(net.add("Transpose", x, perm=[1, 2, 0]), 10)


@row(lost={"first": 4})
def transpose_alone(net: Net) -> None:
    x = net.add("Einsum", tokens(net), equation="bsc->bcs")
    net.head(net.add("Transpose", x, perm=[0, 2, 1]), 8)


@row(lost={"first": 4})
def sum_of_one_operand(net: Net) -> None:
    net.output(net.add("Einsum", net.add("Exp", tokens(net)), equation="bsc->bs"))


@row(lost={"first": 4})
def sum_of_one_operand_of_two(net: Net) -> None:
    x = net.add("Sigmoid", tokens(net))
    net.output(net.add("Einsum", x, net.random(5, 4), equation="bsc,sd->bsd"))


@row(pinned={"first": "diagonal"})
def diagonal(net: Net) -> None:
    x = net.add("MatMul", net.input("N", 8, 3), net.random(3, 8), name="first")
    net.output(net.add("Einsum", x, equation="bii->bi"))


@row(pinned={"first": "diagonal"})
def trace(net: Net) -> None:
    x = net.add("MatMul", net.input("N", 8, 3), net.random(3, 8), name="first")
    net.output(net.add("Einsum", x, equation="bii->b"))


@row(lost={"first": 4, "second": 4})
def elementwise_product(net: Net) -> None:
    x = net.add("Einsum", tokens(net), tokens(net, "second"), equation="bsc,bsc->bsc")
    net.head(x, 8)


@row(lost={"first": 4})
def scaled_per_channel(net: Net) -> None:
    net.head(net.add("Einsum", tokens(net), net.random(8), equation="bsc,c->bsc"), 8)


@row(lost={"first": 4})
def summed_with_a_vector(net: Net) -> None:
    net.output(net.add("Einsum", tokens(net), net.random(8), equation="bsc,c->bs"))


@row(lost={"first": 4})
def contracted_with_itself(net: Net) -> None:
    x = tokens(net)
    net.output(net.add("Einsum", x, x, equation="bsc,btc->bst"))


@row(lost={"first": 4, "second": 4, "values": 4})
def attention_of_one_head(net: Net) -> None:
    x = net.add("Einsum", tokens(net), tokens(net, "second"), equation="bqc,bkc->bqk")
    x = net.add("Softmax", x, axis=-1)
    net.head(net.add("Einsum", x, tokens(net, "values"), equation="bqk,bkc->bqc"), 8)


def heads(net: Net) -> None:
    """Attention as Einsum alone: four heads of six channels."""
    x = net.input("N", 5, 3)
    parts = [
        net.add("Einsum", x, net.random(3, 4, 6), name=name, equation="btc,chd->bthd")
        for name in ("first", "second", "values")
    ]
    y = net.add("Einsum", parts[0], parts[1], equation="bqhd,bkhd->bhqk")
    y = net.add("Einsum", net.add("Softmax", y, axis=-1), parts[2], equation="bhqk,bkhd->bqhd")
    net.output(net.add("Einsum", y, net.random(4, 6, 5), name="last", equation="bqhd,hdo->bqo"))


@row(lost={"first": 2, "second": 2, "values": 2})
def attention_cuts_heads(net: Net) -> None:
    heads(net)


@row(lost={"first": 3, "second": 3, "values": 3}, units=CHANNELS)
def attention_cuts_channels(net: Net) -> None:
    heads(net)


@row(lost={"first": 4, "second": 4})
def three_activations(net: Net) -> None:
    x = tokens(net)
    net.output(net.add("Einsum", x, tokens(net, "second"), x, equation="bsc,btc,buc->bstu"))


@row(lost={"first": 4, "middle": 5})
def two_weights(net: Net) -> None:
    x = net.add(
        "Einsum",
        tokens(net),
        net.random(8, 3),
        net.random(3, 10),
        name="middle",
        equation="bsc,cr,rd->bsd",
    )
    net.head(x, 10)


@row(lost={"first": 4, "second": 5})
def bilinear(net: Net) -> None:
    y = tokens(net, "second", features=10)
    x = net.add("Einsum", tokens(net), net.random(8, 10), y, equation="bsc,cd,btd->bst")
    net.output(x)


@row(lost={"first": 4, "middle": 5})
def weight_per_position(net: Net) -> None:
    net.head(project(net, "bsc,scd->bsd", 5, 8, 10), 10)


@row(lost={"first": 4})
def two_letters_summed(net: Net) -> None:
    x = net.add("Relu", net.first())
    net.output(net.add("Einsum", x, net.random(8, 6, 4), equation="nchw,cho->nwo"))


@row(lost={"first": 4})
def axes_of_one_broadcast(net: Net) -> None:
    x = net.add("Einsum", tokens(net), net.random(1, 1, 8), equation="...c,...c->...c")
    net.head(x, 8)


@row(lost={"first": 4, "middle": 5})
def ellipsis_of_one_operand_is_broadcast(net: Net) -> None:
    x = net.add(
        "Einsum", tokens(net), net.random(1, 1, 8, 10), name="middle", equation="...c,...cd->...d"
    )
    net.head(x, 10)


@row(pinned={"first": "fixed-partner"})
def met_by_an_input(net: Net) -> None:
    x = tokens(net)
    net.output(net.add("Einsum", x, net.input(8, 4, name="y"), equation="bsc,cd->bsd"))


@row(pinned={"first": "graph-output"})
def read_by_the_outside(net: Net) -> None:
    x = net.add("Einsum", tokens(net), net.random(8), equation="bsc,c->bsc")
    net.output(x)


@row(lost={"first": 4, "second": 4, "middle": 5})
def weight_shared_with_a_matmul(net: Net) -> None:
    weight = net.random(8, 10)
    x = net.add("Einsum", tokens(net), weight, name="middle", equation="bsc,cd->bsd")
    y = net.add("MatMul", tokens(net, "second"), weight)
    net.head(net.add("Add", x, y), 10)


@row(lost={"first": 4, "middle": 5})
def weight_that_is_dequantised(net: Net) -> None:
    stored = net.constant(net.rng.integers(-99, 99, (8, 10)).astype(np.int8))
    weight = net.add("DequantizeLinear", stored, np.float32(0.01), np.int8(0))
    net.head(net.add("Einsum", tokens(net), weight, name="middle", equation="bsc,cd->bsd"), 10)


def head(net: Net, x: str, features: int) -> None:
    """The last MatMul where no shape can be inferred."""
    x = net.add("MatMul", x, net.random(features, 4), name="last")
    net.output(x, shape=[None] * 3)


def fused(net: Net, a: str, b: str, name: str = "", **attrs: Any) -> str:
    return net.add("FusedMatMul", a, b, name=name, domain="com.microsoft", **attrs)


@row(lost={"first": 4, "middle": 5})
def fused_matmul(net: Net) -> None:
    head(net, fused(net, tokens(net), net.random(8, 10), "middle", alpha=0.5), 10)


@row(lost={"first": 4, "middle": 5})
def fused_matmul_trans_b(net: Net) -> None:
    head(net, fused(net, tokens(net), net.random(10, 8), "middle", transB=1), 10)


@row(lost={"first": 4, "middle": 5})
def fused_matmul_trans_a(net: Net) -> None:
    x = net.add("Transpose", tokens(net), perm=[0, 2, 1])
    head(net, fused(net, x, net.random(8, 10), "middle", transA=1), 10)


@row(lost={"first": 4, "second": 4})
def fused_matmul_of_activations(net: Net) -> None:
    x = fused(net, tokens(net), tokens(net, "second"), transB=1, alpha=0.3)
    net.output(net.add("Softmax", x, axis=-1), shape=[None] * 3)


@row(lost={"first": 4})
def fused_matmul_with_a_vector(net: Net) -> None:
    net.output(fused(net, tokens(net), net.random(8)), shape=[None] * 2)


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("batch_a", [0, 1])
@pytest.mark.parametrize("batch_b", [0, 1])
def test_fused_matmul_transposed(trans_a: int, trans_b: int, batch_a: int, batch_b: int) -> None:
    def layout(letters: str, transposed: int, batch: int) -> Sequence[int]:
        last = [letters.index(c) for c in letters[-2:]]
        last = last[::-1] if transposed else last
        order = [0, 1, *last]
        return [order[2], 0, 1, order[3]] if batch else order

    def build(net: Net) -> None:
        a = net.add("Unsqueeze", tokens(net, batch=2), np.array([1]))  # [2, 1, 5, 8]
        b = net.add("Unsqueeze", tokens(net, "second", batch=2), np.array([1]))
        a = net.add("Transpose", a, perm=layout("bhmk", trans_a, batch_a))
        b = net.add("Transpose", b, perm=[0, 1, 3, 2])
        b = net.add("Transpose", b, perm=layout("bhkn", trans_b, batch_b))
        switches = {"transA": trans_a, "transB": trans_b}
        switches |= {"transBatchA": batch_a, "transBatchB": batch_b}
        net.output(fused(net, a, b, **switches), shape=[None] * 4)

    check_row((build, 17, {"first": 4, "second": 4}, {}, {}))


@pytest.mark.parametrize("case", row.cases)
def test_oracle(case: Any) -> None:
    check_row(case)


@pytest.mark.parametrize(
    ("equation", "ranks", "terms", "made"),
    [
        ("ab,bc", (2, 2), ["ab", "bc"], "ac"),
        ("bA,aB", (2, 2), ["bA", "aB"], "ABab"),
        ("ab->", (2,), ["ab"], ""),
        ("ii", (2,), ["ii"], ""),
    ],
)
def test_equations(equation: str, ranks: tuple[int, ...], terms: list[str], made: str) -> None:
    assert subscripts(equation, ranks) == ([list(term) for term in terms], list(made))


def test_ellipses_are_counted_from_the_right() -> None:
    terms, made = subscripts("a...b,...b->...a", (4, 2))
    assert terms == [["a", "...1", "...0", "b"], ["...0", "b"]]
    assert made == ["...1", "...0", "a"]


@pytest.mark.parametrize(
    ("equation", "shape", "macs"),
    [("bsc,cd->bsd", (8, 10), 5 * 8 * 10), ("...c,cd->d...", (8, 10), 5 * 8 * 10)],
)
def test_multiply_accumulates(equation: str, shape: tuple[int, ...], macs: int) -> None:
    net = Net()
    net.output(project(net, equation, *shape))
    dense, _ = grouped(net.proto())
    assert cost(dense.graph, dense.batch) == Cost(3 * 8 + 80, 5 * 3 * 8 + macs)


def test_share_weighs_by_the_axis_that_is_read() -> None:
    net = Net()
    x = net.add("Relu", net.conv(net.input("N", 3, 8, 8), 3, 8, name="first"))
    weight = net.random(8, 8, 4)  # channels and rows: both of eight
    net.weights[weight][3] *= 100.0  # channel 3 is what the sum is made of
    net.output(net.add("Einsum", x, weight, equation="nchw,cho->nwo"))
    _, groups = grouped(net.proto())
    assert len(groups.groups) == 1
    values = score(groups, Criterion("share")).values[groups.groups[0].classes]
    assert values.argmax() == 3
