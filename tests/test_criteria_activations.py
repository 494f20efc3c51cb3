"""Criteria of activations, each against loops over the tensors that onnxruntime gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import pytest

from models import Net
from prunecvt_passes import runtime
from prunecvt_passes.criteria.measures import SAMPLES
from prunecvt_passes.criteria.zeros import zeroing
from prunecvt_passes.errors import UsageError
from prunecvt_passes.model import Array, Model
from prunecvt_passes.normalise import Source, normalise
from recovery_cases import Case, case_of


def net_of(activation: Callable[[Net, str], str], norm: bool = False, **reader: int) -> Net:
    """A convolution, an activation and a reader with a kernel of 3, perhaps a norm behind it."""
    net = Net()
    x = activation(net, net.conv(net.input("N", 3, 6, 5), 3, 8, 3, name="first"))
    y = net.conv(x, 8, 6, 3, **reader)
    net.output(net.norm(y, 6) if norm else y)
    return net


def relu(net: Net, x: str) -> str:
    return net.add("Relu", x, name="seen")


def clip(net: Net, x: str, name: str = "seen") -> str:
    return net.add("Clip", x, np.float32(0), np.float32(0.5), name=name)


def silu(net: Net, x: str) -> str:
    return net.add("Mul", x, net.add("Sigmoid", x), name="seen")


def gelu(net: Net, x: str) -> str:
    inner = net.add("Erf", net.add("Mul", x, np.float32(2**-0.5)))
    half = net.add("Mul", x, np.float32(0.5))
    return net.add("Mul", half, net.add("Add", inner, np.float32(1)), name="seen")


def tensor(case: Case, name: str) -> Array:
    """A tensor over all samples that are fitted on."""
    model = case.dense.graph.model.copy()
    model.proto.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    return np.concatenate([runtime.run(model, f, [name])[name] for f in case.calibration.fit])


def scores(case: Case, name: str, group: int = 0) -> list[float]:
    return [float(v) for v in case.scores(name).values[case.groups.groups[group].classes]]


def over_mean(found: list[float]) -> list[float]:
    return [each / (sum(found) / len(found)) for each in found]


@pytest.mark.parametrize("activation", [relu, clip])
def test_apoz_counts_zeros_and_what_is_saturated(activation: Callable[[Net, str], str]) -> None:
    case = case_of(net_of(activation))
    seen, expected = tensor(case, "seen"), []
    for c in range(8):
        alive = [0 < float(v) < (0.5 if activation is clip else np.inf) for v in seen[:, c].flat]
        expected.append(sum(alive) / len(alive))
    assert 0 < min(expected) < max(expected) < 1
    assert scores(case, "apoz") == pytest.approx(expected)


@pytest.mark.parametrize("activation", [silu, gelu])
def test_apoz_needs_what_makes_zeros(activation: Callable[[Net, str], str]) -> None:
    with pytest.raises(UsageError) as caught:
        case_of(net_of(activation)).scores("apoz")
    assert caught.value.code == "E211" and "'first'" in caught.value.where


def test_apoz_is_a_mean_over_readers_that_see_zeros() -> None:
    net = Net()
    made = net.conv(net.input("N", 3, 6, 5), 3, 8, 3, name="first")
    net.output(net.conv(made, 8, 4))
    net.output(net.conv(net.add("Relu", made, name="seen"), 8, 4))
    pooled = net.add("MaxPool", "seen", kernel_shape=[2, 2], name="pooled")
    net.output(net.conv(pooled, 8, 4))
    case = case_of(net)
    shares = [(tensor(case, name) != 0).mean((0, 2, 3)) for name in ("seen", "pooled")]
    assert scores(case, "apoz") == pytest.approx(list(np.mean(shares, axis=0)))


@pytest.mark.parametrize(
    ("build", "bound"),
    [
        (lambda net, x: net.add("Relu", x), np.inf),
        (lambda net, x: clip(net, x), 0.5),
        (lambda net, x: net.add("Clip", x, np.float32(-1), np.float32(1)), None),
        (lambda net, x: net.add("HardSigmoid", x), 1.0),
        (lambda net, x: net.add("HardSwish", x), np.inf),
        (lambda net, x: net.add("LeakyRelu", x), None),
        (lambda net, x: net.add("Flatten", clip(net, x)), 0.5),
        (lambda net, x: net.add("Concat", clip(net, x), clip(net, x, "other"), axis=1), 0.5),
        (lambda net, x: net.add("Concat", net.add("Relu", x), x, axis=1), None),
        (lambda net, x: net.add("Add", net.add("Relu", x), x), None),
        (lambda net, x: net.add("Add", net.add("Relu", x), clip(net, x)), np.inf),
        (lambda net, x: net.add("Mul", net.add("Relu", x), net.add("Sigmoid", x)), np.inf),
        (lambda net, x: silu(net, x), None),
    ],
)
def test_zeros_are_made_or_handed_on(build: Callable[[Net, str], str], bound: float | None) -> None:
    net = Net()
    made = net.output(build(net, net.input("N", 4, 3, 3)))
    graph = normalise(Source(Model.from_proto(net.proto()))).graph
    assert zeroing(graph).get(made) == bound


def test_mean_activation_is_the_mean_absolute_value() -> None:
    case = case_of(net_of(silu))
    seen = tensor(case, "seen")
    expected = [sum(abs(float(v)) for v in seen[:, c].flat) for c in range(8)]
    assert scores(case, "mean-activation") == pytest.approx(over_mean(expected), rel=1e-5)


@pytest.mark.parametrize("norm", [False, True], ids=["plain", "norm"])
@pytest.mark.parametrize("group", [1, 2])
def test_wanda_is_what_the_reader_loses(norm: bool, group: int) -> None:
    net = net_of(relu, norm, group=group)
    case = case_of(net)
    seen, reader = tensor(case, "seen"), net.nodes[2]
    weight = net.weights[reader.input[1]].astype(np.float64)
    if norm:
        gamma, variance = (net.weights[net.nodes[3].input[k]] for k in (1, 4))
        weight = weight * (gamma / np.sqrt(variance + 1e-5))[:, None, None, None]
    losses = np.zeros(8)
    for o in range(6):
        for k in range(8 // group):
            c = k + (o * group // 6) * (8 // group)
            taps = float((weight[o, k] ** 2).sum())
            losses[c] += taps * float((seen[:, c].astype(np.float64) ** 2).mean())
    if group == 2:  # the j-th of each group go together
        losses = losses[:4] + losses[4:]
    expected = over_mean([float(v) for v in np.sqrt(losses)])
    assert scores(case, "wanda") == pytest.approx(expected, rel=1e-5)


def test_wanda_adds_up_the_positions_of_a_flattened_channel() -> None:
    net = Net()
    x = net.add("Relu", net.conv(net.input("N", 3, 4, 4), 3, 6, 3), name="seen")
    weight = net.random(96, 5)
    net.output(net.add("Gemm", net.add("Flatten", x), weight))
    case = case_of(net)
    energy = (tensor(case, "seen").astype(np.float64) ** 2).mean(0).reshape(96)
    each = energy * (net.weights[weight].astype(np.float64) ** 2).sum(1)
    expected = over_mean([float(each[16 * c : 16 * c + 16].sum() ** 0.5) for c in range(6)])
    assert scores(case, "wanda") == pytest.approx(expected, rel=1e-5)


def test_scores_add_up_over_readers() -> None:
    net = net_of(relu)
    net.output(net.conv("seen", 8, 3))
    case = case_of(net)
    parts = []
    for k in (2, 3):
        weight = net.weights[net.nodes[k].input[1]].astype(np.float64)
        energy = (tensor(case, "seen").astype(np.float64) ** 2).mean((0, 2, 3))
        parts.append(over_mean([float(v) for v in np.sqrt((weight**2).sum((0, 2, 3)) * energy)]))
    assert scores(case, "wanda") == pytest.approx(list(np.sum(parts, axis=0)), rel=1e-5)


def test_hrank_is_the_mean_rank_of_the_maps() -> None:
    case = case_of(net_of(relu))
    seen = tensor(case, "seen")
    expected = []
    for c in range(8):
        ranks = [int(np.linalg.matrix_rank(each)) for each in seen[:, c]]
        expected.append(sum(ranks) / len(ranks) / 5)
    assert len(set(expected)) > 2
    assert scores(case, "hrank") == pytest.approx(expected)


def test_hrank_goes_by_nuclear_norms_where_ranks_are_alike() -> None:
    net = Net()
    x = net.add("Relu", net.first())
    net.head(net.add("Flatten", net.add("GlobalAveragePool", x, name="seen")), 8)
    case = case_of(net)
    norms = np.abs(tensor(case, "seen")).mean((0, 2, 3))
    assert scores(case, "hrank") == pytest.approx(list(norms / norms.max()), rel=1e-5)


def test_hrank_looks_at_so_many_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SAMPLES, "maps", 20)
    case = case_of(net_of(relu))
    feeds = case.calibration.fit
    first = tuple({k: v[: 20 - 16 * n] for k, v in feeds[n].items()} for n in range(2))
    fewer = replace(case, calibration=replace(case.calibration, fit=first))
    assert scores(case, "hrank") == scores(fewer, "hrank")


def case_of_tokens(kind: type) -> Case:
    net = Net()
    net.dtype = np.dtype(kind)
    x = net.add("MatMul", net.input("N", 7, 5), net.random(5, 8), name="first")
    net.output(net.add("MatMul", net.add("Relu", x, name="seen"), net.random(8, 4)))
    return case_of(net)


@pytest.mark.parametrize("name", ["apoz", "hrank", "mean-activation", "wanda"])
def test_half_precision_is_measured(name: str) -> None:
    single, half = (scores(case_of_tokens(kind), name) for kind in (np.float32, np.float16))
    assert half == pytest.approx(single, rel=1e-2)


def test_tokens_are_positions() -> None:
    case = case_of_tokens(np.float32)
    expected = [float(v) for v in np.abs(tensor(case, "seen")).mean((0, 1))]
    assert scores(case, "mean-activation") == pytest.approx(over_mean(expected), rel=1e-5)
