"""The report as one HTML page that needs nothing but itself: no script, no font, no other file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from prunecvt.report import svg, wording
from prunecvt.report.curves import smalls
from prunecvt.report.findings import findings
from prunecvt.report.schema import LatencyRow, Report
from prunecvt.report.target_picture import picture
from prunecvt.report.trim_rows import trim_lines
from prunecvt.report.tune_rows import tune_lines

NAME_LENGTH = 44
MEMBER_LENGTH = 44
GROUPS_AT_ONCE = 40
CURVES_AT_ONCE = 24
MOST_CURVES = 48
NOTES_AT_ONCE = 14
MOST_GROUPS = 240
MOST_PLACES = 24
MOST_CAUSES = 20
MOST_SETTING = 240
MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"


def render_html(report: Report) -> str:
    """Returns the whole page; the same report gives the same text."""
    template = environment().get_template("report.html.j2")
    return template.render(
        report=report,
        findings=findings(report),
        warnings=wording.counted(report.warnings),
        headline=_headline(report),
        fidelity=report.verify.fidelity if report.verify is not None else None,
        checks=wording.checks(report.verify),
        trim_lines=trim_lines(report.trim),
        tune_lines=tune_lines(report.tune),
        pinned=wording.causes_pinned(report.skipped),
        whole=wording.causes_whole(report.groups),
        settings=settings_rows(report.settings, report.resolved),
        trials=picture(report),
        curves=smalls(report.groups),
        GROUPS_AT_ONCE=GROUPS_AT_ONCE,
        CURVES_AT_ONCE=CURVES_AT_ONCE,
        MOST_CURVES=MOST_CURVES,
        MOST_GROUPS=MOST_GROUPS,
        MOST_PLACES=MOST_PLACES,
        NOTES_AT_ONCE=NOTES_AT_ONCE,
        MOST_CAUSES=MOST_CAUSES,
    )


@cache
def environment() -> Environment:
    """Where templates come from, with the filters and pictures that they use."""
    made = Environment(
        loader=PackageLoader("prunecvt.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(svg=svg, wording=wording)
    made.filters.update(
        member=lambda group: wording.member(group, MEMBER_LENGTH),
        breakable=_breakable,
        tensor=lambda text: wording.shorten(text, NAME_LENGTH),
        name=lambda text, limit=NAME_LENGTH: wording.shorten(text, limit),
        base=lambda path: path.replace("\\", "/").rsplit("/", 1)[-1],
        fine=_fine,
        count=wording.count,
        size=wording.size,
        milliseconds=wording.milliseconds,
        significant=wording.significant,
        percent=wording.percent,
    )
    return made


_SEPARATOR = re.compile(r"(?<=[/._:])(?=\w)")
_SIGN = re.compile(r"(?<![A-Za-df-z])-(?=\d)")  # of a number or its exponent, not of top-1 or ->


def _fine(text: str) -> str:
    """Gives a text of numbers its true minus signs."""
    return _SIGN.sub(MINUS, text) if text != wording.UNKNOWN else DASH


def _breakable(name: str) -> Markup:
    """A name that lines may break behind its separators, and not inside its words."""
    return Markup(_SEPARATOR.sub("<wbr>", str(escape(name))))


def settings_rows(
    settings: Mapping[str, Any], resolved: Mapping[str, str]
) -> dict[str, tuple[str, str]]:
    """Settings by name, as text, with what ``auto`` came to."""
    return {
        name: (_setting(value), resolved.get(name, "")) for name, value in sorted(settings.items())
    }


def _setting(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return wording.shorten(text, MOST_SETTING)


def _headline(report: Report) -> str:
    """One sentence: what was won."""
    if report.status == "failed":
        return "The run failed; see below for what did not pass."
    cut = wording.cut_groups(report)
    if report.tune is not None:
        text = tune_lines(report.tune)[0]
        return f"{text[0].upper()}{text[1:]}."
    if not cut and (report.trim is None or report.status != "ok"):
        return "The model could not be made narrower."
    totals = report.totals
    parts = [f"{_less(totals.params.ratio)} parameters and {_less(totals.macs.ratio)} MACs"]
    for row in report.latency:
        place = wording.runtime(row).replace(" thread", "\N{NO-BREAK SPACE}thread")
        parts.append(f"{_speed(row)} in {place}")
    widths = f"{cut} of {wording.plural(len(report.groups), 'group')} cut"
    return f"{'; '.join(parts)}. {widths}."


def _speed(row: LatencyRow) -> str:
    if not row.significant or row.ratio <= 0:
        return "no clear change in speed"
    if row.ratio > 1:
        return f"{wording.percent(row.ratio - 1)} slower"
    return f"{1 / row.ratio:.2f} times as fast"


def _less(ratio: float) -> str:
    return f"{wording.percent(abs(1 - ratio))} {'fewer' if ratio <= 1 else 'more'}"
