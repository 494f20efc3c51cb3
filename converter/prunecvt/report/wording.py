"""The words and numbers that the terminal, Markdown and HTML reports share.

All text is plain ASCII apart from the names it quotes, so that every output can print it.
"""

from __future__ import annotations

import math
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from prunecvt.evaluation.intervals import wilson
from prunecvt.percent import UNKNOWN as UNKNOWN
from prunecvt.percent import percent as percent
from prunecvt.report.schema import (
    Accuracy,
    Change,
    Fidelity,
    Gate,
    GroupRow,
    LatencyRow,
    RecoveryRow,
    Report,
    RewriteRow,
    SearchRow,
    SkippedRow,
    TargetRow,
    Verify,
)

RECOVERY_PASSES = ("recover", "refit", "compensate")
_BACKENDS = {"openvino": "OpenVINO"}
_THOUSANDS = ("", "k", "M", "G", "T")
_VARYING = re.compile(r"'[^']*'|\"[^\"]*\"|\d+")


@dataclass(frozen=True)
class Check:
    """One verification and how it came out."""

    name: str
    outcome: Literal["passed", "failed", "left out"]
    detail: str = ""


@dataclass(frozen=True)
class Cause:
    """A reason that holds for several places; ``text`` is the first one's where they differ."""

    text: str
    places: tuple[str, ...]
    code: str = ""


def significant(value: float, digits: int = 3) -> str:
    """Writes a number with ``digits`` significant digits and never with an exponent above 1e-4."""
    if not math.isfinite(value):
        return UNKNOWN
    if abs(value) == sys.float_info.max:  # what the report says for infinity
        return "unbounded"
    if value == 0:
        return "0"
    if abs(value) < 1e-4:
        return f"{value:.{digits - 1}e}"
    rounded = float(f"{value:.{digits}g}")
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    return f"{value:.{decimals}f}"


def _scaled(value: float, units: Sequence[str]) -> str:
    power = 0
    while abs(value) >= 999.5 and power < len(units) - 1:
        value /= 1000
        power += 1
    number = significant(value) if power else f"{value:.0f}"
    return f"{number} {units[power]}".strip()


def count(value: float) -> str:
    """2032 -> ``2,032``, 11689512 -> ``11.7 M``."""
    if abs(value) < 99_999.5:
        return f"{value:,.0f}"
    return _scaled(value, _THOUSANDS)


def size(value: float) -> str:
    """Bytes in decimal units: 3451234 -> ``3.45 MB``."""
    return _scaled(value, ("B", "kB", "MB", "GB", "TB"))


def milliseconds(value: float) -> str:
    """4.2137 -> ``4.21 ms``."""
    return f"{significant(value)} ms"


def change(ratio: float) -> str:
    """After over before as a change: 0.577 -> ``-42.3 %``; what rounds to nothing is ``0.0 %``."""
    if not math.isfinite(ratio):
        return UNKNOWN
    points = round(100 * (ratio - 1), 1)
    return f"{points:+.1f} %" if points else "0.0 %"


def changed(total: Change) -> str:
    """The change of a total; ``-`` where there was nothing before."""
    return change(total.ratio) if total.before else UNKNOWN


def change_interval(row: LatencyRow) -> str:
    """The 95 % interval of a latency's change, low to high."""
    low, high = row.ratio_ci95
    return f"{change(low)[:-2]} to {change(high)}"


def plural(number: int, noun: str) -> str:
    """1, ``group`` -> ``1 group``; 3 -> ``3 groups``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def counted(texts: Sequence[str]) -> list[str]:
    """Each text once, in order, with how often it comes where that is more than once."""
    numbers = Counter(texts)
    return [f"{text} ({n} times)" if n > 1 else text for text, n in numbers.items()]


def shorten(text: str, limit: int) -> str:
    """Cuts the middle out of a long name and anything unprintable from any name."""
    clean = "".join(character if character.isprintable() else "?" for character in text)
    if len(clean) <= limit:
        return clean
    if limit <= 5:
        return clean[: max(limit, 1)]
    tail = (limit - 3) * 4 // 5
    return f"{clean[: limit - 3 - tail]}...{clean[len(clean) - tail :]}"


def member(group: GroupRow, limit: int) -> str:
    """A group's first member and how many more there are."""
    if not group.members:
        return UNKNOWN
    more = f" +{len(group.members) - 1}" if len(group.members) > 1 else ""
    return shorten(group.members[0], limit - len(more)) + more


