"""Rotary position embedding: turns pairs of channels of a head, so that a pair goes together.

Both of a pair are combined with one column of the tables of cosines and sines, which goes with them
(Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021).
"""

from __future__ import annotations

from collections.abc import Sequence

from prunecvt_passes.flow import Axes, Axis, Count, Flow
from prunecvt_passes.graph import DEFAULT_DOMAINS, Node
from prunecvt_passes.rules.attention import count_heads, split_heads


def rotary_embedding(flow: Flow, node: Node) -> list[Axes]:
    """Labels of RotaryEmbedding (opset 23, com.microsoft): whole heads, or pairs of channels."""
    axes = flow.axes_of(node.inputs[0])
    tables = node.inputs[1:3] if node.domain in DEFAULT_DOMAINS else node.inputs[2:4]
    if len(axes) == 4:
        _pairs(flow, node, axes[3], tables)
        return [[None, axes[1], None, axes[3]]]
    heads = _heads(flow, node, tables[0])
    whole = flow.units.attention == "head" and heads > 1
    split = split_heads(flow, node, axes[2], heads, whole)
    count_heads(flow, node, "num_heads", split.heads)
    _pairs(flow, node, split.channels, tables)
    return [[None, None, axes[2]]]


def _heads(flow: Flow, node: Node, table: str) -> int:
    """How many heads a 3-D input has; com.microsoft may leave it to the width of the tables."""
    stated: int = node.attributes.get("num_heads", 0)
    return stated or flow.shape(node.inputs[0])[2] // (2 * flow.shape(table)[-1])


def _pairs(flow: Flow, node: Node, channels: Axis, tables: Sequence[str]) -> None:
    """Ties the channels that are turned by one angle, and its columns in the tables."""
    columns = [flow.axes_of(name)[-1] for name in tables]
    if channels is None:
        for labels in columns:
            flow.pin(labels, node, "head-size", "has heads of a size that stays")
        return
    size = 2 * flow.shape(tables[0])[-1]
    turned = channels[:size]
    if node.attributes.get("interleaved", 0):
        first, second = turned[0::2], turned[1::2]
    else:
        first, second = turned[: size // 2], turned[size // 2 :]
    flow.tie(first, second, node)
    for labels in columns:
        flow.tie(first, labels, node)
    if node.attributes.get("rotary_embedding_dim", 0):
        flow.counts.append(Count(node, "rotary_embedding_dim", (size,), 0, turned))
