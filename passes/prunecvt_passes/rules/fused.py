"""Operators that stand for several: convolution with a sum, normalisation with a sum or lookup."""

from __future__ import annotations

from prunecvt_passes.flow import Axes, Flow
from prunecvt_passes.graph import Node
from prunecvt_passes.rules.contraction import conv
from prunecvt_passes.rules.elementwise import broadcast
from prunecvt_passes.rules.normalisation import across

_MIXED = ("mixed-axis", "works across this axis, so all of it stays")


def fused_conv(flow: Flow, node: Node) -> list[Axes]:
    """Labels of com.microsoft FusedConv: Conv, then what input 3 adds, then an activation."""
    made = conv(flow, node)[0]
    if not node.input(3):
        return [made]
    shape, name = flow.shape(node.outputs[0]), node.inputs[3]
    operands = [(shape, made), (flow.shape(name), flow.axes_of(name))]
    return [broadcast(flow, node, operands, shape)]


def skip_normalization(flow: Flow, node: Node) -> list[Axes]:
    """Labels of (Skip)(Simplified)LayerNormalization: a sum, then a norm over the last axes."""
    shape = flow.shape(node.inputs[0])
    operands = [(flow.shape(name), flow.axes_of(name)) for name in node.inputs if name]
    axes = broadcast(flow, node, operands, shape)
    mixed = range(node.attributes.get("axis", -1) % len(shape), len(shape))
    others = [place for place, name in enumerate(node.inputs) if place and name]
    axes = across(flow, node, axes, mixed, others)
    return [list(axes) if flow.shape(name) == shape else flow.plain(name) for name in node.outputs]


def embed_normalization(flow: Flow, node: Node) -> list[Axes]:
    """Labels of EmbedLayerNormalization: rows of three tables are summed and normalised."""
    for name in filter(None, node.inputs):
        flow.pin_tensor(name, node, *_MIXED)
    return [flow.plain(name) for name in node.outputs]
