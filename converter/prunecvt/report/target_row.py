"""A measured target in the report."""

from __future__ import annotations

from prunecvt.options import Options
from prunecvt.report.schema import ProbeRow, TargetRow
from prunecvt.runtimes.backends import JUDGES
from prunecvt_passes.seek import Probe, Probed


def target_row(probed: Probed | None, options: Options) -> TargetRow | None:
    """The trials and what was taken; None where nothing had to be measured."""
    target = options.budget.target
    if probed is None or target is None:
        return None
    speed = options.target.startswith("speedup")

    def value(probe: Probe) -> float:
        return 1 / max(probe.value, 1e-9) if speed else probe.value

    timed = target.currency == "latency"
    return TargetRow(
        text=options.target,
        judge=list(JUDGES[options.judge]) if timed else ["held-out data"],
        value=value(probed.best),
        met=probed.met,
        probes=[ProbeRow(macs=probe.macs, value=value(probe)) for probe in probed.probes],
    )
