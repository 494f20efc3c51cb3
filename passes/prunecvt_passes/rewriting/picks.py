"""What Slice, Gather and Pad do, read as one thing: which place of an axis goes where.

A chain of them is again of that kind, so it can be named by what it does instead of by how.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from prunecvt_passes.graph import DEFAULT_DOMAINS, Graph, Node, integers

Places = npt.NDArray[np.int64]
PADDING = -1  # a place that holds zero
# operator sets; with bounds as inputs Slice has steps
_PADS_BY_INPUTS, BOUNDS_BY_INPUTS = 11, 10
_OPERATORS = ("Slice", "Gather", "Pad")


@dataclass(frozen=True)
class Pick:
    """Which places of a tensor's axes are given out, in which order; other axes stay as they are.

    Attributes:
        places: axis of fixed length -> for each place given out that of the input, or ``PADDING``.
        strides: axis of open length -> every how manyth place, from the first to the end.
    """

    places: Mapping[int, Places] = field(default_factory=dict)
    strides: Mapping[int, int] = field(default_factory=dict)

    def then(self, other: Pick) -> Pick:
        """What ``other`` makes of what this gives out."""
        places, strides = dict(self.places), dict(self.strides)
        for axis, chosen in other.places.items():
            before = places.get(axis)
            if before is not None:
                chosen = np.where(chosen == PADDING, PADDING, before[chosen])
            places[axis] = chosen
        for axis, stride in other.strides.items():
            strides[axis] = strides.get(axis, 1) * stride
        return Pick(places, strides)

    def changes(self, graph: Graph, name: str) -> Pick:
        """The same without the axes of the input ``name`` that stay as they are."""
        sizes = graph.shape(name) or ()
        places = {
            axis: chosen
            for axis, chosen in self.places.items()
            if not np.array_equal(chosen, np.arange(sizes[axis]))
        }
        return Pick(places, {axis: n for axis, n in self.strides.items() if n != 1})

    @property
    def pads(self) -> bool:
        """Whether some of what it gives out is zero."""
        return any((chosen == PADDING).any() for chosen in self.places.values())

    @property
    def is_nothing(self) -> bool:
        """Whether it leaves everything as it is (of a result of ``changes``)."""
        return not self.places and not self.strides


@dataclass(frozen=True)
class Chain:
    """Nodes that each pick from the one before, which nothing else reads."""

    nodes: tuple[Node, ...]
    pick: Pick

    @property
    def source(self) -> str:
        """What the first one reads."""
        return self.nodes[0].inputs[0]

    @property
    def result(self) -> str:
        """What the last one makes."""
        return self.nodes[-1].outputs[0]

    @property
    def title(self) -> str:
        """How reports call it: by its last node."""
        return self.nodes[-1].title


def chains(graph: Graph, *, pads: bool = True) -> list[Chain]:
    """The longest chains of the main graph, in order; without ``pads`` they end before a Pad."""
    picks = {
        node.index: pick
        for node in graph.nodes
        if (pick := picked(graph, node)) is not None and (pads or not pick.pads)
    }
    follows: dict[int, int] = {}
    for index in picks:
        reader = graph.only_reader(graph.nodes[index].outputs[0])
        if reader is not None and reader[1] == 0 and reader[0].index in picks:
            follows[index] = reader[0].index
    starts = [index for index in picks if index not in follows.values()]
    return [_chain(graph, picks, list(_from(start, follows))) for start in starts]


def _from(start: int, follows: Mapping[int, int]) -> Iterator[int]:
    place: int | None = start
    while place is not None:
        yield place
        place = follows.get(place)


def _chain(graph: Graph, picks: Mapping[int, Pick], indices: list[int]) -> Chain:
    pick = Pick()
    for index in indices:
        pick = pick.then(picks[index])
    nodes = tuple(graph.nodes[index] for index in indices)
    return Chain(nodes, pick.changes(graph, nodes[0].inputs[0]))


def picked(graph: Graph, node: Node) -> Pick | None:
    """What a node of the main graph picks; None where it is no such node, or that is not known."""
    if node.op not in _OPERATORS or node.domain not in DEFAULT_DOMAINS or node.scope:
        return None
    name = node.inputs[0]
    sizes = graph.shape(name)
    if not sizes or 0 in sizes or graph.is_initializer(name):
        return None
    if node.op == "Gather":
        return _gathered(graph, node, sizes)
    return _sliced(graph, node, sizes) if node.op == "Slice" else _padded(graph, node, sizes)


def _gathered(graph: Graph, node: Node, sizes: tuple[int, ...]) -> Pick | None:
    indices, axis = graph.constant(node.inputs[1]), node.attributes.get("axis", 0) % len(sizes)
    if indices is None or indices.ndim != 1 or not indices.size:
        return None
    if graph.dynamic(node.inputs[0])[axis]:
        return None
    return Pick({axis: np.asarray(indices, np.int64) % sizes[axis]})


def _sliced(graph: Graph, node: Node, sizes: tuple[int, ...]) -> Pick | None:
    if graph.opset < BOUNDS_BY_INPUTS:
        found = [tuple(node.attributes.get(key, ())) for key in ("starts", "ends", "axes")]
        found.append(())
    else:
        read = [integers(graph, node.input(k)) if node.input(k) else () for k in (1, 2, 3, 4)]
        if any(values is None for values in read):
            return None
        found = [values or () for values in read]
    starts, ends, axes, steps = found
    axes = axes or tuple(range(len(starts)))
    steps = steps or (1,) * len(starts)
    places, strides = dict[int, Places](), dict[int, int]()
    moving = graph.dynamic(node.inputs[0])
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis %= len(sizes)
        if not moving[axis]:
            places[axis] = np.arange(*slice(start, end, step).indices(sizes[axis]), dtype=np.int64)
        elif start == 0 and step > 0 and end >= np.iinfo(np.int32).max:
            strides[axis] = step
        else:
            return None
    return Pick(places, strides) if all(len(each) for each in places.values()) else None


def _padded(graph: Graph, node: Node, sizes: tuple[int, ...]) -> Pick | None:
    """A Pad by zeros; one that takes away, as negative pads do, is none."""
    if node.attributes.get("mode", "constant") != "constant":
        return None
    axes: tuple[int, ...] | None = tuple(range(len(sizes)))
    if graph.opset < _PADS_BY_INPUTS:
        pads, value = tuple(node.attributes.get("pads", ())), node.attributes.get("value", 0.0)
    else:
        pads, value = integers(graph, node.inputs[1]) or (), 0.0
        if node.input(2):
            filling = graph.constant(node.inputs[2])
            value = np.nan if filling is None else filling.reshape(-1)[0]
        if node.input(3):
            axes = integers(graph, node.inputs[3])
    if axes is None or len(pads) != 2 * len(axes) or min(pads, default=0) < 0 or value != 0:
        return None
    places = {}
    for axis, before, after in zip(axes, pads, pads[len(axes) :], strict=False):
        axis %= len(sizes)
        if before or after:
            if graph.dynamic(node.inputs[0])[axis]:
                return None
            widths = (before, after)
            places[axis] = np.pad(np.arange(sizes[axis]), widths, constant_values=PADDING)
    return Pick(places)
