"""calib.toml: where the data is and what is done to it, in one file that travels with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prunecvt.calibration.preprocessing import Preprocessing
from prunecvt.errors import UsageError
from prunecvt.loading.refusal import one_line
from prunecvt.loading.toml_file import read_toml

_KEYS = ("path", "count", "resize", "crop", "scale", "mean", "std", "layout", "color")


@dataclass(frozen=True)
class SettingsFile:
    """What a calib.toml says: the data's path, the steps, and how many samples (None: unsaid)."""

    path: Path
    stated: Preprocessing
    count: int | None


def read_settings(file: Path) -> SettingsFile:
    """Reads a calib.toml; its path is relative to the file.

    Raises:
        UsageError: E230, it cannot be read; E236, it says what it cannot.
    """
    try:
        document = read_toml(file)
    except (OSError, ValueError) as error:
        raise UsageError(
            "E230",
            "the settings of the data cannot be read",
            where=f"{file}: {one_line(str(error))[:200]}",
            help='write TOML, such as path = "images" and resize = 256',
        ) from error
    unknown = sorted(set(document) - set(_KEYS))
    path, count = document.get("path"), document.get("count")
    wrong = ""
    if unknown:
        wrong = f"'{unknown[0]}' is not known"
    elif not isinstance(path, str):
        wrong = "path is missing or no text"
    elif count is not None and (type(count) is not int or count < 1):
        wrong = "count is no number from 1 on"
    elif path.endswith(".toml"):
        wrong = "path is another .toml"
    if wrong:
        keys = ", ".join(_KEYS)
        raise UsageError("E236", f"{wrong} in calib.toml", where=str(file), help=f"keys: {keys}")
    try:
        stated = Preprocessing.of(document)
    except UsageError as error:
        raise UsageError(error.code, error.message, where=str(file), help=error.help) from error
    return SettingsFile(file.parent / str(path), stated, count)
