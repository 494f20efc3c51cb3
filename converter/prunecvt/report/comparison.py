"""Two reports against each other: what got better, and what worse.

Counts are exact. A latency, as a ratio to its own original so that machines matter less, is only
worse where the intervals of both do not meet and it moved by more than a tolerance; a share of
samples where Wilson's intervals do not meet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from prunecvt.evaluation.intervals import wilson
from prunecvt.report.schema import LatencyRow, Report
from prunecvt.report.wording import count, percent, runtime, size

Verdict = Literal["better", "worse", "same", "not comparable"]
TOLERANCE = 0.05  # of a latency


@dataclass(frozen=True)
class Difference:
    """One figure before and after, as people read it, and what that means."""

    name: str
    old: str
    new: str
    verdict: Verdict


def differences(old: Report, new: Report, tolerance: float = TOLERANCE) -> list[Difference]:
    """Every figure that either report has.

    Args:
        old, new: the reports.
        tolerance: share that a latency ratio may move by.
    """
    rows = []
    for name, form in (("params", count), ("macs", count), ("bytes", size)):
        before, after = (getattr(report.totals, name).after for report in (old, new))
        title = {"params": "parameters", "macs": "MACs", "bytes": "ONNX file"}[name]
        rows.append(Difference(title, form(before), form(after), _fewer(before, after)))
    rows += _latencies(old, new, tolerance)
    rows += _shares(old, new)
    was, are = (sum(not gate.passed for gate in report.gates) for report in (old, new))
    if old.gates or new.gates:
        rows.append(Difference("gates missed", str(was), str(are), _fewer(was, are)))
    return rows


def _latencies(old: Report, new: Report, tolerance: float) -> Iterator[Difference]:
    tables = [{runtime(row): row for row in report.latency} for report in (old, new)]
    for name in dict.fromkeys([*tables[0], *tables[1]]):
        pair = [table.get(name) for table in tables]
        shown = [f"{row.ratio:.3f}" if row else "-" for row in pair]
        verdict: Verdict = "not comparable"
        if pair[0] is not None and pair[1] is not None:
            verdict = _moved(pair[0], pair[1], tolerance)
        yield Difference(f"latency ratio, {name}", shown[0], shown[1], verdict)


def _moved(old: LatencyRow, new: LatencyRow, tolerance: float) -> Verdict:
    apart = new.ratio_ci95[0] > old.ratio_ci95[1] or new.ratio_ci95[1] < old.ratio_ci95[0]
    if not apart or abs(new.ratio / old.ratio - 1) <= tolerance:
        return "same"
    return "worse" if new.ratio > old.ratio else "better"


def _shares(old: Report, new: Report) -> Iterator[Difference]:
    for name, found in (("agreement", _agreement), ("top-1 accuracy", _top1)):
        pair = [found(report) for report in (old, new)]
        if pair == [None, None]:
            continue
        shown = [percent(each[0], 2) if each else "-" for each in pair]
        verdict: Verdict = "not comparable"
        if pair[0] is not None and pair[1] is not None:
            (was, is_), spans = (pair[0][0], pair[1][0]), [wilson(*each) for each in pair if each]
            apart = spans[1][1] < spans[0][0] or spans[1][0] > spans[0][1]
            verdict = "same" if not apart else ("worse" if is_ < was else "better")
        yield Difference(name, shown[0], shown[1], verdict)


def _agreement(report: Report) -> tuple[float, int] | None:
    """Share and samples; of random inputs it says nothing."""
    fidelity = report.verify.fidelity if report.verify is not None else None
    if fidelity is None or fidelity.top1_agree is None or fidelity.data == "random":
        return None
    return fidelity.top1_agree, fidelity.samples


def _top1(report: Report) -> tuple[float, int] | None:
    found = report.accuracy
    return None if found is None else (found.top1.after, found.samples)


def _fewer(old: float, new: float) -> Verdict:
    if old == new:
        return "same"
    return "better" if new < old else "worse"
