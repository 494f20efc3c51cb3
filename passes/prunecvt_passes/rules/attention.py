"""Attention in one node: whole heads, or the same channels of every head, live and die together.

Softmax(scale * Q K') V works on every head alone, so heads are cut like a batch. Within the heads
it sums over the channels of Q and K, and carries those of V on; its scale follows from the number
of channels where it is left out, so that it is written down once any of them goes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from prunecvt_passes.flow import Axes, Axis, Count, Flow, Labels, Setting, Use
from prunecvt_passes.graph import DEFAULT_DOMAINS, Node
from prunecvt_passes.rules.contraction import contract, multiplies, produce


@dataclass(frozen=True)
class Part:
    """Query, key or value: one label per head, and one per channel that all heads share."""

    heads: Axis = None
    channels: Axis = None


@dataclass(frozen=True)
class Result:
    """What an attention makes of its parts; ``own`` are the heads of key and value."""

    heads: Axis
    own: Axis
    key: Axis
    value: Axis

    def joint(self, flow: Flow, node: Node, count: int, width: int) -> Axis:
        """Labels of [heads * channels]."""
        if self.heads is not None:
            flow.pin(self.value, node, "merged-axes", "merges two axes that could both be cut")
            return np.repeat(self.heads, width)
        return None if self.value is None else np.tile(self.value, count)

    def outputs(self, flow: Flow, node: Node, count: int) -> list[Axes]:
        """Labels of what comes out: sums of values, present key and value, products."""
        shape = flow.shape(node.outputs[0])
        if len(shape) == 4:
            first: Axes = [None, self.heads, None, self.value]
        else:
            first = [None, None, self.joint(flow, node, count, shape[-1] // count)]
        present: list[Axes] = [[None, self.own, None, c] for c in (self.key, self.value)]
        return [first, *present, [None, self.heads, None, None]][: len(node.outputs)]


def attention(flow: Flow, node: Node) -> list[Axes]:
    """Labels of Attention (opset 23 and later), of 3-D or 4-D inputs."""
    four = len(flow.shape(node.inputs[0])) == 4
    count, own = (
        flow.shape(node.inputs[place])[1] if four else node.attributes[slot]
        for place, slot in ((0, "q_num_heads"), (1, "kv_num_heads"))
    )
    whole = _whole(flow, count)
    query, key, value = (
        part(flow, node, name, heads, whole)
        for name, heads in zip(node.inputs[:3], (count, own, own), strict=True)
    )
    result = attend(flow, node, (query, key, value), count, own)
    _channels(flow, node, query, flow.shape(node.inputs[0])[-1] // (1 if four else count))
    head_bias(flow, node, node.input(3), result.heads)
    _past(flow, node, 4, result)
    count_heads(flow, node, "q_num_heads", result.heads)
    count_heads(flow, node, "kv_num_heads", result.own)
    return result.outputs(flow, node, count)


def multi_head_attention(flow: Flow, node: Node) -> list[Axes]:
    """Labels of com.microsoft MultiHeadAttention: a bias of query, key and value end to end."""
    names, count = [node.input(place) for place in range(3)], node.attributes["num_heads"]
    ranks = [len(flow.shape(name)) for name in names if name]
    if ranks not in ([3, 3, 3], [3, 4, 4]) or (node.input(3) and ranks[1] == 4):
        return refused(flow, node, "packed", "takes query, key and value in one tensor")
    whole = _whole(flow, count)
    query, key, value = (part(flow, node, name, count, whole) for name in names)
    if node.input(6) or ranks[1] == 4:
        flow.tie(key.channels, value.channels, node, "wants keys and values of one size")
    if node.input(3):
        cuts = np.cumsum([flow.shape(name)[-1] for name in names[:2]])
        added = flow.axes_of(node.inputs[3])[0]
        pieces = [None] * 3 if added is None else np.split(added, cuts)
        for name, piece in zip(names, pieces, strict=True):
            flow.tie(flow.axes_of(name)[-1], piece, node)
        flow.uses.append(Use(node, node.inputs[3], 0, "bias"))
        if query.channels is not None:
            flow.reading(node, 3, 0)  # of a query multiplied by zero its bias would remain
    result = attend(flow, node, (query, key, value), count, count)
    _channels(flow, node, query, flow.shape(names[0])[-1] // count)
    head_bias(flow, node, node.input(5), result.heads)
    _past(flow, node, 6, result)
    count_heads(flow, node, "num_heads", result.heads)
    return result.outputs(flow, node, count)


def group_query_attention(flow: Flow, node: Node) -> list[Axes]:
    """Labels of com.microsoft GroupQueryAttention: whole heads, its kernels fix a head's size."""
    count, own = node.attributes["num_heads"], node.attributes["kv_num_heads"]
    scales = [name for name in (node.input(12), node.input(13)) if name]
    if not _whole(flow, count):
        return refused(flow, node, "head-size", "has heads of a size that stays")
    if any(flow.shape(name) not in ((), (1,)) for name in scales):
        return refused(flow, node, "quantised-cache", "keeps its keys and values quantised")
    joints = [flow.axes_of(name)[2] for name in node.inputs[:3] if name]
    if len(joints) == 1:
        size = flow.shape(node.inputs[0])[2] // (count + 2 * own)
        cuts = [count * size, (count + own) * size]
        joints = [None] * 3 if joints[0] is None else list(np.split(joints[0], cuts))
    parts = [
        split_heads(flow, node, labels, heads, True)
        for labels, heads in zip(joints, (count, own, own), strict=True)
    ]
    result = attend(flow, node, (parts[0], parts[1], parts[2]), count, own)
    head_bias(flow, node, node.input(10), result.heads)
    if node.input(11):
        flow.tie(result.heads, flow.axes_of(node.inputs[11])[0], node)
    _past(flow, node, 3, result)
    count_heads(flow, node, "num_heads", result.heads)
    count_heads(flow, node, "kv_num_heads", result.own)
    return result.outputs(flow, node, count)


