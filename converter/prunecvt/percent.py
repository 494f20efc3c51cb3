"""How shares are written, in every report and line of text."""

from __future__ import annotations

import math

UNKNOWN = "-"


def percent(share: float, decimals: int = 1) -> str:
    """0.4231 -> ``42.3 %``; ``-`` for what is no number."""
    return f"{100 * share:.{decimals}f} %" if math.isfinite(share) else UNKNOWN
