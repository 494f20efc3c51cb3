"""Reading a plan.json."""

from __future__ import annotations

from pathlib import Path

from prunecvt.errors import InputError
from prunecvt_passes.plan import Plan


def read_plan(path: str | Path) -> Plan:
    """Reads a plan.

    Raises:
        InputError: E301, the file cannot be read.
        UsageError: E214, it is no plan.
    """
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "E301", "the plan cannot be read", where=f"{path}: {error}", help="check the path"
        ) from error
    return Plan.from_json(text, str(path))
