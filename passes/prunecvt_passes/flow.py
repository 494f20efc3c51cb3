"""How channels flow: one walk that gives every axis of every tensor its labels.

An axis carries nothing (never cut) or a vector of integer labels, one per index. Labels that a rule
*ties* live and die together; labels that are *pinned* must stay, and the pin says why. Every axis
of every initializer that holds data starts with labels of its own, so weights, biases, per-channel
parameters and constants need no special treatment: rules tie them to the data they meet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from prunecvt_passes.arithmetic import Known, evaluate, moved
from prunecvt_passes.carry import settle
from prunecvt_passes.channels import (
    Axes,
    Axis,
    Channels,
    Count,
    Labels,
    Narrowed,
    Pin,
    Producer,
    Product,
    Range,
    Read,
    Remap,
    Setting,
    Split,
    SplitKey,
    Use,
)
from prunecvt_passes.dropped import ACROSS, pin_dropped, recorded
from prunecvt_passes.graph import DEFAULT_DOMAINS, Graph, Node
from prunecvt_passes.model import Array
from prunecvt_passes.quantization import INTEGER_BIASES
from prunecvt_passes.repeats import halt, passed_on
from prunecvt_passes.units import DEFAULT_UNITS, Units

__all__ = [
    "Axes",
    "Axis",
    "Channels",
    "Count",
    "Flow",
    "Labels",
    "Narrowed",
    "Pin",
    "Producer",
    "Product",
    "Range",
    "Read",
    "Remap",
    "Rule",
    "Setting",
    "Split",
    "Use",
    "trace",
]


@dataclass
class Flow:
    """The walk in progress; rules read and record through it."""

    graph: Graph
    units: Units = DEFAULT_UNITS
    carrying: Mapping[SplitKey, int] = field(default_factory=dict)
    axes: dict[str, Axes] = field(default_factory=dict)
    total: int = 1
    ranges: list[Range] = field(default_factory=list)
    ties: list[tuple[Labels, Labels]] = field(default_factory=list)
    pins: list[Pin] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    producers: list[Producer] = field(default_factory=list)
    uses: list[Use] = field(default_factory=list)
    counts: list[Count] = field(default_factory=list)
    remaps: list[Remap] = field(default_factory=list)
    per_group: list[Labels] = field(default_factory=list)
    settings: list[Setting] = field(default_factory=list)
    narrowed: list[Narrowed] = field(default_factory=list)
    sizes: dict[str, list[Axis]] = field(default_factory=dict)
    splits: list[Split] = field(default_factory=list)
    products: list[Product] = field(default_factory=list)
    repeating: set[tuple[str, int]] = field(default_factory=set)
    stamps: Labels = field(default_factory=lambda: np.full(1024, -1))

    def shape(self, name: str) -> tuple[int, ...]:
        """Dimensions of ``name``; the walk only runs rules where they are known."""
        return self.graph.shape(name) or ()

    def axes_of(self, name: str) -> Axes:
        """Labels of ``name`` by axis; an initializer gets its own when it is first read."""
        if name not in self.axes:
            values = self.graph.constant(name)
            labelled = values is not None and _is_data(self.graph, name, values)
            self.axes[name] = [
                self.fresh(name, axis, size) if labelled else None
                for axis, size in enumerate(self.shape(name))
            ]
        return list(self.axes[name])

    def fresh(self, tensor: str, axis: int, size: int) -> Axis:
        """New labels for an axis; none for an axis of one, which is never cut."""
        if size <= 1:
            return None
        self.ranges.append(Range(tensor, axis, self.total, size))
        labels = np.arange(self.total, self.total + size)
        self.total += size
        return labels

    def fixed(self, tensor: str, axis: int, size: int, code: str, reason: str) -> Labels:
        """New labels that are pinned from the start."""
        self.ranges.append(Range(tensor, axis, self.total, size))
        labels = np.arange(self.total, self.total + size)
        self.total += size
        self.pins.append(Pin(labels, code, reason))
        return labels

    def tie(self, first: Axis, second: Axis, node: Node, what: str = "") -> Axis:
        """Makes two axes of equal size live and die together; pins one whose mate has no labels.

        Returns:
            the labels that stand for both.
        """
        if first is None or second is None:
            self.pin(first if second is None else second, node, "fixed-partner", what or _PARTNER)
            return None
        if first is not second:
            self.ties.append((first, second))
        return first

    def pin(self, labels: Axis, node: Node, code: str, what: str) -> None:
        """Keeps ``labels``; the reason reads "<node> <what>"."""
        if labels is not None and labels.size:
            self.pins.append(Pin(labels.ravel(), code, f"{node.title} {what}"))

    def pin_tensor(self, name: str, node: Node, code: str, what: str) -> None:
        """Keeps every channel of a tensor."""
        for labels in self.axes_of(name):
            self.pin(labels, node, code, what)

    def pin_across(self, node: Node, first: int) -> None:
        """Keeps the axes of a node's data from ``first`` on: the node works across them.

        An axis that no rule passes on is pinned after the rule, but not one whose labels stand on
        another axis too, as those of a matrix of all pairs of channels do.
        """
        for labels in self.axes_of(node.inputs[0])[first:]:
            self.pin(labels, node, "mixed-axis", ACROSS)

    def reading(self, node: Node, place: int, axis: int) -> None:
        """Records that ``node`` sums over an axis of an input."""
        labels = self.axes_of(node.inputs[place])[axis]
        if labels is not None:
            self.reads.append(Read(node, place, axis, labels))

    @cached_property
    def known(self) -> dict[str, Known]:
        """What shape arithmetic comes to, at the probed sizes of the inputs."""
        return evaluate(self.graph)

    def plain(self, name: str) -> Axes:
        """Axes without labels for ``name``."""
        return [None] * len(self.shape(name))

    def frozen(self) -> Channels:
        """The result, once every node was walked."""
        return Channels(
            self.graph,
            self.axes,
            self.total,
            tuple(self.ranges),
            tuple(self.ties),
            tuple(self.pins),
            tuple(self.reads),
            tuple(self.producers),
            tuple(self.uses),
            tuple(self.counts),
            tuple(self.remaps),
            tuple(self.per_group),
            self.units,
            tuple(self.settings),
            tuple(self.narrowed),
            tuple(self.splits),
            tuple(self.products),
        )


_PARTNER = "combines it with values that are not cut"
Rule = Callable[[Flow, Node], Sequence[Axes]]


def _is_data(graph: Graph, name: str, values: Array) -> bool:
    """Whether an initializer holds weights or data rather than sizes and indices."""
    if values.ndim == 1 and values.dtype.kind in "iu" and values.dtype.itemsize > 2:
        return all(
            node.op == "DequantizeLinear" or INTEGER_BIASES.get(node.kind) == place
            for node, place in graph.readers.get(name, ())
        )
    return values.ndim > 0 and values.dtype.kind != "O"


def trace(graph: Graph, rules: dict[str, Rule], units: Units | None = None) -> Channels:
    """Walks ``graph`` and returns its labels.

    It is walked again only where a Reshape leaves a choice that the first walk could not make.

    Args:
        graph: an index with shapes.
        rules: operator (of another than the default domain: ``domain:operator``) -> rule; what has
            no rule pins what it touches.
        units: what is removed as one, where there is a choice.
    """
    chosen = units or DEFAULT_UNITS
    return settle(lambda carrying: _walk(graph, rules, chosen, carrying), chosen)


def _walk(
    graph: Graph, rules: dict[str, Rule], units: Units, carrying: Mapping[SplitKey, int]
) -> Channels:
    flow = Flow(graph, units, carrying)
    for name in (*graph.inputs, *graph.entries):
        flow.axes[name] = flow.plain(name)
    for node in graph.nodes:
        _step(flow, node, rules)
    for name in graph.outputs:
        _pin_public(flow, name, "graph-output", f"'{name}' is an output of the model")
    for name in sorted(graph.ends - set(graph.outputs)):
        _pin_public(flow, name, "subgraph", f"'{name}' is given back by a subgraph")
    for name in sorted(graph.captured | graph.sealed):
        if name in flow.axes or graph.is_initializer(name):
            _pin_public(flow, name, "subgraph", f"'{name}' is read inside a subgraph")
    return flow.frozen()


def _step(flow: Flow, node: Node, rules: dict[str, Rule]) -> None:
    if node.subgraphs:
        unknown(flow, node, "hands it to a body of its own", "subgraph")
    elif not _shaped(flow, node):
        unknown(flow, node, "has an input or output of unknown shape", "unknown-shape")
    elif _sizes_step(flow, node):
        return
    elif node.kind not in rules:
        unknown(flow, node)
    else:
        if flow.repeating:
            halt(flow, node)
        before = recorded(flow)
        made = rules[node.kind](flow, node)
        pin_dropped(flow, node, made, before)
        for name, axes in zip(node.outputs, made, strict=False):
            if name:
                passed_on(flow, node, name, axes)
                flow.axes[name] = [_static(flow, name, k, a) for k, a in enumerate(axes)]
        for name in node.outputs[len(made) :]:
            flow.axes[name] = flow.plain(name)


def _pin_public(flow: Flow, name: str, code: str, reason: str) -> None:
    """Pins what is seen from outside of the walk: a tensor's channels, or the sizes it holds."""
    for labels in (*flow.axes_of(name), *flow.sizes.get(name, ())):
        if labels is not None and labels.size:
            flow.pins.append(Pin(labels, code, reason))


