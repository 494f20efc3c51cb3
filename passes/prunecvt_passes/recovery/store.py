"""Holds tensors of many batches, in memory up to a limit and beyond it in temporary files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from prunecvt_passes.model import Array

LIMIT = 1 << 30  # bytes of tensors held in memory


class Store:
    """Tensors by batch and name; what goes beyond ``limit`` bytes lies in temporary files."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.held = 0
        self.spilled = 0
        self._values: dict[str, dict[int, Array | Path]] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="prunecvt")

    def put(self, batch: int, name: str, values: Array) -> None:
        """Holds a tensor, in the place of what was held under the name for the batch."""
        place = self._values.setdefault(name, {})
        old = place.pop(batch, None)
        if isinstance(old, Path):
            old.unlink()
        elif old is not None:
            self.held -= old.nbytes
        if self.held + values.nbytes <= self.limit or not values.ndim or values.dtype == object:
            self.held += values.nbytes
            place[batch] = values
            return
        path = Path(self._folder.name) / f"{self.spilled}.npy"
        self.spilled += 1
        np.save(path, values)
        place[batch] = path

    def get(self, batch: int, name: str) -> Array:
        """The tensor of a batch."""
        values = self._values[name][batch]
        return np.asarray(np.load(values)) if isinstance(values, Path) else values

    def shape(self, batch: int, name: str) -> tuple[int, ...]:
        """Sizes of the tensor of a batch, without reading it."""
        values = self._values[name][batch]
        return np.load(values, mmap_mode="r").shape if isinstance(values, Path) else values.shape

    def names(self) -> set[str]:
        """Names of what is held."""
        return set(self._values)

    def drop(self, names: Iterable[str]) -> None:
        """Forgets tensors of every batch."""
        for name in list(names):
            for values in self._values.pop(name, {}).values():
                if isinstance(values, Path):
                    values.unlink()
                else:
                    self.held -= values.nbytes

    def close(self) -> None:
        """Forgets everything."""
        self._values.clear()
        self._folder.cleanup()
