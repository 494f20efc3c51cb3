"""Integer products are what ONNX says on every processor: pairs of them do not saturate."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from models import Net
from prunecvt_passes import runtime
from prunecvt_passes.model import Array, Model

WIDE = 64  # channels; two products of 255 and 127 no longer fit into 16 bits


def conv(net: Net, x: str, weight: Array, zero: bool) -> str:
    filters = np.ascontiguousarray(weight.T)[:, :, None, None]
    return net.add("ConvInteger", x, filters, np.uint8(0), np.int8(-3) if zero else None)


def product(net: Net, x: str, weight: Array, zero: bool) -> str:
    return net.add("MatMulInteger", x, weight, np.uint8(0), np.int8(-3) if zero else None)


@pytest.mark.parametrize("zero", [True, False])
@pytest.mark.parametrize("build", [conv, product])
def test_products_do_not_saturate(build: object, zero: bool) -> None:
    net = Net()
    rng = np.random.default_rng(0)
    weight = rng.integers(100, 128, (WIDE, 8)).astype(np.int8)
    data = rng.integers(250, 256, (2, WIDE)).astype(np.uint8)
    shape = (2, WIDE, 1, 1) if build is conv else (2, WIDE)
    x = net.input(*shape, type=2)
    net.output(build(net, x, weight, zero), type=6)  # type: ignore[operator]
    found = next(
        iter(runtime.run(Model.from_proto(net.proto()), {"x": data.reshape(shape)}).values())
    )
    expected = data.astype(np.int64) @ (weight.astype(np.int64) + (3 if zero else 0))
    np.testing.assert_array_equal(found.reshape(2, -1), expected)


def test_weights_in_constant_nodes_are_turned_too() -> None:
    net = Net()
    weight = onnx.numpy_helper.from_array(np.full((WIDE, 8), 127, np.int8))
    held = net.add("Constant", value=weight)
    net.output(net.add("MatMulInteger", net.input(1, WIDE, type=2), held), type=6)
    data = np.full((1, WIDE), 255, np.uint8)
    found = next(iter(runtime.run(Model.from_proto(net.proto()), {"x": data}).values()))
    np.testing.assert_array_equal(found, np.full((1, 8), 255 * 127 * WIDE))
