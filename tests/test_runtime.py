"""Sessions read weights where they lie."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

from body_models import branch, choice, image
from models import Net
from prunecvt_passes import runtime
from prunecvt_passes.bodies import hoist_weights
from prunecvt_passes.model import Model

_MEMORY = Path("/proc/self/statm")
_PAGE = 4096


def wide(width: int) -> Model:
    net = Net()
    x = net.input("N", width)
    for _ in range(2):
        x = net.add("Relu", net.add("Gemm", x, net.random(width, width), net.random(width)))
    net.output(x)
    return Model.take(net.proto())


@pytest.mark.skipif(not _MEMORY.exists(), reason="tells resident memory on Linux only")
def test_a_session_copies_no_weights() -> None:
    model = wide(3000)
    inputs = {"x": np.ones((1, 3000), np.float32)}
    runtime.run(wide(8), {"x": np.ones((1, 8), np.float32)})  # what any first session takes

    def resident() -> int:
        return int(_MEMORY.read_text().split()[1]) * _PAGE

    before = resident()
    opened = runtime.session(model)
    runtime.run_session(opened, inputs)
    assert resident() - before < model.nbytes / 2


def test_weights_live_as_long_as_their_session() -> None:
    model = wide(512)
    inputs = {"x": np.ones((1, 512), np.float32)}
    opened = runtime.session(model)
    first = runtime.run_session(opened, inputs)
    del model
    gc.collect()
    rubbish = [np.full((512, 512), np.nan, np.float32) for _ in range(8)]
    again = runtime.run_session(opened, inputs)
    assert len(rubbish) == 8
    for name, values in first.items():
        np.testing.assert_array_equal(again[name], values)


def test_weights_of_bodies_are_no_part_of_the_message() -> None:
    """A protobuf message ends at 2 GiB, so no large weight may be filled in."""
    net = Net()
    x, flag = image(net)
    then, other = (
        branch(net, stem, lambda body: body.conv(body.conv(x, 3, 512, 1), 512, 3, 1))
        for stem in ("then", "other")
    )
    choice(net, flag, then, other)
    model = Model.take(net.proto()).copy()
    hoist_weights(model)
    proto, shared = runtime.skeleton(model)
    assert sum(values.nbytes for values in shared.values()) > 0.9 * model.nbytes > 20_000
    assert len(proto.SerializeToString()) < 10_000
    feed = {"x": np.ones((1, 3, 6, 6), np.float32), "flag": np.array(True)}
    filled = runtime.run(Model.take(net.proto()), feed)
    for name, values in runtime.run(model, feed).items():
        np.testing.assert_allclose(values, filled[name], rtol=1e-6)
