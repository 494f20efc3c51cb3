"""What may be left of a model: a share or an amount of what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from prunecvt_passes.errors import UsageError

UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "B": 1}
_HELP = "write macs=0.5, params=0.5, bytes=0.5 or bytes=4MB"


@dataclass(frozen=True)
class Target:
    """At most so much may be left.

    Attributes:
        currency: multiply-accumulates, parameters, or bytes of the model.
        amount: a share of the whole, or bytes.
        absolute: whether ``amount`` is in bytes.
    """

    currency: Literal["macs", "params", "bytes"]
    amount: float
    absolute: bool = False

    def goal(self, whole: float) -> float:
        """The most that may be left of ``whole``."""
        return self.amount if self.absolute else self.amount * whole


def parse_target(text: str) -> Target:
    """Reads ``macs=0.5``, ``params=0.5`` or ``bytes=4MB``.

    Raises:
        UsageError: E201, a text of another form; E212, a share out of range.
    """
    currency, _, stated = text.partition("=")
    unit = next((u for u in UNITS if stated.strip().upper().endswith(u)), "")
    try:
        amount = float(stated.strip().upper().removesuffix(unit)) * UNITS.get(unit, 1)
    except ValueError:
        amount = float("nan")
    if amount != amount or (unit and currency != "bytes"):
        raise UsageError("E201", f"--target {text} cannot be read", help=_HELP)
    if currency == "bytes":
        target = Target("bytes", amount, bool(unit))
    elif currency in ("macs", "params"):
        target = Target("macs" if currency == "macs" else "params", amount)
    else:
        raise UsageError("E201", f"--target {text} cannot be read", help=_HELP)
    if amount <= 0 or not (target.absolute or amount <= 1):
        raise UsageError("E212", f"--target {text} is out of range", help=_HELP)
    return target
