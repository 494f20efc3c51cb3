"""Brings a model into the normal form that the other passes rely on.

Local functions are inlined, constants are dense initializers (of the main graph: bodies read them
there), what follows from constants or fixed shapes is computed, an If that always takes one branch
is that branch, no initializer is a graph input, no vector is shared between two readers, and every
tensor's shape is known, in bodies as far as can be told. Opsets, metadata, names, dtypes and
dynamic dimensions stay; so does the IR version, but for 3, which demands that initializers are
graph inputs.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx.inliner
from onnx import numpy_helper

from prunecvt_passes import runtime
from prunecvt_passes.arithmetic import Known, evaluate
from prunecvt_passes.bodies import hoist_weights, inline_branches, separate_names
from prunecvt_passes.carried import Sizes
from prunecvt_passes.clean import drop_dead, outer_names
from prunecvt_passes.errors import UnsupportedError
from prunecvt_passes.graph import (
    DEFAULT_DOMAINS,
    Graph,
    Node,
    Shapes,
    captures,
    every_node,
    every_scope,
    index,
    replace_nodes,
    sealed,
    taken_names,
    unused,
)
from prunecvt_passes.model import Array, Model
from prunecvt_passes.samples import InputSizes, dimensions, graph_inputs
from prunecvt_passes.shapes import infer, leave_types
from prunecvt_passes.sparse import dense_values, make_dense

log = logging.getLogger("prunecvt")

# Not computed ahead although their inputs are constant: random, or stored smaller than they come.
_LEFT = ("Bernoulli", "Constant", "DequantizeLinear", "Multinomial")
_TEXT = onnx.TensorProto.STRING
_GROWTH = 1 << 20  # bytes that folding may add per tensor beyond the size of what it came from


@dataclass(frozen=True)
class Source:
    """The model as it came, and the sizes that the user gave for dynamic inputs."""

    model: Model
    input_sizes: InputSizes = field(default_factory=dict)


@dataclass(frozen=True)
class Dense:
    """The model in normal form, before anything is cut.

    Attributes:
        graph: its index, with shapes; ``graph.model`` is the model.
        sizes: graph input -> the sizes that the shapes hold at.
        batch: the batch among them where it is dynamic, else 1.
    """

    graph: Graph
    sizes: Sizes
    batch: int


def normalise(source: Source) -> Dense:
    """Returns the normal form.

    Raises:
        UnsupportedError: E401, E402, E410: the model cannot be inlined, shaped or run.
        UsageError: E203, a stated size does not fit.
    """
    model = inline_functions(source.model).copy()
    make_dense(model)
    separate_names(model)
    hoist_weights(model)
    _constants_to_initializers(model)
    _initializers_are_no_inputs(model)
    while True:
        _skip_identities(model)
        _fold(model)
        if inline_branches(model):
            continue
        shapes, sizes = infer(model, source.input_sizes)
        _fold_arithmetic(model, shapes)
        _fold(model)
        if not inline_branches(model):  # else shapes around it were those of either branch
            break
    drop_dead(model)
    _unshare_vectors(model)
    for scope in every_scope(model.proto.graph):
        leave_types(scope)
    return Dense(index(model, shapes), sizes, _batch(model, sizes))


def _batch(model: Model, sizes: Sizes) -> int:
    """The first dimension of the first input, where the model leaves it open."""
    for value in graph_inputs(model)[:1]:
        declared = dimensions(value) or ()
        if len(declared) > 1 and not isinstance(declared[0], int):
            return sizes[value.name][0]
    return 1


def inline_functions(model: Model) -> Model:
    """Returns the model with its local functions inlined.

    Raises:
        UnsupportedError: E401, a function cannot be inlined.
    """
    if not model.proto.functions:
        return model
    try:
        return Model(onnx.inliner.inline_local_functions(model.proto), model.weights, model.source)
    except Exception as error:  # onnx's C++ errors share no public base class
        raise UnsupportedError(
            "E401",
            "a local function of the model cannot be inlined",
            where=f"{model.source}: {str(error)[:300]}",
            help="export the model without local functions",
        ) from error


def constant_value(node: onnx.NodeProto) -> Array | None:
    """Values of a Constant node; None for texts."""
    attribute = node.attribute[0]
    if attribute.name == "value":
        return numpy_helper.to_array(attribute.t)
    if attribute.name == "sparse_value" and attribute.sparse_tensor.values.data_type != _TEXT:
        return dense_values(attribute.sparse_tensor)
    dtype = {"value_float": np.float32, "value_floats": np.float32}.get(attribute.name, np.int64)
    if attribute.name in ("value_float", "value_floats", "value_int", "value_ints"):
        return np.array(onnx.helper.get_attribute_value(attribute), dtype)
    return None  # strings stay nodes


def _constants_to_initializers(model: Model) -> None:
    """Constant nodes and Identity nodes on constants become initializers."""
    fixed = _outputs(model)
    found: dict[str, Array] = {}
    for node in every_node(model.proto.graph):
        output = node.output[0] if node.output else ""
        value = None
        if output not in fixed and node.domain in DEFAULT_DOMAINS:
            if node.op_type == "Constant" and len(node.attribute) == 1:
                value = constant_value(node)
            elif node.op_type == "Identity":
                value = found.get(node.input[0], model.weights.get(node.input[0]))
        if value is not None:
            found[output] = value
    if found:
        _drop_nodes(model, lambda node: bool(node.output) and node.output[0] in found)
        model.set_weights(found)


def _outputs(model: Model) -> set[str]:
    """Names of the outputs of the graph and of every body."""
    return {value.name for scope in every_scope(model.proto.graph) for value in scope.output}


def _drop_nodes(model: Model, doomed: Callable[[onnx.NodeProto], bool]) -> None:
    """Drops the nodes that are ``doomed``, of bodies too."""
    replace_nodes(model.proto.graph, lambda _, node: () if doomed(node) else (node,))


def _initializers_are_no_inputs(model: Model) -> None:
    """Drops graph inputs that only give an initializer's type (IR 3 demanded them)."""
    graph = model.proto.graph
    listed = [value for value in graph.input if value.name in model.weights]
    for value in listed:
        graph.input.remove(value)
    if listed:
        log.info(
            "%d initializers were listed as graph inputs too; they are constants now", len(listed)
        )
    # also where none was listed: constants that are folded become such initializers
    model.proto.ir_version = max(model.proto.ir_version, 4)


