"""Masks of single weights, and a hook that keeps them while a module trains.

A mask says which weights stay (Han et al., 2015, "Learning both weights and connections for
efficient neural networks"). Dense kernels multiply by its zeros like by any other number: masks
make files compress better and nothing faster (docs/trim.md).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from prunecvt.bridge.methods.fit import Hook
from prunecvt.bridge.methods.training import State, generator, values_of
from prunecvt.bridge.module import GraphModule
from prunecvt.bridge.starts import origin_of, readings
from prunecvt.errors import UsageError
from prunecvt_passes.graph import DEFAULT_DOMAINS, Graph, Node
from prunecvt_passes.trim.geometry import CONVOLUTIONS, WEIGHTED, is_float

log = logging.getLogger("prunecvt")
Masks = dict[str, Tensor]  # initializer -> booleans of its shape, True where the weight stays
Scope = Literal["layer", "global"]
Share = float | Mapping[str, float]


def maskable(module: GraphModule) -> tuple[str, ...]:
    """Weights of convolutions and matrix products that are trained, in the order of the graph.

    Also those that a Transpose or the like brings there.
    """
    graph, values = module.graph, module.roles.values
    found = [
        (node.index, name)
        for name in module.roles.trainable
        for node, place, shape in readings(graph, values, name)
        if place == 1 and shape and is_float(values[name]) and _is_weighted(graph, node, len(shape))
    ]
    return tuple(dict.fromkeys(name for _, name in sorted(found)))


def _is_weighted(graph: Graph, node: Node, rank: int) -> bool:
    """Whether a convolution or a product reads a weight of this rank, and data beside it."""
    if node.op not in WEIGHTED or node.domain not in DEFAULT_DOMAINS:
        return False
    fits = rank > 2 if node.op in CONVOLUTIONS else rank == 2
    return fits and not graph.is_initializer(origin_of(graph, node.inputs[0]))


def full_masks(module: GraphModule) -> Masks:
    """Masks that keep everything."""
    return {
        name: torch.ones_like(module.tensor(name), dtype=torch.bool) for name in maskable(module)
    }


def prune(
    scores: Mapping[str, Tensor],
    share: Share,
    *,
    masks: Masks | None = None,
    scope: Scope = "global",
    seed: int | None = None,
) -> Masks:
    """Masks without a share of the weights, those of the lowest scores.

    Args:
        scores: initializer -> one number per weight; minus infinity goes first.
        share: of the weights that are left, 0 to below 1, counted in whole weights rounded down;
            by initializer, it is a share of each layer's (scope ``layer``).
        masks: what is left so far; None for everything. What is gone stays gone.
        scope: ``layer`` takes the share of each weight tensor, ``global`` of all together.
        seed: equal scores go in an order drawn from it; None in the order in which they lie.

    Raises:
        UsageError: E212, a share is out of range or names no weight, or differs by layer under a
            global scope; E270, a score is NaN.
    """
    left = masks or {name: torch.ones_like(s, dtype=torch.bool) for name, s in scores.items()}
    _check(scores, left, share, scope)
    alive = {name: scores[name][mask] for name, mask in left.items()}
    draw = None if seed is None else generator(seed)
    if scope == "global":
        kept = _survivors(torch.cat(list(alive.values())), _of(share, ""), draw)
        parts = dict(zip(alive, kept.split([len(s) for s in alive.values()]), strict=True))
    else:
        parts = {name: _survivors(s, _of(share, name), draw) for name, s in alive.items()}
    found = {name: mask.clone() for name, mask in left.items()}
    for name, part in parts.items():
        found[name][left[name]] = part
        if len(part) and not bool(part.any()):
            log.warning("the mask leaves nothing of '%s'", name)
    return found


def magnitude_masks(
    module: GraphModule, share: Share, *, masks: Masks | None = None, scope: Scope = "global"
) -> Masks:
    """Masks without the share of smallest magnitude (Han et al., 2015); as ``prune``."""
    names = maskable(module) if masks is None else tuple(masks)
    sizes = {name: value.abs() for name, value in values_of(module, names).items()}
    return prune(sizes, share, masks=masks, scope=scope)


def random_masks(masks: Masks, seed: int) -> Masks:
    """Masks that keep as many weights of each layer, anywhere in it.

    The control for what the places are worth (Frankle and Carbin, 2019; Frankle et al., 2021).
    """
    draw = generator(seed)
    found = {}
    for name, mask in masks.items():
        order = torch.randperm(mask.numel(), generator=draw).to(mask.device)
        found[name] = mask.flatten()[order].reshape(mask.shape)
    return found


def counts(masks: Masks) -> dict[str, tuple[int, int]]:
    """Weights that stay and weights that there are, by initializer."""
    return {name: (int(mask.sum()), mask.numel()) for name, mask in masks.items()}


def density(masks: Masks) -> float:
    """Share of all weights under masks that stays."""
    found = counts(masks).values()
    return sum(kept for kept, _ in found) / sum(size for _, size in found)


def apply_masks(module: GraphModule, masks: Masks, held: State | None = None) -> None:
    """Sets what is masked to zero, or to what ``held`` has for it.

    Raises:
        UsageError: E251, a mask is not of this module.
    """
    with torch.no_grad():
        for name, mask in masks.items():
            if name not in module.places or module.tensor(name).shape != mask.shape:
                raise UsageError("E251", f"the mask '{name}' {list(mask.shape)} fits no weight")
            _set(module.tensor(name), ~mask, None if held is None else held[name])


class Masked(Hook):
    """Keeps masked weights where they are: at zero, or at given values.

    Their gradients are zero before each step, so that momentum gathers nothing, and what decay or
    other hooks do to them is undone after it.
    """

    def __init__(self, module: GraphModule, masks: Masks, held: State | None = None) -> None:
        """Masks the module at once; ``held``: initializer -> values for what is masked."""
        apply_masks(module, masks, held)
        self.gone = {name: ~mask for name, mask in masks.items()}
        self.held = held

    def before_step(self, module: GraphModule) -> None:
        """Takes the gradients of masked weights away."""
        for name, gone in self.gone.items():
            gradient = module.tensor(name).grad
            if gradient is not None:
                gradient.masked_fill_(gone, 0)

    def after_step(self, module: GraphModule, rate: float) -> None:
        """Puts masked weights back."""
        for name, gone in self.gone.items():
            _set(module.tensor(name), gone, None if self.held is None else self.held[name])


def _set(weight: Tensor, gone: Tensor, held: Tensor | None) -> None:
    if held is None:
        weight.masked_fill_(gone, 0)
    else:
        weight.copy_(torch.where(gone, held, weight))


def _survivors(scores: Tensor, share: float, draw: torch.Generator | None) -> Tensor:
    """Which of a list of scores are not among the lowest ``share``."""
    count = int(share * len(scores) + 1e-9)
    if draw is None:
        order = scores.argsort(stable=True)
    else:
        mixed = torch.randperm(len(scores), generator=draw).to(scores.device)
        order = mixed[scores[mixed].argsort(stable=True)]
    kept = torch.ones_like(scores, dtype=torch.bool)
    kept[order[:count]] = False
    return kept


def _of(share: Share, name: str) -> float:
    return share[name] if isinstance(share, Mapping) else share


def _check(scores: Mapping[str, Tensor], left: Masks, share: Share, scope: Scope) -> None:
    by_layer = isinstance(share, Mapping)
    shares = list(share.values()) if isinstance(share, Mapping) else [share]
    named = not isinstance(share, Mapping) or share.keys() == left.keys()
    if not named or (by_layer and scope == "global") or not all(0 <= s < 1 for s in shares):
        raise UsageError(
            "E212",
            f"a share of weights is 0 to below 1, or one for each layer: {share}",
            help="give one number, or scope='layer' and a number for every weight under masks",
        )
    for name, score in scores.items():
        if bool(score.isnan().any()):
            raise UsageError("E270", f"the scores of '{name}' are no numbers", help="train slower")
