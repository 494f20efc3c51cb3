"""Small nets as onnxruntime's quantiser writes them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from models import Net


class Calibration(CalibrationDataReader):  # type: ignore[misc]
    """A few random inputs."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        rng = np.random.default_rng(0)
        self.feeds = iter([{"x": rng.standard_normal(shape, np.float32)} for _ in range(4)])

    def get_next(self) -> dict[str, Any] | None:
        return next(self.feeds, None)


def convolutional() -> onnx.ModelProto:
    """Plain, depthwise and grouped convolutions, a shortcut, a Concat, pools and a classifier."""
    net = Net(opset=17)
    x = net.add("Relu", net.conv(net.input("N", 3, 8, 8), 3, 16, 3, name="stem"))
    y = net.add("Relu", net.conv(x, 16, 24, name="widen"))
    y = net.add("Relu", net.conv(y, 24, 24, 3, group=24, name="depthwise"))
    x = net.add("Add", x, net.conv(y, 24, 16, name="project"))
    left = net.add("LeakyRelu", net.conv(x, 16, 8, name="left"), alpha=0.1)
    right = net.add("Sigmoid", net.conv(x, 16, 8, 3, group=2, name="right"))
    x = net.add("Mul", net.add("Concat", left, right, axis=1), net.conv(x, 16, 16, name="gate"))
    x = net.add("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = net.add("GlobalAveragePool", net.add("Relu", net.conv(x, 16, 32, name="deep")))
    x = net.add("Flatten", x)
    x = net.add("Gemm", x, net.random(20, 32), net.random(20), transB=1, name="hidden")
    x = net.add("MatMul", net.add("Relu", x), net.random(20, 12), name="features")
    x = net.add("Gemm", net.add("Relu", x), net.random(12, 10), net.random(10))
    net.output(net.add("Softmax", x))
    return net.proto()


WIDTHS = ("stem", "widen", "depthwise", "left", "right", "gate", "deep", "hidden", "features")


def quantised(
    proto: onnx.ModelProto, fmt: str, per_channel: bool = False, **options: Any
) -> onnx.ModelProto:
    """``proto`` as the quantiser writes it: ``QDQ``, ``QOperator`` or ``dynamic``."""
    shape = (2, *(d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim[1:]))
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        onnx.save(proto, before)
        if fmt == "dynamic":
            quantize_dynamic(before, after, per_channel=per_channel, **options)
        else:
            options.setdefault("weight_type", QuantType.QInt8)
            quantize_static(
                before,
                after,
                Calibration(shape),
                quant_format=QuantFormat[fmt],
                per_channel=per_channel,
                **options,
            )
        return onnx.load(after)
