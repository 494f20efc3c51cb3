"""The report as a small Markdown text for a pull request or a job summary."""

from __future__ import annotations

import re

from prunecvt.report import wording
from prunecvt.report.findings import findings
from prunecvt.report.schema import Report
from prunecvt.report.trim_rows import trim_lines
from prunecvt.report.tune_rows import tune_lines

MOST_CAUSES = 10
MOST_NOTES = 10
NAME_LENGTH = 90
_PUNCTUATION = re.compile(r"[^\w\s.,:;/()%+-]|_")


def render_markdown(report: Report) -> str:
    """Returns the report's numbers, its caveats, and what was not cut, as GitHub Markdown."""
    base = report.input.path.replace("\\", "/").rsplit("/", 1)[-1]
    lines = [f"### prunecvt: {code(base)}", "", *_table(report), ""]
    lines += [f"{text}  " for text in _measures(report)]
    notes = [*findings(report), *wording.counted(report.warnings)]
    if notes:
        lines += ["", *(f"- {escaped(note)}" for note in notes[:MOST_NOTES])]
        if len(notes) > MOST_NOTES:
            lines.append(f"- and {len(notes) - MOST_NOTES} more")
    lines += _causes("not prunable", wording.causes_pinned(report.skipped))
    lines += _causes("left whole", wording.causes_whole(report.groups))
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Makes every character mean itself: no markup, no HTML, no new table cell."""
    short = wording.shorten(" ".join(text.split()), 3 * NAME_LENGTH)
    return _PUNCTUATION.sub(lambda match: f"&#{ord(match.group())};", short)


def code(name: str) -> str:
    """A name as code in which every character means itself."""
    return f"<code>{escaped(wording.shorten(name, NAME_LENGTH))}</code>"


def _table(report: Report) -> list[str]:
    lines = ["| | before | after | change |", "|---|--:|--:|:--|"]
    totals = report.totals
    for label, total, form in (
        ("parameters", totals.params, wording.count),
        ("MACs", totals.macs, wording.count),
        ("ONNX file", totals.bytes, wording.size),
    ):
        cells = (label, form(total.before), form(total.after), wording.changed(total))
        lines.append(f"| {' | '.join(cells)} |")
    for row in report.latency:
        before, after = (wording.milliseconds(value) for value in wording.judged(row))
        detail = f"95 % CI {wording.change_interval(row)}"
        if row.macs_ratio is not None:
            detail += f"; MACs bound {wording.change(row.macs_ratio)}"
        if row.contended:
            detail += "; machine was busy"
        label = f"latency, {wording.runtime(row)}"
        lines.append(f"| {label} | {before} | {after} | {wording.verdict(row)} ({detail}) |")
    return lines


def _measures(report: Report) -> list[str]:
    lines = []
    if report.accuracy is not None:
        values = "; ".join(f"{name} {value}" for name, value in wording.accuracy(report.accuracy))
        number = wording.plural(report.accuracy.samples, "labelled sample")
        lines.append(f"Accuracy ({number}): {values}.")
    fidelity = report.verify.fidelity if report.verify is not None else None
    if fidelity is not None:
        values = ", ".join(f"{name} {value}" for name, value in wording.drift(fidelity))
        lines.append(f"Drift ({wording.samples(fidelity)}): {values}.")
    if report.search is not None:
        line = wording.search_line(report.search)
        lines.append(f"{line[0].upper()}{line[1:]}.")
    if report.recovery is not None:
        line = wording.recovery_line(report.recovery)
        lines.append(f"{line[0].upper()}{line[1:]}.")
    cleaned = wording.rewrite_line(report.rewrites)
    if cleaned:
        lines.append(f"{cleaned[0].upper()}{cleaned[1:]}.")
    if report.target is not None:
        line = wording.target_line(report.target)
        lines.append(f"{line[0].upper()}{line[1:]}.")
    for line in trim_lines(report.trim):
        lines.append(f"{escaped(line)}.")
    for line in tune_lines(report.tune):
        lines.append(f"{escaped(line[0].upper() + line[1:])}.")
    for gate in report.gates:
        outcome = "passed" if gate.passed else "**missed**"
        lines.append(f"Gate {code(gate.expr)}: {outcome} ({wording.gate_value(gate)}).")
    rows = wording.checks(report.verify)
    text = f"Checks: {wording.checks_passed(rows)}"
    for word in ("failed", "left out"):
        names = [escaped(row.name) for row in rows if row.outcome == word]
        text += f"; {word}: {', '.join(names)}" if names else ""
    return [*lines, f"{text}."]


def _causes(title: str, causes: list[wording.Cause]) -> list[str]:
    if not causes:
        return []
    number = sum(len(cause.places) for cause in causes)
    lines = ["", f"<details><summary>{title}: {number}</summary>", ""]
    for cause in causes[:MOST_CAUSES]:
        place = code(cause.places[0])
        more = f" and {len(cause.places) - 1} more" if len(cause.places) > 1 else ""
        lines.append(f"- {escaped(cause.text)}: {place}{more}")
    if len(causes) > MOST_CAUSES:
        lines.append(f"- and {len(causes) - MOST_CAUSES} other reasons")
    return [*lines, "", "</details>"]
