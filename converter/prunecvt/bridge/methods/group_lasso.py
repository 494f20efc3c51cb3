"""Structured Sparsity Learning: whole structures of weights become zero (Wen et al., 2016).

"Learning structured sparsity in deep neural networks" adds lambda * sum over groups of ||w_g|| to
the loss. Here its proximal step follows each step of the optimiser: every group moves towards zero,

    w_g <- w_g * max(0, 1 - rate * lambda / ||w_g||)

so that groups are exactly zero, not merely small, and ``prunecvt trim`` takes them out. The groups
of a convolution's weight W[o, i, h, w]:

- ``filter``: what makes output o. Behind it a BatchNormalization divides by the filter's own size,
  so there gamma_o and beta_o belong to the group; a zero filter then mostly stays zero.
- ``channel``: W[:, i], what is read of input i (not for grouped convolutions).
- ``shape``: W[:, i, h, w], one tap of one input over all filters (not for grouped ones either).
  A kernel gets smaller where a border of taps is zero for all inputs.
- ``depth``: a residual branch as a whole, with its scales and biases, around which the sum leads.

Where groups overlap, steps are taken one after the other, small groups first: shape, channel,
filter, depth. For groups inside one another that is the step of the sum (Jenatton et al., 2011);
filters and channels cross each other, and there it is an approximation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from prunecvt.bridge.methods.fit import Hook
from prunecvt.bridge.module import GraphModule
from prunecvt.errors import UsageError
from prunecvt_passes.graph import Graph, Node
from prunecvt_passes.normalise import Source, normalise
from prunecvt_passes.trim.blocks import find_blocks
from prunecvt_passes.trim.geometry import WEIGHTED

Kind = Literal["shape", "channel", "filter", "depth"]
KINDS: tuple[Kind, ...] = get_args(Kind)  # in the order of the steps


@dataclass(frozen=True)
class Structures:
    """Groups of weights that are indexed alike.

    Attributes:
        kind: what they are.
        parts: weight -> its axes that the groups are indexed by, the same number of indices for
            all; a group holds what every part has at one index.
    """

    kind: Kind
    parts: tuple[tuple[str, tuple[int, ...]], ...]

    def norms(self, module: nn.Module) -> Tensor:
        """The norm of every group."""
        squares = [_squares(module.tensor(name), axes) for name, axes in self.parts]
        return torch.stack(squares).sum(0).sqrt()

    def scale(self, module: nn.Module, factors: Tensor) -> None:
        """Multiplies every group by its factor, in place."""
        for name, axes in self.parts:
            weight = module.tensor(name)
            shape = [size if axis in axes else 1 for axis, size in enumerate(weight.shape)]
            weight.mul_(factors.reshape(shape))


def _squares(weight: Tensor, axes: tuple[int, ...]) -> Tensor:
    others = [axis for axis in range(weight.ndim) if axis not in axes]
    squared = weight.detach().square()
    return squared.sum(others) if others else squared


def find_structures(module: GraphModule, kinds: Sequence[Kind] = KINDS) -> list[Structures]:
    """Every structure of some kinds in a module's convolutions and residual branches.

    Returns:
        Smaller kinds first.

    Raises:
        UsageError: E258, a kind is unknown, or there is none of it.
    """
    found: list[Structures] = []
    for kind in sorted(kinds, key=lambda kind: KINDS.index(kind) if kind in KINDS else -1):
        if kind not in KINDS:
            raise UsageError("E258", f"no structure is called '{kind}'", help=", ".join(KINDS))
        made = _branches(module) if kind == "depth" else _of_convolutions(module, kind)
        if not made:
            raise UsageError(
                "E258",
                f"the module has no structure of the kind '{kind}'",
                where=module.graph.model.source,
                help="it has no residual branch" if kind == "depth" else "it has no convolution",
            )
        found += made
    return found


def _of_convolutions(module: GraphModule, kind: Kind) -> list[Structures]:
    trained = set(module.roles.trainable)
    found: dict[str, Structures] = {}
    for node in module.graph.nodes:
        if node.op != "Conv" or node.inputs[1] not in trained:
            continue
        name = node.inputs[1]
        grouped = node.attributes.get("group", 1) != 1
        rank = module.tensor(name).ndim
        parts: list[tuple[str, tuple[int, ...]]] = []
        if kind == "filter":
            parts = [
                (name, (0,)),
                *((each, (0,)) for each in _vectors(module.graph, node, trained)),
            ]
        elif not grouped:
            parts = [(name, (1,) if kind == "channel" else tuple(range(1, rank)))]
        if parts and name not in found:
            found[name] = Structures(kind, tuple(parts))
    return list(found.values())


def _vectors(graph: Graph, node: Node, trained: set[str]) -> list[str]:
    """The bias of a convolution, and scale and bias of the BatchNormalization that alone reads it.

    What other layers share is left out.
    """
    names = list(node.inputs[2:3])
    reader = graph.only_reader(node.outputs[0])
    if reader is not None and reader[0].op == "BatchNormalization":
        names += reader[0].inputs[1:3]
    return [name for name in names if name in trained and graph.only_reader(name) is not None]


def _branches(module: GraphModule) -> list[Structures]:
    """One group for each residual branch: weights of its layers, scales and biases with them."""
    graph = normalise(Source(module.graph.model)).graph
    trained, found = set(module.roles.trainable), []
    for block in find_blocks(graph):
        parts = []
        for number in sorted(block.nodes):
            node = graph.nodes[number]
            if node.op in WEIGHTED or node.op == "BatchNormalization":
                own = [n for n in node.inputs[1:3] if n in trained and graph.only_reader(n)]
                parts += [(name, ()) for name in own]
        if parts:
            found.append(Structures("depth", tuple(parts)))
    return found


class GroupLasso(Hook):
    """Takes the proximal step of the group lasso after each step of the optimiser.

    Attributes:
        structures: of ``find_structures``.
        strengths: kind -> lambda; kinds without one are left alone.
    """

    def __init__(self, structures: Sequence[Structures], strengths: Mapping[Kind, float]) -> None:
        """Takes the groups and how strongly each kind is drawn to zero.

        Raises:
            UsageError: E258, a strength is below 0 or of a kind that no structure has.
        """
        lacking = strengths.keys() - {each.kind for each in structures}
        if lacking or not all(0 <= each < math.inf for each in strengths.values()):
            raise UsageError(
                "E258",
                "a strength is below 0, or of a kind that no structure has",
                where=", ".join(sorted(lacking)),
                help=f"kinds are {', '.join(KINDS)}",
            )
        self.structures, self.strengths = tuple(structures), dict(strengths)

    def after_step(self, module: nn.Module, rate: float) -> None:
        """Moves every group towards zero by the rate times its strength."""
        for each in self.structures:
            threshold = rate * self.strengths.get(each.kind, 0.0)
            if threshold:
                each.scale(module, shrinkage(each.norms(module), threshold))

    def value(self, module: nn.Module) -> float:
        """What the penalty comes to: the sum of the norms times the strengths."""
        return sum(
            self.strengths.get(each.kind, 0.0) * float(each.norms(module).sum())
            for each in self.structures
        )


def shrinkage(norms: Tensor, threshold: float) -> Tensor:
    """The factors of a block soft-threshold: max(0, 1 - threshold / norm); 0 for a norm of 0."""
    return torch.where(norms > threshold, 1 - threshold / norms.clamp_min(threshold), 0.0)


def count_zeros(module: nn.Module, structures: Sequence[Structures]) -> dict[Kind, tuple[int, int]]:
    """Kind -> how many of its groups are exactly zero, and how many there are."""
    found: dict[Kind, tuple[int, int]] = {}
    for each in structures:
        norms = each.norms(module)
        zeros, total = found.get(each.kind, (0, 0))
        found[each.kind] = zeros + int((norms == 0).sum()), total + norms.numel()
    return found
