"""Supermasks: which weights to mask by where they began and ended, and what to set both to.

Zhou, Lan, Liu and Yosinski (2019, "Deconstructing lottery tickets: zeros, signs, and the
supermask"). Scores follow from a weight's initial and final value; masks take a share of each
layer. Then weights that stay (mask 1) and those that do not (mask 0) are set by an action each. A
mask that makes the untrained net far better than chance is called a supermask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from prunecvt.bridge.methods.masks import Masks, Share, prune
from prunecvt.bridge.methods.training import State, generator
from prunecvt.errors import UsageError

Criterion = Literal[
    "large_final",
    "small_final",
    "large_init",
    "small_init",
    "large_init_large_final",
    "small_init_small_final",
    "magnitude_increase",
    "movement",
    "random",
]
Signs = Literal["any", "same", "different"]
Kept = Literal["rewind", "reinitialise", "reshuffle", "constant"]
Gone = Literal["zero", "initial", "zero_if_shrunk"]
Sign = Literal["initial", "random", "flipped"]
_APART = 1_000_000_007  # keeps draws apart from those of initial weights of the same seed


def _ranks(values: Tensor) -> Tensor:
    """The place of each value among all of its layer: percentiles of both times then compare."""
    order = values.flatten().argsort(stable=True)
    ranks = torch.empty_like(order)
    ranks[order] = torch.arange(len(order), device=order.device)
    return ranks.reshape(values.shape).to(values.dtype)


_SCORES: dict[Criterion, Callable[[Tensor, Tensor], Tensor]] = {
    "large_final": lambda first, last: last.abs(),
    "small_final": lambda first, last: -last.abs(),
    "large_init": lambda first, last: first.abs(),
    "small_init": lambda first, last: -first.abs(),
    "large_init_large_final": lambda first, last: torch.minimum(
        _ranks(first.abs()), _ranks(last.abs())
    ),
    "small_init_small_final": lambda first, last: (
        -torch.maximum(_ranks(first.abs()), _ranks(last.abs()))
    ),
    "magnitude_increase": lambda first, last: last.abs() - first.abs(),
    "movement": lambda first, last: (last - first).abs(),
    "random": lambda first, last: torch.zeros_like(last),
}


def scores(
    criterion: Criterion, initial: State, final: State, signs: Signs = "any"
) -> dict[str, Tensor]:
    """One number per weight: higher ones stay.

    ``large_init_large_final`` is the smaller of both magnitudes, with percentiles aligned by ranks
    within the layer (the paper scales one of them). Under ``signs`` ``same`` (or ``different``),
    weights whose sign changed (or did not) go before all others, in any order; for the paper's
    large_final this is its max(0, w_i w_f / |w_i|).

    Args:
        criterion: a name of ``Criterion``; ``random`` leaves all to ``prune``'s seed.
        initial, final: initializer -> values before and after training.
        signs: whose may stay.

    Raises:
        UsageError: E210, no such criterion.
    """
    if criterion not in _SCORES:
        raise UsageError("E210", f"no such criterion: {criterion}", help=", ".join(_SCORES))
    found = {}
    for name, last in final.items():
        score = _SCORES[criterion](initial[name], last)
        if signs != "any":
            same = initial[name] * last > 0
            score = score.masked_fill(~same if signs == "same" else same, -torch.inf)
        found[name] = score
    return found


def supermask(
    criterion: Criterion,
    initial: State,
    final: State,
    share: Share,
    *,
    signs: Signs = "any",
    seed: int = 0,
) -> Masks:
    """Masks without the share of lowest scores of each layer; equal scores go at random."""
    found = scores(criterion, initial, final, signs)
    return prune(found, share, scope="layer", seed=seed)


def treated(
    masks: Masks,
    initial: State,
    final: State,
    *,
    kept: Kept = "rewind",
    sign: Sign = "initial",
    gone: Gone = "zero",
    seed: int = 0,
) -> State:
    """New values for all weights under masks.

    Args:
        masks: of ``supermask``.
        initial, final: as ``scores``.
        kept: mask 1: ``rewind`` to the initial value, ``reinitialise`` from a normal distribution
            of the layer's initial deviation, ``reshuffle`` the initial values that stay in the
            layer, or a ``constant``, that deviation, for all.
        sign: mask 1: that of the initial value, one at random, or the opposite.
        gone: mask 0: ``zero``, the ``initial`` value (frozen there by ``Masked``'s ``held``), or
            ``zero_if_shrunk``: zero where the magnitude fell in training, else the initial value.
        seed: of what is random.

    Raises:
        UsageError: E273, an action is unknown.
    """
    for value, known in ((kept, Kept), (gone, Gone), (sign, Sign)):
        if value not in get_args(known):
            known_names = ", ".join(get_args(known))
            raise UsageError("E273", f"no such action on masked weights: {value}", help=known_names)
    draw = generator(seed + _APART)
    found = {}
    for name, mask in masks.items():
        first = initial[name]
        stays = _signed(_magnitudes(first, mask, kept, draw), first, sign, draw)
        found[name] = torch.where(mask, stays, _left(first, final[name], gone))
    return found


def _magnitudes(first: Tensor, mask: Tensor, kept: Kept, draw: torch.Generator) -> Tensor:
    if kept == "reinitialise":
        drawn = torch.randn(first.shape, generator=draw).to(first)
        return (drawn * first.std(correction=0)).abs()
    if kept == "constant":
        return first.std(correction=0).expand_as(first)
    found = first.abs()
    if kept == "reshuffle":
        values = found[mask]
        order = torch.randperm(len(values), generator=draw).to(values.device)
        found[mask] = values[order]
    return found


def _signed(sizes: Tensor, first: Tensor, sign: Sign, draw: torch.Generator) -> Tensor:
    if sign == "random":
        signs = (torch.randint(2, first.shape, generator=draw) * 2 - 1).to(first)
    else:
        signs = first.sign() if sign == "initial" else -first.sign()
    return sizes * signs


def _left(first: Tensor, last: Tensor, gone: Gone) -> Tensor:
    if gone == "zero":
        return torch.zeros_like(first)
    if gone == "initial":
        return first
    return torch.where(last.abs() < first.abs(), torch.zeros_like(first), first)


def layer_shares(names: tuple[str, ...], rate: float, rounds: int = 1) -> dict[str, float]:
    """What is gone of each layer after rounds at a rate, and at half of it for the last layer.

    As the fully connected nets of the paper were pruned, and of Frankle and Carbin (2019).
    """
    found = dict.fromkeys(names, 1 - (1 - rate) ** rounds)
    found.update(dict.fromkeys(names[-1:], 1 - (1 - rate / 2) ** rounds))
    return found
