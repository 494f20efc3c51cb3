"""Labels along an axis of changing size that repeat with it.

A Reshape may merge the batch with the heads behind it, [N, H] -> [N * H], and part them again. In
between the labels of the heads lie along an axis that changes size with the batch, once per entry
of the batch. They are followed through operators that treat all indices of that axis alike, and
pinned by all others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prunecvt_passes.channels import Axes, Labels
from prunecvt_passes.graph import DEFAULT_DOMAINS, Node

if TYPE_CHECKING:
    from prunecvt_passes.flow import Flow

_LAYOUT = ("Reshape", "Squeeze", "Unsqueeze")  # these say themselves where labels repeat
_ALIKE = ("Add", "Cast", "Div", "Dropout", "Identity", "IsNaN", "Mul", "Softmax", "Sub", "Where")


def folded(flow: Flow, name: str) -> tuple[list[int], list[bool], Axes]:
    """Sizes, which of them change, and labels of a tensor, with repeating labels parted again.

    Returns:
        [N * H, ...] as [N, H, ...], where only N changes and only H has labels.
    """
    sizes: list[int] = []
    moving: list[bool] = []
    axes: Axes = []
    described = zip(flow.shape(name), flow.graph.dynamic(name), flow.axes_of(name), strict=True)
    for axis, (size, changes, labels) in enumerate(described):
        if labels is None or (name, axis) not in flow.repeating:
            sizes, moving, axes = [*sizes, size], [*moving, changes], [*axes, labels]
            continue
        period = _period(labels)
        sizes += [size // period, period]
        moving += [True, False]
        axes += [None, labels[:period]]
    return sizes, moving, axes


def _period(labels: Labels) -> int:
    """Length of the shortest run of labels that repeats to all of them."""
    for size in np.flatnonzero(labels == labels[0]):
        if size and labels.size % size == 0 and np.array_equal(labels[size:], labels[:-size]):
            return int(size)
    return labels.size


def halt(flow: Flow, node: Node) -> None:
    """Pins repeating labels in front of an operator that may tell their indices apart."""
    for name in filter(None, node.inputs):
        axes = flow.axes_of(name)
        for axis, labels in enumerate(axes):
            if labels is None or (name, axis) not in flow.repeating:
                continue
            if not _treats_alike(node, axis, len(axes)):
                what = "works along an axis that the labels repeat on, and that changes size"
                flow.pin(labels, node, "dynamic-axis", what)
                flow.axes[name] = axes = [None if k == axis else a for k, a in enumerate(axes)]


def _treats_alike(node: Node, axis: int, rank: int) -> bool:
    if node.domain not in DEFAULT_DOMAINS:
        return False
    return node.op in (*_ALIKE, *_LAYOUT, "Transpose") or (node.op == "MatMul" and axis < rank - 2)


def passed_on(flow: Flow, node: Node, name: str, axes: Axes) -> None:
    """Marks repeating labels that ``node`` hands on from an input to its output ``name``."""
    if not flow.repeating or node.op in _LAYOUT:
        return
    given = {
        id(labels)
        for source in filter(None, node.inputs)
        for axis, labels in enumerate(flow.axes_of(source))
        if labels is not None and (source, axis) in flow.repeating
    }
    flow.repeating.update((name, axis) for axis, a in enumerate(axes) if id(a) in given)
