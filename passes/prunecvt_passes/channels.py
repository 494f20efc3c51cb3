"""What the walk over the graph finds: labels of every axis, and what was recorded about them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prunecvt_passes.graph import Graph, Node
from prunecvt_passes.units import DEFAULT_UNITS, Units

Labels = npt.NDArray[np.int64]
Axis = Labels | None
Axes = list[Axis]
SplitKey = tuple[int, int]


@dataclass(frozen=True)
class Range:
    """Labels ``start`` to ``start + len - 1`` index ``axis`` of ``tensor``, in order."""

    tensor: str
    axis: int
    start: int
    size: int


@dataclass(frozen=True)
class Pin:
    """Labels that must stay: a stable code, and a reason that names the node."""

    labels: Labels
    code: str
    reason: str


@dataclass(frozen=True)
class Read:
    """Input ``place`` of ``node`` sums over ``axis``: there a removed channel is set to zero.

    ``zero`` is the tensor that holds the zero point of a quantised input, "" where zero is 0.
    """

    node: Node
    place: int
    axis: int
    labels: Labels
    zero: str = ""


@dataclass(frozen=True)
class Producer:
    """A node whose weight makes channels: ``labels`` of its output, None where they are fixed."""

    node: Node
    tensor: str
    width: int
    labels: Axis


@dataclass(frozen=True)
class Use:
    """Axis ``axis`` of a tensor read by ``node`` plays ``role`` for the labels it carries.

    Roles: weight_out, weight_in, bias, scale (of a normalisation).
    """

    node: Node
    tensor: str
    axis: int
    role: str


@dataclass(frozen=True)
class Count:
    """Entry ``position`` of an integer input or attribute is the number of kept ``labels``.

    Attributes:
        node: whose parameter it is.
        slot: input place, or attribute name.
        values: the whole parameter as it is now; one element stands for a plain integer attribute.
        position: the entry.
        labels: what it counts.
        unless: an attribute that has to go when this parameter is written ("" where none).
    """

    node: Node
    slot: int | str
    values: tuple[int, ...]
    position: int
    labels: Labels
    unless: str = ""


@dataclass(frozen=True)
class Setting:
    """Attribute ``name`` of ``node`` has to say ``value`` as soon as one of ``labels`` goes.

    For what follows from a number of channels where it is left out.
    """

    node: Node
    name: str
    value: float
    labels: Labels


@dataclass(frozen=True)
class Remap:
    """Constant indices (input ``place`` of ``node``) into an axis that carries ``labels``."""

    node: Node
    place: int
    labels: Labels


@dataclass(frozen=True)
class Narrowed:
    """``node`` works across channels that may go all the same: it then works on what is left.

    The result is no longer that of the original with zeros, so what touches it is inexact.

    Attributes:
        node: a normalisation, a mean and the like.
        inputs, outputs: (place, axis, labels) of what holds these channels.
    """

    node: Node
    inputs: tuple[tuple[int, int, Labels], ...]
    outputs: tuple[tuple[int, int, Labels], ...] = ()


@dataclass(frozen=True)
class Split:
    """A Reshape spread labels over several axes, of which one carries on.

    Attributes:
        key: index of the node, and the first of these axes.
        axes: places that can carry on, counted from that axis, the one taken by default first.
        joint: the labels that were spread.
        made: those that carry on.
    """

    key: SplitKey
    axes: tuple[int, ...]
    joint: Labels
    made: Labels


@dataclass(frozen=True)
class Product:
    """A matrix product of two activations, as in attention.

    Attributes:
        batch: labels of the axes along which the matrices are multiplied one by one.
        matrix: labels of rows, columns and summed axes.
    """

    batch: tuple[Labels, ...]
    matrix: tuple[Labels, ...]


@dataclass(frozen=True)
class Channels:
    """What the walk found: see the parts.

    Attributes:
        graph: the index that was walked.
        axes: tensor -> labels by axis.
        total: labels are 1 to ``total - 1``.
        ranges: where each label comes from, in the order of their labels.
        ties: pairs of label vectors of equal length.
        pins, reads, producers, uses, counts, remaps, settings: as their classes say.
        per_group: labels of channels that a grouped convolution splits among its groups.
        units: what is removed as one, as the walk was told.
        narrowed: nodes that work across channels that may go; empty unless ``units.inexact``.
        splits, products: as their classes say; which axis carries on follows from them.
    """

    graph: Graph
    axes: dict[str, Axes]
    total: int
    ranges: tuple[Range, ...]
    ties: tuple[tuple[Labels, Labels], ...]
    pins: tuple[Pin, ...]
    reads: tuple[Read, ...]
    producers: tuple[Producer, ...]
    uses: tuple[Use, ...]
    counts: tuple[Count, ...]
    remaps: tuple[Remap, ...]
    per_group: tuple[Labels, ...]
    units: Units = DEFAULT_UNITS
    settings: tuple[Setting, ...] = ()
    narrowed: tuple[Narrowed, ...] = ()
    splits: tuple[Split, ...] = ()
    products: tuple[Product, ...] = ()
