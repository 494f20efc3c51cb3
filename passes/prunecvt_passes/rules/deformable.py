"""DeformConv: a convolution whose taps are moved by offsets (Dai et al., ICCV 2017)."""

from __future__ import annotations

from prunecvt_passes.flow import Axes, Flow, Use, unknown
from prunecvt_passes.graph import Node
from prunecvt_passes.rules.contraction import bias, contract, produce


def deform_conv(flow: Flow, node: Node) -> list[Axes]:
    """Labels of DeformConv of one group: as Conv; the channels of offsets and mask stay."""
    data, weight, offset = node.inputs[:3]
    if node.attributes.get("group", 1) != 1 or node.attributes.get("offset_group", 1) != 1:
        unknown(flow, node, "moves the taps of several groups", "grouped-offsets")
        return [flow.plain(node.outputs[0])]
    shape, (out, inner) = flow.shape(weight), flow.axes_of(weight)[:2]
    flow.uses.append(Use(node, weight, 0, "weight_out"))
    flow.uses.append(Use(node, weight, 1, "weight_in"))
    contract(flow, node, 0, 1, inner)
    for name in filter(None, (offset, node.input(4))):
        flow.pin_tensor(name, node, "pooled", "takes its regions from it")
    for labels in (flow.axes_of(data)[0], *flow.axes_of(data)[2:]):
        flow.pin(labels, node, "mixed-axis", "works across this axis, so all of it stays")
    bias(flow, node, 3, out)
    produce(flow, node, shape[0], out)
    return [[None, out, *[None] * (len(shape) - 2)]]
