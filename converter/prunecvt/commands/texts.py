"""Reads what flags hold as text."""

from __future__ import annotations

import math

from prunecvt.errors import UsageError
from prunecvt_passes.target import UNITS


def input_shapes(texts: list[str]) -> dict[str, tuple[int, ...]]:
    """Reads ``NAME:1,3,224,224``; the last colon counts, for names may hold some.

    Raises:
        UsageError: E202, a text of another form.
    """
    found = {}
    for text in texts:
        name, colon, sizes = text.rpartition(":")
        try:
            shape = tuple(int(size) for size in sizes.split(","))
        except ValueError:
            shape = ()
        if not colon or not name or not shape or min(shape) < 1:
            raise UsageError(
                "E202",
                f"--input-shape {text} cannot be read",
                help="write NAME:1,3,224,224",
            )
        found[name] = shape
    return found


def ratios(texts: list[str]) -> dict[str, float]:
    """Reads ``PATTERN=0.2``; the last equals sign counts, for patterns may hold some.

    Raises:
        UsageError: E201, a text of another form.
    """
    found: dict[str, float] = {}
    for text in texts:
        pattern, _, stated = text.rpartition("=")
        try:
            ratio = float(stated)
        except ValueError:
            ratio = math.nan
        if not pattern or math.isnan(ratio):
            raise UsageError(
                "E201", f"--ratio-of {text} cannot be read", help="write 'layer1*=0.2'"
            )
        found.pop(pattern, None)  # the last that matches counts
        found[pattern] = ratio
    return found


def numbers(flag: str, text: str) -> list[float]:
    """Reads numbers with commas between; none from an empty text.

    Raises:
        UsageError: E201, a text of another form.
    """
    try:
        return [float(each) for each in text.split(",") if each.strip()]
    except ValueError as error:
        raise UsageError(
            "E201", f"{flag} {text} cannot be read", help="write 0.1,0.2,0.3"
        ) from error


def multiple(text: str) -> str | int:
    """Reads ``auto`` or a multiple of channels.

    Raises:
        UsageError: E201, a text of another form.
    """
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError as error:
        raise UsageError(
            "E201", f"--round-to {text} is no number", help="write auto or 8"
        ) from error


def byte_count(text: str | None) -> int | None:
    """Reads ``4GB``, ``500MiB`` or a plain number of bytes; None where there is none.

    Raises:
        UsageError: E201, a text of another form.
    """
    if text is None:
        return None
    upper = text.strip().upper()
    unit = next((u for u in UNITS if upper.endswith(u)), "")
    try:
        size = float(upper.removesuffix(unit)) * UNITS.get(unit, 1)
    except ValueError:
        size = -1
    if not 0 < size < 2**63:
        raise UsageError("E201", f"--max-memory {text} cannot be read", help="write 4GB or 500MB")
    return int(size)
