"""Operators that work on each element or each channel alone: broadcasting ties their operands."""

from __future__ import annotations

from collections.abc import Sequence

from prunecvt_passes.flow import Axes, Axis, Flow, Use
from prunecvt_passes.graph import Node

Operand = tuple[tuple[int, ...], Axes]


def broadcast(flow: Flow, node: Node, operands: Sequence[Operand], shape: tuple[int, ...]) -> Axes:
    """Labels of operands (dimensions and labels) that broadcast, right-aligned, to ``shape``."""
    made: Axes = []
    for axis, size in enumerate(shape):
        met: list[Axis] = []
        for dims, axes in operands:
            place = axis - len(shape) + len(dims)
            if place >= 0 and dims[place] == size and size > 1:
                met.append(axes[place])
        carried = next((labels for labels in met if labels is not None), None)
        if carried is not None:
            for labels in met:
                if labels is not carried:
                    flow.tie(carried, labels, node)
            if any(labels is None for labels in met):
                carried = None
        made.append(carried)
    return made


def elementwise(flow: Flow, node: Node) -> list[Axes]:
    """Labels of an operator that broadcasts its inputs; every output has the same."""
    names = node.inputs[:1] if node.op == "CastLike" else node.inputs
    operands = [(flow.shape(name), flow.axes_of(name)) for name in names if name]
    axes = broadcast(flow, node, operands, flow.shape(node.outputs[0]))
    return [list(axes) for _ in node.outputs]


def batch_normalization(flow: Flow, node: Node) -> list[Axes]:
    """Labels of an operator with one parameter per channel (axis 1), all tied to the data."""
    axes = flow.axes_of(node.inputs[0])
    channels = axes[1] if len(axes) > 1 else None
    if not node.attributes.get("spatial", 1):  # opset 8 and before: parameters per position
        for name in node.inputs:
            flow.pin_tensor(name, node, "per-position", "normalises each position by itself")
        return [flow.plain(name) for name in node.outputs]
    if node.attributes.get("training_mode"):
        for axis in (0, *range(2, len(axes))):
            flow.pin(axes[axis], node, "mixed-axis", "works across this axis, so all of it stays")
            axes[axis] = None
    for place, name in enumerate(node.inputs[1:]):
        parameter = flow.axes_of(name)[0]
        if channels is not None or parameter is not None:
            flow.tie(channels, parameter, node)
        if place == 0:
            flow.uses.append(Use(node, name, 0, "scale"))
    return [axes, *([channels] for _ in node.outputs[1:])]


def quantize(flow: Flow, node: Node) -> list[Axes]:
    """Labels of QuantizeLinear and DequantizeLinear: scale and zero point follow their axis."""
    shape, axes = flow.shape(node.inputs[0]), flow.axes_of(node.inputs[0])
    scale = flow.shape(node.inputs[1])
    if len(scale) > 1:  # one per block of an axis, and per index of the others
        for name in filter(None, node.inputs[1:]):
            for axis, labels in enumerate(flow.axes_of(name)):
                if scale[axis] != shape[axis]:
                    flow.pin(labels, node, "blocked-scale", "quantises in blocks")
                    flow.pin(axes[axis], node, "blocked-scale", "quantises in blocks")
                    axes[axis] = None
                elif shape[axis] > 1:
                    axes[axis] = flow.tie(axes[axis], labels, node)
        return [axes]
    if scale and scale[0] > 1:
        axis = node.attributes.get("axis", 1) % len(shape)
        for name in filter(None, node.inputs[1:]):
            if axes[axis] is not None or flow.axes_of(name)[0] is not None:
                axes[axis] = flow.tie(axes[axis], flow.axes_of(name)[0], node)
    return [axes]
