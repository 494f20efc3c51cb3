"""The report for continuous integration: annotations, and what tracks figures over time."""

from __future__ import annotations

import json

from prunecvt.report import wording
from prunecvt.report.findings import findings
from prunecvt.report.schema import Report


def workflow_commands(report: Report) -> str:
    """Workflow commands that GitHub shows beside the run: errors, warnings, and one notice."""
    name = report.input.path
    missed = [gate for gate in report.gates if not gate.passed]
    lines = [
        _command("error", f"{gate.expr}: missed ({wording.gate_value(gate)})", name)
        for gate in missed
    ]
    gated = {f"Gate missed: {gate.expr} ({wording.gate_value(gate)})." for gate in missed}
    notes = [*findings(report), *wording.counted(report.warnings)]
    lines += [_command("warning", note, name) for note in notes if note not in gated]
    totals = report.totals
    text = f"parameters {wording.changed(totals.params)}, MACs {wording.changed(totals.macs)}"
    for row in report.latency:
        text += f", {wording.runtime(row)} {wording.verdict(row)}"
    return "".join(f"{line}\n" for line in [*lines, _command("notice", text, name)])


def _command(kind: str, text: str, name: str) -> str:
    title = _escaped(f"prunecvt: {name}").replace(":", "%3A").replace(",", "%2C")
    return f"::{kind} title={title}::{_escaped(text)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def tracked(report: Report) -> str:
    """What github-action-benchmark reads as ``customSmallerIsBetter``: sizes, times, losses."""
    name, totals = report.input.path, report.totals
    rows = [
        _row(f"{name}: parameters", "parameters", totals.params.after),
        _row(f"{name}: MACs", "MACs", totals.macs.after),
        _row(f"{name}: ONNX file", "bytes", totals.bytes.after),
    ]
    for each in report.latency:
        timing = each.after
        low, high = each.ratio_ci95
        rows.append(
            {
                **_row(f"{name}: {wording.runtime(each)}", "ms", wording.judged(each)[1]),
                "range": f"{timing.p10:.4g} to {timing.p90:.4g}",
                "extra": f"{each.ratio:.3f} of the original ({low:.3f} to {high:.3f})",
            }
        )
    fidelity = report.verify.fidelity if report.verify is not None else None
    if fidelity is not None and fidelity.top1_agree is not None:
        rows.append(_row(f"{name}: disagreement", "%", round(100 * (1 - fidelity.top1_agree), 6)))
    if report.accuracy is not None:
        wrong = round(100 * (1 - report.accuracy.top1.after), 6)
        rows.append(_row(f"{name}: wrong answers", "%", wrong))
    return json.dumps(rows, indent=1) + "\n"


def _row(name: str, unit: str, value: float) -> dict[str, object]:
    return {"name": name, "unit": unit, "value": int(value) if value == int(value) else value}
