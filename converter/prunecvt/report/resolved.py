"""What settings that were left open came to."""

from __future__ import annotations

from prunecvt.options import Options
from prunecvt.slimming import Slimmed
from prunecvt_passes.budget import STEP


def resolved(slimmed: Slimmed, options: Options) -> dict[str, str]:
    """What every setting that was left at ``auto`` came to; a replayed plan leaves few."""
    found = {}
    if slimmed.scores is not None:
        found["criterion"] = slimmed.scores.criterion
        found["scope"] = "global" if options.threshold is not None else options.budget.way
        found["round_to"] = str(STEP)
    if slimmed.recovery is not None:
        found["recover"] = slimmed.recovery.method
    return {name: value for name, value in found.items() if getattr(options, name) == "auto"}
