"""Progress on stderr: drawn on a terminal, a line for each finished step elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

Progress = Callable[..., None]


def clock_time(seconds: float) -> str:
    """75.2 -> ``1:15``, 3675 -> ``1:01:15``."""
    minutes, rest = divmod(max(round(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def line_writer(
    stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
) -> Progress:
    """A callback that writes a line for what is lasting, with the time gone and the time left."""
    started, where = clock(), stream or sys.stderr

    def advance(
        what: str, share: float | None = None, left: float | None = None, lasting: bool = False
    ) -> None:
        if lasting:
            more = "" if left is None or left < 0.5 else f", about {clock_time(left)} left"
            where.write(f"{what} ({clock_time(clock() - started)} elapsed{more})\n")
            where.flush()

    return advance


@contextlib.contextmanager
def drawn_progress(console: Console) -> Iterator[Progress]:
    """A callback that draws a bar, with the time gone and, where it is known, the time left."""
    from rich.progress import (
        BarColumn,
        ProgressColumn,
        SpinnerColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
    )
    from rich.progress import Progress as Bar
    from rich.text import Text

    class Left(ProgressColumn):
        """Counts down from the last estimate."""

        def render(self, task: Task) -> Text:
            end = task.fields.get("end")
            return Text("" if end is None else f"{clock_time(end - time.monotonic())} left")

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
        Left(),
    )
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("load", total=None, end=None)

        def advance(
            what: str, share: float | None = None, left: float | None = None, lasting: bool = False
        ) -> None:
            total = None if share is None else 1.0
            end = None if left is None else time.monotonic() + left
            what = what.replace("_", " ")
            bar.update(task, description=what, total=total, completed=share or 0, end=end)

        yield advance
