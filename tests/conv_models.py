"""Tiny convolutional models for the tests of runtimes and files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Net:
    """Builds a graph of convolutions node by node; input ``x`` is [1, channels, size, size]."""

    def __init__(self, channels: int = 8, size: int = 8, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self.input = helper.make_tensor_value_info(
            "x", TensorProto.FLOAT, [1, channels, size, size]
        )

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: object) -> str:
        self.nodes.append(
            helper.make_node(kind, inputs, [output], name=f"n_{output}", **attributes)
        )
        return output

    def conv(self, source: str, output: str, cin: int, cout: int, group: int = 1) -> str:
        shape = (cout, cin // group, 3, 3)
        values = self.random.standard_normal(shape) / np.sqrt(9 * cin / group)
        self.weights[f"{output}_w"] = values.astype(np.float32)
        pads = [1, 1, 1, 1]
        return self.node(
            "Conv", [source, f"{output}_w"], output, pads=pads, kernel_shape=[3, 3], group=group
        )

    def batch_norm(self, source: str, output: str, channels: int) -> str:
        names = [f"{output}_{part}" for part in ("scale", "bias", "mean", "var")]
        for name in names:
            self.weights[name] = self.random.uniform(0.5, 1.5, channels).astype(np.float32)
        return self.node("BatchNormalization", [source, *names], output)

    def model(self, *outputs: str) -> onnx.ModelProto:
        shape = ["n", "c", "h", "w"]
        results = [helper.make_tensor_value_info(o, TensorProto.FLOAT, shape) for o in outputs]
        weights = [numpy_helper.from_array(v, k) for k, v in self.weights.items()]
        graph = helper.make_graph(self.nodes, "net", [self.input], results, weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def bytes(self, *outputs: str) -> bytes:
        return self.model(*outputs).SerializeToString()

    def save(self, path: Path, *outputs: str) -> Path:
        path.write_bytes(self.bytes(*outputs))
        return path


def stack(width: int, depth: int = 3, channels: int = 8) -> Net:
    """``depth`` times Conv and Relu, of ``width`` channels; the outputs are c0, r0, c1, r1, .."""
    net = Net(channels)
    source, wide = "x", channels
    for i in range(depth):
        net.conv(source, f"c{i}", wide, width)
        source, wide = net.node("Relu", [f"c{i}"], f"r{i}"), width
    return net
