"""Meeting a target: the cut that leaves most of the model and no more than is allowed."""

from __future__ import annotations

from collections.abc import Callable

from prunecvt_passes.budget import Removal
from prunecvt_passes.cost import cost, parameters
from prunecvt_passes.errors import UsageError
from prunecvt_passes.fold import fold_batch_norms
from prunecvt_passes.graph import index
from prunecvt_passes.groups import Bools, Groups
from prunecvt_passes.model import Model
from prunecvt_passes.normalise import Dense
from prunecvt_passes.recovery.prices import Prices, prices
from prunecvt_passes.shapes import infer
from prunecvt_passes.slice import remove
from prunecvt_passes.target import Target

_ATTEMPTS = 8


def amount(dense: Dense, model: Model, currency: str, folded: bool) -> float:
    """What a model really costs, in the currency of a target; bytes are those of its file."""
    if currency == "macs":
        return cost(index(model, infer(model, dense.sizes)[0]), dense.batch).macs
    if folded:
        model = fold_batch_norms(model)
    if currency == "params":
        return parameters(model)
    return model.to_proto().ByteSize() if model.nbytes < 2**30 else model.nbytes * 1.001


def reached(
    dense: Dense,
    groups: Groups,
    target: Target,
    fold: bool,
    removed_for: Callable[[Prices, float], Bools],
) -> Bools:
    """The removal that leaves most of the model and no more than the target.

    Prices are exact for what runs once over whole axes; elsewhere, and where folding takes
    parameters away too, the real cost of the cut says how far they are off, and it is cut anew.

    Args:
        dense, groups: the original and its groups.
        target: what may be left.
        fold: whether BatchNormalization will be folded.
        removed_for: what goes so that at most so much is left by these prices.

    Raises:
        UsageError: E217, the target cannot be reached.
    """
    whole = amount(dense, dense.graph.model, target.currency, False)
    goal, model_of = target.goal(whole), prices(groups, target.counted)
    wanted = goal * model_of.total(model_of.sizes) / max(whole, 1)
    best: tuple[float, Bools] | None = None
    real = 0.0
    for attempt in range(_ATTEMPTS):
        last = attempt == _ATTEMPTS - 1 and best is None
        removed = removed_for(model_of, 0 if last else wanted)
        real = amount(dense, remove(groups, Removal(removed, {})), target.currency, fold)
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
