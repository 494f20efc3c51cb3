"""The pass that takes channels where they cost least error: under a ratio or a target.

Scores of a cumulative criterion (``obs``, ``thinet``, ``lasso``) are errors already, and are the
curves; those of any other are added up in the order of the channels.
"""

from __future__ import annotations

import math

import numpy as np

from prunecvt_passes.choose import (
    Budget,
    Removal,
    check,
    floor_of,
    is_open,
    step_of,
    without_empty,
)
from prunecvt_passes.cost import cost, parameters
from prunecvt_passes.errors import UsageError
from prunecvt_passes.fold import fold_batch_norms
from prunecvt_passes.graph import index
from prunecvt_passes.groups import Bools, Group, Groups
from prunecvt_passes.model import Model
from prunecvt_passes.normalise import Dense
from prunecvt_passes.recovery.curve import Curve
from prunecvt_passes.recovery.prices import Prices, prices
from prunecvt_passes.recovery.spend import Offer, spend
from prunecvt_passes.score import Scores
from prunecvt_passes.shapes import infer
from prunecvt_passes.slice import remove
from prunecvt_passes.target import Target

_ATTEMPTS = 8


def allocate(dense: Dense, groups: Groups, scores: Scores, budget: Budget) -> Removal:
    """Turns scores into a removal whose error is small for what it saves.

    Raises:
        UsageError: E212, E213 as ``choose``; E217, a target that cannot be reached.
    """
    check(groups, budget)
    reasons: dict[int, str] = {}
    open_groups = [g for g in groups.groups if is_open(groups, g, budget, reasons)]
    if budget.target is None:
        cost_of = prices(groups, "channels")
        ratio = math.floor(budget.ratio * sum(g.size for g in open_groups) + 1e-9)
        goal = cost_of.total(cost_of.sizes) - ratio
        removed = _removed(groups, open_groups, scores, budget, cost_of, goal)
    else:
        removed = _reached(dense, groups, open_groups, scores, budget)
    for group in open_groups:
        if not removed[group.classes].any():
            reasons[group.id] = _why_whole(group, budget)
    return Removal(removed, reasons)


def amount(dense: Dense, model: Model, currency: str, folded: bool) -> float:
    """What a model really costs, in the currency of a target; bytes are those of its file."""
    if currency == "macs":
        return cost(index(model, infer(model, dense.sizes)[0]), dense.batch).macs
    if folded:
        model = fold_batch_norms(model)
    if currency == "params":
        return parameters(model)
    return model.to_proto().ByteSize() if model.nbytes < 2**30 else model.nbytes * 1.001


def _reached(
    dense: Dense, groups: Groups, open_groups: list[Group], scores: Scores, budget: Budget
) -> Bools:
    """The removal that leaves most of the model and no more than the target.

    Prices are exact for what runs once over whole axes; elsewhere, and where folding takes
    parameters away too, the real cost of the cut says how far they are off, and it is cut anew.
    """
    target = budget.target or Target("macs", 1.0)
    whole = amount(dense, dense.graph.model, target.currency, False)
    goal, model_of = target.goal(whole), prices(groups, target.currency)
    wanted = goal * model_of.total(model_of.sizes) / max(whole, 1)
    best: tuple[float, Bools] | None = None
    real = 0.0
    for attempt in range(_ATTEMPTS):
        last = attempt == _ATTEMPTS - 1 and best is None
        removed = _removed(groups, open_groups, scores, budget, model_of, 0 if last else wanted)
        real = amount(dense, remove(groups, Removal(removed, {})), target.currency, budget.fold)
        if real <= goal and best is not None and real <= best[0]:
            break
        if real <= goal:
            best = real, removed
        wanted *= goal / max(real, 1) * (1 if real <= goal else 1 - 1e-4 * 4**attempt)
    if best is None:
        raise _out_of_reach(target, whole, real)
    return best[1]


def _out_of_reach(target: Target, whole: float, real: float) -> UsageError:
    left = f"{real:.0f}" if target.absolute else f"{real / max(whole, 1):.3f}"
    return UsageError(
        "E217",
        f"--target {target.currency}={target.amount:g} cannot be reached",
        where=f"with all that may go, {target.currency}={left} is left",
        help="ask for less, raise --max-ratio-per-layer, or lower --round-to and --min-channels",
    )


def _removed(
    groups: Groups,
    open_groups: list[Group],
    scores: Scores,
    budget: Budget,
    model_of: Prices,
    goal: float,
) -> Bools:
    """Spends; a channel that is the last of a tensor is kept, and it is spent anew without it."""
    protected = np.zeros(groups.total, bool)
    while True:
        offers = {g.id: _offer(g, scores, budget, protected) for g in open_groups}
        removed = np.zeros(groups.total, bool)
        for group, count in spend(offers, model_of, goal).items():
            classes = groups.groups[group].classes
            removed[classes[offers[group].curve.order[:count]]] = True
        back = removed & ~without_empty(groups, scores, removed)
        if not back.any():
            return removed
        protected |= back


def _offer(group: Group, scores: Scores, budget: Budget, protected: Bools) -> Offer:
    """A group's curve, and the counts that its floor and its step allow."""
    values = scores.values[group.classes]
    stays = protected[group.classes]
    order = np.lexsort((values, stays))
    errors = values[order] if scores.cumulative else np.cumsum(values[order])
    step, floor = step_of(group, budget.round_to), floor_of(group, budget)
    most = min(group.size - floor, group.size - int(stays.sum()))
    counts = np.arange(most + 1)
    counts = counts[(counts == 0) | ((group.size - counts) % step == 0)]
    return Offer(Curve(order, np.concatenate([[0.0], np.maximum.accumulate(errors)])), counts)


def _why_whole(group: Group, budget: Budget) -> str:
    floor, step = floor_of(group, budget), step_of(group, budget.round_to)
    if floor == group.size:
        return f"it has {group.size} channels, and {floor} must stay"
    if group.size - floor < (group.size % step or step):
        return f"no width below {group.size} is a multiple of {step} and leaves {floor}"
    return "what its channels save is dearer than what others' do"
