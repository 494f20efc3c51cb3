"""What onnx's node tests leave out: several channels, types that onnxruntime has kernels for."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from prunecvt_passes.model import Array

RNG = np.random.default_rng(0)


def floats(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


IMAGE = floats(2, 4, 6, 6)
BOXES = np.array([[0, 0, 0, 4, 4], [1, 1, 1, 5, 5]], np.float32)
BYTES, TAPS = (RNG.integers(100, 150, n).astype(np.uint8) for n in ((2, 4, 6, 6), (6, 4, 3, 3)))
STEP, ZERO = np.array(0.02, np.float32), np.array(127, np.uint8)
KERNEL = {"kernel_shape": [2, 2]}
ROWS: list[tuple[str, list[Array], dict[str, Any]]] = [
    ("AffineGrid", [floats(2, 2, 3), np.array([2, 4, 3, 3])], {}),
    ("AveragePool", [IMAGE], KERNEL),
    ("BitCast", [floats(3, 4)], {"to": TensorProto.INT32}),
    ("CenterCropPad", [IMAGE, np.array([4, 8])], {"axes": [2, 3]}),
    ("CenterCropPad", [IMAGE, np.array([2, 4, 4, 8])], {}),
    ("Col2Im", [floats(2, 12, 9), np.array([4, 4]), np.array([2, 2])], {}),
    ("Conv", [IMAGE, floats(6, 4, 3, 3), floats(6)], {}),
    ("Conv", [IMAGE, floats(8, 1, 3, 3), floats(8)], {"group": 4}),
    ("Conv", [IMAGE, floats(8, 2, 3, 3), floats(8)], {"group": 2}),
    ("ConvInteger", [BYTES, TAPS, ZERO, ZERO], {}),
    ("ConvTranspose", [IMAGE, floats(4, 6, 3, 3), floats(6)], {}),
    ("ConvTranspose", [IMAGE, floats(4, 3, 3, 3), floats(6)], {"group": 2}),
    ("ConvTranspose", [IMAGE, floats(4, 1, 3, 3), floats(4)], {"group": 4}),
    ("DeformConv", [floats(2, 4, 5, 5), floats(6, 4, 3, 3), floats(2, 18, 3, 3), floats(6)], {}),
    ("DepthToSpace", [floats(2, 16, 2, 3)], {"blocksize": 2}),
    ("DepthToSpace", [floats(2, 16, 2, 3)], {"blocksize": 2, "mode": "CRD"}),
    ("GlobalAveragePool", [IMAGE], {}),
    ("GlobalLpPool", [IMAGE], {}),
    ("GridSample", [floats(2, 4, 5, 5), np.tanh(floats(2, 3, 3, 2))], {}),
    ("GroupNormalization", [IMAGE, floats(4), floats(4)], {"num_groups": 2}),
    ("LRN", [IMAGE], {"size": 3}),
    ("LpPool", [IMAGE], KERNEL),
    ("MaxPool", [IMAGE], KERNEL),
    ("MaxRoiPool", [IMAGE, BOXES], {"pooled_shape": [2, 2]}),
    ("OneHot", [RNG.integers(0, 3, (2, 4)), np.array([3]), np.array([0, 1], np.float32)], {}),
    ("QLinearConv", [BYTES, STEP, ZERO, TAPS, STEP, ZERO, np.array(0.2, np.float32), ZERO], {}),
    ("Resize", [IMAGE, floats(0), np.array([1, 1, 2, 2], np.float32)], {}),
    ("Resize", [IMAGE, floats(0), floats(0), np.array([2, 4, 9, 3])], {"mode": "linear"}),
    ("Resize", [IMAGE, floats(0), floats(0), np.array([2, 4, 9, 6])], {"mode": "cubic"}),
    ("ReverseSequence", [floats(3, 2, 4), np.array([2, 3])], {}),
    ("RoiAlign", [IMAGE, BOXES[:, 1:], np.array([0, 1])], {"output_height": 2, "output_width": 2}),
    ("SpaceToDepth", [IMAGE], {"blocksize": 2}),
    ("Upsample", [IMAGE, np.array([1, 1, 2, 2], np.float32)], {}),
]


def models() -> dict[str, tuple[onnx.ModelProto, dict[str, Array]]]:
    """Name -> a model of one node, and its inputs."""
    found = {}
    for op, values, attributes in ROWS:
        feeds = {f"x{k}": value for k, value in enumerate(values) if value.size}
        names = [f"x{k}" if value.size else "" for k, value in enumerate(values)]
        inputs = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for n, v in feeds.items()
        ]
        node = helper.make_node(op, names, ["y"], **attributes)
        graph = helper.make_graph([node], op, inputs, [onnx.ValueInfoProto(name="y")])
        version = {"BitCast": 26, "Upsample": 9}.get(op, 22)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)])
        number = sum(name.startswith(f"own_{op}_") for name in found)
        found[f"own_{op}_{number}"] = (model, feeds)
    return found
