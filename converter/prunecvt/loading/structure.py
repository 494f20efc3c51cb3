"""Checks how a graph is wired: every name made once, every name read is made, nodes in order."""

from __future__ import annotations

import heapq
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import onnx

from prunecvt.loading.refusal import invalid, label, place, title
from prunecvt_passes.errors import InputError
from prunecvt_passes.graph import captures

log = logging.getLogger("prunecvt")


@dataclass(frozen=True)
class _Scope:
    """The names of one graph; a subgraph also sees those of the graphs around it."""

    names: frozenset[str]
    around: _Scope | None

    def sees(self, name: str) -> bool:
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.names:
                return True
            scope = scope.around
        return False


def check_names(proto: onnx.ModelProto, source: str) -> None:
    """Checks that every name is made exactly once and that every name read is made.

    Raises:
        InputError: E302, a name is not UTF-8 text; E303, otherwise.
    """
    if not proto.graph.output:
        raise _broken("the model has no outputs", source)
    waiting: list[tuple[onnx.GraphProto, _Scope | None]] = [(proto.graph, None)]
    while waiting:
        graph, around = waiting.pop()
        _check_nodes(graph, source)
        scope = _Scope(_made_names(graph, source), around)
        for node in graph.node:
            for name in node.input:
                if name and not scope.sees(name):
                    raise _broken(
                        "a node reads a tensor that nothing makes", source, f"'{name}'", node=node
                    )
            waiting += [(body, scope) for body in subgraphs(node)]
        for value in graph.output:
            if not scope.sees(value.name):
                raise _broken("nothing makes an output of the graph", source, f"'{value.name}'")


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yields the bodies of ``node``: of If, Loop, Scan and the like."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _made_names(graph: onnx.GraphProto, source: str) -> frozenset[str]:
    """Names that ``graph`` makes; an initializer may give an input its default value."""
    inputs = [value.name for value in graph.input]
    stored = [tensor.name for tensor in graph.initializer]
    stored += [sparse.values.name for sparse in graph.sparse_initializer]
    for names, what in ((inputs, "inputs"), (stored, "initializers")):
        if len(set(names)) < len(names):
            twice = next(name for name, count in Counter(names).items() if count > 1)
            raise _broken(f"two {what} have the same name", source, f"'{twice}'")
    made = {*inputs, *stored}
    if "" in made:
        raise _broken("an input or an initializer has no name", source)
    for node in graph.node:
        for name in node.output:
            if name and name in made:
                raise _broken("a tensor is made twice", source, f"'{name}'", node=node)
            made.add(name)
    made.discard("")
    _check_text(made, source)
    return frozenset(made)


def _check_nodes(graph: onnx.GraphProto, source: str) -> None:
    seen: set[str] = set()
    for value in (*graph.input, *graph.output):
        _check_text((d.dim_param for d in value.type.tensor_type.shape.dim), source)
    for node in graph.node:
        names = (node.name, node.op_type, node.domain, *node.input)
        _check_text((*names, *(attribute.name for attribute in node.attribute)), source)
        if node.name and node.name in seen:
            raise _broken("two nodes have the same name", source, node=node)
        seen.add(node.name)


def _check_text(names: Iterable[object], source: str) -> None:
    """Refuses names that are not UTF-8: protobuf gives those as bytes."""
    for name in names:
        if not isinstance(name, str):
            raise invalid(
                "E302", "a name in the model is not UTF-8 text", place(source, repr(name))
            )


def sort_nodes(proto: onnx.ModelProto, source: str) -> None:
    """Puts the nodes of every graph in topological order, where they are not.

    Raises:
        InputError: E303, they form a cycle.
    """
    waiting = [proto.graph]
    while waiting:
        graph = waiting.pop()
        order = _order(graph, source)
        if order != sorted(order):
            log.info("%s: the nodes of graph '%s' are put in order", source, graph.name)
            nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in graph.node]
            del graph.node[:]
            graph.node.extend(nodes[index] for index in order)
        waiting += [body for node in graph.node for body in subgraphs(node)]


def _order(graph: onnx.GraphProto, source: str) -> list[int]:
    """Indices of the nodes such that each comes after those it reads; as they are, if possible."""
    maker = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    needs = [
        {maker[name] for name in (*node.input, *_captured(node)) if name in maker}
        for node in graph.node
    ]
    readers: dict[int, list[int]] = {}
    for index, makers in enumerate(needs):
        for other in makers:
            readers.setdefault(other, []).append(index)
    missing = [len(makers) for makers in needs]
    ready = [index for index, count in enumerate(missing) if not count]
    order: list[int] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for reader in readers.get(index, []):
            missing[reader] -= 1
            if not missing[reader]:
                heapq.heappush(ready, reader)
    if len(order) < len(needs):
        raise _cycle(graph, needs, set(order), source)
    return order


def _captured(node: onnx.NodeProto) -> Iterator[str]:
    for body in subgraphs(node):
        yield from captures(body)


def _cycle(
    graph: onnx.GraphProto, needs: list[set[int]], done: set[int], source: str
) -> InputError:
    """The error for nodes that wait for each other: names one such ring."""
    index = next(i for i in range(len(needs)) if i not in done)
    path: list[int] = []
    while index not in path:
        path.append(index)
        index = min(needs[index] - done)
    ring = path[path.index(index) :][::-1]
    start = ring.index(min(ring))
    nodes = [graph.node[i] for i in (*ring[start:], *ring[:start], ring[start])]
    shown = " -> ".join(title(node) for node in nodes[:5])
    return _broken(
        "the graph has a cycle", source, shown + (" -> ..." if len(nodes) > 5 else ""), ring=nodes
    )


def _broken(
    message: str,
    source: str,
    *detail: str,
    node: onnx.NodeProto | None = None,
    ring: Sequence[onnx.NodeProto] = (),
) -> InputError:
    """The error of a graph that is wired wrongly; names the node at fault where there is one."""
    named = node or next(iter(ring), None)
    parts = (title(node), *detail) if node else detail
    return invalid(
        "E303",
        message,
        place(source, *parts),
        node=label(named) if named else "",
        help="export the model again; no runtime can load it as it is",
    )
