"""Sizes that the values of the inputs decide are left to the run."""

from __future__ import annotations

import numpy as np
import pytest

from models import INT64, Net
from prunecvt_passes import oracle, runtime
from prunecvt_passes.model import Model
from prunecvt_passes.normalise import Source, normalise


@pytest.mark.parametrize("op", ["HannWindow", "AffineGrid"])
def test_sizes_that_are_made_of_data_are_not_frozen(op: str) -> None:
    net = Net(opset=20)
    largest = net.add("ReduceMax", net.input(4), np.array([0]), keepdims=int(op == "AffineGrid"))
    size = net.add("Add", net.add("Cast", net.add("Relu", largest), to=INT64), np.array(4))
    if op == "HannWindow":
        made = net.add(op, size)
    else:
        sizes = net.add("Concat", np.array([2, 1]), size, np.array([5]), axis=0)
        made = net.add(op, net.random(2, 2, 3), sizes)
    net.output(net.add("Mul", net.add("Shape", made), np.array(1)), INT64)
    model, dense = Model.from_proto(net.proto()), normalise(Source(Model.from_proto(net.proto())))
    for fill in (-1.0, 3.0):
        inputs = {"x": np.full(4, fill, np.float32)}
        expected, got = runtime.run(model, inputs), runtime.run(dense.graph.model, inputs)
        assert oracle.difference(expected, got).absolute == 0
