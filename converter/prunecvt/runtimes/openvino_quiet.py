"""Imports OpenVINO without its telemetry.

``import openvino`` reports the import to a web analytics service and writes a consent file into the
home folder, unless ``openvino_telemetry`` cannot be imported; then it falls back on a stub.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any, cast

_TELEMETRY = "openvino_telemetry"


def import_openvino() -> Any:
    """Returns the ``openvino`` module; one that was already imported stays as it is.

    Raises:
        ImportError: OpenVINO is not installed, or its libraries cannot be loaded.
    """
    modules = cast("dict[str, ModuleType | None]", sys.modules)
    hidden = _TELEMETRY not in modules
    if hidden:
        modules[_TELEMETRY] = None  # what an import statement takes for "not installed"
    try:
        import openvino
    finally:
        if hidden:
            del modules[_TELEMETRY]
    return openvino