def _shaped(flow: Flow, node: Node) -> bool:
    names = (*node.inputs, *node.outputs)
    return all(flow.graph.shape(name) is not None for name in names if name)


def _static(flow: Flow, name: str, axis: int, labels: Axis) -> Axis:
    """Labels of an axis whose size changes with the inputs cannot be cut."""
    if labels is None:
        return None
    if flow.graph.dynamic(name)[axis] and (name, axis) not in flow.repeating:
        reason = f"axis {axis} of '{name}' changes size with the model's inputs"
        flow.pins.append(Pin(labels, "dynamic-axis", reason))
        return None
    if labels.size <= 1:
        if labels.size:
            reason = f"axis {axis} of '{name}' holds a single channel"
            flow.pins.append(Pin(labels, "single", reason))
        return None
    return labels


def unknown(
    flow: Flow, node: Node, what: str = "has no rule, so what it reads stays", code: str = "no-rule"
) -> None:
    """Pins everything a node reads; its outputs carry no labels."""
    for name in filter(None, node.inputs):
        for labels in flow.axes_of(name):
            flow.pin(labels, node, code, what)
        pin_sizes(flow, node, name, what)
    for name in filter(None, node.outputs):
        flow.axes[name] = flow.plain(name)


def pin_sizes(flow: Flow, node: Node, name: str, what: str = "computes with its size") -> None:
    """Pins the labels that a tensor of sizes counts."""
    for labels in flow.sizes.get(name, ()):
        flow.pin(labels, node, "size-read", what)


