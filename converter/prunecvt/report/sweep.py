"""What came of a sweep: its points, and which of them no other beats."""

from __future__ import annotations

from typing import Literal

from prunecvt.report.latency_rows import LatencyRow
from prunecvt.report.record import Record
from prunecvt.report.schema import Report

Quality = Literal["top1", "agreement", "cosine"]


class SweepPoint(Record):
    """One slimmed model.

    Attributes:
        name: the amount, ``ratio=0.3`` or a target.
        onnx: its file.
        macs, params: shares that are left.
        latency: against the original; one row per runtime.
        quality: top-1 where labels were given, else agreement, else the cosine with the original.
        measure: which of these it is.
        missed: whether its target was.
        best: whether no point is at least as fast and as good, and better in one.
    """

    name: str
    onnx: str
    macs: float
    params: float
    latency: list[LatencyRow]
    quality: float | None
    measure: Quality | None
    missed: bool = False
    best: bool = False

    @staticmethod
    def of(name: str, onnx: str, report: Report, latency: list[LatencyRow]) -> SweepPoint:
        """The point of a report."""
        quality, measure = _quality(report)
        return SweepPoint(
            name=name,
            onnx=onnx,
            macs=report.totals.macs.ratio,
            params=report.totals.params.ratio,
            latency=latency,
            quality=quality,
            measure=measure,
            missed=report.target is not None and not report.target.met,
        )

    @property
    def ratio(self) -> float:
        """Latency over the original's, in the slower runtime."""
        return max((row.ratio for row in self.latency), default=1.0)


class SweepReport(Record):
    """All points, in the order they were stated."""

    schema_version: Literal[1] = 1
    model: str
    sha256: str
    points: list[SweepPoint]


def _quality(report: Report) -> tuple[float | None, Quality | None]:
    if report.accuracy is not None:
        return report.accuracy.top1.after, "top1"
    fidelity = report.verify.fidelity if report.verify is not None else None
    if fidelity is None:
        return None, None
    if fidelity.top1_agree is not None and fidelity.data != "random":
        return fidelity.top1_agree, "agreement"
    return fidelity.cosine, "cosine"


def marked(model: str, sha256: str, points: list[SweepPoint]) -> SweepReport:
    """The report, with the points marked that no other beats."""

    def beaten(point: SweepPoint) -> bool:
        if point.quality is None:
            return True
        for other in points:
            if other.quality is None or other is point:
                continue
            as_good = other.ratio <= point.ratio and other.quality >= point.quality
            if as_good and (other.ratio < point.ratio or other.quality > point.quality):
                return True
        return False

    best = [point.model_copy(update={"best": not beaten(point)}) for point in points]
    return SweepReport(model=model, sha256=sha256, points=best)
