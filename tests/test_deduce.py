"""Shapes that follow node by node are those a run gives, and no run is needed for them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from models import Net
from prunecvt_passes import runtime, shapes
from prunecvt_passes.errors import UnsupportedError
from prunecvt_passes.graph import index
from prunecvt_passes.model import Model
from prunecvt_passes.shapes import infer


def item(net: Net, x: str, axis: int) -> str:
    """One size of ``x`` as a vector of one."""
    return net.add("Gather", net.add("Shape", x), np.array([axis], np.int64))


def windows(net: Net) -> str:
    x = net.input("N", 8, "H", "W")
    half = net.add("Div", item(net, x, 2), np.array([2], np.int64))
    sizes = net.add("Concat", item(net, x, 0), half, np.array([-1], np.int64), axis=0)
    return net.add("Reshape", x, sizes)


def chained(net: Net) -> str:
    x = windows(net)
    for _ in range(3):
        rows = net.add("Mul", item(net, x, 1), item(net, x, 2))
        x = net.add("Relu", net.add("Reshape", x, net.add("Concat", item(net, x, 0), rows, axis=0)))
        sizes = net.add("Concat", item(net, x, 0), np.array([4, -1], np.int64), axis=0)
        x = net.add("Reshape", x, sizes)
    return x


def padded(net: Net) -> str:
    x = net.input("N", 8, "H", "W")
    left = net.add("Mod", item(net, x, 3), np.array([7], np.int64))
    pairs = net.add("Concat", np.zeros(3, np.int64), left, np.zeros(4, np.int64), axis=0)
    turned = net.add("Transpose", net.add("Reshape", pairs, np.array([2, 4])), perm=[1, 0])
    amounts = net.add("Transpose", turned, perm=[1, 0])
    return net.add("Pad", x, net.add("Reshape", amounts, np.array([-1])))


def expanded(net: Net) -> str:
    x = net.input("N", 8, "H", "W")
    count = net.add("Squeeze", item(net, x, 3), np.array([0], np.int64))
    steps = net.add("Range", np.int64(0), count, np.int64(1))
    return net.add("Gather", x, net.add("Mod", steps, np.int64(5)), axis=3)


@pytest.mark.parametrize("build", [windows, chained, padded, expanded])
def test_sizes_are_those_of_a_run_without_one(
    build: Callable[[Net], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    net = Net()
    net.output(net.add("Relu", build(net)), shape=None)
    model = Model.from_proto(net.proto())
    first = {"x": (2, 8, 12, 16)}
    names = [name for node in model.proto.graph.node for name in node.output]
    ran, _ = shapes._asked(model, first, names, set(names))

    def refuse(*given: object) -> None:
        raise AssertionError("a run")

    monkeypatch.setattr(runtime, "session", refuse)
    found, sizes = infer(model, first)
    assert sizes == first
    assert {name: found.sizes[name] for name in names} == ran


def test_what_depends_on_data_is_left_to_the_runtime() -> None:
    net = Net()
    places = net.add("NonZero", net.add("Relu", net.input("N", 3)))
    net.output(net.add("Transpose", places))
    model = Model.from_proto(net.proto())
    found, _ = infer(model)
    assert found.dynamic[places] == (True, True)


def reshaped(net: Net) -> str:
    return net.add("Reshape", net.input("N", 8, "H", "W"), np.array([0, 8, 64, 64]))


def flattened(net: Net) -> str:
    x = net.add("Flatten", net.input("N", 1, "H", "W"))
    return net.add("Gemm", x, net.random(64 * 64, 5))


@pytest.mark.parametrize("build", [reshaped, flattened])
def test_sizes_that_no_runtime_takes_are_not_believed(build: Callable[[Net], str]) -> None:
    net = Net()
    net.output(build(net))
    model = Model.from_proto(net.proto())
    with pytest.raises(UnsupportedError) as refused:
        shapes._at(index(model), {"x": (2, 8 if build is reshaped else 1, 32, 32)})
    assert refused.value.code == "E402"
