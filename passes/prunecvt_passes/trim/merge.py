"""One constant channel stands for others: exact also where its reader pads with zeros.

A channel that holds c everywhere is c times a channel of ones, borders and all, so what a reader
makes of channels i and j with constants c_i and c_j it makes of j alone with W_j + (c_i / c_j) W_i.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prunecvt_passes.groups import Bools, Groups, Ints
from prunecvt_passes.model import Array, Model
from prunecvt_passes.trim.geometry import Floats
from prunecvt_passes.trim.reading import Reading


@dataclass(frozen=True)
class Addition:
    """What input ``place`` of a weight takes over: ``values``, with an axis of one for ``axis``."""

    weight: str
    axis: int
    place: int
    values: Floats


def find_carriers(groups: Groups, readings: list[Reading], dead: Bools) -> Ints:
    """Class -> the class that can stand for it; -1 where it has to stay or goes by itself.

    What is ``dead`` may still be there, to fill a width up: it counts as a reader like any other.
    """
    none = np.zeros(groups.total, bool)
    carriers = np.full(groups.total, -1, np.int64)
    bad = (groups.group_of < 0) | dead
    for reading in readings:
        classes = groups.class_of[reading.read.labels]
        easy = reading.silent(groups, none) | reading.absorbed(False)
        np.logical_or.at(bad, classes, ~easy & ~_merges(groups, reading, classes))
    strength = _strength(groups, readings, bad)
    for group in groups.groups:
        members = group.classes[~bad[group.classes]]
        if members.size < 2:
            continue
        best = members[np.argmax(strength[members])]
        if 0 < strength[best] < np.inf:
            carriers[members[members != best]] = best
    return carriers


def _strength(groups: Groups, readings: list[Reading], bad: Bools) -> Floats:
    """Class -> the least that readers see of it which miss some of its group; infinite if none."""
    strength, none = np.full(groups.total, np.inf), np.zeros(groups.total, bool)
    for reading in readings:
        classes = groups.class_of[reading.read.labels]
        group = groups.group_of[classes]
        lost = reading.uneven & reading.lost(groups, none) & ~bad[classes]
        ours = (group >= 0) & np.isin(group, group[lost])
        there = np.nan_to_num(np.abs(reading.values[ours]))
        np.minimum.at(strength, classes[ours], there)
    return strength


def _merges(groups: Groups, reading: Reading, classes: Ints) -> Bools:
    """Which inputs another may stand for: constants, one per class, in a weight of its own."""
    nothing = np.zeros(classes.size, bool)
    node, graph = reading.read.node, groups.channels.graph
    if reading.taps is None or not reading.uneven or reading.taps.largest.shape[0] != 1:
        return nothing
    if graph.only_reader(node.inputs[1]) is None:
        return nothing
    single = np.bincount(classes, minlength=groups.total)[classes] == 1
    found: Bools = single & ~np.isnan(reading.values)
    return found


def additions(groups: Groups, readings: list[Reading], carriers: Ints) -> tuple[Addition, ...]:
    """What readers with zero padding take over into the weights of those that stay."""
    found, none = [], np.zeros(groups.total, bool)
    for reading in readings:
        classes = groups.class_of[reading.read.labels]
        moved = np.flatnonzero((carriers[classes] >= 0) & reading.lost(groups, none))
        if not reading.uneven or reading.taps is None or not moved.size:
            continue
        node = reading.read.node
        axis = 1 if node.op == "Conv" else 0
        weight = groups.channels.graph.model.weights[node.inputs[1]].astype(np.float64)
        for carrier in np.unique(carriers[classes[moved]]):
            place = int(np.flatnonzero(classes == carrier)[0])
            ours = moved[carriers[classes[moved]] == carrier]
            shares = reading.values[ours] / reading.values[place]
            values = np.tensordot(weight.take(ours, axis), shares, (axis, 0))
            found.append(Addition(node.inputs[1], axis, place, np.expand_dims(values, axis)))
    return tuple(found)


def add_merged(model: Model, groups: Groups, removed: Bools, merged: tuple[Addition, ...]) -> None:
    """Adds what was merged to the weights of a sliced model that is being built."""
    for each in merged:
        axes = groups.channels.axes[each.weight]
        values: Array = each.values
        place = each.place
        for axis, labels in enumerate(axes):
            if labels is None:
                continue
            kept = ~removed[groups.class_of[labels]]
            if axis == each.axis:
                place = int(kept[: each.place].sum())
            else:
                values = np.compress(kept, values, axis)
        weight = model.weights[each.weight].copy()
        window = (slice(None),) * each.axis + (slice(place, place + 1),)
        weight[window] = weight[window] + values
        model.set_weight(each.weight, weight)
