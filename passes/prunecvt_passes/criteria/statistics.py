"""What readers of channels see on unlabelled data, as a fact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from prunecvt_passes.flow import Read

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Statistics:
    """One measure of every channel that can be cut, at the tensors where it is read.

    Attributes:
        measure: which (``measures.py``); "" where none was asked for.
        samples: how many it was taken over; 0 without data.
        seen: (tensor, axis) -> the measure's mean over the samples, [..., channels].
        gradients: [samples, classes], of a loss by the gates of each class (``gated.py``), NaN
            where none reaches it; empty where none were asked for.
    """

    measure: str = ""
    samples: int = 0
    seen: Mapping[tuple[str, int], Floats] = field(default_factory=dict)
    gradients: Singles = field(default_factory=lambda: np.zeros((0, 0), np.float32))

    def __bool__(self) -> bool:
        """Whether anything is known."""
        return bool(self.seen) or bool(np.isfinite(self.gradients[:1]).any())

    def of(self, read: Read) -> Floats | None:
        """What a reader sees, [..., channels]; None where it is not known."""
        return self.seen.get((read.node.input(read.place), read.axis))


NO_STATISTICS = Statistics()
