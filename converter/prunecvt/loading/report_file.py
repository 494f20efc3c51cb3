"""Reading a report.json."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from prunecvt.errors import InputError
from prunecvt.report.schema import Report


def read_report(path: str | Path) -> Report:
    """Reads a report.

    Raises:
        InputError: E301, the file cannot be read; E310, it is no report of this schema.
    """
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise InputError(
            "E301", "the report cannot be read", where=f"{path}: {error}", help="check the path"
        ) from error
    try:
        return Report.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the document"
        raise InputError(
            "E310",
            "the file is no report of prunecvt",
            where=f"{path}: {place}: {first['msg']}",
            help="give the .report.json that 'prunecvt slim' wrote",
        ) from error