def _skip_identities(model: Model) -> None:
    """Lets the readers of an Identity read what it reads; its name stays where it is public."""
    nodes, public = every_node(model.proto.graph), _outputs(model)
    public.update(n for node in nodes for body in sealed(node) for n in captures(body))
    source: dict[str, str] = {}
    for node in nodes:
        node.input[:] = [source.get(name, name) for name in node.input]
        same = node.op_type == "Identity" and node.domain in DEFAULT_DOMAINS
        if same and node.output[0] not in public:
            source[node.output[0]] = node.input[0]
    if source:
        _drop_nodes(model, lambda node: bool(node.output) and node.output[0] in source)


def _foldable(graph: Graph) -> list[Node]:
    """Nodes that follow from constants alone, in order."""
    constant = set(graph.model.weights)
    found = []
    for node in graph.nodes:
        if (
            node.inputs
            and all(name in constant for name in node.inputs if name)
            and any(node.inputs)
            and node.op not in _LEFT
            and not node.op.startswith("Random")
            and not node.subgraphs
            and not any(name in graph.ends for name in node.outputs)
            and _in_numpy(graph, node)
        ):
            found.append(node)
            constant.update(name for name in node.outputs if name)
    return found


def _in_numpy(graph: Graph, node: Node) -> bool:
    """Whether a node's results are of types that runtimes give out as arrays: not bfloat16, int4.

    One that is not would keep all others from being computed.
    """
    kinds = [attribute.t.data_type for attribute in node.proto.attribute if attribute.HasField("t")]
    if node.op == "Cast":
        kinds.append(node.attributes["to"])
    else:
        read = [graph.constant(name) for name in node.inputs]
        if any(values is not None and values.dtype.kind == "V" for values in read):
            return False
    return all(onnx.helper.tensor_dtype_to_np_dtype(kind).kind != "V" for kind in kinds)


def _fold(model: Model) -> None:
    """Computes, in one run, every node that follows from constants alone."""
    graph = index(model)
    nodes = _foldable(graph)
    if not nodes:
        return
    made = {name for node in nodes for name in node.outputs if name}
    inside = {node.index for node in nodes}
    wanted = sorted(
        name
        for name in made
        if name in graph.sealed
        or any(reader.index not in inside for reader, _ in graph.readers.get(name, []))
    )
    values = _computed(model, nodes, wanted)
    sources = {name for node in nodes for name in node.inputs} & model.weights.keys()
    allowed = _GROWTH + max((model.weights[name].nbytes for name in sources), default=0)
    small = {
        name: value
        for name, value in values.items()  # sequences and the like stay computed
        if isinstance(value, np.ndarray) and value.nbytes <= allowed
    }
    if small:
        _take_over(model, small)


def _computed(model: Model, nodes: list[Node], wanted: list[str]) -> dict[str, Array]:
    """Values of ``wanted``; nothing where onnxruntime will not compute them."""
    part = Model(onnx.ModelProto(), {}, model.source)
    part.proto.CopyFrom(model.proto)
    graph = part.proto.graph
    for kept in (graph.node, graph.output, graph.input, graph.initializer, graph.value_info):
        del kept[:]
    graph.node.extend(node.proto for node in nodes)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    needed = {name for node in nodes for name in node.inputs}
    part.weights.update({n: v for n, v in model.weights.items() if n in needed})
    graph.initializer.extend(t for t in model.proto.graph.initializer if t.name in needed)
    try:
        return runtime.run(part, {}, wanted)
    except UnsupportedError as error:
        log.info("constants are not folded: %s", error.where)
        return {}


