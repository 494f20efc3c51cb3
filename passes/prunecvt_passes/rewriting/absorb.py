"""Folds what picks channels into the weights before it or after it.

Gather(Conv(x, W, b), i) is Conv(x, W[i], b[i]); Conv(Gather(x, i), W) is Conv(x, W') with the
columns of W where the channels come from. Sums may run in another order: exact but for that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from prunecvt_passes.graph import DEFAULT_DOMAINS, Graph, Node, taken_names, unused
from prunecvt_passes.model import Array
from prunecvt_passes.rewriting.changes import Changes
from prunecvt_passes.rewriting.contractions import (
    Contraction,
    contraction,
    is_elementwise,
    reordered,
)
from prunecvt_passes.rewriting.picks import PADDING, Chain, Places, chains


def into_maker(graph: Graph) -> Changes:
    """Lets the convolution or product before it make just the channels that are picked."""
    changes = Changes()
    taken = taken_names(graph.model.proto.graph)
    for chain in chains(graph):
        found = _channels(chain)
        if found is None or chain.pick.pads:
            continue
        axis, places = found
        between, maker = _made_by(graph, chain.source)
        if maker is None or maker.data_axis != axis:
            continue
        weight = graph.model.weights[maker.weight]
        size = weight.shape[maker.made_axis]
        bias = _bias(graph, maker, size)
        why = maker.reason or ("has a shared bias" if bias is None else "")
        if why or bias is None or len(places) > size:
            changes.left.append(
                f"{chain.title}: {maker.node.title} {why or 'would have to make more'}"
            )
            continue
        changes.weights[maker.weight] = reordered(weight, maker.made_axis, places)
        changes.weights.update(
            {name: reordered(values, values.ndim - 1, places) for name, values in bias.items()}
        )
        _rename(changes, [maker.node, *between], chain.result, taken)
        changes.drop(chain.nodes)
        changes.done.append(chain.title)
    return changes


def _channels(chain: Chain) -> tuple[int, Places] | None:
    """The one axis that a chain picks from, and the places; None where it is not one."""
    if len(chain.pick.places) != 1 or chain.pick.strides:
        return None
    return next(iter(chain.pick.places.items()))


def _made_by(graph: Graph, name: str) -> tuple[list[Node], Contraction | None]:
    """What makes ``name``, and the element by element functions in between, in order.

    Nothing else may read what any of them makes.
    """
    between: list[Node] = []
    while graph.only_reader(name) is not None and (node := graph.producer.get(name)) is not None:
        if not is_elementwise(graph, node):
            return between, contraction(graph, node)
        between.insert(0, node)
        name = node.inputs[0]
    return between, None


def _bias(graph: Graph, maker: Contraction, size: int) -> dict[str, Array] | None:
    """The bias that has to be put in order, by name; None where it cannot be."""
    name = maker.node.input(2)
    if not name:
        return {}
    values = graph.constant(name)
    if values is None or graph.only_reader(name) is None:
        return None
    varies = values.ndim > 0 and values.shape[-1] == size and size > 1
    return {name: values} if varies else {}


def _rename(changes: Changes, nodes: list[Node], result: str, taken: set[str]) -> None:
    """The last of ``nodes`` makes ``result``; what lies between holds other channels: new names."""
    previous = ""
    for node in nodes:
        edited = changes.edited(node)
        if previous:
            edited.input[0] = previous
        previous = result if node is nodes[-1] else unused(f"{node.outputs[0]}__picked", taken)
        edited.output[0] = previous


def into_readers(graph: Graph) -> Changes:
    """Lets the convolutions and products after it read the channels where they come from."""
    changes = Changes()
    taken = taken_names(graph.model.proto.graph)
    for chain in chains(graph):
        found = _channels(chain)
        if found is None:
            continue
        axis, places = found
        readers = list(_read_by(graph, chain.nodes[-1], axis, pads=chain.pick.pads))
        if not any(reader.sums for reader in readers):
            continue
        size = (graph.shape(chain.source) or ())[axis]
        held = places[places != PADDING]
        why = next((f"{each.node.title} {each.reason}" for each in readers if each.reason), "")
        if not why and (len(np.unique(held)) != len(held) or size > len(places)):
            why = "its readers would have to read more"
        if why:
            changes.left.append(f"{chain.title}: {why}")
            continue
        origin = np.full(size, PADDING)
        origin[held] = np.flatnonzero(places != PADDING)
        for node, name, along in ((each.node, each.constant, each.axis) for each in readers):
            if name:
                changes.weights[name] = reordered(graph.model.weights[name], along, origin)
            elif node.outputs[0] not in changes.names:
                changes.edited(node).output[0] = unused(f"{node.outputs[0]}__unpicked", taken)
                changes.names[node.outputs[0]] = changes.edited(node).output[0]
        changes.drop(chain.nodes)
        changes.names[chain.result] = chain.source
        changes.done.append(chain.title)
    return changes


@dataclass(frozen=True)
class Reader:
    """What has to be put in order: axis ``axis`` of ``constant``, or else what ``node`` makes.

    Attributes:
        reason: why it cannot be; "" where it can.
        sums: whether the node sums over the channels.
    """

    node: Node
    constant: str = ""
    axis: int = 0
    reason: str = ""
    sums: bool = False


def _read_by(graph: Graph, maker: Node, axis: int, *, pads: bool) -> Iterator[Reader]:
    """Yields all that reads what ``maker`` makes, and what reads that where it is passed through.

    Padding ends at what gives zero another value.
    """
    name = maker.outputs[0]
    if name in graph.ends or name in graph.sealed:
        yield Reader(maker, reason="makes an output, or what a body reads")
    for node, place in graph.readers.get(name, []):
        summed = contraction(graph, node) if place == 0 else None
        if summed is not None and summed.data_axis == axis:
            yield Reader(node, summed.weight, summed.read_axis, summed.reason, sums=True)
            continue
        constant = None if pads else _beside(graph, node, place, axis)
        if pads or (constant is None and not is_elementwise(graph, node)):
            yield Reader(node, reason="needs what it reads as it is")
            continue
        yield Reader(node)
        if constant is not None and constant[0]:
            yield Reader(node, *constant)
        yield from _read_by(graph, node, axis, pads=pads)


def _beside(graph: Graph, node: Node, place: int, axis: int) -> tuple[str, int] | None:
    """The constant beside the data of Add, Sub, Mul or Div, and its axis of channels.

    ("", 0) where it has none; None where there is no such constant, or others read it too.
    """
    if node.op not in ("Add", "Sub", "Mul", "Div") or node.domain not in DEFAULT_DOMAINS:
        return None
    name = node.inputs[1 - place]
    values, shape = graph.constant(name), graph.shape(node.inputs[place])
    made = graph.shape(node.outputs[0])
    if values is None or shape is None or made is None or len(made) != len(shape) or node.scope:
        return None
    along = values.ndim - len(shape) + axis
    if along < 0 or values.shape[along] == 1:
        return "", 0
    return (name, along) if graph.only_reader(name) is not None else None
