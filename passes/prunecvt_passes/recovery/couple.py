"""Couples of a producer and its one reader, and parts of a model as functions of one tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime

from prunecvt_passes import runtime
from prunecvt_passes.graph import Graph, Node
from prunecvt_passes.model import Array, Model
from prunecvt_passes.recovery.aim import Aim
from prunecvt_passes.recovery.linear import Linear
from prunecvt_passes.recovery.patches import padding
from prunecvt_passes.recovery.walk import part_of


@dataclass(frozen=True)
class Couple:
    """A producer, its one reader, and the nodes from one to the other, both with them."""

    producer: Aim
    reader: Aim
    path: tuple[Node, ...]


def couples(graph: Graph, aims: Sequence[Aim]) -> dict[int, Couple]:
    """The couples by their readers' node indices.

    The producer's values reach nothing but the reader, through a Relu or a Clip or directly.
    """
    by_tensor = {aim.tensor: aim for aim in aims if not aim.other and _plain(aim)}
    found = {}
    for aim in aims:
        name, between = aim.linear.node.inputs[0], []
        maker = graph.producer.get(name)
        if aim.linear.blocks > 1 or aim.linear.node.op == "ConvTranspose" or not _plain(aim):
            continue
        if name not in by_tensor and maker is not None and maker.op in ("Relu", "Clip"):
            between, name = [maker], maker.inputs[0]
        producer = by_tensor.get(name)
        if producer is None or producer.bias is None:
            continue
        nodes = (producer.linear.node, *between, aim.linear.node)
        if all(graph.only_reader(node.outputs[0]) for node in nodes[:-1]):
            found[aim.linear.node.index] = Couple(producer, aim, nodes)
    return found


def _plain(aim: Aim) -> bool:
    """Whether the node holds its bias itself."""
    return aim.linear.node.op != "MatMul"


class Part:
    """Some nodes of a model as a function of one tensor."""

    def __init__(self, graph: Graph, nodes: Sequence[Node], outputs: Sequence[str]) -> None:
        self.outputs = list(outputs)
        self.part = part_of(graph.model, [node.proto for node in nodes], outputs)
        self.session: onnxruntime.InferenceSession | None = None

    def __call__(self, name: str, values: Array) -> list[Array]:
        """The outputs for ``values`` of the tensor ``name``."""
        if self.session is None:
            kind = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
            self.part.proto.graph.input.append(
                onnx.helper.make_tensor_value_info(name, kind, [None] * values.ndim)
            )
            self.session = runtime.session(self.part)
        found = runtime.run_session(self.session, {name: values}, self.outputs)
        return [found[each] for each in self.outputs]


def backward(graph: Graph, reader: Linear, gap: Array, shape: tuple[int, ...]) -> Array:
    """W' e, in the shape of the producer's values."""
    weight = graph.model.weights[reader.weight]
    if not reader.spatial:
        return np.asarray(gap @ (weight.T if reader.transposed else weight))
    node, size, kernel = reader.node, shape[2:], weight.shape[2:]
    strides = node.attributes.get("strides", [1] * len(size))
    dilations = node.attributes.get("dilations", [1] * len(size))
    before, _ = padding(node, size, gap.shape[2:], kernel, strides, dilations)
    # all that the kernel reaches, cut to what lies within the input
    reach = [
        (out - 1) * s + (k - 1) * d + 1
        for out, s, k, d in zip(gap.shape[2:], strides, kernel, dilations, strict=True)
    ]
    made = onnx.helper.make_node(
        "ConvTranspose", ["e", "w"], ["g"], strides=strides, dilations=dilations
    )
    spread = _run_one(graph.model, made, {"e": gap, "w": weight})
    found = np.zeros((*spread.shape[:2], *size), np.float32)
    inner, place = [slice(None)] * 2, [slice(None)] * 2
    for first, end, length in zip(before, reach, size, strict=True):
        inner.append(slice(max(first, 0), min(end, first + length)))
        skipped = max(-first, 0)
        place.append(slice(skipped, skipped + inner[-1].stop - inner[-1].start))
    found[tuple(place)] = spread[tuple(inner)]
    return found


def _run_one(model: Model, node: onnx.NodeProto, values: dict[str, Array]) -> Array:
    proto = onnx.ModelProto(ir_version=model.proto.ir_version)
    proto.opset_import.extend(model.proto.opset_import)
    proto.graph.name = "part"
    proto.graph.node.append(node)
    for name, array in values.items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        proto.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, list(array.shape)))
    proto.graph.output.add(name=node.output[0])
    return runtime.run(Model(proto, {}, model.source), values)[node.output[0]]
