"""Reading TOML, which Python itself does from 3.11 on."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file holds.

    Raises:
        OSError, ValueError: it cannot be read, or is no TOML.
    """
    toml: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    document: dict[str, Any] = toml.loads(path.read_text("utf-8"))
    return document