def _take_over(model: Model, values: dict[str, Array]) -> None:
    """Makes ``values`` initializers in place of the nodes that compute them."""
    for node in every_node(model.proto.graph):
        # a node with one output that is still computed has to stay, with its other outputs
        if any(o and o not in values for o in node.output):
            for name in [o for o in node.output if o in values]:
                del values[name]
    _drop_nodes(model, lambda node: any(o in values for o in node.output))
    model.set_weights(values)
    drop_dead(model)


def _fold_arithmetic(model: Model, shapes: Shapes) -> None:
    """Writes down what follows from fixed shapes, and Reshape and Expand targets as constants."""
    graph = index(model, shapes)
    known = evaluate(graph)
    outer = outer_names(graph, known)
    fixed = {
        name: value.value
        for name, value in known.items()
        if value.fixed and name not in graph.ends and name in outer
    }
    targets: dict[str, Array] = {}
    nodes, taken = every_node(model.proto.graph), taken_names(model.proto.graph)
    for node in graph.nodes:
        place = {"Reshape": 1, "Expand": 1}.get(node.op)
        if place is None or node.domain not in DEFAULT_DOMAINS or graph.opset < 5:
            continue
        name = node.input(place)
        if graph.is_initializer(name) or name in fixed:
            continue
        target = _target(graph, node, known.get(name))
        if target is not None:
            own = unused(f"{node.outputs[0]}__target", taken)
            targets[own] = target
            nodes[node.index].input[place] = own
    if targets:
        model.set_weights(targets)
    if fixed:
        _take_over(model, fixed)
    drop_dead(model)


def _target(graph: Graph, node: Node, known: Known | None) -> Array | None:
    """A constant target that says the same at every input size; None where there is none."""
    before, after = graph.shape(node.inputs[0]), graph.shape(node.outputs[0])
    if before is None or after is None or known is None:
        return None
    changing, moving = graph.dynamic(node.outputs[0]), graph.dynamic(node.inputs[0])
    if node.op == "Expand":
        offset = len(after) - len(before)
        same = [
            k >= offset and moving[k - offset] and before[k - offset] == size
            for k, size in enumerate(after)
        ]
        if any(c and not s for c, s in zip(changing, same, strict=True)):
            return None
        return np.array([1 if c else n for c, n in zip(changing, after, strict=True)], np.int64)
    if node.attributes.get("allowzero") or 0 in after:
        return None
    others = graph.shapes.others
    probed = ((before, after), (others.get(node.inputs[0], before), others[node.outputs[0]]))
    copied = [
        c and k < len(before) and moving[k] and all(_copied(*pair, k) for pair in probed)
        for k, c in enumerate(changing)
    ]
    open_axes = [k for k, c in enumerate(changing) if c and not copied[k]]
    if len(open_axes) > 1:
        return None
    target = [0 if copied[k] else -1 if k in open_axes else n for k, n in enumerate(after)]
    return np.array(target, np.int64)


def _copied(before: tuple[int, ...], after: tuple[int, ...], axis: int) -> bool:
    """Whether ``axis`` is as long on both sides of a Reshape, and starts at the same place."""
    return before[axis] == after[axis] and math.prod(before[:axis]) == math.prod(after[:axis])


def _unshare_vectors(model: Model) -> None:
    """Gives every reader of a shared vector its own: exporters merge equal biases and scales.

    Matrices and filters stay shared: two nodes that read one filter are meant to.
    """
    readers: dict[str, int] = {}
    added: dict[str, Array] = {}
    taken = taken_names(model.proto.graph)
    for node in every_node(model.proto.graph):
        for place, name in enumerate(node.input):
            values = model.weights.get(name)
            if values is None or not _is_vector(values, node.op_type == "DequantizeLinear"):
                continue
            count = readers[name] = readers.get(name, 0) + 1
            if count > 1:
                own = unused(f"{name}__{count}", taken)
                node.input[place] = own
                added[own] = values
    model.set_weights(added)


def _is_vector(values: Array, quantised: bool) -> bool:
    """Whether an initializer has one long axis and holds numbers that a channel may own.

    Long integers do so only where they are ``quantised`` numbers; elsewhere they are sizes.
    """
    small = values.dtype.kind in "iu" and (values.dtype.itemsize <= 2 or quantised)  # zero points
    number = values.dtype.kind in "fV" or small  # V: bfloat16, 8-bit floats, 4-bit integers
    return number and values.size == max(values.shape, default=0) > 1
