"""A producer and its reader fitted together: the step's mathematics, and what it is for."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from models import Net
from prunecvt_passes import runtime
from prunecvt_passes.model import Array, Model
from prunecvt_passes.normalise import Source, normalise
from prunecvt_passes.recovery.aim import aim_of
from prunecvt_passes.recovery.couple import backward, couples
from prunecvt_passes.recovery.joint import Block, improve
from prunecvt_passes.recovery.linear import linear_nodes
from prunecvt_passes.recovery.recover import METHODS
from prunecvt_passes.recovery.refit import Effort, refit
from recovery_cases import case_of


def conv_net(**attrs: Any) -> Net:
    net = Net()
    kernel = attrs.pop("kernel", (3, 3))
    weight = net.random(5, 4, *kernel)
    net.output(net.add("Conv", net.input("N", 4, 8, 7), weight, **attrs))
    return net


def gemm_net(**attrs: Any) -> Net:
    net = Net()
    shape = (5, 4) if attrs.get("transB") else (4, 5)
    net.output(net.add("Gemm", net.input("N", 4), net.random(*shape), **attrs))
    return net


NETS = {
    "plain": conv_net(),
    "padded": conv_net(pads=[1, 1, 1, 1]),
    "strided": conv_net(strides=[2, 3], pads=[1, 0, 1, 2]),
    "dilated": conv_net(dilations=[2, 1], pads=[2, 1, 2, 1]),
    "same-upper": conv_net(strides=[2, 2], auto_pad="SAME_UPPER"),
    "same-lower": conv_net(strides=[2, 2], auto_pad="SAME_LOWER"),
    "pointwise-strided": conv_net(kernel=(1, 1), strides=[2, 2]),
    "gemm": gemm_net(),
    "gemm-transposed": gemm_net(transB=1),
}


@pytest.mark.parametrize("name", NETS)
def test_backward_is_the_adjoint_of_the_reader(name: str) -> None:
    """<W x, e> = <x, W' e> for any x and e."""
    dense = normalise(Source(Model.from_proto(NETS[name].proto())))
    reader = linear_nodes(dense.graph)[0]
    rng = np.random.default_rng(0)
    shape = (2, 4, 8, 7) if reader.spatial else (2, 4)
    x = rng.standard_normal(shape).astype(np.float32)
    y = next(iter(runtime.run(dense.graph.model, {"x": x}).values()))
    e = rng.standard_normal(y.shape).astype(np.float32)
    assert (y * e).sum() == pytest.approx(
        (x * backward(dense.graph, reader, e, shape)).sum(), rel=1e-4
    )


def two_layers(between: str = "Relu") -> Net:
    net = Net()
    x = net.conv(net.input("N", 3, 6, 6), 3, 6, 3, name="first")
    if between == "Clip":
        x = net.add("Clip", x, np.float32(0), np.float32(1.5))
    elif between:
        x = net.add(between, x)
    net.output(net.conv(x, 6, 4, 3, name="second"))
    return net


@pytest.mark.parametrize("between", ["Relu", "Clip", ""])
def test_a_step_lowers_the_error_of_the_reader(between: str) -> None:
    """Goals come from another producer, so that this one has somewhere to go."""
    dense = normalise(Source(Model.from_proto(two_layers(between).proto())))
    graph = dense.graph
    aims = [aim_of(graph, linear) for linear in linear_nodes(graph)]
    (couple,) = couples(graph, aims).values()
    rng = np.random.default_rng(0)
    x = rng.standard_normal((32, 3, 6, 6)).astype(np.float32)
    other = graph.model.copy()
    weight = graph.model.weights[couple.producer.linear.weight]
    moved = weight + 0.1 * rng.standard_normal(weight.shape).astype(np.float32)
    other.set_weight(couple.producer.linear.weight, moved)

    def outputs(model: Model) -> Array:
        return next(iter(runtime.run(model, {"x": x}).values()))

    goal = outputs(other)
    errors = [((outputs(graph.model) - goal) ** 2).sum()]
    for seed in range(4):
        assert improve(graph, couple, [Block(x, goal, 0.0)], seed)
        errors.append(((outputs(graph.model) - goal) ** 2).sum())
    assert errors[1] < 0.5 * errors[0] and errors[-1] < 0.2 * errors[0]


def test_a_producer_that_others_read_is_left_alone() -> None:
    net = two_layers()
    net.output(net.add("Sigmoid", "first"))
    graph = normalise(Source(Model.from_proto(net.proto()))).graph
    assert couples(graph, [aim_of(graph, linear) for linear in linear_nodes(graph)]) == {}


def test_fitting_both_beats_fitting_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    case = case_of(two_layers(), runs=16, batch=16)
    removal = case.cut(0.5)
    both = case.recovered(removal, "refit")
    monkeypatch.setitem(METHODS, "refit", partial(refit, effort=Effort(rounds=0)))
    alone = case.recovered(removal, "refit")
    assert both.after and alone.after and both.after.error < 0.97 * alone.after.error
