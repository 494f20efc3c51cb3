"""The report as tables for the terminal: right at 80 columns, without colour, and in plain ASCII.

Every function returns a rich renderable that looks at the console it is printed on; names are cut
to the room there is, numbers never are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD, Box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from prunecvt.report import wording
from prunecvt.report.comparison import Difference
from prunecvt.report.findings import findings
from prunecvt.report.schema import GroupRow, LatencyRow, Report, SkippedRow
from prunecvt.report.sweep import SweepReport
from prunecvt.report.trim_rows import trim_lines
from prunecvt.report.tune_rows import tune_lines
from prunecvt_passes.cost import Cost

MOST_CAUSES = 8
_RULE = "    \n    \n -- \n    \n    \n -- \n    \n    \n"
ASCII_HEAD = Box(_RULE, ascii=True)


@dataclass(frozen=True)
class Sheet:
    """What is printed, built for the width and the encoding of the console it meets."""

    build: Callable[[int, bool], RenderableType]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yields the sheet for this console."""
        yield self.build(options.max_width, options.ascii_only)


def summary_table(report: Report) -> Sheet:
    """What was won and what it cost, then what stayed whole and why."""

    def build(width: int, plain: bool) -> RenderableType:
        parts: list[RenderableType] = [
            _totals(report, plain),
            Text(),
            *(_text(line, plain) for line in (*trim_lines(report.trim), *tune_lines(report.tune))),
            *_drift_lines(report, width, plain),
        ]
        pinned, whole = wording.causes_pinned(report.skipped), wording.causes_whole(report.groups)
        parts += _cause_lines("not prunable", pinned, MOST_CAUSES, (width, plain))
        parts += _cause_lines("left whole", whole, MOST_CAUSES // 2, (width, plain))
        notes = [*findings(report), *wording.counted(report.warnings)]
        parts += [_text(f"note: {note}", plain, "yellow") for note in notes]
        return Group(*parts)

    return Sheet(build)


def groups_table(groups: Sequence[GroupRow], skipped: Sequence[SkippedRow]) -> Sheet:
    """Every group, prunable or why not; then every producer that cannot be cut, by reason."""

    def build(width: int, plain: bool) -> RenderableType:
        prunable = sum(not group.reason for group in groups)
        summary = f"{prunable} of {wording.plural(len(groups), 'group')} prunable, "
        summary += f"{wording.plural(len(skipped), 'producer')} not."
        lines = [_text(summary, plain), *_pinned_lines(skipped, width, plain)]
        return Group(_groups(groups, "prunable", width, plain), Text(), *lines)

    return Sheet(build)


def plan_table(
    groups: Sequence[GroupRow], skipped: Sequence[SkippedRow], before: Cost, after: Cost
) -> Sheet:
    """Every group, cut or why not, and what is left of the model."""

    def build(width: int, plain: bool) -> RenderableType:
        cut = sum(group.channels_after < group.channels_before for group in groups)
        summary = f"{cut} of {wording.plural(len(groups), 'group')} cut; "
        summary += f"{wording.plural(len(skipped), 'producer')} cannot be:"
        lines: list[Text | Padding] = [
            _text(f"{name}: {wording.count(was)} -> {wording.count(left)}{share}", plain)
            for name, was, left in (
                ("parameters", before.params, after.params),
                ("MACs", before.macs, after.macs),
            )
            for share in ((f" ({wording.change(left / was)})" if was else ""),)
        ]
        lines += [_text(summary, plain), *_pinned_lines(skipped, width, plain)]
        return Group(_groups(groups, "cut", width, plain), Text(), *lines)

    return Sheet(build)


def _groups(groups: Sequence[GroupRow], verb: str, width: int, plain: bool) -> Table:
    table = _table(plain)
    table.add_column("group", justify="right", no_wrap=True)
    table.add_column("members", no_wrap=True)
    table.add_column("channels", justify="right", no_wrap=True)
    table.add_column("score: min med max", justify="right", no_wrap=True)
    table.add_column(verb, ratio=1)
    room = max(14, (width - 40) * 11 // 20)
    for group in groups:
        outcome = f"no: {group.reason}" if group.reason else f"yes{wording.inexactly(group)}"
        cells = (str(group.id), wording.member(group, room), _channels(group), _scores(group))
        table.add_row(*(_text(cell, plain) for cell in (*cells, outcome)))
    return table


def _pinned_lines(skipped: Sequence[SkippedRow], width: int, plain: bool) -> list[Text | Padding]:
    lines: list[Text | Padding] = []
    for cause in wording.causes_pinned(skipped):
        lines.append(_text(f"{len(cause.places):6}  {cause.text}", plain))
        names = ", ".join(wording.shorten(place, width - 12) for place in cause.places)
        lines.append(Padding(_text(names, plain, "dim"), (0, 0, 0, 10)))
    return lines


def bench_table(names: Sequence[str], rows: Sequence[Sequence[LatencyRow]]) -> Sheet:
    """All models against the first, runtime by runtime.

    Args:
        names: the models, the one they are held against first.
        rows: for each model after the first, its latency against the first, one row per runtime in
            the same order; for a single model, one entry whose ``before`` is that model.
    """

    def build(width: int, plain: bool) -> RenderableType:
        parts: list[RenderableType] = []
        for place in range(len(rows[0]) if rows else 0):
            parts += [_bench(names, [row[place] for row in rows], width, plain), Text()]
        every = [row for model in rows for row in model] if len(names) > 1 else []
        for basis in sorted({row.judged_by for row in every}):
            of = {"cpu": "CPU medians, one thread", "wall": "wall medians, several threads"}[basis]
            parts.append(_text(f"ratio: of {of}; below 1 is faster", plain))
        if any(row.contended for row in every):
            parts.append(
                _text("! the machine was busy: wall times cannot be trusted", plain, "yellow")
            )
        if any(not row.significant for row in every):
            parts.append(_text("~ no clear change", plain))
        return Group(*parts)

    return Sheet(build)


def sweep_table(report: SweepReport) -> Sheet:
    """Every point of a sweep; a star at those that no other beats."""

    def build(width: int, plain: bool) -> RenderableType:
        table = _table(plain)
        table.add_column("", no_wrap=True)
        measure = report.measure or "quality"
        runtimes = [wording.runtime(row) for row in report.points[0].latency]
        for heading in ("MACs left", *(name.split(",")[0] for name in runtimes), measure, "best"):
            table.add_column(heading, justify="right", no_wrap=True)
        for point in report.points:
            ratios = [f"{row.ratio:.3f}{_flags(row)}" for row in point.latency]
            quality = report.shown(point.quality)
            cells = [wording.percent(point.macs), *ratios, quality, "*" if point.best else ""]
            name = f"{point.name} (missed)" if point.missed else point.name
            table.add_row(_text(name, plain), *cells)
        note = "latency over the original's; *: no point is faster and as good; ~: no clear change"
        notes = [f"note: {text}" for text in report.shared_warnings]
        notes += [f"note: {names}: {text}" for names, text in report.own_warnings]
        lines = [_text(each, plain, "yellow") for each in notes]
        return Group(table, Text(), _text(note, plain, "dim"), *lines)

    return Sheet(build)


def differences_table(rows: Sequence[Difference]) -> Sheet:
    """Two reports' figures side by side."""

    def build(width: int, plain: bool) -> RenderableType:
        table = _table(plain)
        for heading in ("", "old", "new", ""):
            right = heading in ("old", "new")
            table.add_column(heading, justify="right" if right else "left", no_wrap=True)
        for row in rows:
            style = {"worse": "red", "better": "green"}.get(row.verdict, "")
            name = wording.shorten(row.name, max(16, width - 40))
            cells = [_text(cell, plain) for cell in (name, row.old, row.new)]
            table.add_row(*cells, _text(row.verdict, plain, style))
        return table

    return Sheet(build)


def _table(plain: bool) -> Table:
    return Table(
        box=ASCII_HEAD if plain else SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )


def _text(text: str, plain: bool, style: str = "") -> Text:
    """Text that is never read as markup and never breaks the console's encoding."""
    clean = wording.shorten(text, len(text))
    return Text(clean.encode("ascii", "replace").decode() if plain else clean, style)


def _totals(report: Report, plain: bool) -> Table:
    table = _table(plain)
    table.add_column("", no_wrap=True)
    for heading in ("before", "after", "change"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("95 % CI", no_wrap=True)
    totals = report.totals
    for label, total, form in (
        ("parameters", totals.params, wording.count),
        ("MACs", totals.macs, wording.count),
        ("channels", totals.channels, wording.count),
        ("ONNX file", totals.bytes, wording.size),
    ):
        table.add_row(label, form(total.before), form(total.after), wording.changed(total), "")
    for row in report.latency:
        before, after = wording.judged(row)
        flag = _flags(row)
        table.add_row(
            f"{wording.runtime(row)}",
            wording.milliseconds(before),
            wording.milliseconds(after),
            wording.change(row.ratio),
            f"{wording.change_interval(row)} {flag}".strip(),
        )
    return table


def _drift_lines(report: Report, width: int, plain: bool) -> list[Text]:
    lines = []
    if report.accuracy is not None:
        values = "; ".join(f"{name} {value}" for name, value in wording.accuracy(report.accuracy))
        number = wording.plural(report.accuracy.samples, "labelled sample")
        lines.append(_text(f"accuracy ({number}): {values}", plain, "bold"))
    fidelity = report.verify.fidelity if report.verify is not None else None
    if fidelity is not None:
        values = ", ".join(f"{name} {value}" for name, value in wording.drift(fidelity))
        lines.append(_text(f"drift ({wording.samples(fidelity)}): {values}", plain))
    if report.target is not None:
        style = "" if report.target.met else "red"
        lines.append(_text(wording.target_line(report.target), plain, style))
    if report.search is not None:
        lines.append(_text(wording.search_line(report.search), plain))
    if report.recovery is not None:
        lines.append(_text(wording.recovery_line(report.recovery), plain))
    cleaned = wording.rewrite_line(report.rewrites)
    if cleaned:
        lines.append(_text(cleaned, plain))
    rows = wording.checks(report.verify)
    failed = [row.name for row in rows if row.outcome == "failed"]
    text = f"checks: {wording.checks_passed(rows)}"
    if failed:
        text += f"; failed: {', '.join(failed)}"
    lines.append(_text(text, plain, "red" if failed else ""))
    return lines


def _cause_lines(
    title: str, causes: Sequence[wording.Cause], most: int, console: tuple[int, bool]
) -> list[Text]:
    """One line per reason, commonest first, and one for those there is no room for."""
    if not causes:
        return []
    width, plain = console
    lines = [_text(f"{title}: {sum(len(cause.places) for cause in causes)}", plain)]
    shown = causes if len(causes) <= most else causes[: most - 1]
    for cause in shown:
        text = wording.shorten(cause.text, width - 9)
        lines.append(_text(f"{len(cause.places):6}  {text}", plain, "dim"))
    rest = causes[len(shown) :]
    if rest:
        number = sum(len(cause.places) for cause in rest)
        lines.append(_text(f"{number:6}  for {len(rest)} other reasons", plain, "dim"))
    return lines


def _channels(group: GroupRow) -> str:
    if group.channels_after == group.channels_before:
        return str(group.channels_before)
    return f"{group.channels_before} -> {group.channels_after}"


def _scores(group: GroupRow) -> str:
    if group.score is None:
        return ""
    return " ".join(f"{x:.2g}" for x in (group.score.min, group.score.median, group.score.max))


def _flags(row: LatencyRow) -> str:
    return ("!" if row.contended else "") + ("" if row.significant else "~")


def _bench(names: Sequence[str], rows: Sequence[LatencyRow], width: int, plain: bool) -> Table:
    first = rows[0]
    table = _table(plain)
    title = _text(wording.runtime(first), plain)
    table.add_column(title, no_wrap=True)
    for heading in ("median ms", "p10", "p90", "CPU", "ratio"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("95 % CI", no_wrap=True)
    room = max(12, width - 58)
    bases = [name.replace("\\", "/").rsplit("/", 1)[-1] for name in names]
    shown = bases if len(set(bases)) == len(bases) else names
    timings = [first.before] if len(names) == 1 else [first.before, *(row.after for row in rows)]
    for place, (name, timing) in enumerate(zip(shown, timings, strict=True)):
        times = (timing.median_ms, timing.p10, timing.p90, timing.cpu_median_ms)
        cells = [wording.significant(value) for value in times]
        if place:
            row = rows[place - 1]
            low, high = row.ratio_ci95
            cells += [f"{row.ratio:.3f}", f"{low:.3f}..{high:.3f} {_flags(row)}".strip()]
        else:
            cells += ["1", ""]
        table.add_row(_text(wording.shorten(name, room), plain), *cells)
    return table
