"""Parameters and multiply-accumulates, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from models import Net, check_oracle, grouped
from prunecvt_passes.cost import Cost, cost
from prunecvt_passes.graph import index


def counted(net: Net) -> Cost:
    dense, _ = grouped(net.proto())
    return cost(dense.graph, dense.batch)


def test_convolution() -> None:
    net = Net()
    net.output(net.conv(net.input("N", 3, 6, 6), 3, 8, 3))
    assert counted(net) == Cost(8 * 3 * 9 + 8, 36 * 8 * 3 * 9)


def test_convolution_with_groups_and_strides() -> None:
    net = Net()
    net.output(net.conv(net.input(1, 4, 6, 6), 4, 8, 3, group=4, strides=[2, 2], bias=False))
    assert counted(net) == Cost(8 * 9, 9 * 8 * 9)


def test_transposed_convolution() -> None:
    net = Net()
    weight = net.random(4, 6, 2, 2)
    net.output(net.add("ConvTranspose", net.input("N", 4, 5, 5), weight, strides=[2, 2]))
    assert counted(net) == Cost(4 * 6 * 4, 25 * 4 * 6 * 4)


@pytest.mark.parametrize("trans_a", [0, 1])
def test_gemm(trans_a: int) -> None:
    net = Net()
    x = net.input(*((3, 2) if trans_a else (2, 3)))
    net.output(net.add("Gemm", x, net.random(3, 5), net.random(5), transA=trans_a))
    assert counted(net) == Cost(20, 2 * 3 * 5)


def test_matmul_of_activations_has_no_parameters() -> None:
    net = Net()
    x = net.input("N", 7, 3)
    net.output(net.add("MatMul", x, net.add("Transpose", x, perm=[0, 2, 1])))
    assert counted(net) == Cost(0, 7 * 7 * 3)


def test_sizes_and_indices_are_no_parameters_but_quantised_weights_are() -> None:
    net = Net()
    weight = net.add("DequantizeLinear", np.ones((3, 5), np.int8), np.float32(0.1))
    x = net.add("MatMul", net.input("N", 3), weight)
    net.output(net.add("Reshape", x, np.array([-1, 5, 1])))
    assert counted(net) == Cost(3 * 5 + 1, 3 * 5)


def test_removed_channels_cost_nothing() -> None:
    net = Net()
    net.last(net.add("Relu", net.first()))
    outcome = check_oracle(net.proto())
    dense = outcome.dense
    before = cost(dense.graph, dense.batch)
    after = cost(normal_index(outcome.slimmed), dense.batch)
    assert before == Cost(8 * 27 + 8 + 8 * 4 + 4, 36 * (8 * 27 + 8 * 4))
    assert after == Cost(4 * 27 + 4 + 4 * 4 + 4, 36 * (4 * 27 + 4 * 4))


def normal_index(model):  # type: ignore[no-untyped-def]
    from prunecvt_passes.shapes import infer

    return index(model, infer(model)[0])
