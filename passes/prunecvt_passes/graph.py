"""A frozen index over a model: nodes in order, who makes a tensor, who reads it, its shape.

The nodes of bodies (of If, Loop and Scan) are indexed with the others: in the normal form a name
means one tensor in all of them. Passes that analyse read this; passes that edit work on the
``Model`` and index it anew.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import onnx

from prunecvt_passes.model import Array, Model

DEFAULT_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class Node:
    """One node of the graph or of a body; ``index`` is its place in ``every_node``.

    Missing optional inputs and outputs are "". ``scope`` is the number of the graph it lies in (0
    for the main graph), ``inner`` those of its own bodies.
    """

    index: int
    op: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    proto: onnx.NodeProto = field(repr=False)
    scope: int = 0
    inner: tuple[int, ...] = ()

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """Attribute name -> value (strings decoded); subgraphs are left out."""
        found = {}
        for attribute in self.proto.attribute:
            if attribute.type not in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
                value = onnx.helper.get_attribute_value(attribute)
                found[attribute.name] = value.decode() if isinstance(value, bytes) else value
        return found

    @property
    def kind(self) -> str:
        """The operator; of another than the default domain ``domain:operator``."""
        return self.op if self.domain in DEFAULT_DOMAINS else f"{self.domain}:{self.op}"

    @property
    def title(self) -> str:
        """How messages call the node: its operator and its name (or what it makes)."""
        return f"{self.op} '{self.name or next(filter(None, self.outputs), self.index)}'"

    def input(self, index: int) -> str:
        """Name of input ``index``, "" where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else ""

    def output(self, index: int) -> str:
        """Name of output ``index``, "" where it is left out."""
        return self.outputs[index] if index < len(self.outputs) else ""

    @property
    def subgraphs(self) -> list[onnx.GraphProto]:
        """The bodies of If, Loop, Scan and the like."""
        return [graph for attribute in self.proto.attribute for graph in _graphs(attribute)]


def _graphs(attribute: onnx.AttributeProto) -> list[onnx.GraphProto]:
    if attribute.type == onnx.AttributeProto.GRAPH:
        return [attribute.g]
    return list(attribute.graphs)


