"""Opening a file that must be a regular one: a FIFO or a device would hang or never end."""

from __future__ import annotations

import os
import stat
from typing import BinaryIO

from prunecvt.loading.refusal import invalid

_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a FIFO put there after the check does not block the open
)
NO_FOLLOW: int = getattr(os, "O_NOFOLLOW", 0)


def open_regular(
    path: str,
    code: str,
    where: str,
    *,
    flags: int = 0,
    missing_help: str = "check the path and the spelling",
) -> BinaryIO:
    """Opens a regular file for reading.

    Args:
        path: the file.
        code: of the error to raise.
        where: the place that the error names.
        flags: more flags for the open, such as ``NO_FOLLOW``.
        missing_help: what to do about a missing file.

    Raises:
        InputError: with ``code``; missing, a folder, not a regular file, or not readable.
    """
    try:
        _refuse_others(os.stat(path).st_mode, code, where)  # opening a device can have effects
        handle = os.fdopen(os.open(path, _FLAGS | flags), "rb", buffering=0)
    except FileNotFoundError as error:
        raise invalid(code, "there is no such file", where, help=missing_help) from error
    except PermissionError as error:
        raise invalid(
            code, "the file may not be read", where, help="check the file's permissions"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise invalid(code, f"the file cannot be opened: {reason}", where) from error
    try:
        _refuse_others(os.fstat(handle.fileno()).st_mode, code, where)
    except BaseException:
        handle.close()
        raise
    return handle


def _refuse_others(mode: int, code: str, where: str) -> None:
    if stat.S_ISREG(mode):
        return
    if stat.S_ISDIR(mode):
        raise invalid(
            code, "this is a folder, not a file", where, help="give the .onnx file inside it"
        )
    raise invalid(
        code,
        "this is not a regular file",
        where,
        help="copy the content to a regular file first; pipes and devices are not read",
    )
