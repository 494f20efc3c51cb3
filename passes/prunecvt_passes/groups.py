"""Solves the ties: classes of labels that live and die together, and groups of classes.

A *class* is one removable channel: all its slices over all weights. Classes that touch the same
axes of the same weights form a *group*, which is what people call a layer's width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from prunecvt_passes.channels import Channels, Labels, Producer

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Group:
    """Classes that touch the same axes of the same weights.

    Attributes:
        id: place in ``Groups.groups``; groups come in the order of their first producer.
        classes: class of each channel, in the order of the first member's channels.
        members: output tensors of the producing nodes that lose a channel with each class.
        channels: most channels that one member loses with one class.
        per_group: whether a grouped convolution splits these channels among its groups.
        titles: for messages: how the producing nodes are called.
    """

    id: int
    classes: Ints
    members: tuple[str, ...]
    channels: int
    per_group: bool
    titles: tuple[str, ...]

    @property
    def size(self) -> int:
        """Number of classes: the channels that can be chosen from."""
        return int(self.classes.size)


@dataclass(frozen=True)
class Fixed:
    """Channels of one producing node that must stay: ``channels`` of ``width``, and why."""

    producer: Producer
    channels: int
    code: str
    reason: str


@dataclass(frozen=True)
class Groups:
    """Every label's class, and the groups that can be cut.

    Attributes:
        channels: the labels.
        class_of: label -> class; label 0 is unused and in class 0.
        total: number of classes.
        pinned: class -> whether it must stay.
        group_of: class -> group id, -1 where it is in none.
        groups: the groups that can be cut.
        fixed: per producing node with channels that must stay, why.
    """

    channels: Channels
    class_of: Ints
    total: int
    pinned: Bools
    group_of: Ints
    groups: tuple[Group, ...]
    fixed: tuple[Fixed, ...]


def solve(channels: Channels) -> Groups:
    """Solves ties as connected components, spreads pins, and collects groups."""
    class_of, total = components(channels)
    pin_of = np.full(total, len(channels.pins), np.int64)
    for number in range(len(channels.pins) - 1, -1, -1):  # the first pin of a class is the reason
        pin_of[class_of[channels.pins[number].labels]] = number
    pinned = pin_of < len(channels.pins)
    produced = np.zeros(total, bool)
    for producer in channels.producers:
        if producer.labels is not None:
            produced[class_of[producer.labels]] = True
    free = produced & ~pinned
    group_of, groups = _collect(channels, class_of, free)
    return Groups(
        channels, class_of, total, pinned, group_of, groups, _fixed(channels, class_of, pin_of)
    )


def components(channels: Channels) -> tuple[Ints, int]:
    """Label -> class, and the number of classes."""
    size = channels.total
    first: Labels = np.concatenate(
        [np.ravel(a) for a, _ in channels.ties] or [np.zeros(0, np.int64)]
    )
    second: Labels = np.concatenate(
        [np.ravel(b) for _, b in channels.ties] or [np.zeros(0, np.int64)]
    )
    links = coo_array((np.ones(first.size, np.int8), (first, second)), shape=(size, size))
    total, class_of = connected_components(links, directed=False)
    return class_of.astype(np.int64), int(total)


def _collect(channels: Channels, class_of: Ints, free: Bools) -> tuple[Ints, tuple[Group, ...]]:
    """Groups the free classes by the set of weight axes that they touch."""
    total = free.size
    group_of = np.full(total, -1, np.int64)
    if not free.any():
        return group_of, ()
    signature = _signatures(channels, class_of, total)
    firsts = _first_seen(channels, class_of, total)
    candidates = np.flatnonzero(free)
    candidates = candidates[np.argsort(firsts[candidates], kind="stable")]
    _, inverse = np.unique(signature[candidates], axis=0, return_inverse=True)
    inverse = inverse.ravel()
    order = np.full(inverse.max() + 1, candidates.size)
    np.minimum.at(order, inverse, np.arange(candidates.size))
    ranks = np.argsort(np.argsort(order, kind="stable"), kind="stable")
    group_of[candidates] = ranks[inverse]
    by_group = np.argsort(group_of[candidates], kind="stable")
    split = np.split(candidates[by_group], np.cumsum(np.bincount(group_of[candidates]))[:-1])
    return group_of, _described(channels, class_of, group_of, split)


def _signatures(channels: Channels, class_of: Ints, total: int) -> npt.NDArray[np.uint64]:
    """Class -> 128-bit sum over the weight axes it touches; equal sets have equal sums."""
    weights = channels.graph.model.weights
    ranges = [r for r in channels.ranges if r.tensor in weights]
    labels = np.concatenate([np.arange(r.start, r.start + r.size) for r in ranges])
    place = np.repeat(np.arange(len(ranges)), [r.size for r in ranges])
    pairs = np.sort(class_of[labels] * len(ranges) + place)
    pairs = pairs[np.append(True, pairs[1:] != pairs[:-1])]
    marks = np.random.default_rng(0).integers(0, 2**63, (len(ranges), 2), dtype=np.uint64)
    signature = np.zeros((total, 2), np.uint64)
    np.add.at(signature, pairs // len(ranges), marks[pairs % len(ranges)])
    return signature


def _first_seen(channels: Channels, class_of: Ints, total: int) -> Ints:
    """Class -> place of its first channel, counting the channels of all producers in order."""
    made = [class_of[p.labels] for p in channels.producers if p.labels is not None]
    firsts = np.full(total, np.iinfo(np.int64).max)
    sequence = np.concatenate(made)
    np.minimum.at(firsts, sequence, np.arange(sequence.size))
    return firsts


def _described(
    channels: Channels, class_of: Ints, group_of: Ints, split: list[Ints]
) -> tuple[Group, ...]:
    members: list[list[Producer]] = [[] for _ in split]
    most = np.zeros(len(split), np.int64)
    for producer in channels.producers:
        if producer.labels is None:
            continue
        classes, counts = np.unique(class_of[producer.labels], return_counts=True)
        owners = group_of[classes]
        np.maximum.at(most, owners[owners >= 0], counts[owners >= 0])
        for owner in np.unique(owners[owners >= 0]):
            members[owner].append(producer)
    grouped = np.zeros(len(split), bool)
    for labels in channels.per_group:
        owners = group_of[class_of[labels]]
        grouped[owners[owners >= 0]] = True
    return tuple(
        Group(
            number,
            classes,
            tuple(p.tensor for p in members[number]),
            int(most[number]),
            bool(grouped[number]),
            tuple(p.node.title for p in members[number]),
        )
        for number, classes in enumerate(split)
    )


def _fixed(channels: Channels, class_of: Ints, pin_of: Ints) -> tuple[Fixed, ...]:
    """Why channels of producing nodes must stay; one entry per node and reason."""
    found = []
    for producer in channels.producers:
        if producer.labels is None:
            code, reason = ("single", "has one channel") if producer.width <= 1 else _OUT_FIXED
            found.append(Fixed(producer, producer.width, code, reason))
            continue
        by = pin_of[class_of[producer.labels]]
        if by.min() >= len(channels.pins):
            continue
        pins, counts = np.unique(by, return_counts=True)
        for number, count in zip(pins, counts, strict=True):
            if number < len(channels.pins):
                pin = channels.pins[number]
                found.append(Fixed(producer, int(count), pin.code, pin.reason))
    return tuple(found)


_OUT_FIXED = ("fixed-output", "its channels meet values that are not cut")