def bodies(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The bodies whose meaning is known: of If, Loop and Scan (but for the batched Scan of old)."""
    if node.op_type not in ("If", "Loop", "Scan") or node.domain not in DEFAULT_DOMAINS:
        return []
    found = [graph for attribute in node.attribute for graph in _graphs(attribute)]
    if node.op_type == "Scan" and any(len(b.input) != len(node.input) for b in found):
        return []
    return found


def sealed(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The bodies of any other operator: what they read is left alone."""
    if bodies(node):
        return []
    return [graph for attribute in node.attribute for graph in _graphs(attribute)]


def every_scope(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yields ``graph`` and the bodies inside it, outer ones first."""
    yield graph
    for node in graph.node:
        for body in bodies(node):
            yield from every_scope(body)


def every_node(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes of ``graph`` and its bodies, in order, those of a node's bodies before it."""
    found = []
    for node in graph.node:
        for body in bodies(node):
            found += every_node(body)
        found.append(node)
    return found


def replace_nodes(
    graph: onnx.GraphProto, change: Callable[[int, onnx.NodeProto], Iterable[onnx.NodeProto]]
) -> None:
    """Puts what ``change`` makes of each node and its index in the place of the node.

    In place, in the order of ``every_node``; protos that were taken from there are stale after it.
    """
    _replace(graph, change, itertools.count())


def _replace(
    graph: onnx.GraphProto,
    change: Callable[[int, onnx.NodeProto], Iterable[onnx.NodeProto]],
    count: Iterator[int],
) -> None:
    before = list(graph.node)
    after: list[onnx.NodeProto] = []
    for node in before:
        for body in bodies(node):
            _replace(body, change, count)
        after.extend(change(next(count), node))
    if len(after) != len(before) or any(a is not b for a, b in zip(after, before, strict=True)):
        del graph.node[:]
        graph.node.extend(after)


@dataclass(frozen=True)
class Shapes:
    """What is known of every tensor's shape.

    Attributes:
        sizes: tensor -> dimensions, at the sizes that were probed for the dynamic ones.
        others: tensor -> dimensions at the second sizes that were probed.
        dynamic: tensor -> for each dimension, whether it changes with the graph inputs.
        dtypes: tensor -> ONNX element type.
    """

    sizes: dict[str, tuple[int, ...]]
    dynamic: dict[str, tuple[bool, ...]]
    dtypes: dict[str, int]
    others: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def is_dynamic(self, name: str) -> tuple[bool, ...]:
        """For each dimension of ``name``, whether it changes with the graph inputs."""
        return self.dynamic.get(name) or (False,) * len(self.sizes[name])


@dataclass(frozen=True)
class Graph:
    """The index; see the module's text.

    Invariants: nodes are in topological order, those of bodies before the node whose bodies they
    are; every non-empty tensor name has one maker (a node, an initializer, an input of the graph or
    of a body).

    Attributes:
        entries: inputs of bodies.
        ends: outputs of the graph and of bodies.
        captured: what bodies read from around them, initializers left out.
        sealed: what bodies read that are not indexed.
    """

    model: Model
    nodes: tuple[Node, ...]
    producer: dict[str, Node]
    readers: dict[str, list[tuple[Node, int]]]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    entries: tuple[str, ...]
    ends: frozenset[str]
    captured: frozenset[str]
    sealed: frozenset[str]
    opset: int
    shapes: Shapes

    def constant(self, name: str) -> Array | None:
        """Values of the initializer ``name``; None where it is not one."""
        return self.model.weights.get(name)

    def is_initializer(self, name: str) -> bool:
        """Whether ``name`` is an initializer."""
        return name in self.model.weights

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Dimensions of ``name``, None where they are not known."""
        values = self.model.weights.get(name)
        return values.shape if values is not None else self.shapes.sizes.get(name)

    def dynamic(self, name: str) -> tuple[bool, ...]:
        """For each dimension of ``name``, whether it changes with the graph inputs."""
        if name in self.model.weights:
            return (False,) * self.model.weights[name].ndim
        return self.shapes.is_dynamic(name)

    def only_reader(self, name: str) -> tuple[Node, int] | None:
        """The node and input that alone reads ``name``; None if it is read elsewhere too."""
        readers = self.readers.get(name, [])
        if len(readers) != 1 or name in self.ends or name in self.sealed:
            return None
        return readers[0]


NO_SHAPES = Shapes({}, {}, {})


def opset_of(proto: onnx.ModelProto) -> int:
    """Version of the default operator set; 1 where none is stated."""
    return next((o.version for o in proto.opset_import if o.domain in DEFAULT_DOMAINS), 1)


def index(model: Model, shapes: Shapes = NO_SHAPES) -> Graph:
    """Indexes ``model``; ``shapes`` may be left out where only the wiring matters."""
    graph = model.proto.graph
    nodes: list[Node] = []
    _collect(graph, nodes, itertools.count())
    producer = {name: node for node in nodes for name in node.outputs if name}
    readers: dict[str, list[tuple[Node, int]]] = {}
    for node in nodes:
        for place, name in enumerate(node.inputs):
            if name:
                readers.setdefault(name, []).append((node, place))
    scopes = list(every_scope(graph))
    return Graph(
        model,
        tuple(nodes),
        producer,
        readers,
        tuple(value.name for value in graph.input),
        tuple(value.name for value in graph.output),
        tuple(value.name for body in scopes[1:] for value in body.input),
        frozenset(value.name for scope in scopes for value in scope.output),
        frozenset(n for scope in scopes for n in captured_names(scope)) - model.weights.keys(),
        frozenset(n for node in nodes for body in sealed(node.proto) for n in captures(body)),
        opset_of(model.proto),
        shapes,
    )


def _collect(graph: onnx.GraphProto, nodes: list[Node], scopes: Iterator[int]) -> int:
    """Appends the nodes of ``graph`` in the order of ``every_node``; returns its number."""
    scope = next(scopes)
    for n in graph.node:
        inner = tuple(_collect(body, nodes, scopes) for body in bodies(n))
        names = tuple(n.input), tuple(n.output)
        nodes.append(Node(len(nodes), n.op_type, n.domain, n.name, *names, n, scope, inner))
    return scope


def taken_names(graph: onnx.GraphProto) -> set[str]:
    """Every name of a tensor in ``graph`` and in the bodies inside it."""
    names = {value.name for value in (*graph.input, *graph.output)}
    names.update(tensor.name for tensor in graph.initializer)
    names.update(tensor.values.name for tensor in graph.sparse_initializer)
    for node in graph.node:
        names.update(node.output)
        for attribute in node.attribute:
            if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
                for body in _graphs(attribute):
                    names |= taken_names(body)
    return names


def unused(wanted: str, taken: set[str]) -> str:
    """Returns ``wanted``, numbered where it is taken, and adds it to ``taken``."""
    name, count = wanted, 1
    while name in taken:
        count += 1
        name = f"{wanted}_{count}"
    taken.add(name)
    return name


def unused_mark(wanted: str, taken: set[str]) -> str:
    """Returns ``wanted``, lengthened until no name contains it: names that do are new."""
    while any(wanted in name for name in taken):
        wanted += "_"
    return wanted


def captured_names(graph: onnx.GraphProto) -> frozenset[str]:
    """Names of ``graph`` that a body inside it reads."""
    return frozenset(
        name
        for node in graph.node
        for attribute in node.attribute
        if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
        for body in _graphs(attribute)
        for name in captures(body)
    )


def captures(body: onnx.GraphProto) -> Iterator[str]:
    """Yields the names that ``body`` reads from the graphs around it."""
    own = {value.name for value in body.input} | {t.name for t in body.initializer}
    own.update(t.values.name for t in body.sparse_initializer)
    for node in body.node:
        for name in node.input:
            if name and name not in own:
                yield name
        for attribute in node.attribute:
            for inner in _graphs(attribute):
                yield from (name for name in captures(inner) if name not in own)
        own.update(node.output)
    yield from (value.name for value in body.output if value.name not in own)


def integers(graph: Graph, name: str) -> tuple[int, ...] | None:
    """Values of a constant integer tensor (a scalar counts as one), None where it is none."""
    values = graph.constant(name) if name else None
    return None if values is None else tuple(int(v) for v in np.ravel(values))