_SIZE_MOVES = ("Gather", "Slice", "Concat", "Squeeze", "Unsqueeze", "Cast", "Identity", "Reshape")
_SIZE_READERS = {"Reshape": 1, "Expand": 1, "Resize": 3}


def _sizes_step(flow: Flow, node: Node) -> bool:
    """Follows sizes of labelled axes through shape arithmetic; says whether the node was that.

    ``flow.sizes[t][i]`` are the labels that element i of the integer tensor t counts at run time.
    """
    ours = node.domain in DEFAULT_DOMAINS
    if node.op == "Shape" and ours:
        cut = slice(node.attributes.get("start"), node.attributes.get("end"))
        counted = flow.axes_of(node.inputs[0])[cut]
        if any(labels is not None for labels in counted):
            flow.sizes[node.outputs[0]] = counted
        flow.axes[node.outputs[0]] = [None]
        return True
    touched = [name for name in node.inputs if name in flow.sizes]
    if not touched:
        return False
    if ours and node.op in _SIZE_MOVES and touched != [node.input(1)]:
        moved = _moved_sizes(flow, node)
        if moved is not None:
            flow.sizes[node.outputs[0]] = moved
            flow.axes[node.outputs[0]] = flow.plain(node.outputs[0])
            return True
    place = _SIZE_READERS.get(node.op) if ours else None
    for name in touched:
        if place is None or name != node.input(place):
            pin_sizes(flow, node, name)
    return False


def _moved_sizes(flow: Flow, node: Node) -> list[Axis] | None:
    """The counted labels after a data movement, None where it is not one that is followed."""
    slots: list[Axis] = [None]
    columns = []
    for name in node.inputs if node.op == "Concat" else node.inputs[:1]:
        counted = flow.sizes.get(name, [None] * int(np.prod(flow.shape(name))))
        columns.append(np.arange(len(slots), len(slots) + len(counted)).reshape(flow.shape(name)))
        slots.extend(counted)
    places = moved(flow.graph, node, columns)
    return None if places is None else [slots[int(place)] for place in np.ravel(places)]
