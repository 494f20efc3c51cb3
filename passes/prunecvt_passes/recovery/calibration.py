"""Unlabelled data, split once for all: what is fitted on, and what only judges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prunecvt_passes.graph import Graph
from prunecvt_passes.model import Array

Feed = Mapping[str, Array]
_HELD_OUT = 8  # one run of so many is held out
LEAST = 2  # samples of each part: a single one has no variance to hold an error against
ENOUGH = f"two batches, {LEAST} samples to fit on and {LEAST} to hold out"


@dataclass(frozen=True)
class Calibration:
    """Runs of unlabelled data, one mapping (graph input -> array) per run.

    Attributes:
        fit: what statistics and fits see.
        held_out: what chooses among fits and judges them, and is never fitted on.
    """

    fit: tuple[Feed, ...] = ()
    held_out: tuple[Feed, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is enough to fit and to judge."""
        return bool(self.fit and self.held_out)


NO_CALIBRATION = Calibration()


def split(feeds: Sequence[Feed]) -> Calibration:
    """Holds the last eighth of the runs out, and ``LEAST`` samples at least.

    Nothing is fitted where there are too few runs for two parts of so many samples.
    """
    held = max(1, len(feeds) // _HELD_OUT)
    while held < len(feeds) and samples_of(feeds[-held:]) < LEAST:
        held += 1
    if held >= len(feeds) or samples_of(feeds[:-held]) < LEAST:
        return NO_CALIBRATION
    return Calibration(tuple(feeds[:-held]), tuple(feeds[-held:]))


def samples_of(feeds: Sequence[Feed]) -> int:
    """Samples in some runs: the first dimension of the first input that has one, added up."""
    sizes = ([len(v) for v in feed.values() if np.ndim(v)] for feed in feeds)
    return sum(found[0] if found else 1 for found in sizes)


def walkable(graph: Graph) -> bool:
    """Whether every value of the graph is a tensor, so that it can be run part by part."""
    return not any("Sequence" in node.op or "Optional" in node.op for node in graph.nodes)
