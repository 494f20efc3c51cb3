"""The trials for a measured target as a picture: what is left, against what was reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from prunecvt.report.pareto import Axis, Dot, Picture, draw
from prunecvt.report.schema import ProbeRow, Report, TargetRow
from prunecvt.report.wording import percent, significant, target_line
from prunecvt_passes.errors import UsageError
from prunecvt_passes.seek import MISSED
from prunecvt_passes.target import parse_target


@dataclass(frozen=True)
class TrialsPicture:
    """The picture and what is said around it.

    Attributes:
        drawing: the picture.
        measured: what was measured, with its unit.
        taken: the trial that was taken, counted from 0.
        goal: whether the picture shows what is wanted.
        whole: whether it shows the original.
        recovered: whether what was taken was recovered further, so that its value is another.
    """

    drawing: Markup
    measured: str
    taken: int
    goal: bool
    whole: bool
    recovered: bool


def picture(report: Report) -> TrialsPicture | None:
    """The picture of a report; None where nothing was tried out."""
    row = report.target
    if row is None or not row.probes:
        return None
    taken = row.taken if row.taken is not None else _nearest(row, report.totals.macs.ratio)
    goal, measured, share = _goal(row)
    dots = [_dot(row, place, goal, place == taken) for place in range(len(row.probes))]
    whole = measured != "milliseconds"
    if whole:
        dots.append(Dot("original", "the original", 1.0, 1.0, "whole"))
    drawing = draw(
        Picture(
            key="trials",
            title=f"Trials for a target: {target_line(row)}",
            across=Axis("MACs left"),
            up=Axis(measured, share),
            dots=dots,
            goal=goal,
        )
    )
    recovered = measured == "agreement" and abs(row.probes[taken].value - row.value) > 1e-9
    return TrialsPicture(drawing, measured, taken, goal is not None, whole, recovered)


def _nearest(row: TargetRow, left: float) -> int:
    """The trial that left about what the model has, for reports that do not say which it was."""
    return min(range(len(row.probes)), key=lambda place: abs(row.probes[place].macs - left))


def _goal(row: TargetRow) -> tuple[float | None, str, bool]:
    """What is wanted as values are written, what was measured, and whether that is a share."""
    try:
        target = parse_target(row.text)
    except UsageError:  # of a report that another version wrote
        return None, "measured", False
    if row.text.startswith("speedup"):
        return 1 / target.amount, "speed-up", False
    if target.absolute:
        return target.amount, "milliseconds", False
    name = "agreement" if target.currency == "agreement" else "latency over the original's"
    return target.amount, name, True


def _dot(row: TargetRow, place: int, goal: float | None, taken: bool) -> Dot:
    probe = row.probes[place]
    reached = goal is not None and _reaches(row, probe, goal)
    said = f"trial {place + 1}: MACs left {percent(probe.macs)}, {significant(probe.value, 4)}"
    said += f", {'reaches' if reached else 'misses'} the target" if goal is not None else ""
    said += ", taken" if taken else ""
    kind: Literal["front", "beaten"] = "front" if reached else "beaten"
    return Dot(f"trial {place + 1}", said, probe.macs, probe.value, kind, taken)


def _reaches(row: TargetRow, probe: ProbeRow, goal: float) -> bool:
    """Whether a trial is met as the search says: a latency within what can be told."""
    if row.text.startswith("agreement"):
        return probe.value >= goal
    if row.text.startswith("speedup"):
        return probe.value * (1 + MISSED) >= goal
    return probe.value <= goal * (1 + MISSED)
