"""Which commands there are."""

from __future__ import annotations

from typing import Annotated

import typer

from prunecvt.commands.configured import with_variables
from prunecvt.commands.documents import compare, report
from prunecvt.commands.export import export
from prunecvt.commands.judge import bench, convert, verify
from prunecvt.commands.look import env, inspect
from prunecvt.commands.slim import plan, slim
from prunecvt.commands.sweep import sweep
from prunecvt.commands.trim import trim
from prunecvt.commands.tune import tune

app = typer.Typer(
    name="prunecvt",
    help="Takes a trained ONNX model and gives back a smaller, really faster one, with proof.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    *(slim, plan, sweep, trim, tune, inspect, verify, bench, convert),
    *(export, report, compare, env),
):
    app.command()(with_variables(command))


def _version(wanted: bool) -> None:
    if wanted:
        from prunecvt.version import VERSION

        typer.echo(f"prunecvt {VERSION}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Takes a trained ONNX model and gives back a smaller, really faster one, with proof."""
