"""The exact clean-up: constants settled, kernels cropped, dead channels swept, until it rests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prunecvt_passes.budget import Budget, Removal
from prunecvt_passes.carried import Sizes
from prunecvt_passes.flow import trace
from prunecvt_passes.graph import index
from prunecvt_passes.groups import Bools, Groups, solve
from prunecvt_passes.model import Model
from prunecvt_passes.normalise import Dense, Source, normalise
from prunecvt_passes.rules import RULES
from prunecvt_passes.shapes import infer
from prunecvt_passes.trim.constants import Dropped, absorb_sums, settle_constants
from prunecvt_passes.trim.kernels import KernelCut, trim_kernels
from prunecvt_passes.trim.sweep import Stayed, cut, find_dead
from prunecvt_passes.units import Units

_ROUNDS = 16  # each has to find something; nets settle in two or three


@dataclass(frozen=True)
class Cleaned:
    """What the clean-up did.

    Attributes:
        model: what is left.
        groups: labels and classes once constants were settled, before any channel went.
        removal: the classes of these that went.
        dropped: branches that always make the same, and are computed no more.
        kernels: kernels with borders of zeros.
        constant: channels (classes) that went and were constants other than zero.
        inexact: those among them that are off at padded borders.
        carried: those among them that another constant channel stands for.
        stayed: channels that are constant and stay, with the reason.
    """

    model: Model
    groups: Groups
    removal: Removal
    dropped: tuple[Dropped, ...] = ()
    kernels: tuple[KernelCut, ...] = ()
    constant: int = 0
    inexact: int = 0
    carried: int = 0
    stayed: tuple[Stayed, ...] = ()


def clean(
    dense: Dense,
    source: Source,
    budget: Budget,
    inexact: bool = False,
    made: frozenset[str] = frozenset(),
) -> Cleaned:
    """Removes what the outputs do not depend on.

    Args:
        dense: a model in normal form.
        source: where it came from: its name, and the sizes that were stated.
        budget: what of it may be cut, and the multiple that widths keep.
        inexact: whether constants may go that are read with zero padding.
        made: constants that stand for blocks that were dropped before.
    """
    dense, dropped, kernels = _settled(dense, source, made)
    first = groups = solve(trace(dense.graph, RULES, Units()))
    gone = np.zeros(groups.total, bool)
    reasons: dict[int, str] = {}
    counts = np.zeros(3, int)
    stayed: tuple[Stayed, ...] = ()
    for number in range(_ROUNDS):
        sweep = find_dead(groups, budget, inexact)
        stayed, reasons = sweep.stayed, reasons if number else sweep.removal.reasons
        if not sweep.removal.removed.any():
            break
        counts += (sweep.constant, sweep.inexact, sweep.carried)
        _note(first, gone, groups, sweep.removal.removed)
        dense, more, cropped = _settled(_again(cut(groups, sweep), source), source, frozenset())
        dropped, kernels = (*dropped, *more), (*kernels, *cropped)
        groups = solve(trace(dense.graph, RULES, Units()))
    left = {group: why for group, why in reasons.items() if not gone[_classes(first, group)].any()}
    removal = Removal(gone, left)
    constant, off, carried = map(int, counts)
    return Cleaned(
        dense.graph.model,
        first,
        removal,
        dropped,
        _merged(kernels),
        constant,
        off,
        carried,
        stayed,
    )


def _classes(groups: Groups, group: int) -> list[int]:
    found: list[int] = groups.groups[group].classes.tolist()
    return found


def _again(model: Model, source: Source) -> Dense:
    return normalise(Source(model, source.input_sizes))


def _settled(
    dense: Dense, source: Source, made: frozenset[str]
) -> tuple[Dense, tuple[Dropped, ...], tuple[KernelCut, ...]]:
    """The model without constant branches, with kernels cropped, in normal form again."""
    dropped: tuple[Dropped, ...] = ()
    model, found = settle_constants(dense.graph)
    while found:
        dropped, dense = (*dropped, *found), _again(model, source)
        model, found = settle_constants(dense.graph)
    ours = made | {each.constant for each in dropped}
    while ours and (model := absorb_sums(dense.graph, ours)) is not dense.graph.model:
        dense = _again(model, source)
    model, kernels = trim_kernels(dense.graph)
    if model is not dense.graph.model:
        dense = _again(model, source)
    return dense, dropped, kernels


def _note(first: Groups, gone: Bools, groups: Groups, removed: Bools) -> None:
    """Adds what went of a later graph to the classes of the first, by the tensors' channels."""
    producers = {p.tensor: p for p in first.channels.producers if p.labels is not None}
    earlier = gone.copy()
    for producer in groups.channels.producers:
        before = producers.get(producer.tensor)
        if producer.labels is None or before is None or before.labels is None:
            continue
        classes = first.class_of[before.labels]
        left = classes[~earlier[classes]]
        lost = removed[groups.class_of[producer.labels]]
        if left.size == lost.size:
            gone[left[lost]] = True


def _merged(kernels: tuple[KernelCut, ...]) -> tuple[KernelCut, ...]:
    """One entry per kernel: from its first size to its last."""
    found: dict[str, KernelCut] = {}
    for each in kernels:
        before = found[each.tensor].before if each.tensor in found else each.before
        found[each.tensor] = KernelCut(each.tensor, before, each.after, each.reason)
    return tuple(found.values())


def sized(model: Model, sizes: Sizes, batch: int) -> Dense:
    """A model that was edited in normal form, indexed with shapes."""
    shapes, found = infer(model, sizes)
    return Dense(index(model, shapes), found, batch)
