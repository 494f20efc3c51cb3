"""What lies in the folder of a sweep: what goes on from there, and what must not be replaced.

A point can be taken up where its report says that it was made of the same file, with the same
settings, and its model is what that report says. Names of data count, not their contents.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from prunecvt.errors import OutputError
from prunecvt.options import Options
from prunecvt.paths import Paths
from prunecvt.report.schema import Report
from prunecvt.report.sweep import SweepReport
from prunecvt.report.wording import shorten
from prunecvt.slimming import file_sha256
from prunecvt.writing.write import check_targets, reported

_VARIED = ("ratio", "target")  # from point to point
# they change nothing of a point
_IDLE = ("bench", "force", "report", "fail_if", "strict_layout", "threads", "timeout", "max_memory")
_MOST = 3  # differences that are named
_OTHER_MODEL = "it is of another model"


def shared_settings(shared: Options) -> dict[str, Any]:
    """What all points have in common, as plain values."""
    return _without(_plain(shared), (*_IDLE, *_VARIED))


def made_before(path: Path, sha256: str, options: Options) -> Report | None:
    """The report of a point that was made before with the same settings; None to make it.

    Args:
        path: the point's model.
        sha256: of the original's file.
        options: of the point.
    """
    report = _report_of(path)
    if report is None or _difference(report, sha256, options):
        return None
    written = report.output.onnx
    whole = path.is_file() and written is not None and file_sha256(path) == written.sha256
    return report if whole else None


def prepare(
    folder: Path, sha256: str, shared: Options, points: Mapping[Path, Options], *, force: bool
) -> list[Path]:
    """Makes the folder where it is not there, and refuses to replace what is not of this sweep.

    Args:
        folder: where everything goes.
        sha256: of the original's file.
        shared: what all points have in common.
        points: each point's model, and its options.
        force: replaces what was made otherwise.

    Returns:
        The documents of the whole sweep: sweep.json and sweep.html.

    Raises:
        OutputError: E701, something there was made of another model or with other settings; E703
            to E706, the folder cannot be made or written to.
    """
    documents = [folder / "sweep.json", folder / "sweep.html"]
    with reported(folder):
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        folder.mkdir(parents=True, exist_ok=True)
    check_targets(documents, force=True)
    if force:
        return documents
    _refuse(documents[0], _sweep_differs(documents, sha256, shared))
    for path, options in points.items():
        _refuse(path, _point_differs(path, sha256, options))
    return documents


def _refuse(path: Path, why: str) -> None:
    if why:
        raise OutputError(
            "E701",
            "the folder holds results that are not of this sweep",
            where=f"{path}: {why}",
            help="name another folder with -o, or replace them with --force",
        )


def _sweep_differs(documents: list[Path], sha256: str, shared: Options) -> str:
    """Why the documents that lie there are of another sweep; "" where they are not, or none do."""
    document, page = documents
    if not document.exists():
        return f"it is missing beside {page.name}" if page.exists() else ""
    try:
        found = SweepReport.model_validate_json(document.read_bytes())
    except (OSError, ValidationError):
        return "it is no sweep's"
    if found.sha256 != sha256:
        return _OTHER_MODEL
    if not found.settings:  # an older one does not say; its points do
        return ""
    return _named(_without(found.settings, _IDLE), shared_settings(shared))


def _point_differs(path: Path, sha256: str, options: Options) -> str:
    """Why what lies at a point's place was made otherwise; "" where it was not, or nothing does."""
    report = _report_of(path)
    if report is not None:
        return _difference(report, sha256, options)
    there = [each.name for each in Paths.beside(path, options).all if each.exists()]
    return f"no report of prunecvt says how {there[-1]} was made" if there else ""


def _report_of(path: Path) -> Report | None:
    try:
        return Report.model_validate_json(path.with_suffix(".report.json").read_bytes())
    except (OSError, ValidationError):
        return None


def _difference(report: Report, sha256: str, options: Options) -> str:
    """What a point was made of or with that is not asked for now; "" where nothing differs."""
    if report.input.sha256 != sha256:
        return _OTHER_MODEL
    target = options.budget.target
    timed = target is not None and target.currency == "latency"  # threads decide what meets it
    idle = set(_IDLE) - ({"threads"} if timed else set())
    return _named(_without(report.settings, idle), _without(_plain(options), idle))


def _named(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """The settings that differ: ``round_to is 8 there and auto now``."""
    pairs = ((k, _value(found, k), _value(wanted, k)) for k in sorted({*found, *wanted}))
    said = [f"{name} is {old} there and {new} now" for name, old, new in pairs if old != new]
    more = f", and {len(said) - _MOST} more" if len(said) > _MOST else ""
    return ", ".join(shorten(each, 200) for each in said[:_MOST]) + more


def _value(settings: Mapping[str, Any], name: str) -> str:
    return json.dumps(settings[name], sort_keys=True) if name in settings else "not stated"


def _plain(options: Options) -> dict[str, Any]:
    """Settings as they are read back from a document."""
    plain: dict[str, Any] = json.loads(json.dumps(options.settings()))
    return plain


def _without(settings: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in names}
