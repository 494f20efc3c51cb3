"""Which constants of a graph are weights: what is trained, what is a statistic, what stays.

ONNX does not say which of its constants were parameters. What reads a constant does: the filters
and biases of layers are trained; running means and variances of BatchNormalization are statistics;
all else (exponents, bounds, sizes, masks, the mean of the images) stays. An operand of Add or Mul
is a weight where the other operand already is the work of a layer and another layer follows, or
where it is the bias of a matrix product: so biases, position embeddings and layer scales are
trained, and neither the normalisation of the input is nor the anchors that boxes are decoded with.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from prunecvt_passes.graph import DEFAULT_DOMAINS, Graph, Node
from prunecvt_passes.model import Array
from prunecvt_passes.normalise import constant_value

log = logging.getLogger("prunecvt")
_LAYERS: dict[str, tuple[int, ...]] = {  # operator -> inputs that are weights where constant
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Gemm": (0, 1, 2),
    "MatMul": (0, 1),
    "Einsum": (0, 1, 2, 3),
    "BatchNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "GroupNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "RMSNormalization": (1,),
    "SimplifiedLayerNormalization": (1,),
    "SkipLayerNormalization": (2, 3, 4),
    "BiasGelu": (1,),
    "FastGelu": (1,),
    "PRelu": (1,),
    "LSTM": (1, 2, 3, 7),
    "GRU": (1, 2, 3),
    "RNN": (1, 2, 3),
}
LINEAR = ("Conv", "ConvTranspose", "MatMul", "Einsum", "Gemm")  # sums of products
_NORMALISATIONS = ("PRelu", "BiasGelu", "FastGelu")  # and ...Normalization: make no features
PASSING_ON = (  # operators whose output holds the values of their first input
    *("Identity", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast"),
    *("Expand", "Slice"),
)
_MASKED = -50.0  # attention masks add this or less: it leaves nothing after a Softmax


@dataclass(frozen=True)
class Roles:
    """What the constants of a graph are to training.

    Attributes:
        values: every constant: initializers, and Constant nodes by what they make.
        trainable: names of the weights, in the order of the graph.
        statistics: names of running means and variances, each of one layer alone.
        fixed_norms: indices of the BatchNormalization nodes whose statistics are shared or
            computed: they normalise with them in training too.
    """

    values: dict[str, Array]
    trainable: tuple[str, ...]
    statistics: tuple[str, ...]
    fixed_norms: frozenset[int]


def roles_of(graph: Graph, stored: frozenset[str]) -> Roles:
    """Finds the role of every constant.

    Args:
        graph: an index of the model.
        stored: names that new values can be written back to; no other is trained.
    """
    values = _constants(graph)
    origin = {name: name for name in values}
    computed: set[str] = set()
    trained: set[str] = set()
    feeding = _feeding(graph, origin)
    for node in graph.nodes:
        if node.op in PASSING_ON and node.input(0) in origin:
            origin[node.outputs[0]] = origin[node.inputs[0]]
        trained.update(origin[name] for name in _weights(node, values, origin))
        if any(name in computed for name in node.inputs):
            trained.update(_operands(graph, node, values, origin, feeding))
        if _makes_features(node, origin) or any(name in computed for name in node.inputs):
            computed.update(filter(None, node.outputs))
    statistics, fixed = _statistics(graph, stored, trained)
    trainable = [
        name
        for name, array in values.items()
        if name in trained and name in stored and array.dtype.kind in "fV" and array.size
    ]
    return Roles(values, tuple(trainable), statistics, fixed)


def _constants(graph: Graph) -> dict[str, Array]:
    found = dict(graph.model.weights)
    for node in graph.nodes:
        if node.op == "Constant" and node.domain in DEFAULT_DOMAINS and node.proto.attribute:
            value = constant_value(node.proto)
            if value is not None:
                found[node.outputs[0]] = value
    return found


def _feeding(graph: Graph, origin: dict[str, str]) -> set[str]:
    """Tensors that a layer further on depends on."""
    found: set[str] = set()
    for node in reversed(graph.nodes):
        if _makes_features(node, origin) or any(name in found for name in node.outputs):
            found.update(node.inputs)
    return found


def _weights(node: Node, values: dict[str, Array], origin: dict[str, str]) -> list[str]:
    """Inputs of ``node`` that are weights of a layer."""
    if node.op in _LAYERS:
        places = _LAYERS[node.op]
        return [name for k, name in enumerate(node.inputs) if k in places and name in origin]
    if node.op == "Gather":
        table = node.inputs[0]
        return [table] if table in origin and values[origin[table]].ndim > 1 else []
    return []


def _operands(
    graph: Graph, node: Node, values: dict[str, Array], origin: dict[str, str], feeding: set[str]
) -> list[str]:
    """Constants that are added to, multiplied with or joined to the work of a layer as weights."""
    if node.op not in ("Add", "Mul", "Concat"):
        return []
    found = []
    makers = [graph.producer[name].op for name in node.inputs if name in graph.producer]
    for name in node.inputs:
        array = values[origin[name]] if name in origin else None
        if array is None or not _is_operand(node.op, array):
            continue
        bias = node.op == "Add" and _is_vector(array) and any(op in LINEAR for op in makers)
        if bias or node.outputs[0] in feeding:
            found.append(origin[name])
    return found


def _is_operand(op: str, array: Array) -> bool:
    """Whether what is added, multiplied or joined can be a weight: no scalar and no mask."""
    if array.size < 2 or array.dtype.kind not in "fV":
        return False
    flat = np.asarray(array, np.float32).ravel()
    if op == "Mul":
        switches = bool(np.all((flat == 0) | (flat == 1))) and bool(np.any(flat == 0))
        return _is_vector(array) and not switches
    return not bool(np.any(flat <= _MASKED))


def _is_vector(array: Array) -> bool:
    """Whether it varies along one axis."""
    return sum(size > 1 for size in array.shape) == 1


def _makes_features(node: Node, origin: dict[str, str]) -> bool:
    if node.op in _LAYERS:
        return not (node.op.endswith("Normalization") or node.op in _NORMALISATIONS)
    return node.op == "Gather" and node.inputs[0] in origin


def _statistics(
    graph: Graph, stored: frozenset[str], trained: set[str]
) -> tuple[tuple[str, ...], frozenset[int]]:
    """The statistics that training may update, and the nodes that have none of their own."""
    found: list[str] = []
    fixed: set[int] = set()
    for node in graph.nodes:
        if node.op != "BatchNormalization" or node.domain not in DEFAULT_DOMAINS:
            continue
        names = node.inputs[3:5]
        own = all(name in stored and name not in trained for name in names)
        if own and names[0] != names[1] and all(_one_layer(graph, name) for name in names):
            found += [name for name in names if name not in found]
        else:
            fixed.add(node.index)
            log.warning(
                "%s shares its statistics or computes them: they stay as they are in training",
                node.title,
            )
    return tuple(found), frozenset(fixed)


def _one_layer(graph: Graph, statistic: str) -> bool:
    """Whether all that reads a statistic is one layer, that may be run several times."""
    readers = graph.readers[statistic]
    layers = {node.inputs[1:] for node, _ in readers if node.op == "BatchNormalization"}
    plain = all(node.op == "BatchNormalization" for node, _ in readers)
    return plain and len(layers) == 1 and statistic not in graph.ends
