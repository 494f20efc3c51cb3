"""What may be left of a model: a share or an amount of what it costs, or what it has to reach."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from prunecvt_passes.errors import UsageError

UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "B": 1}
_HELP = (
    "write macs=0.5, params=0.5, bytes=0.5, bytes=4MB, speedup=2.0, latency=0.5, latency=3.5ms or "
    "agreement=0.99"
)
_COUNTED, _PROBED = ("macs", "params", "bytes"), ("latency", "agreement")


@dataclass(frozen=True)
class Target:
    """At most so much may be left, or so much has to be reached.

    Attributes:
        currency: multiply-accumulates, parameters, or bytes of the model, which are counted;
            ``latency`` and ``agreement`` with the original, which are measured on models cut to try
            it.
        amount: a share of the whole, bytes, or milliseconds; of agreement the least.
        absolute: whether ``amount`` is in bytes or milliseconds.
        text: as it was stated.
    """

    currency: Literal["macs", "params", "bytes", "latency", "agreement"]
    amount: float
    absolute: bool = False
    text: str = field(default="", compare=False)

    @property
    def probed(self) -> bool:
        """Whether it takes trials to say what meets it."""
        return self.currency in _PROBED

    @property
    def counted(self) -> Literal["macs", "params", "bytes"]:
        """The currency of a target that is counted.

        Raises:
            ValueError: it has to be measured.
        """
        if self.currency == "latency" or self.currency == "agreement":
            raise ValueError(f"{self.currency} is measured, not counted")
        return self.currency

    def goal(self, whole: float) -> float:
        """The most that may be left of ``whole``."""
        return self.amount if self.absolute else self.amount * whole


def parse_target(text: str) -> Target:
    """Reads ``macs=0.5``, ``bytes=4MB``, ``speedup=2.0``, ``latency=3.5ms``, ``agreement=0.99``.

    Raises:
        UsageError: E201, a text of another form; E212, an amount out of range.
    """
    currency, _, stated = text.partition("=")
    amount, unit = _amount(currency, stated.strip().upper())
    if not math.isfinite(amount) or currency not in (*_COUNTED, *_PROBED, "speedup"):
        raise UsageError("E201", f"--target {text} cannot be read", help=_HELP)
    absolute = bool(unit)
    if amount <= 0 or (currency == "speedup" and amount < 1):
        raise UsageError("E212", f"--target {text} is out of range", help=_HELP)
    if not absolute and currency != "speedup" and amount > 1:
        raise UsageError("E212", f"--target {text} is out of range", help=_HELP)
    if currency == "speedup":
        return Target("latency", 1 / amount, text=text)
    return Target(currency, amount, absolute, text)  # type: ignore[arg-type]  # checked above


def _amount(currency: str, stated: str) -> tuple[float, str]:
    """The number and its unit; not a number where either cannot be read or does not belong."""
    units = {"bytes": UNITS, "latency": {"MS": 1}}.get(currency, {})
    unit = next((u for u in units if stated.endswith(u)), "")
    try:
        return float(stated.removesuffix(unit)) * units.get(unit, 1), unit
    except ValueError:
        return float("nan"), ""
