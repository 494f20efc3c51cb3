"""What came of a sweep: its points, and which of them no other beats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from prunecvt.report.findings import guesses, point_findings
from prunecvt.report.front import undominated
from prunecvt.report.latency_rows import LatencyRow
from prunecvt.report.record import Record
from prunecvt.report.schema import Environment, Report, Run, Tool
from prunecvt.report.wording import UNKNOWN, percent, plural, samples

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
        guesses: whether it is right no more often than by guessing, unlike the original.
        warnings: what to know before relying on it.
        best: whether no point, and not the original, is at least as fast and as good, and better in
            one; never where it guesses.
    """

    name: str
    onnx: str
    macs: float
    params: float
    latency: list[LatencyRow]
    quality: float | None
    measure: Quality | None
    missed: bool = False
    guesses: bool = False
    warnings: list[str] = Field(default_factory=list)
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
            guesses=guesses(report),
            warnings=list(dict.fromkeys([*point_findings(report), *report.warnings])),
        )

    @property
    def ratio(self) -> float:
        """Latency over the original's, in the slower runtime."""
        return max((row.ratio for row in self.latency), default=1.0)


class SweepReport(Record):
    """All points, in the order they were stated; what is not known of an older one is left out.

    Attributes:
        model, sha256: the original's file.
        settings: what all points share.
        original: the original's quality, by the points' measure.
        judged_on: what the quality was measured on.
    """

    schema_version: Literal[1] = 1
    tool: Tool | None = None
    run: Run | None = None
    env: Environment | None = None
    model: str
    sha256: str
    settings: dict[str, Any] = Field(default_factory=dict)
    original: float | None = None
    judged_on: str = ""
    points: list[SweepPoint] = Field(min_length=1)

    @property
    def measure(self) -> Quality | None:
        """What quality is here; None where no point has any."""
        return next((point.measure for point in self.points if point.measure), None)

    @property
    def shared_warnings(self) -> list[str]:
        """What holds of every point."""
        every = (set(point.warnings) for point in self.points)
        shared = set.intersection(*every)
        return [text for text in self.points[0].warnings if text in shared]

    @property
    def own_warnings(self) -> list[tuple[str, str]]:
        """What holds of some points only, each text once: the points' names, and the text."""
        shared, names = set(self.shared_warnings), dict[str, list[str]]()
        for point in self.points:
            for text in point.warnings:
                if text not in shared:
                    names.setdefault(text, []).append(point.name)
        return [(", ".join(of), text) for text, of in names.items()]

    def shown(self, value: float | None) -> str:
        """A quality as people read it: a share in per cent, or a cosine."""
        if value is None:
            return UNKNOWN
        return f"{value:.5f}" if self.measure == "cosine" else percent(value, 2)


def _quality(report: Report) -> tuple[float | None, Quality | None]:
    if report.accuracy is not None:
        return report.accuracy.top1.after, "top1"
    fidelity = report.verify.fidelity if report.verify is not None else None
    if fidelity is None:
        return None, None
    if fidelity.top1_agree is not None and fidelity.data != "random":
        return fidelity.top1_agree, "agreement"
    return fidelity.cosine, "cosine"


def original_of(reports: Sequence[Report]) -> tuple[float | None, str]:
    """The original's quality, and what quality was measured on; None and "" where it was not."""
    for report in reports:
        if report.accuracy is not None:
            accuracy = report.accuracy
            number = plural(accuracy.samples, "labelled sample")
            return accuracy.top1.before, f"{number} of {accuracy.data}"
        if report.verify is not None and report.verify.fidelity is not None:
            return 1.0, samples(report.verify.fidelity)
    return None, ""


def marked(points: Sequence[SweepPoint], original: float | None = None) -> list[SweepPoint]:
    """The points, with those marked that no other beats.

    Args:
        points: the points.
        original: the original's quality; it beats what is no faster and no better.
    """
    known = [point for point in points if point.quality is not None and not point.guesses]
    pairs = [(point.ratio, point.quality or 0.0) for point in known]
    pairs += [(1.0, original)] if original is not None else []
    names = {p.name for p, best in zip(known, undominated(pairs), strict=False) if best}
    return [point.model_copy(update={"best": point.name in names}) for point in points]
