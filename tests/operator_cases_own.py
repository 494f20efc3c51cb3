"""What onnx's node tests leave out: several channels, types that onnxruntime has kernels for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper

from prunecvt_passes.model import Array

RNG = np.random.default_rng(0)


def floats(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def positive(*shape: int) -> Array:
    return np.asarray(RNG.random(shape) * 0.02 + 0.01, np.float32)


def signed(*shape: int) -> Array:
    return RNG.integers(-99, 99, shape).astype(np.int8)


IMAGE = floats(2, 4, 6, 6)
BOXES = np.array([[0, 0, 0, 4, 4], [1, 1, 1, 5, 5]], np.float32)
BYTES, TAPS = (RNG.integers(100, 150, n).astype(np.uint8) for n in ((2, 4, 6, 6), (6, 4, 3, 3)))
STEP, ZERO = np.array(0.02, np.float32), np.array(127, np.uint8)
KERNEL = {"kernel_shape": [2, 2]}


class Row(NamedTuple):
    """A case of one node."""

    op: str  # ``domain:operator`` where it is not onnx's own
    values: list[Array]  # of its inputs; an empty one is left out
    attributes: dict[str, Any] = {}  # noqa: RUF012
    outputs: tuple[str, ...] = ("y",)


_ROWS: list[tuple[str, list[Array], dict[str, Any]]] = [
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
    ("MatMulInteger", [BYTES, signed(6, 5), ZERO, signed(5)], {}),
    ("MaxPool", [IMAGE], KERNEL),
    ("MaxRoiPool", [IMAGE, BOXES], {"pooled_shape": [2, 2]}),
    ("OneHot", [RNG.integers(0, 3, (2, 4)), np.array([3]), np.array([0, 1], np.float32)], {}),
    ("QLinearConv", [BYTES, STEP, ZERO, TAPS, STEP, ZERO, np.array(0.2, np.float32), ZERO], {}),
    ("QLinearConv", [BYTES, STEP, ZERO, TAPS, positive(6), TAPS[:, 0, 0, 0], STEP, ZERO], {}),
    ("QLinearMatMul", [BYTES, STEP, ZERO, signed(6, 5), positive(5), signed(5), STEP, ZERO], {}),
    ("Resize", [IMAGE, floats(0), np.array([1, 1, 2, 2], np.float32)], {}),
    ("Resize", [IMAGE, floats(0), floats(0), np.array([2, 4, 9, 3])], {"mode": "linear"}),
    ("Resize", [IMAGE, floats(0), floats(0), np.array([2, 4, 9, 6])], {"mode": "cubic"}),
    ("ReverseSequence", [floats(3, 2, 4), np.array([2, 3])], {}),
    ("RoiAlign", [IMAGE, BOXES[:, 1:], np.array([0, 1])], {"output_height": 2, "output_width": 2}),
    ("SpaceToDepth", [IMAGE], {"blocksize": 2}),
    ("Upsample", [IMAGE, np.array([1, 1, 2, 2], np.float32)], {}),
]
ROWS = [Row(*row) for row in _ROWS]


def models(rows: Iterable[Row]) -> dict[str, tuple[onnx.ModelProto, dict[str, Array]]]:
    """Name -> a model of one node, and its inputs."""
    found: dict[str, tuple[onnx.ModelProto, dict[str, Array]]] = {}
    numbers: Counter[str] = Counter()
    for row in rows:
        domain, _, op = row.op.rpartition(":")
        feeds = {f"x{k}": value for k, value in enumerate(row.values) if value.size}
        names = [f"x{k}" if value.size else "" for k, value in enumerate(row.values)]
        inputs = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for n, v in feeds.items()
        ]
        outputs = [onnx.ValueInfoProto(name=name) for name in row.outputs if name]
        node = helper.make_node(op, names, list(row.outputs), domain=domain, **row.attributes)
        graph = helper.make_graph([node], op, inputs, outputs)
        opsets = [helper.make_opsetid("", {"BitCast": 26, "Upsample": 9}.get(op, 22))]
        if domain:
            opsets.append(helper.make_opsetid(domain, 1))
        stem = f"own_{row.op.replace(':', '.')}"
        found[f"{stem}_{numbers[stem]}"] = helper.make_model(graph, opset_imports=opsets), feeds
        numbers[stem] += 1
    return found