def packed_attention(flow: Flow, node: Node) -> list[Axes]:
    """Labels of com.microsoft Attention, which projects its input by [inputs, query+key+value]."""
    weight, count = node.inputs[1], node.attributes["num_heads"]
    total = flow.shape(weight)[1]
    sizes = tuple(node.attributes.get("qkv_hidden_sizes") or (total // 3,) * 3)
    inner, out = flow.axes_of(weight)
    whole = _whole(flow, count)
    if not whole and node.attributes.get("do_rotary", 0):
        return refused(flow, node, "rotated", "rotates the channels of its heads")
    contract(flow, node, 0, 2, inner)
    pieces: list[Axis] = [None] * 3 if out is None else list(np.split(out, np.cumsum(sizes)[:2]))
    parts = [split_heads(flow, node, labels, count, whole) for labels in pieces]
    if node.input(2):
        flow.tie(out, flow.axes_of(node.inputs[2])[0], node)
        flow.uses.append(Use(node, node.inputs[2], 0, "bias"))
    if parts[0].channels is not None:  # made inside: what makes them is multiplied by zero
        flow.reading(node, 1, 1)
        if node.input(2):
            flow.reading(node, 2, 0)
    flow.uses.append(Use(node, weight, 1, "weight_out"))
    flow.uses.append(Use(node, weight, 0, "weight_in"))
    produce(flow, node, total, out)
    result = attend(flow, node, (parts[0], parts[1], parts[2]), count, count)
    _keep_scale(flow, node, parts[0].channels, sizes[0] // count)
    if not whole or "qkv_hidden_sizes" in node.attributes:
        for position, labels in enumerate(pieces):
            if labels is not None:
                flow.counts.append(Count(node, "qkv_hidden_sizes", sizes, position, labels))
    head_bias(flow, node, node.input(5), result.heads)
    count_heads(flow, node, "num_heads", result.heads)
    first = [None, None, result.joint(flow, node, count, sizes[2] // count)]
    return [first, *_packed_state(flow, node, result)][: len(node.outputs)]


def _packed_state(flow: Flow, node: Node, result: Result) -> list[Axes]:
    """Labels of the present [key and value, batch, heads, tokens, channels]; the past ties."""
    if not node.input(4) and not node.output(1):
        return [[None] * 5]
    channels = flow.tie(result.key, result.value, node)
    if node.input(4):
        past = flow.axes_of(node.inputs[4])
        flow.tie(result.heads, past[2], node)
        flow.tie(channels, past[4], node)
    return [[None, None, result.heads, None, channels]]


def _whole(flow: Flow, count: int) -> bool:
    """Whether heads go as a whole; a single head leaves only its channels to choose from."""
    return flow.units.attention == "head" and count > 1


def part(flow: Flow, node: Node, name: str, count: int, whole: bool) -> Part:
    """Labels of [batch, heads, tokens, channels] or of [batch, tokens, heads * channels]."""
    axes = flow.axes_of(name)
    if len(axes) == 4:
        return Part(axes[1], axes[3])
    return split_heads(flow, node, axes[-1], count, whole)


def split_heads(flow: Flow, node: Node, labels: Axis, count: int, whole: bool) -> Part:
    """Splits the labels of [heads * channels], ``count`` heads, and ties within or across them."""
    if labels is None:
        return Part()
    rows = labels.reshape(count, -1)
    table = rows if whole else rows.T  # one row per class
    if len(table) == 1:
        what = "shares one head of keys and values" if whole else "has heads of a single channel"
        flow.pin(labels, node, "single", what)
        return Part()
    first: Labels = np.broadcast_to(table[:, :1], table[:, 1:].shape).ravel()
    flow.ties.append((first, table[:, 1:].ravel()))
    lead = np.ascontiguousarray(table[:, 0])
    return Part(heads=lead) if whole else Part(channels=lead)


def attend(flow: Flow, node: Node, parts: tuple[Part, Part, Part], count: int, own: int) -> Result:
    """Ties query, key and value; ``count`` heads of queries share ``own`` of keys and values.

    Heads that share go together with theirs; where all share a single one, each goes alone.
    """
    query, key, value = parts
    multiplies(flow, [p.heads for p in parts], [p.channels for p in parts])
    shared = flow.tie(key.heads, value.heads, node)
    heads = query.heads
    if own > 1 or count == 1:
        repeated = None if shared is None else np.repeat(shared, count // own)
        heads = flow.tie(query.heads, repeated, node)
    channels = flow.tie(query.channels, key.channels, node)
    return Result(heads, None if heads is None else shared, channels, value.channels)


def _channels(flow: Flow, node: Node, query: Part, size: int) -> None:
    """Where channels of the heads can go, the sum over them is a read and the scale is kept."""
    if query.channels is not None:
        flow.reading(node, 0, len(flow.shape(node.inputs[0])) - 1)
    _keep_scale(flow, node, query.channels, size)


def _keep_scale(flow: Flow, node: Node, channels: Axis, size: int) -> None:
    stated = node.attributes.get("scale")
    left_out = stated is None or (stated == 0 and node.domain not in DEFAULT_DOMAINS)
    if left_out and channels is not None:
        flow.settings.append(Setting(node, "scale", 1 / math.sqrt(size), channels))


def head_bias(flow: Flow, node: Node, name: str, heads: Axis) -> None:
    """Ties the heads of a mask or bias [batch, heads, queries, keys]; one for all heads is free."""
    axis = len(flow.shape(name)) - 3 if name else -1
    if axis >= 0 and flow.shape(name)[axis] > 1:
        flow.tie(heads, flow.axes_of(name)[axis], node)


def _past(flow: Flow, node: Node, place: int, result: Result) -> None:
    """Ties a past key and value [batch, heads, tokens, channels] to what is put behind them."""
    for name, channels in ((node.input(place), result.key), (node.input(place + 1), result.value)):
        if name:
            past = flow.axes_of(name)
            flow.tie(result.own, past[1], node)
            flow.tie(channels, past[-1], node)


def count_heads(flow: Flow, node: Node, slot: str, heads: Axis) -> None:
    """Records that an attribute states the number of heads."""
    if heads is not None and node.attributes.get(slot, 0):
        flow.counts.append(Count(node, slot, (node.attributes[slot],), 0, heads))


def refused(flow: Flow, node: Node, code: str, what: str) -> list[Axes]:
    """Pins everything that the node reads."""
    for name in filter(None, node.inputs):
        flow.pin_tensor(name, node, code, what)
    return [flow.plain(name) if name else [] for name in node.outputs]
