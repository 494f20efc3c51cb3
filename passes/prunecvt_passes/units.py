"""What is removed as one where an operator leaves a choice, and what may be removed inexactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

AttentionUnit = Literal["head", "channel"]
GroupedUnit = Literal["channel", "group"]


@dataclass(frozen=True)
class Units:
    """The units of removal.

    Attributes:
        attention: ``head`` removes whole heads of an attention, ``channel`` the same channels of
            every head.
        grouped: ``channel`` removes as many channels of every group of a grouped convolution,
            ``group`` whole groups (Sparse Structure Selection, Huang and Wang 2018, on ResNeXt).
        inexact: also cut axes that a normalisation or a mean works across, which then works on
            what is left: no longer what the original computes, and flagged as such.
    """

    attention: AttentionUnit = "head"
    grouped: GroupedUnit = "channel"
    inexact: bool = False


DEFAULT_UNITS = Units()
