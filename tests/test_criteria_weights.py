"""Criteria of weights, by hand-computed cases; those of ``test_score.py`` left out."""

from __future__ import annotations

import numpy as np
import pytest

from models import Net, grouped
from prunecvt_passes.score import Criterion, score

SIZES = (3.0, 1.0, 2.0, 4.0)


def values(net: Net, name: str, group: int = 0) -> list[float]:
    groups = grouped(net.proto())[1]
    return [float(v) for v in score(groups, Criterion(name)).values[groups.groups[group].classes]]


def chain(weight: np.ndarray, bias: np.ndarray | None = None, norm: bool = False) -> Net:
    """One convolution of two channels by ``weight``, perhaps a norm, and a reader."""
    net = Net()
    operands = [] if bias is None else [bias.astype(np.float32)]
    x = net.add("Conv", net.input("N", 2, 4, 4), weight.astype(np.float32), *operands, name="first")
    x = net.norm(x, len(weight)) if norm else x
    net.output(net.conv(net.add("Relu", x), len(weight), 2))
    return net


def distances(filters: np.ndarray) -> list[float]:
    """Sum of the distances to all others over its mean, pair by pair."""
    sums = [sum(float(np.sqrt(((a - b) ** 2).sum())) for b in filters) for a in filters]
    return [each / (sum(sums) / len(sums)) for each in sums]


@pytest.mark.parametrize("norm", [False, True], ids=["plain", "norm"])
@pytest.mark.parametrize("biased", [False, True], ids=["", "biased"])
def test_fpgm_adds_up_distances_of_folded_filters(norm: bool, biased: bool) -> None:
    rng = np.random.default_rng(1)
    weight, bias = rng.standard_normal((6, 2, 3, 3)), rng.standard_normal(6)
    net = chain(weight, bias if biased else None, norm)
    rows, shift = weight.reshape(6, -1), bias if biased else np.zeros(6)
    if norm:
        gamma, beta, mean, variance = (net.weights[n] for n in net.nodes[1].input[1:])
        scale = gamma / np.sqrt(variance + 1e-5)
        rows, shift = rows * scale[:, None], beta + (shift - mean) * scale
    expected = distances(np.concatenate([rows, shift[:, None]], axis=1))
    assert values(net, "fpgm") == pytest.approx(expected, rel=1e-5)


def test_fpgm_takes_a_doubled_filter_first() -> None:
    angles = np.array([0.0, 1.3, 2.5, 3.9, 5.2, 2.5])  # alike in norm; 5 is 2 again
    weight = np.stack([np.cos(angles), np.sin(angles)], axis=1)[:, :, None, None]
    found = values(chain(weight), "fpgm")
    assert set(np.argsort(found)[:2]) == {2, 5}


def test_fpgm_sees_every_group_of_a_grouped_transposed_convolution() -> None:
    net = Net()
    weight = net.random(8, 3, 2, 2)  # of 4 inputs each: channels j and 3 + j stand in column j
    bias = net.random(6)
    x = net.add("ConvTranspose", net.input("N", 8, 5, 5), weight, bias, group=2, name="up")
    x = net.norm(x, 6)
    net.output(net.conv(net.add("Relu", x), 6, 4, group=2))
    gamma, beta, mean, variance = (net.weights[n] for n in net.nodes[1].input[1:])
    scale = gamma / np.sqrt(variance + 1e-5)
    shift = beta + (net.weights[bias] - mean) * scale
    filters = []
    for j in range(3):
        halves = net.weights[weight].reshape(2, 4, 3, 4)[:, :, j]
        parts = [(halves[g] * scale[3 * g + j]).ravel() for g in range(2)]
        filters.append(np.concatenate([*parts, shift[[j, 3 + j]]]))
    assert values(net, "fpgm") == pytest.approx(distances(np.stack(filters)), rel=1e-5)


def test_fpgm_sees_the_bias_behind_a_product() -> None:
    net = Net()
    weight, bias = net.random(5, 4), net.random(4)
    x = net.add("MatMul", net.input("N", 5), weight)
    net.head(net.add("Relu", net.add("Add", x, bias)), 4)
    filters = np.concatenate([net.weights[weight].T, net.weights[bias][:, None]], axis=1)
    assert values(net, "fpgm") == pytest.approx(distances(filters), rel=1e-5)


def test_lamp_divides_by_what_is_no_smaller() -> None:
    weight = np.zeros((4, 2, 1, 1))
    weight[:, 0, 0, 0] = SIZES
    expected = [9 / (9 + 16), 1 / (1 + 4 + 9 + 16), 4 / (4 + 9 + 16), 1.0]
    assert values(chain(weight), "lamp") == pytest.approx(expected)


def test_lamp_keeps_the_largest_of_every_layer() -> None:
    net = Net()
    x = net.add("Relu", net.first())
    x = net.add("Relu", net.conv(x, 8, 12, 3, name="small"))
    net.last(x, 12)
    net.weights[net.nodes[2].input[1]] *= 1e-3
    assert max(values(net, "lamp", 0)) == max(values(net, "lamp", 1)) == 1.0
