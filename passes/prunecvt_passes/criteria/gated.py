"""The original with a gate wherever channels are read: a factor for each, that is 1.

The gradient of a loss by these factors is what the loss does, to first order, if channels go: dL/dg
at a = 1 is the sum over positions of dL/da a (Molchanov et al., 2017 and 2019). Gates stand where
the oracle multiplies by zero, so that the gates of a class are all that removing it changes, and
their gradients add up.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import onnx

from prunecvt_passes.flow import Read
from prunecvt_passes.graph import Graph, every_node, replace_nodes, taken_names, unused_mark
from prunecvt_passes.groups import Groups, Ints
from prunecvt_passes.model import Model
from prunecvt_passes.precision import FLOATS

_SHAPING = frozenset(("Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"))
_CHOOSING = frozenset(("ArgMax", "LogSoftmax", "Softmax"))


@dataclass(frozen=True)
class Gate:
    """A new graph input by which a tensor is multiplied.

    Attributes:
        name: of the input.
        tensor: what is multiplied.
        axis: of its channels.
        rank: of the tensor and of the input.
        classes: class of each channel along the axis.
    """

    name: str
    tensor: str
    axis: int
    rank: int
    classes: Ints

    def shape(self, samples: int) -> tuple[int, ...]:
        """Of the input: channels along ``axis``, samples along the first where there are more."""
        sizes = [1] * self.rank
        if samples > 1:
            sizes[0] = samples
        sizes[self.axis] = self.classes.size
        return tuple(sizes)


@dataclass(frozen=True)
class Head:
    """A tensor that stands for an output.

    Attributes:
        tensor: its name.
        axis: of its classes, None where none are; counted from the end where the rank is known,
            since a Squeeze takes the batch too where it is of one sample.
    """

    tensor: str
    axis: int | None


def gated(groups: Groups) -> tuple[Model, tuple[Gate, ...]]:
    """Returns the original with gates, outside of bodies and of quantised numbers."""
    graph = groups.channels.graph
    model = graph.model.copy()
    protos = every_node(model.proto.graph)
    mark = unused_mark("__gate", taken_names(model.proto.graph))
    made: dict[tuple[str, int, bytes], Gate] = {}
    inserts: dict[int, list[onnx.NodeProto]] = defaultdict(list)
    for read in sorted(groups.channels.reads, key=lambda read: read.node.index):
        if read.zero or read.node.scope or not _free(groups, read):
            continue
        node = protos[read.node.index]
        name = node.input[read.place]  # what another gate makes, where another axis has one
        key = name, read.axis, read.labels.tobytes()
        if key not in made:
            rank = len(graph.shape(read.node.input(read.place)) or ())
            gate = Gate(f"{mark}{len(made)}", name, read.axis, rank, _classes(groups, read))
            product = onnx.helper.make_node("Mul", [name, gate.name], [f"{gate.name}_out"])
            inserts[read.node.index].append(product)
            made[key] = gate
            model.proto.graph.input.append(_declared(graph, read, gate))
        node.input[read.place] = f"{made[key].name}_out"
    replace_nodes(model.proto.graph, lambda index, node: (*inserts.get(index, ()), node))
    return model, tuple(made.values())


def _declared(graph: Graph, read: Read, gate: Gate) -> onnx.ValueInfoProto:
    kind = graph.shapes.dtypes.get(read.node.input(read.place), onnx.TensorProto.FLOAT)
    return onnx.helper.make_tensor_value_info(gate.name, kind, [None] * gate.rank)


def _free(groups: Groups, read: Read) -> bool:
    return bool((groups.group_of[_classes(groups, read)] >= 0).any())


def _classes(groups: Groups, read: Read) -> Ints:
    found: Ints = groups.class_of[read.labels]
    return found


def heads(graph: Graph) -> list[Head]:
    """What losses are computed of, for each output that holds real numbers.

    That is the tensor in front of a last Softmax or ArgMax, whose axis holds classes; else the
    output, whose second axis holds classes where all behind it are of one.
    """
    found = []
    for output in graph.outputs:
        maker = graph.producer.get(output)
        while maker is not None and maker.op in _SHAPING:
            maker = graph.producer.get(maker.inputs[0])
        if maker is not None and maker.op in _CHOOSING:
            rank = len(graph.shape(maker.inputs[0]) or ())
            default = 0 if maker.op == "ArgMax" else -1 if graph.opset >= 13 else 1
            axis = maker.attributes.get("axis", default)
            found.append(Head(maker.inputs[0], axis % rank - rank if rank else axis))
            continue
        kind = graph.shapes.dtypes.get(output, onnx.TensorProto.FLOAT)
        if kind in FLOATS:
            shape = graph.shape(output) or ()
            classes = len(shape) > 1 and shape[1] > 1 and all(size == 1 for size in shape[2:])
            found.append(Head(output, 1 - len(shape) if classes else None))
    return list(dict.fromkeys(found))
