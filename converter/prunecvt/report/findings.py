"""What a reader has to know before believing the headline numbers of a report."""

from __future__ import annotations

from prunecvt.report.schema import LatencyRow, Report
from prunecvt.report.wording import (
    cut_groups,
    cut_inexactly,
    gate_value,
    percent,
    plural,
    recovered,
    runtime,
)


def findings(report: Report) -> list[str]:
    """Returns the caveats of a report, gravest first, one sentence or two each."""
    notes = _of_status(report)
    notes += [
        f"Gate missed: {gate.expr} ({gate_value(gate)})."
        for gate in report.gates
        if not gate.passed
    ]
    notes += _of_verification(report)
    notes += _of_inexact(report)
    for row in report.latency:
        notes += _of_latency(row)
    notes += _of_layout(report)
    notes += _of_recovery(report)
    notes += _of_accuracy(report)
    notes += _of_drift(report)
    if not report.latency:
        notes.append("Latency was not measured.")
    return notes


def point_findings(report: Report) -> list[str]:
    """The caveats of a point of a sweep, less what the sweep says of all points itself: latency,
    missed targets, and what drift was measured on."""
    parts = (_of_status, _of_verification, _of_inexact, _of_layout, _of_recovery, _of_accuracy)
    return [note for part in (*parts, _of_values) for note in part(report)]


def guesses(report: Report) -> bool:
    """Whether the slimmed model is right no more often than by guessing, unlike its original."""
    if report.accuracy is None:
        return False
    top1, chance = report.accuracy.top1, 1 / report.accuracy.classes
    return top1.after_ci95[0] <= chance < top1.before_ci95[0]


def _of_status(report: Report) -> list[str]:
    if report.status == "failed":
        return ["The run failed. Do not use its output."]
    if report.status == "nothing-to-prune":
        return ["Nothing was pruned: the slimmed model is as wide as the original."]
    return []


def _of_verification(report: Report) -> list[str]:
    verify = report.verify
    if verify is None:
        return ["Nothing was verified."]
    if verify.skipped:
        return [f"Checks left out: {', '.join(verify.skipped)}."]
    return []


def _of_inexact(report: Report) -> list[str]:
    groups = cut_inexactly(report)
    if not groups:
        return []
    nodes = list(dict.fromkeys(node for group in groups for node in group.inexact))
    more = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
    return [
        f"{plural(len(groups), 'group')} cut inexactly (--allow-inexact): {nodes[0]}{more} "
        "takes fewer channels into account, which no zeros in the original equal. Check accuracy."
    ]


def _of_latency(row: LatencyRow) -> list[str]:
    notes = []
    if row.contended:
        basis = (
            "the ratio is of CPU times, which suffer less"
            if row.judged_by == "cpu"
            else "the ratio is of wall times, so measure again on a quiet machine"
        )
        notes.append(
            f"{runtime(row)}: the machine was busy during timing. "
            f"Wall times cannot be trusted; {basis}."
        )
    low, high = row.ratio_ci95
    if not row.significant:
        notes.append(
            f"{runtime(row)}: no clear change in latency "
            f"(ratio {row.ratio:.3f}, 95 % CI {low:.3f} to {high:.3f})."
        )
    elif row.ratio > 1:
        notes.append(f"{runtime(row)}: the slimmed model is slower (ratio {row.ratio:.3f}).")
    return notes


def _of_layout(report: Report) -> list[str]:
    if report.layout is None or not report.layout.fell_off:
        return []
    number = len(report.layout.fell_off)
    return [f"{plural(number, 'convolution')} fell off onnxruntime's blocked (NCHWc) path."]


def _wants_recovery(report: Report) -> bool:
    return report.settings.get("recover") != "none"


def _ways(report: Report) -> str:
    """What wins accuracy back that was not asked for."""
    if report.settings.get("noise") or report.settings.get("calib"):
        return "take --recover auto, or cut less"
    return "give data with --calib, or take --noise where BatchNormalization was kept, or cut less"


def _of_recovery(report: Report) -> list[str]:
    notes: list[str] = []
    if report.settings.get("reinit"):
        return notes  # the weights are no longer the original's: a warning says so
    if cut_groups(report) and not recovered(report) and report.trim is None:
        notes.append(
            "No recovery was done: the kept weights are the original's. Expect to lose accuracy, "
            f"all of it at high ratios; {_ways(report)}."
        )
        if report.recovery is None and report.settings.get("calib") and _wants_recovery(report):
            notes.append(
                "Nothing was fitted on the calibration data: it fills a single batch, leaves "
                "fewer than 2 samples to fit on or to hold out, or the model has values that "
                "are no tensors."
            )
    if report.settings.get("noise"):
        notes.append(
            "Scored and recovered on noise, with statistics matched to it: errors and agreement on "
            "it say little about real data. Check on some, or give it with --calib."
        )
    if report.recovery is not None and report.recovery.method == "none":
        notes.append("No recovery agreed better with the original on held-out data than none.")
    return notes


def _of_accuracy(report: Report) -> list[str]:
    if report.accuracy is None or not guesses(report):
        return []
    return [
        f"The slimmed model is right on {percent(report.accuracy.top1.after)} of the labelled "
        "samples, no more than by guessing: cut less, or train it."
    ]


def _of_values(report: Report) -> list[str]:
    fidelity = report.verify.fidelity if report.verify is not None else None
    if fidelity is None or fidelity.finite >= 1:
        return []
    return [
        f"Only {percent(fidelity.finite)} of the original's output values are finite numbers: "
        "the checks tell nothing of the others. Check on real data with --calib."
    ]


def _of_drift(report: Report) -> list[str]:
    if report.settings.get("reinit"):
        return []  # the weights are no longer the original's: a warning says so
    notes = _of_values(report)
    fidelity = report.verify.fidelity if report.verify is not None else None
    if fidelity is None:
        if cut_groups(report):
            notes.append("Drift from the original was not measured.")
    elif fidelity.data == "random":
        notes.append("Drift was measured on random input: it says little about accuracy on data.")
    return notes
