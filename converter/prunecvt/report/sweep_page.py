"""A sweep as one HTML page and as Markdown: what no other beats, and every point."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from urllib.parse import quote

from markupsafe import Markup

from prunecvt.options import Options
from prunecvt.report import wording
from prunecvt.report.front import corners, undominated
from prunecvt.report.html import environment, settings_rows
from prunecvt.report.markdown import code, escaped
from prunecvt.report.pareto import Axis, Dot, Picture, draw
from prunecvt.report.sweep import SweepPoint, SweepReport

MEASURES = {"top1": "top-1 accuracy", "agreement": "agreement", "cosine": "cosine"}
_BESIDE = {"agreement": " with the original", "cosine": " with the original"}
MOST_POINTS = 200
LEAST_SPAN = 0.01  # of an axis of quality: a sample or two are not worth a picture


def render_sweep_html(report: SweepReport) -> str:
    """Returns the whole page; the same report gives the same text."""
    template = environment().get_template("sweep.html.j2")
    defaults = json.loads(json.dumps(Options().settings()))
    usual = {k: v for k, v in report.settings.items() if k in defaults and v == defaults[k]}
    return template.render(
        report=report,
        headline=headline(report),
        measure=MEASURES.get(report.measure or "", "quality"),
        beside=_BESIDE.get(report.measure or "", ""),
        shown=report.shown,
        runtimes=runtimes(report),
        panels=[(name, panel(report, place)) for place, name in enumerate(runtimes(report))],
        best=[point for point in report.points if point.best],
        caveats=caveats(report),
        chosen=settings_rows({k: v for k, v in report.settings.items() if k not in usual}, {}),
        usual=settings_rows(usual, {}),
        link=link,
        MOST_POINTS=MOST_POINTS,
    )


def link(point: SweepPoint) -> str:
    """Where a point's report lies, beside the page: a relative address, safe in HTML."""
    stem = point.onnx.replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".onnx")
    return f"./{quote(stem, safe='', errors='replace')}.report.html"


def runtimes(report: SweepReport) -> list[str]:
    """What latencies were measured in, in the order of each point's rows."""
    return [wording.runtime(row) for row in report.points[0].latency] if report.points else []


def headline(report: SweepReport) -> str:
    """One sentence: what there is to choose from."""
    best = sorted((point for point in report.points if point.best), key=lambda each: each.ratio)
    number = wording.plural(len(report.points), "point")
    if not best:
        known = report.measure is not None
        said = "none is faster than the original" if known else "how good they are was not measured"
        if any(point.guesses for point in report.points):
            said = "none is faster than the original and better than guessing"
        return f"{number}: {said}."
    measure = MEASURES[report.measure or "cosine"]
    ends = [best[-1], best[0]] if len(best) > 1 else best
    said = "from " * (len(ends) > 1) + " to ".join(
        f"{speed(p.ratio)} at {report.shown(p.quality)} {measure}" for p in ends
    )
    told = report.measure == "top1" and report.original is not None
    given = f"; the original has {report.shown(report.original)}" if told else ""
    beats = "one that no other beats" if len(best) == 1 else f"{len(best)} that no other beats"
    return f"{number}, {beats}: {said}{given}."


def speed(ratio: float) -> str:
    """How fast a latency ratio is: ``1.85 times as fast``."""
    return f"{1 / max(ratio, 1e-9):.2f} times as fast"


def caveats(report: SweepReport) -> list[str]:
    """What to know before relying on the points."""
    found = []
    if report.measure is None:
        found.append("How good the points are was not measured: give --calib or --eval.")
    elif "random" in report.judged_on:
        found.append(f"Quality is of {report.judged_on}: it says little of data. Give --calib.")
    rows = [row for point in report.points for row in point.latency]
    if any(row.contended for row in rows):
        by_cpu = all(row.judged_by == "cpu" for row in rows)
        found.append(
            "The machine was busy: wall times cannot be trusted"
            + ("; the ratios here are of CPU time." if by_cpu else ".")
        )
    missed = [point.name for point in report.points if point.missed]
    if missed:
        found.append(f"Targets that were missed: {', '.join(missed)}.")
    return [*found, *report.shared_warnings]


def panel(report: SweepReport, place: int) -> Markup | None:
    """Latency in one runtime against quality; None where no point has a quality.

    The front is that runtime's; rings are around what is best in the slower of all runtimes.
    """
    points = [p for p in report.points if _drawable(report, p, place)]
    if not points:
        return None
    pairs = [(point.latency[place].ratio, point.quality or 0.0) for point in points]
    whole = [(1.0, report.original)] if report.original is not None else []
    front = undominated([*pairs, *whole])
    dots = [_dot(report, point, place, best) for point, best in zip(points, front, strict=False)]
    if report.original is not None:
        said = f"the original: {report.shown(report.original)}"
        dots.append(Dot("original", said, 1.0, report.original, "whole"))
    measure, share = MEASURES[report.measure or "cosine"], report.measure != "cosine"
    name = runtimes(report)[place]
    return draw(
        Picture(
            key=f"pareto-{place}",
            title=f"Latency in {name} against {measure}, {len(points)} points",
            across=Axis(f"latency over the original's, {name}"),
            up=Axis(measure, share, LEAST_SPAN),
            dots=dots,
            line=corners([*pairs, *whole]),
        )
    )


def _drawable(report: SweepReport, point: SweepPoint, place: int) -> bool:
    if point.quality is None or point.measure != report.measure or len(point.latency) <= place:
        return False
    return math.isfinite(point.quality) and math.isfinite(point.latency[place].ratio)


def _dot(report: SweepReport, point: SweepPoint, place: int, best: bool) -> Dot:
    row = point.latency[place]
    said = f"{point.name}: latency {wording.percent(row.ratio)}, {report.shown(point.quality)}"
    said += ", on the front" if best else ", beaten"
    return Dot(
        label=point.name,
        said=said,
        x=row.ratio,
        y=point.quality or 0.0,
        kind="front" if best else "beaten",
        ringed=point.best,
        spread=row.ratio_ci95,
    )


def sweep_markdown(report: SweepReport) -> str:
    """The headline and every point, as GitHub Markdown."""
    names = [name.split(",")[0] for name in runtimes(report)]
    heads = ["", "MACs left", *names, MEASURES.get(report.measure or "", "quality"), "best"]
    lines = [f"### prunecvt sweep: {code(report.model)}", "", headline(report), ""]
    lines += [_row(heads), _row([":--", *["--:"] * (len(heads) - 2), ":-:"])]
    for point in report.points:
        ratios = [f"{row.ratio:.3f}" for row in point.latency]
        name = code(point.name) + (" (missed)" if point.missed else "")
        cells = [wording.percent(point.macs), *ratios, report.shown(point.quality)]
        lines.append(_row([name, *cells, "yes" if point.best else ""]))
    lines += ["", "Latency is over the original's; below 1 is faster.", ""]
    notes = [*map(escaped, report.shared_warnings)]
    notes += [f"{code(names)}: {escaped(text)}" for names, text in report.own_warnings]
    return "\n".join([*lines, *(f"- {note}" for note in notes), *[""] * bool(notes)])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
