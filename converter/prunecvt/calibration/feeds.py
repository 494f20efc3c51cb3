"""Batches of samples as a model takes them, each made when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import onnx

from prunecvt_passes.model import Array
from prunecvt_passes.samples import dimensions

Feed = dict[str, Array]
BATCH = 32


@dataclass(frozen=True)
class Feeds(Sequence[Feed]):
    """Runs of a model, one dictionary (input -> batch of samples) per run.

    Attributes:
        make: gives the ``k``-th run; the same each time.
        runs: how many.
        preprocessing: what was done to the data, in words; "" where nothing was.
        notes: what a reader of the report has to know of it.
    """

    make: Callable[[int], Feed]
    runs: int
    preprocessing: str = ""
    notes: tuple[str, ...] = ()

    @staticmethod
    def of(runs: Sequence[Feed], notes: tuple[str, ...] = ()) -> Feeds:
        """Runs that are there already."""
        return Feeds(runs.__getitem__, len(runs), notes=notes)

    def __len__(self) -> int:
        return self.runs

    @overload
    def __getitem__(self, place: int) -> Feed: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Feed, ...]: ...
    def __getitem__(self, place: int | slice) -> Feed | tuple[Feed, ...]:
        if isinstance(place, slice):
            return tuple(self.make(k) for k in range(*place.indices(self.runs)))
        if not -self.runs <= place < self.runs:
            raise IndexError(place)
        return self.make(place % self.runs)


def samples(feeds: Iterable[Feed]) -> int:
    """Samples in some runs: the first dimensions of their first inputs that have any, added up."""
    sizes = ([len(values) for values in feed.values() if np.ndim(values)] for feed in feeds)
    return sum(found[0] if found else 1 for found in sizes)


def steps(inputs: list[onnx.ValueInfoProto]) -> dict[str, int | None]:
    """Input -> samples that one run takes; None where the model leaves that open."""
    firsts = {value.name: (dimensions(value) or ("",))[0] for value in inputs}
    return {name: size if isinstance(size, int) else None for name, size in firsts.items()}


def spread(total: int, count: int) -> list[int]:
    """Up to ``count`` places, evenly spread over ``total``, so that sorted data gives of all."""
    taken = min(total, count)
    return [k * total // taken for k in range(taken)]
