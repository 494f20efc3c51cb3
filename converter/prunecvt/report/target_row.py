"""A measured target in the report."""

from __future__ import annotations

import numpy as np

from prunecvt.options import Options
from prunecvt.report.schema import ProbeRow, TargetRow
from prunecvt.runtimes.backends import JUDGES
from prunecvt_passes.recovery.recover import Recovery
from prunecvt_passes.seek import Probe, Probed


def target_row(
    probed: Probed | None, recovery: Recovery | None, options: Options
) -> TargetRow | None:
    """The trials and what was taken; None where nothing had to be measured.

    An agreement is that of the model as it was recovered in the end.
    """
    target = options.budget.target
    if probed is None or target is None:
        return None
    speed = options.target.startswith("speedup")

    def value(probe: Probe) -> float:
        return 1 / max(probe.value, 1e-9) if speed else probe.value

    timed, found, met = target.currency == "latency", value(probed.best), probed.met
    if not timed and recovery is not None and recovery.after is not None:
        found = recovery.after.agreement or 0.0
        met = found >= target.amount
    return TargetRow(
        text=options.target,
        judge=list(JUDGES[options.judge]) if timed else ["held-out data"],
        value=found,
        met=met,
        taken=_place(probed),
        probes=[ProbeRow(macs=probe.macs, value=value(probe)) for probe in probed.probes],
    )


def _place(probed: Probed) -> int | None:
    """Which trial was taken; one that was recovered further is told by what it removes."""
    taken = probed.best.removal.removed
    alike = (np.array_equal(taken, probe.removal.removed) for probe in probed.probes)
    return next((place for place, same in enumerate(alike) if same), None)
