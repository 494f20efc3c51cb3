"""``prunecvt report``, ``prunecvt compare``: reports as they are."""

from __future__ import annotations

import json as json_module
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from prunecvt.commands import flags
from prunecvt.commands.terminal import Terminal, write

if TYPE_CHECKING:
    from prunecvt.report.schema import Report
    from prunecvt.report.sweep import SweepReport

_Report = Annotated[Path, typer.Argument(help="A report.json.", show_default=False)]
_Document = Annotated[Path, typer.Argument(help="A report.json or sweep.json.", show_default=False)]
_Output = Annotated[
    Optional[Path], typer.Option("--output", "-o", help="A file; stdout where none is given.")
]
_Newer = Annotated[Path, typer.Argument(help="A later report.json.", show_default=False)]
_Tolerance = Annotated[float, typer.Option(help="Share that a latency ratio may move by.")]
_Strict = Annotated[
    bool, typer.Option("--fail-on-worse", help="End with code 6 where something got worse.")
]


def report(
    path: _Document,
    output: _Output = None,
    format: flags.Format = "auto",
    force: flags.Force = False,
    no_color: flags.NoColor = False,
    config: flags.Config = None,
    debug: flags.Debug = False,
) -> None:
    """Render a report.json or sweep.json again, as the ending of -o says, or as Markdown."""
    from prunecvt.loading.report_file import read_document
    from prunecvt.report.schema import Report
    from prunecvt.writing.write import from_bytes, write_set

    terminal = Terminal.of(False, 0, no_color)
    if format == "auto":
        format = (output.suffix[1:] if output is not None else "") or "md"
    found = read_document(path)  # what formats there are follows from what it is
    if isinstance(found, Report):
        text = renderer(format, terminal)(found)
    else:
        text = sweep_text(found, format, terminal)
    if output is None:
        write(text)
        return
    write_set([from_bytes(output, text.encode("utf-8", "replace"))], inputs=[path], force=force)
    terminal.show(f"wrote {output}")


def compare(
    old: _Report,
    new: _Newer,
    tolerance: _Tolerance = 0.05,
    strict: _Strict = False,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
    no_color: flags.NoColor = False,
    config: flags.Config = None,
    debug: flags.Debug = False,
) -> None:
    """Compare two reports, such as the last release's and this change's."""
    from prunecvt.errors import GateError, UsageError
    from prunecvt.loading.report_file import read_report
    from prunecvt.report.comparison import differences
    from prunecvt.report.tables import differences_table

    if not 0 <= tolerance < 1:
        raise UsageError("E201", f"--tolerance is {tolerance}", help="give a share such as 0.05")
    terminal = Terminal.of(quiet or json, 0, no_color)
    found = differences(read_report(old), read_report(new), tolerance)
    if json:
        write(json_module.dumps([asdict(row) for row in found], indent=1) + "\n")
    else:
        terminal.show(differences_table(found))
    worse = [row.name for row in found if row.verdict == "worse"]
    if strict and worse:
        raise GateError(
            "E602", f"worse: {', '.join(worse)}", help="see 'prunecvt compare' without the flag"
        )


def renderer(name: str, terminal: Terminal) -> Callable[[Report], str]:
    """What turns a report into the text of a format.

    Raises:
        UsageError: E201, there is no such format.
    """
    from prunecvt.errors import UsageError
    from prunecvt.report.ci import tracked
    from prunecvt.report.files import RENDERERS
    from prunecvt.report.tables import summary_table

    known: dict[str, Callable[[Report], str]] = {
        "text": lambda found: terminal.drawn(summary_table(found)),
        **{ending[1:]: render for ending, render in RENDERERS.items()},
        "github": github,
        "benchmark": tracked,
    }
    if name not in known:
        raise UsageError("E201", f"--format is '{name}'", help=f"it can be {', '.join(known)}")
    return known[name]


def sweep_text(found: SweepReport, name: str, terminal: Terminal) -> str:
    """A sweep as the text of a format.

    Raises:
        UsageError: E201, there is no such format of a sweep.
    """
    from prunecvt.errors import UsageError
    from prunecvt.report.sweep_page import render_sweep_html, sweep_markdown
    from prunecvt.report.tables import sweep_table

    known: dict[str, Callable[[SweepReport], str]] = {
        "text": lambda sweep: terminal.drawn(sweep_table(sweep)),
        "json": lambda sweep: sweep.model_dump_json(indent=1) + "\n",
        "html": render_sweep_html,
        "md": sweep_markdown,
    }
    if name not in known:
        help = f"of a sweep it can be {', '.join(known)}"
        raise UsageError("E201", f"--format is '{name}'", help=help)
    return known[name](found)


def github(report: Report) -> str:
    """Annotations; the Markdown report goes into the job's summary where there is one.

    Raises:
        OutputError: E701, the summary cannot be written.
    """
    from prunecvt.errors import OutputError
    from prunecvt.report.ci import workflow_commands
    from prunecvt.report.files import RENDERERS

    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        try:
            with open(summary, "a", encoding="utf-8", errors="replace") as file:
                file.write(RENDERERS[".md"](report) + "\n")
        except OSError as error:
            raise OutputError(
                "E701",
                "the job's summary cannot be written",
                where=f"{summary}: {error.strerror or error}",
                help="unset GITHUB_STEP_SUMMARY, or let it name a file",
            ) from error
    return workflow_commands(report)
