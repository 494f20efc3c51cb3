"""Training from scratch of what pruning left (Liu et al., 2019).

"Rethinking the value of network pruning" holds fine-tuned weights against the same slim network
trained from new weights (``prunecvt slim --reinit``, ``prunecvt.reinit.redraw``): Scratch-E for as
many epochs as the large network had, Scratch-B for as much computation, but at most twice the
epochs.
"""

from __future__ import annotations

from dataclasses import replace

from prunecvt.bridge.methods.fit import Schedule
from prunecvt.errors import UsageError

MOST = 2.0  # times the epochs: savings beyond it are not spent (section 3 of the paper)


def same_computation(schedule: Schedule, before: float, after: float) -> Schedule:
    """The schedule of Scratch-B: longer by what the slim network saves, at most twice as long.

    Args:
        schedule: that of the large network, and of Scratch-E.
        before, after: multiply-accumulates of the large and of the slim network, for one input.

    Raises:
        UsageError: E258, a network has no multiply-accumulates, or the slim one more than the
            large one.
    """
    if not 0 < after <= before:
        raise UsageError(
            "E258",
            f"{after:,.0f} multiply-accumulates are no slim form of {before:,.0f}",
            help="give report.totals.macs.before and .after",
        )
    longer = min(before / after, MOST)
    return replace(
        schedule,
        steps=round(schedule.steps * longer),
        warmup=round(schedule.warmup * longer),
    )
