"""What random networks found that fits no other file, written by hand as small as it gets."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from models import Net, check_oracle


@pytest.mark.parametrize("ir", [3, 4])
def test_constants_of_ir_version_3_need_not_be_graph_inputs(ir: int) -> None:
    net = Net()
    net.ir = ir
    x = net.input("N", 3)
    for shape in ((3, 8), (8, 4)):
        weight = onnx.numpy_helper.from_array(net.rng.standard_normal(shape).astype(np.float32))
        x = net.add("MatMul", x, net.add("Constant", value=weight))
    net.output(x)
    outcome = check_oracle(net.proto())
    assert list(outcome.lost.values()) == [4]
