"""What every operator that sums over channels sees of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prunecvt_passes.channels import Read
from prunecvt_passes.groups import Bools, Groups
from prunecvt_passes.trim.geometry import CONVOLUTIONS, Floats, Taps
from prunecvt_passes.trim.still import along, padded, still


@dataclass(frozen=True)
class Reading:
    """One read, by index along its axis.

    Attributes:
        read: the read.
        values: the constant there; NaN where there is none.
        taps: of the reader's weight, where it has a constant one.
        uneven: whether the reader sees zeros beside a constant.
        outputs: what the reader makes.
        takes: whether the reader's bias can take a constant: it has none, or a stored one.
    """

    read: Read
    values: Floats
    taps: Taps | None
    uneven: bool
    outputs: str
    takes: bool = True

    def silent(self, groups: Groups, dead: Bools) -> Bools:
        """Which inputs meet nothing but zeros, or outputs that go."""
        if self.taps is None:
            return np.zeros(self.values.size, bool)
        blocks, rows, _ = self.taps.largest.shape
        live = np.ones(blocks * rows)
        axes = groups.channels.axes.get(self.outputs)
        labels = axes[1 if self.read.node.op in CONVOLUTIONS else -1] if axes else None
        if labels is not None:
            live = 1.0 - dead[groups.class_of[labels]]
        largest = np.where(live.reshape(blocks, rows, 1) > 0, self.taps.largest, 0.0).max(1)
        found: Bools = largest.ravel() == 0
        return found

    def absorbed(self, inexact: bool) -> Bools:
        """Which inputs hold a zero, or a constant that a bias can take."""
        possible = self.taps is not None and self.takes and (not self.uneven or inexact)
        found: Bools = (self.values == 0) | (possible & ~np.isnan(self.values))
        return found

    def lost(self, groups: Groups, dead: Bools) -> Bools:
        """Which inputs hold a constant other than zero that somebody who stays would miss."""
        there = ~np.isnan(self.values) & (self.values != 0)
        found: Bools = there & ~self.silent(groups, dead)
        return found


def readings_of(groups: Groups) -> list[Reading]:
    """Every read of a model, with what it is known to see."""
    graph = groups.channels.graph
    found = still(graph)
    readings = []
    for read in groups.channels.reads:
        node = read.node
        values = along(graph, found, node.inputs[read.place], read.axis)
        if read.zero or values.size != read.labels.size:
            values = np.full(read.labels.size, np.nan)
        taps = None if read.place or node.scope else Taps.of(graph, node)
        if taps is not None and taps.largest.shape[0] * taps.largest.shape[2] != values.size:
            taps = None
        uneven = node.op in CONVOLUTIONS and padded(graph, node)
        takes = not node.input(2) or graph.is_initializer(node.input(2))
        readings.append(Reading(read, values, taps, uneven, node.outputs[0], takes))
    return readings
