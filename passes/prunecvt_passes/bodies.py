"""Bodies of If, Loop and Scan in the normal form.

A name means one tensor in the graph and all its bodies, every weight is an initializer of the main
graph (a body reads what lies around it), and an If whose condition is constant is its branch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx
from onnx import numpy_helper

from prunecvt_passes.graph import (
    DEFAULT_DOMAINS,
    bodies,
    every_node,
    every_scope,
    replace_nodes,
    sealed,
    taken_names,
    unused,
)
from prunecvt_passes.model import Array, Model


def separate_names(model: Model) -> None:
    """Renames, in place, what a body makes under a name that another scope uses.

    Names of the main graph stay. Node names too become unique, those left out excepted.
    """
    graph = model.proto.graph
    scopes = list(every_scope(graph))
    taken = {value.name for value in graph.output} | set(_made(graph))
    taken.update(n for node in every_node(graph) for b in sealed(node) for n in taken_names(b))
    titles = {node.name for node in graph.node}
    for body in scopes[1:]:  # outer ones first: what is read inside follows
        names = {name: unused(name, taken) for name in dict.fromkeys(_made(body))}
        rename(body, {old: new for old, new in names.items() if old != new})
        for node in body.node:
            if node.name:
                node.name = unused(node.name, titles)


def _made(graph: onnx.GraphProto) -> Iterator[str]:
    """Names that one scope makes."""
    yield from (value.name for value in graph.input)
    yield from (tensor.name for tensor in graph.initializer)
    yield from (tensor.values.name for tensor in graph.sparse_initializer)
    yield from (name for node in graph.node for name in node.output if name)


def rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Renames tensors in ``graph`` and every body inside it, in place."""
    if not names:
        return
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = names.get(value.name, value.name)
    for sparse in graph.sparse_initializer:
        sparse.values.name = names.get(sparse.values.name, sparse.values.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for body in (*bodies(node), *sealed(node)):
            rename(body, names)


def hoist_weights(model: Model) -> None:
    """Makes initializers of bodies initializers of the main graph, in place.

    One that a body gives back is handed through by an Identity, for a runtime may not let a body
    give back what it did not make; one that is an input's default stays.
    """
    found: dict[str, Array] = {}
    taken = taken_names(model.proto.graph)
    for body in list(every_scope(model.proto.graph))[1:]:
        inputs, outputs = ({v.name for v in part} for part in (body.input, body.output))
        stored = list(body.initializer)
        del body.initializer[:]
        body.initializer.extend(tensor for tensor in stored if tensor.name in inputs)
        for tensor in stored:
            name = tensor.name
            if name in inputs:
                continue
            if name in outputs:
                own = unused(name, taken)
                body.node.insert(0, onnx.helper.make_node("Identity", [own], [name]))
                name = own
            found[name] = numpy_helper.to_array(tensor)
    if found:
        model.set_weights(found)


def inline_branches(model: Model) -> bool:
    """Puts the branch of every If whose condition is constant in its place; says if there was one.

    In place, from the inside out; tensors keep their names, and the branch's outputs take those of
    the If's.
    """
    chosen = 0

    def change(index: int, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        nonlocal chosen
        branch = _chosen(model, node)
        if branch is None:
            return [node]
        chosen += 1
        return _released(node, branch)

    replace_nodes(model.proto.graph, change)
    return chosen > 0


def _chosen(model: Model, node: onnx.NodeProto) -> onnx.GraphProto | None:
    """The branch that an If always takes, where its nodes can stand outside of it."""
    if node.op_type != "If" or node.domain not in DEFAULT_DOMAINS:
        return None
    condition = model.weights.get(node.input[0])
    if condition is None or condition.size != 1:
        return None
    name = "then_branch" if condition.item() else "else_branch"
    for attribute in node.attribute:
        branch: onnx.GraphProto = attribute.g
        if attribute.name == name and not (branch.input or branch.sparse_initializer):
            return branch
    return None


def _released(node: onnx.NodeProto, branch: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes of ``branch``, making the outputs of ``node``."""
    made = {name for inner in branch.node for name in inner.output}
    names: dict[str, str] = {}
    copies = []
    for value, output in zip(branch.output, node.output, strict=False):
        if not output:
            continue
        if value.name in made and value.name not in names:
            names[value.name] = output
        else:  # given back twice, or made around the branch
            source = names.get(value.name, value.name)
            copies.append(onnx.helper.make_node("Identity", [source], [output]))
    rename(branch, names)
    return [*branch.node, *copies]