def runtime(row: LatencyRow) -> str:
    """What a latency was measured in: ``onnxruntime, 1 thread``."""
    return f"{_BACKENDS.get(row.backend, row.backend)}, {plural(row.threads, 'thread')}"


def judged(row: LatencyRow) -> tuple[float, float]:
    """The two medians, in ms, that the ratio is made of."""
    if row.judged_by == "cpu":
        return row.before.cpu_median_ms, row.after.cpu_median_ms
    return row.before.median_ms, row.after.median_ms


def verdict(row: LatencyRow) -> str:
    """``-42.3 %``, or ``no clear change`` where the interval does not settle it."""
    return change(row.ratio) if row.significant else "no clear change"


def agreement_interval(share: float, samples: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share seen in ``samples`` samples."""
    return wilson(share, samples)


def samples(fidelity: Fidelity) -> str:
    """What the drift was measured on: ``256 calibration samples``."""
    return plural(fidelity.samples, f"{fidelity.data} sample")


def drift(fidelity: Fidelity) -> list[tuple[str, str]]:
    """The drift from the original as (name, value) pairs; what is not known is left out."""
    rows = [
        ("max relative", significant(fidelity.max_rel)),
        ("cosine", f"{fidelity.cosine:.5f}{_interval(fidelity.cosine_ci95, 5)}"),
    ]
    if fidelity.sqnr_db is not None:
        rows.append(("SQNR", f"{fidelity.sqnr_db:.1f} dB{_interval(fidelity.sqnr_db_ci95, 1)}"))
    if fidelity.top1_agree is not None:
        low, high = agreement_interval(fidelity.top1_agree, fidelity.samples)
        interval = f"95 % CI {100 * low:.1f} to {percent(high)}"
        rows.append(("top-1 agreement", f"{percent(fidelity.top1_agree)} ({interval})"))
    return rows


def _interval(interval: tuple[float, float] | None, decimals: int) -> str:
    if interval is None:
        return ""
    low, high = (f"{value:.{decimals}f}" for value in interval)
    return f" (95 % CI {low} to {high})"


def accuracy(found: Accuracy) -> list[tuple[str, str]]:
    """Right answers before and after as (name, value) pairs."""
    rows = []
    for name, top in (("top-1", found.top1), ("top-5", found.top5)):
        if top is not None:
            low, high = (f"{100 * value:+.2f}" for value in top.change_ci95)
            change = f"{100 * top.change:+.2f} points, 95 % CI {low} to {high}"
            rows.append((name, f"{percent(top.before, 2)} -> {percent(top.after, 2)} ({change})"))
    return rows


def _outcome(passed: bool) -> Literal["passed", "failed"]:
    return "passed" if passed else "failed"


def checks(verify: Verify | None) -> list[Check]:
    """Every verification that ran or was left out, in the order it runs."""
    if verify is None:
        return [Check("verification", "left out", "nothing was verified")]
    rows = [
        Check("ONNX checker", _outcome(verify.checker)),
        Check("runs in onnxruntime", _outcome(verify.ort)),
        Check("same inputs and outputs", _outcome(verify.io_contract)),
    ]
    if verify.masked_dense is not None:
        oracle = verify.masked_dense
        detail = (
            f"max relative {oracle.max_rel:.1e}, tolerance {oracle.tolerance:.0e}, "
            f"{plural(oracle.samples, 'sample')}{', compared in float32' if oracle.single else ''}"
        )
        if oracle.narrowed:
            detail += f"; {plural(oracle.narrowed, 'inexact node')} on the kept channels alone"
        rows.append(Check("equals the masked original", _outcome(oracle.passed), detail))
    if verify.exact is not None:
        detail = f"max relative {verify.exact.max_rel:.1e}, tolerance {verify.exact.tolerance:.0e}"
        rows.append(Check("equal after the clean-up", _outcome(verify.exact.passed), detail))
    if verify.rewritten is not None:
        found = verify.rewritten
        detail = f"max relative {found.max_rel:.1e}, tolerance {found.tolerance:.0e}"
        rows.append(Check("clean-ups change nothing", _outcome(found.passed), detail))
    if verify.openvino is not None:
        parity = verify.openvino
        detail = f"max relative {parity.max_rel:.1e}, tolerance {parity.tolerance:.0e}"
        if parity.at == "unrounded":
            detail += ", without the rounding of activations"
        rows.append(Check("same in OpenVINO", _outcome(parity.passed), detail))
    return rows + [Check(name, "left out") for name in verify.skipped]


def checks_passed(rows: Sequence[Check]) -> str:
    """``5 of 5 passed``, of those that ran."""
    ran = [row for row in rows if row.outcome != "left out"]
    passed = sum(row.outcome == "passed" for row in ran)
    return f"{passed} of {len(ran)} passed" if ran else "none ran"


def _causes(reasons: Iterable[tuple[str, str, str]]) -> list[Cause]:
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for code, reason, place in reasons:
        found.setdefault((code, _VARYING.sub("#", reason)), []).append((reason, place))
    causes = []
    for (code, _), rows in found.items():
        alike = len({reason for reason, _ in rows}) == 1
        text = rows[0][0] if alike else f"e.g. {rows[0][0]}"
        causes.append(Cause(text, tuple(place for _, place in rows), code))
    return sorted(causes, key=lambda cause: (-len(cause.places), cause.text))


def _place(row: SkippedRow) -> str:
    name = row.node or row.tensor
    return name if row.channels >= row.width else f"{name} ({row.channels} of {row.width})"


def causes_pinned(skipped: Sequence[SkippedRow]) -> list[Cause]:
    """Why producers could not be cut, commonest first; reasons that differ by a name are one."""
    return _causes((row.code, row.reason, _place(row)) for row in skipped)


def causes_whole(groups: Sequence[GroupRow]) -> list[Cause]:
    """Why groups that could be cut were left whole, commonest first."""
    whole = (group for group in groups if group.reason)
    return _causes(("", group.reason, f"group {group.id}") for group in whole)


def inexactly(group: GroupRow) -> str:
    """`` inexactly: LayerNormalization 'n' and 3 more``; nothing where the cut is exact."""
    if not group.inexact:
        return ""
    more = len(group.inexact) - 1
    return f", inexactly: {group.inexact[0]}" + (f" and {more} more" if more else "")


def cut_inexactly(report: Report) -> list[GroupRow]:
    """The groups that lost channels which a normalisation or a mean works across."""
    return [g for g in report.groups if g.inexact and g.channels_after < g.channels_before]


def cut_groups(report: Report) -> int:
    """How many groups lost channels."""
    return sum(group.channels_after < group.channels_before for group in report.groups)


def recovered(report: Report) -> bool:
    """Whether a pass that recovers accuracy changed the model."""
    if report.recovery is not None and report.recovery.method != "none":
        return True
    return any(
        row.changed and any(word in row.name for word in RECOVERY_PASSES) for row in report.passes
    )


def search_line(row: SearchRow) -> str:
    """What a search of rates found, in one line."""
    before, after = significant(row.error.before), significant(row.error.after)
    return f"search of rates: output error {before} -> {after} in {plural(row.trials, 'trial')}"


def rewrite_line(rows: Sequence[RewriteRow]) -> str:
    """What was cleaned up, in one line; "" where nothing was."""
    parts = [f"{len(row.nodes)} {row.rule}" for row in rows if row.nodes]
    return f"clean-ups of Slice, Gather and Pad: {', '.join(parts)}" if parts else ""


def gate_value(gate: Gate) -> str:
    """What a gate compared."""
    return "not measured" if gate.value is None else f"{gate.value:.6g}"


def target_line(row: TargetRow) -> str:
    """What came of a measured target, in one line."""
    unit = " ms" if row.text.lower().endswith("ms") else ""
    found = f"{row.value:.4f}" if row.text.startswith("agreement") else significant(row.value)
    judged = " and ".join(row.judge)
    number = plural(len(row.probes), "probe")
    return f"target {row.text}: {found}{unit} in {judged}, {number}{'' if row.met else '; missed'}"


def recovery_line(row: RecoveryRow) -> str:
    """What recovery did, in one line."""
    text = f"recovery by {row.method}: output error {row.before.error:.3g} -> {row.after.error:.3g}"
    if row.before.top1_agree is not None and row.after.top1_agree is not None:
        text += f", top-1 agreement {percent(row.before.top1_agree)}"
        text += f" -> {percent(row.after.top1_agree)}"
    return f"{text} on {judged_on(row)} ({row.seconds:.0f} s)"


def judged_on(row: RecoveryRow) -> str:
    """What recovery was judged on: ``32 held-out samples``."""
    if row.data == "noise":
        return f"{plural(row.samples, 'sample')} of noise"
    return plural(row.samples, "held-out sample")
