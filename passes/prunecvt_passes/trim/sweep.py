"""The sweep: channels that nothing would miss, because they hold constants or nobody reads them.

Where a reader sees a constant c in a channel, its outputs lack W c once the channel is gone; that
goes into its bias (Ye et al., 2018, "Rethinking the smaller-norm-less-informative assumption").
This is exact for c = 0 and for readers without zero padding. At padded borders it is not: there one
of a group's constants stays and stands for the others (``merge.py``), or inexact cuts are allowed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from prunecvt_passes.budget import Budget, Removal, open_groups, rounded, without_empty
from prunecvt_passes.groups import Bools, Group, Groups, Ints
from prunecvt_passes.model import Model
from prunecvt_passes.slice import remove
from prunecvt_passes.trim.bias import add_bias
from prunecvt_passes.trim.geometry import CONVOLUTIONS, Floats
from prunecvt_passes.trim.merge import Addition, add_merged, additions, find_carriers
from prunecvt_passes.trim.reading import Reading, readings_of

_PADDED = (
    "holds a constant that its reader pads with zeros, alone or for others like it "
    "(--allow-inexact takes it)"
)
_ACROSS = "holds a constant that its reader has no bias for"
_COMPUTED = "holds a constant that its reader has no room for: its bias is computed"


@dataclass(frozen=True)
class Stayed:
    """Constant channels that stay all the same: output tensor, how many, and why."""

    tensor: str
    channels: int
    reason: str


@dataclass(frozen=True)
class Sweep:
    """What can go.

    Attributes:
        removal: the classes.
        constants: node's output tensor -> what its outputs lack without them, one per channel.
        merged: what the weights of others take over, see ``additions``.
        constant: classes that go and were no zeros where somebody read them.
        inexact: those among them that are off at padded borders.
        carried: those that another channel stands for.
        stayed: what is constant and stays.
    """

    removal: Removal
    constants: dict[str, Floats] = field(default_factory=dict)
    merged: tuple[Addition, ...] = ()
    constant: int = 0
    inexact: int = 0
    carried: int = 0
    stayed: tuple[Stayed, ...] = ()


def find_dead(groups: Groups, budget: Budget, inexact: bool = False) -> Sweep:
    """Finds the classes that can go.

    Args:
        groups: labels and classes of a model.
        budget: ``keep``, ``only``, ``min_channels`` and ``round_to`` hold; amounts are ignored.
        inexact: whether constants may go that are read with zero padding.
    """
    readings = readings_of(groups)
    dead = np.zeros(groups.total, bool)
    while True:
        bad = np.zeros(groups.total, bool)
        for reading in readings:
            gone = reading.silent(groups, dead) | reading.absorbed(inexact)
            np.logical_or.at(bad, groups.class_of[reading.read.labels], ~gone)
        found = (groups.group_of >= 0) & ~bad
        if (found == dead).all():
            break
        dead = found
    carriers = find_carriers(groups, readings, dead)
    removed, reasons = _limited(groups, dead | (carriers >= 0), budget)
    removal = Removal(removed, reasons)
    stayed = _stayed(groups, readings, dead | (carriers >= 0))
    carriers = np.where(removed, carriers, -1)
    constants, gone, off = _constants(groups, readings, removed, carriers)
    merged = additions(groups, readings, carriers)
    counts = int(gone.sum()), int(off.sum()), int((carriers >= 0).sum())
    return Sweep(removal, constants, merged, *counts, tuple(stayed))


def cut(groups: Groups, sweep: Sweep) -> Model:
    """Removes what a sweep found, and puts the constants into the readers' biases."""
    model = remove(groups, sweep.removal)
    if not sweep.constants and not sweep.merged:
        return model
    model = model.copy()
    add_merged(model, groups, sweep.removal.removed, sweep.merged)
    kept = ~sweep.removal.removed[groups.class_of]
    for output, shift in sweep.constants.items():
        axes = groups.channels.axes.get(output)
        spatial = groups.channels.graph.producer[output].op in CONVOLUTIONS
        labels = axes[1 if spatial else -1] if axes else None
        add_bias(model, output, shift if labels is None else shift[kept[labels]])
    return model


def _limited(groups: Groups, dead: Bools, budget: Budget) -> tuple[Bools, dict[int, str]]:
    """The dead classes, less those that a budget keeps or that fill a width up."""
    reasons: dict[int, str] = {}
    opened = open_groups(groups, budget, reasons)
    removed = np.zeros(groups.total, bool)
    for group in opened:
        candidates = group.classes[dead[group.classes]]
        live = group.size - candidates.size
        least = min(group.size, max(live, budget.min_channels, 1))
        gone = group.size - rounded(group, least, budget)
        removed[candidates[candidates.size - gone :]] = True
        if not gone:
            reasons[group.id] = _why(group, candidates.size, budget)
    return without_empty(groups, np.zeros(groups.total), removed), reasons


def _why(group: Group, dead: int, budget: Budget) -> str:
    if not dead:
        return "none of its channels is dead"
    floor = group.size <= budget.min_channels
    why = f"{budget.min_channels} are to stay at least" if floor else "widths are rounded up"
    return f"{dead} of its {group.size} channels are dead, but {why}"


def _constants(
    groups: Groups, readings: list[Reading], removed: Bools, carriers: Ints
) -> tuple[dict[str, Floats], Bools, Bools]:
    """What biases take over, the classes it comes from, and those that are off at borders."""
    found: dict[str, Floats] = {}
    gone, off = np.zeros(groups.total, bool), np.zeros(groups.total, bool)
    for reading in readings:
        classes = groups.class_of[reading.read.labels]
        filled = removed[classes] & reading.lost(groups, removed)
        gone[classes[filled]] = True
        if reading.taps is None or not reading.takes:  # then only channels nobody reads miss it
            continue
        filled &= ~(reading.uneven & (carriers[classes] >= 0))
        if not filled.any():
            continue
        off[classes[filled]] |= reading.uneven
        blocks, rows, inputs = reading.taps.total.shape
        given = np.where(filled, reading.values, 0.0).reshape(blocks, 1, inputs)
        with np.errstate(all="ignore"):  # other weights may be NaN or infinite
            products = np.where(given != 0, reading.taps.total * given, 0.0)
        shift = products.sum(-1).reshape(blocks * rows)
        found[reading.outputs] = found.get(reading.outputs, 0.0) + shift
    return found, gone, off


def _stayed(groups: Groups, readings: list[Reading], dead: Bools) -> list[Stayed]:
    """Channels that all readers know to be constant, and that one of them cannot do without."""
    open_class = groups.group_of < 0
    reasons: dict[int, str] = {}
    for reading in readings:
        classes = groups.class_of[reading.read.labels]
        silent = reading.silent(groups, dead)
        np.logical_or.at(open_class, classes, np.isnan(reading.values) & ~silent)
        stuck = ~silent & ~reading.absorbed(False) & ~np.isnan(reading.values)
        why = _ACROSS if reading.taps is None else _PADDED if reading.takes else _COMPUTED
        reasons.update(dict.fromkeys(classes[stuck].tolist(), why))
    by: dict[tuple[int, str], int] = {}
    for each, why in reasons.items():
        if not open_class[each] and not dead[each]:
            key = int(groups.group_of[each]), why
            by[key] = by.get(key, 0) + 1
    return [
        Stayed(groups.groups[group].members[0], count, why) for (group, why), count in by.items()
    ]
