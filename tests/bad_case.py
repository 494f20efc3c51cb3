"""What a bad file is, and the small models that bad files are made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


@dataclass(frozen=True)
class Case:
    """A bad file.

    Attributes:
        name: of the case.
        make: writes the file into a folder and returns its path.
        exit_code: of the command line.
        code: of the error.
        mentions: texts that the error holds.
        node: the node that the error names, "" where there is none.
        posix: whether only POSIX systems can have such a file.
    """

    name: str
    make: Callable[[Path], Path]
    exit_code: int
    code: str
    mentions: tuple[str, ...] = ()
    node: str = ""
    posix: bool = False


def weight(name: str, *shape: int, dtype: type = np.float32) -> TensorProto:
    return numpy_helper.from_array(np.ones(shape, dtype), name)


def conv_model(
    w: TensorProto | None = None,
    *extra: TensorProto,
    opset: int = 18,
    ir_version: int = 9,
    bias: str = "",
    **attributes: object,
) -> onnx.ModelProto:
    """x [1,3,8,8] -> Conv 'n_conv' -> Relu 'n_relu' -> y."""
    inputs = ["x", "w", *([bias] if bias else [])]
    graph = helper.make_graph(
        [
            helper.make_node("Conv", inputs, ["c"], name="n_conv", **attributes),
            helper.make_node("Relu", ["c"], ["y"], name="n_relu"),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, None, None, None])],
        [w if w is not None else weight("w", 16, 3, 3, 3), *extra],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = ir_version
    return model


def nodes_model(*nodes: onnx.NodeProto, weights: tuple[TensorProto, ...] = ()) -> onnx.ModelProto:
    """x [1,3,8,8] -> ``nodes`` -> y."""
    model = conv_model()
    del model.graph.node[:]
    del model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(weights)
    return model


def relu(source: str, target: str, name: str) -> onnx.NodeProto:
    return helper.make_node("Relu", [source], [target], name=name)


def external(model: onnx.ModelProto, location: str, **keys: str) -> onnx.ModelProto:
    """Points the weight of ``conv_model`` to ``location``."""
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **keys}.items():
        tensor.external_data.add(key=key, value=value)
    return model


def written(data: bytes, file: str = "model.onnx") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / file).write_bytes(data)
        return folder / file

    return make


def saved(build: Callable[[], onnx.ModelProto]) -> Callable[[Path], Path]:
    return lambda folder: written(build().SerializeToString())(folder)


def model_case(
    name: str,
    build: Callable[[], onnx.ModelProto],
    code: str,
    *mentions: str,
    node: str = "",
) -> Case:
    exit_code = int(code[1])
    return Case(name, saved(build), exit_code, code, mentions, node)


def without(*fields: str) -> onnx.ModelProto:
    model = conv_model()
    for name in fields:
        model.ClearField(name)
    return model
