"""Takes a trained ONNX model and gives back a smaller, really faster one, with proof.

>>> import prunecvt
>>> result = prunecvt.slim("model.onnx", "model_slim.onnx", ratio=0.4)
>>> result.report.totals.params.ratio
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import prunecvt_passes  # noqa: F401  (keeps onnxruntime quiet, so before anything imports it)

if TYPE_CHECKING:
    from prunecvt.api import Inspection, Planned, Result, apply, inspect, plan, slim, trim, tune
    from prunecvt.bridge.export import Exported, export
    from prunecvt.errors import (
        GateError,
        InputError,
        OutputError,
        PrunecvtError,
        ResourceError,
        UnsupportedError,
        UsageError,
        VerifyError,
    )

_HOMES = {
    **dict.fromkeys(
        ("Inspection", "Planned", "Result", "apply", "inspect", "plan", "slim", "trim", "tune"),
        "prunecvt.api",
    ),
    **dict.fromkeys(("Exported", "export"), "prunecvt.bridge.export"),
    **dict.fromkeys(
        (
            "GateError",
            "InputError",
            "OutputError",
            "PrunecvtError",
            "ResourceError",
            "UnsupportedError",
            "UsageError",
            "VerifyError",
        ),
        "prunecvt.errors",
    ),
}

__all__ = [
    "Exported",
    "GateError",
    "InputError",
    "Inspection",
    "OutputError",
    "Planned",
    "PrunecvtError",
    "ResourceError",
    "Result",
    "UnsupportedError",
    "UsageError",
    "VerifyError",
    "apply",
    "export",
    "inspect",
    "plan",
    "slim",
    "trim",
    "tune",
]


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used, so that ``import prunecvt`` is quick."""
    import importlib

    if name == "__version__":
        return importlib.import_module("prunecvt.version").VERSION
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'prunecvt' has no attribute '{name}'")
