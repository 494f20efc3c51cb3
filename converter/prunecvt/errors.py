"""The errors that prunecvt raises; defined beside the passes, which raise most of them."""

from prunecvt_passes.errors import (
    GateError,
    InputError,
    OutputError,
    PassError,
    PrunecvtError,
    ResourceError,
    UnsupportedError,
    UsageError,
    VerifyError,
)

__all__ = [
    "GateError",
    "InputError",
    "OutputError",
    "PassError",
    "PrunecvtError",
    "ResourceError",
    "UnsupportedError",
    "UsageError",
    "VerifyError",
]
