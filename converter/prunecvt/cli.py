"""The command line's entry: runs the commands, and says how errors end."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from types import FrameType

_NUMBER = re.compile(r"-?[\d.]+$")


def main() -> None:
    """Runs the command line; the exit code says how it ended (see docs/errors.md)."""
    interrupts = _note_interrupts()
    try:
        from prunecvt.commands.app import app  # here, so that an interrupt finds the handler below

        app(args=_complete(sys.argv[1:]), standalone_mode=True)
    except KeyboardInterrupt:
        _end_interrupted()
    except BrokenPipeError:  # whoever read stdout has gone: nothing more to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:  # the last line of defence: every end has a message and a code
        if interrupts:  # native modules that are interrupted while they load raise ImportError
            _end_interrupted()
        if "--debug" in sys.argv:
            raise
        sys.exit(_report(error))


def _complete(arguments: list[str]) -> list[str]:
    """Gives ``--static-batch`` the value that may be left out."""
    found = []
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        bare = argument == "--static-batch" and not _NUMBER.match(following)
        found.append(f"{argument}=1" if bare else argument)
    return found


def _note_interrupts() -> list[int]:
    """Returns a list that every SIGINT is added to; each still raises ``KeyboardInterrupt``."""
    seen: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        signal.default_int_handler(number, frame)

    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if usual and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, note)
    return seen


def _end_interrupted() -> None:
    sys.stderr.write("interrupted\n")
    sys.exit(130)


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
