"""What the channels of each group cost in time: a cost model fitted on profiles of whole models.

A multiply-accumulate takes several times as long in one layer as in another (large maps, few
channels and depthwise kernels are bound by memory), and part of a layer's time stays however few
channels are left. So each kernel that a runtime reports is led back to the node that it stands for,
and its time is split: one part falls with the channels of all axes that the node runs over, the
other stays. How large that is follows from a second profile, of the model cut: with the share s of
the products left and r of the time, r = f + (1 - f) s. Layers that were hardly cut take the median.

Profile-guided prices are NetAdapt's and HALP's idea (Yang et al., 2018; Shen et al., 2022), with
profiles of whole models in the place of tables of single layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from prunecvt_passes.channels import Labels
from prunecvt_passes.cost import node_macs
from prunecvt_passes.graph import Graph, Node
from prunecvt_passes.groups import Groups
from prunecvt_passes.recovery.normal import Floats
from prunecvt_passes.recovery.prices import Prices, axes_of, price

_PRODUCTS = ("Conv", "Gemm", "MatMul", "FullyConnected", "Einsum", "Attention")
_KNOWN = 0.5  # of the time
_FAR = 6  # nodes between a product and the last that was fused into it
_TELLS = 0.9  # of the products left, or less: then a second profile says what stays
_LEAST, _MOST = -0.3, 0.8  # of a node's time that stays; narrow layers may gain more than MACs


@dataclass(frozen=True)
class Kernel:
    """A piece of a profile.

    Attributes:
        op: the runtime's name for what it does.
        names: nodes or tensors of the model that it may stand for, likeliest first.
        ms: milliseconds.
    """

    op: str
    names: tuple[str, ...]
    ms: float


@dataclass(frozen=True, eq=False)
class Profile:
    """The kernels of a model with ``kept`` classes of each group, [groups]."""

    kept: Floats
    kernels: Sequence[Kernel]


def latency_prices(groups: Groups, whole: Profile, cut: Profile | None = None) -> Prices | None:
    """Fits the cost model, in milliseconds.

    Args:
        groups: the groups of the original.
        whole: its profile.
        cut: that of a cut of it; without, all of a node's time falls with its channels.

    Returns:
        None where less than half of the time can be led back to contractions of the model.
    """
    graph = groups.channels.graph
    before, rest = _by_node(graph, whole.kernels)
    nodes = [graph.nodes[index] for index in sorted(before)]
    told = sum(before[node.index] for node in nodes if node_macs(graph, node))
    if told <= _KNOWN * (sum(before.values()) + rest):
        return None
    times = np.array([before[node.index] for node in nodes])
    terms = price(groups, list(times), [_axes(groups, graph, node) for node in nodes])
    stays = np.zeros(times.size)
    if cut is not None:
        after, _ = _by_node(graph, cut.kernels)
        now = np.array([after.get(node.index, np.nan) for node in nodes])
        stays = _staying(terms.shares(cut.kept), now / np.maximum(times, 1e-9), times)
    fixed = rest + float(stays @ times)
    return terms.scaled(1 - stays).beside(fixed)


def _staying(shares: Floats, ratios: Floats, times: Floats) -> Floats:
    """The part of each node's time that does not fall with its channels."""
    told = (shares < _TELLS) & np.isfinite(ratios)
    if not told.any():
        return np.zeros(shares.size)
    found = np.clip((ratios - shares) / np.maximum(1 - shares, 1e-9), _LEAST, _MOST)
    usual = _median(found[told], (times * (1 - shares))[told])
    return np.where(told, found, usual)


def _median(values: Floats, weights: Floats) -> float:
    order = np.argsort(values, kind="stable")
    return float(values[order][np.searchsorted(np.cumsum(weights[order]), weights.sum() / 2)])


def _by_node(graph: Graph, kernels: Iterable[Kernel]) -> tuple[dict[int, float], float]:
    """Node index -> milliseconds, and those of kernels that no node is found for."""
    named = {node.name: node for node in graph.nodes if node.name}
    found: dict[int, float] = {}
    rest = 0.0
    for kernel in kernels:
        node = _node_of(graph, named, kernel, found)
        if node is None:
            rest += kernel.ms
        else:
            found[node.index] = found.get(node.index, 0.0) + kernel.ms
    return found, rest


def _node_of(
    graph: Graph, named: dict[str, Node], kernel: Kernel, taken: dict[int, float]
) -> Node | None:
    """The node that a kernel stands for: of a product the one that all the rest was fused into."""
    starts = [named.get(name) or graph.producer.get(name) for name in kernel.names]
    known = [node for node in starts if node is not None]
    if not any(word in kernel.op for word in _PRODUCTS):
        return known[0] if known else None
    for node in known:
        behind = [each for each in _products(graph, node) if each.index not in taken]
        if behind:
            return max(behind, key=lambda each: each.index)
    return None


def _products(graph: Graph, node: Node) -> list[Node]:
    """The nearest contractions at or before a node."""
    found, front, seen = [], [node], {node.index}
    for _ in range(_FAR):
        ahead = []
        for each in front:
            if node_macs(graph, each):
                found.append(each)
                continue
            makers = (graph.producer.get(name) for name in each.inputs)
            fresh = [m for m in makers if m is not None and m.index not in seen]
            seen.update(m.index for m in fresh)
            ahead += fresh
        front = ahead
    return found


def _axes(groups: Groups, graph: Graph, node: Node) -> list[Labels]:
    """The labelled axes that a node's time goes with."""
    if node_macs(graph, node):
        return axes_of(groups, graph, node)
    known = groups.channels.axes.get(node.outputs[0], ())
    return [labels for labels in known if labels is not None and labels.size]
