"""Reading a report.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from prunecvt.errors import InputError
from prunecvt.report.record import Record
from prunecvt.report.schema import Report
from prunecvt.report.sweep import SweepReport

_Kind = TypeVar("_Kind", bound=Record)


def read_report(path: str | Path) -> Report:
    """Reads a report.

    Raises:
        InputError: E301, the file cannot be read; E310, it is no report of this schema.
    """
    return _parsed(path, _text(path), Report)


def read_document(path: str | Path) -> Report | SweepReport:
    """Reads a report, or a sweep: what has points.

    Raises:
        InputError: as ``read_report`` does.
    """
    text = _text(path)
    try:
        swept = "points" in json.loads(text)
    except (ValueError, TypeError, RecursionError):
        swept = False
    return _parsed(path, text, SweepReport) if swept else _parsed(path, text, Report)


def _text(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(
            "E301", "the report cannot be read", where=f"{path}: {error}", help="check the path"
        ) from error


def _parsed(path: str | Path, text: bytes, kind: type[_Kind]) -> _Kind:
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the document"
        raise InputError(
            "E310",
            "the file is no report of prunecvt",
            where=f"{path}: {place}: {first['msg']}",
            help="give the .report.json that 'prunecvt slim' wrote",
        ) from error
