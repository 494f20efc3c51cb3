"""The version, read from the installed distribution."""

from __future__ import annotations

import importlib.metadata

try:
    VERSION = importlib.metadata.version("prunecvt")
except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
    VERSION = "0.0.0"
