"""What the channels of each group cost, as a function of all groups' widths.

A contraction costs its multiply-accumulates times, for each axis it runs over, the share of that
axis that is left; a weight its elements times the same. An axis may hold channels of several groups
and fixed ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from prunecvt_passes.channels import Axis, Labels
from prunecvt_passes.cost import node_macs
from prunecvt_passes.graph import Graph, Node
from prunecvt_passes.groups import Groups, Ints
from prunecvt_passes.model import Array
from prunecvt_passes.quantization import factors
from prunecvt_passes.recovery.normal import Floats

Currency = Literal["channels", "macs", "params", "bytes"]


@dataclass(frozen=True)
class Prices:
    """The cost model: a sum over terms, each an amount times the shares left of its axes.

    Attributes:
        amounts: [terms] of the whole model.
        fixed: [terms, axes] share of the axis that always stays.
        each: [terms, axes, groups] share of the axis that one class of a group takes up.
        sizes: [groups] classes.
    """

    amounts: Floats
    fixed: Floats
    each: Floats
    sizes: Floats

    def total(self, kept: Floats) -> float:
        """The cost with ``kept`` classes of each group."""
        return float(self.amounts @ self.shares(kept))

    def shares(self, kept: Floats) -> Floats:
        """[terms] what is left of each with ``kept`` classes of each group."""
        left: Floats = (self.fixed + self.each @ kept).prod(1)
        return left

    def scaled(self, factors: Floats) -> Prices:
        """The same with each term times a factor, [terms]."""
        return replace(self, amounts=self.amounts * factors)

    def beside(self, amount: float) -> Prices:
        """The same and a term that stays whatever goes."""
        _, axes, groups = self.each.shape
        return Prices(
            np.append(self.amounts, amount),
            np.vstack([self.fixed, np.ones((1, axes))]),
            np.concatenate([self.each, np.zeros((1, axes, groups))]),
            self.sizes,
        )

    def terms(self) -> list[Ints]:
        """For each group the terms that depend on its width."""
        touched = np.asarray(self.each.any(axis=1))
        return [np.flatnonzero(touched[:, group]) for group in range(self.sizes.size)]

    def saved(self, kept: Floats, group: int, count: int, terms: Ints) -> float:
        """What removing ``count`` more classes of one group saves, over the terms it is in."""
        share = self.fixed[terms] + self.each[terms] @ kept
        after = share - self.each[terms, :, group] * count
        return float(self.amounts[terms] @ (share.prod(1) - after.prod(1)))


def prices(groups: Groups, currency: Currency) -> Prices:
    """Builds the cost model of a labelled graph in some currency.

    Args:
        groups: the groups.
        currency: ``channels`` counts one for every class that can be cut, ``macs`` what ``cost``
            counts, ``params`` elements and ``bytes`` bytes of all weights.
    """
    graph = groups.channels.graph
    if currency == "channels":
        size = len(groups.groups)
        return Prices(np.ones(size), np.zeros((size, 1)), np.eye(size)[:, None], _sizes(groups))
    if currency == "macs":
        counted = [(node, macs) for node in graph.nodes if (macs := node_macs(graph, node))]
        axes = [axes_of(groups, graph, node) for node, _ in counted]
        return price(groups, [float(macs) for _, macs in counted], axes)
    known = groups.channels.axes
    weights = {k: v for k, v in graph.model.weights.items() if currency == "bytes" or _counts(v)}
    amounts = [float(v.nbytes if currency == "bytes" else v.size) for v in weights.values()]
    held = [[a for a in known.get(name, ()) if a is not None and a.size] for name in weights]
    return price(groups, amounts, held)


def _counts(values: Array) -> bool:
    """Whether ``cost`` counts these as parameters."""
    return values.dtype.kind not in "iuO" or values.dtype.itemsize < 4


def _sizes(groups: Groups) -> Floats:
    return np.array([g.size for g in groups.groups], np.float64)


def price(groups: Groups, amounts: list[float], axes: Sequence[Sequence[Labels]]) -> Prices:
    """Terms of these amounts, each of which runs over some labelled axes."""
    sizes = _sizes(groups)
    most = max((len(a) for a in axes), default=1)
    fixed = np.ones((len(axes), most))
    each = np.zeros((len(axes), most, sizes.size))
    for row, labels in enumerate(axes):
        for column, axis in enumerate(labels):
            owners = groups.group_of[groups.class_of[axis]]
            counts = np.bincount(owners[owners >= 0], minlength=sizes.size)
            fixed[row, column] = (owners < 0).mean()
            each[row, column] = counts / np.maximum(sizes, 1) / axis.size
    return Prices(np.array(amounts, np.float64), fixed, each, sizes)


def axes_of(groups: Groups, graph: Graph, node: Node) -> list[Labels]:
    """The labelled axes that a contraction runs over: those of its output, and what it sums."""
    axes = groups.channels.axes
    weight = axes.get(node.inputs[factors(node)[1].data], [None, None])
    found: list[Axis]
    if node.op == "ConvTranspose":
        found = [*axes.get(node.inputs[0], ()), weight[1]]
    elif "Conv" in node.op:
        found = [*axes.get(node.outputs[0], ()), weight[1]]
    else:
        found = list(axes.get(node.outputs[0], ()))
        if node.op.endswith(("Gemm", "MatMul", "MatMulInteger")):
            summed = 0 if node.attributes.get("transA", 0) and node.op.endswith("Gemm") else -1
            found.append((axes.get(node.inputs[0]) or [None])[summed])
    return [labels for labels in found if labels is not None and labels.size]
