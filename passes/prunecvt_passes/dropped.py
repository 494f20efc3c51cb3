"""The net under the rules: an axis that a rule neither passes on nor accounts for is pinned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from prunecvt_passes.channels import Axes, Labels
from prunecvt_passes.graph import Node

if TYPE_CHECKING:
    from prunecvt_passes.flow import Flow

ACROSS = "works across this axis, so all of it stays"


def recorded(flow: Flow) -> tuple[int, ...]:
    """How much was recorded so far, to tell what one rule adds."""
    kinds = (flow.ties, flow.pins, flow.reads, flow.counts, flow.remaps, flow.narrowed)
    return tuple(len(kind) for kind in kinds)


def pin_dropped(flow: Flow, node: Node, made: Sequence[Axes], before: tuple[int, ...]) -> None:
    """Pins axes of a node's inputs that its rule forgot.

    Args:
        flow: the walk.
        node: whose rule ran.
        made: what the rule returned.
        before: what ``recorded`` gave before it ran.
    """
    ties, pins, reads, counts, remaps, narrowed = before
    seen = [labels for axes in made for labels in axes if labels is not None]
    seen += [labels for pair in flow.ties[ties:] for labels in pair]
    seen += [pin.labels for pin in flow.pins[pins:]]
    seen += [read.labels for read in flow.reads[reads:]]
    seen += [count.labels for count in flow.counts[counts:]]
    seen += [remap.labels for remap in flow.remaps[remaps:]]
    seen += [labels for each in flow.narrowed[narrowed:] for _, _, labels in each.inputs]
    known = {id(labels) for labels in seen}
    given = [axis for name in filter(None, node.inputs) for axis in flow.axes_of(name)]
    dropped = [axis for axis in given if axis is not None and id(axis) not in known]
    if dropped:
        if flow.stamps.size < flow.total:
            flow.stamps = np.full(2 * flow.total, -1)
        for labels in seen:
            flow.stamps[labels] = node.index
        for labels in dropped:
            if not (flow.stamps[labels] == node.index).any():
                flow.pin(labels, node, "mixed-axis", ACROSS)
    _pin_one_of_two(flow, node, made, reads)


def _pin_one_of_two(flow: Flow, node: Node, made: Sequence[Axes], reads: int) -> None:
    """Pins labels that stand on two axes of an input, where fewer axes are accounted for.

    Every channel against every other (x x') has the same labels twice; seen once says nothing of
    the other.
    """
    for place, name in enumerate(node.inputs):
        axes = [labels for labels in flow.axes_of(name) if labels is not None] if name else []
        if len(axes) < 2:
            continue
        for number, labels in enumerate(axes):
            alike = sum(_overlap(labels, other) for other in axes)
            if alike < 2 or any(labels is other for other in axes[:number]):
                continue
            passed = [sum(_overlap(labels, b) for b in out if b is not None) for out in made]
            read = sum(
                each.place == place and _overlap(labels, each.labels) for each in flow.reads[reads:]
            )
            if max(passed, default=0) + read < alike:
                flow.pin(labels, node, "mixed-axis", ACROSS)


def _overlap(first: Labels, second: Labels) -> bool:
    return first is second or bool(np.isin(first, second).any())
