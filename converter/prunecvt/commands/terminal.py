"""What the commands print with: tables on stdout, progress and warnings on stderr."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console

from prunecvt.commands.progress import Progress, drawn_progress, line_writer

PIPED_WIDTH = 160
_STDOUT, _STDERR = 1, 2  # descriptors


@dataclass(frozen=True)
class Terminal:
    """How this run talks: set once, from the flags and the environment."""

    quiet: bool = False
    color: bool = True

    @staticmethod
    def of(quiet: bool, verbose: int, no_color: bool) -> Terminal:
        """Sets logging up and returns the terminal."""
        level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
        logging.basicConfig(
            level=logging.ERROR if quiet else level,
            format="%(levelname)s: %(message)s",
            stream=sys.stderr,
        )
        plain = no_color or bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        return Terminal(quiet, not plain)

    def console(self, stderr: bool = False) -> Console:
        """A console on stdout or stderr; piped output is wide, so that names stay whole."""
        piped = not (sys.stderr if stderr else sys.stdout).isatty()
        width = PIPED_WIDTH if piped and "COLUMNS" not in os.environ else None
        return Console(stderr=stderr, no_color=not self.color or None, highlight=False, width=width)

    def show(self, renderable: object) -> None:
        """Prints a table, or a line exactly as it is, on stdout."""
        if self.quiet:
            return
        if isinstance(renderable, str):  # no markup, no folding: scripts read paths from it
            write(f"{renderable}\n")
            return
        write(self.drawn(renderable))

    def drawn(self, renderable: object) -> str:
        """A table as text, for this stdout; without the blanks that fill up its last column."""
        console = self.console()
        with console.capture() as captured:
            console.print(renderable)
        return "\n".join(line.rstrip(" ") for line in captured.get().split("\n"))

    @contextlib.contextmanager
    def progress(self, lines: bool = False) -> Iterator[Progress | None]:
        """Gives out a progress callback that draws on stderr, on a terminal only.

        Args:
            lines: elsewhere, write a line on stderr for each step that is worth one.
        """
        console = self.console(stderr=True)
        drawable = sys.stderr.isatty() and not console.is_dumb_terminal
        if self.quiet or not drawable or os.environ.get("CI"):
            yield line_writer() if lines and not self.quiet else None
            return
        with drawn_progress(console) as advance:
            yield advance


@contextlib.contextmanager
def stdout_on_stderr() -> Iterator[None]:
    """Sends on to stderr what is printed on stdout meanwhile, by compiled code too."""
    sys.stdout.flush()
    try:
        kept = os.dup(_STDOUT)
        os.dup2(_STDERR, _STDOUT)
    except OSError:  # one of them is closed
        with contextlib.redirect_stdout(sys.stderr):
            yield
        return
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        sys.stdout.flush()
        if os.name == "posix":
            ctypes.CDLL(None).fflush(None)  # what C holds back would come out later
        os.dup2(kept, _STDOUT)
        os.close(kept)


def write(text: str) -> None:
    """Writes on stdout; that whoever read it has gone is no error."""
    stream = sys.stdout
    encoding = stream.encoding or "utf-8"
    try:
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
