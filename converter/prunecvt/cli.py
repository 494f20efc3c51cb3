"""The command line: which commands there are, and how errors end."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from prunecvt.commands.judge import bench, convert, verify
from prunecvt.commands.look import env, inspect
from prunecvt.commands.slim import plan, slim

app = typer.Typer(
    name="prunecvt",
    help="Takes a trained ONNX model and gives back a smaller, really faster one, with proof.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (slim, plan, inspect, verify, bench, convert, env):
    app.command()(command)


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


def main() -> None:
    """Runs the command line; the exit code says how it ended (see docs/errors.md)."""
    debug = "--debug" in sys.argv
    try:
        app(standalone_mode=True)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    except BrokenPipeError:  # whoever read stdout has gone: nothing more to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:  # the last line of defence: every end has a message and a code
        if debug:
            raise
        sys.exit(_report(error))


def _report(error: Exception) -> int:
    from prunecvt.errors import PrunecvtError

    if isinstance(error, PrunecvtError):
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    if isinstance(error, MemoryError):
        sys.stderr.write(
            "error[E802]: out of memory\n  help: use a machine with more, or --max-memory\n"
        )
        return 8
    sys.stderr.write(
        f"error[E100]: {type(error).__name__}: {error}\n"
        "  this is a bug in prunecvt\n"
        "  help: run again with --debug and report the traceback\n"
    )
    return 1
