"""Ctrl-C waits for the end of a step, so that no state is written that is half of one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def noted_interrupts() -> Iterator[list[int]]:
    """A list that the first SIGINT is added to instead of raising; the second raises at once.

    Where the signal is ignored, or in another thread than the main one, nothing changes.
    """
    seen: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    if not main or not callable(before):
        yield seen
        return

    def note(number: int, frame: FrameType | None) -> None:
        if seen:
            before(number, frame)
        seen.append(number)

    signal.signal(signal.SIGINT, note)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)
