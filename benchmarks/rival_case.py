"""A classifier that other tools cut, and the ratio that leaves a share of its MACs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from prunecvt_passes.normalise import Dense
from prunecvt_passes.recovery.reach import amount
from trained import Examples, Ints, _normalised, examples_for, opened

T = TypeVar("T")
Pictures = npt.NDArray[np.uint8]
_TRIES = 14


@dataclass(frozen=True)
class Case:
    """A trained classifier, its tests, and pictures without labels."""

    name: str
    path: Path
    dense: Dense
    macs: float
    examples: Examples
    pictures: Pictures

    def top1(self, answers: Ints) -> float:
        """Percent of right answers."""
        return 100 * float((answers == self.examples.labels).mean())


@dataclass(frozen=True)
class Way(Generic[T]):
    """One setting of one tool.

    Attributes:
        cells: tool, criterion and scope, as the table has them.
        cut: the model without a share of its channels.
        macs: what a cut model costs.
        answers: the classes that a model gives the tests.
        remedies: ways to estimate a cut model's BatchNormalization anew, by name.
        sketch: a quicker cut that leaves as many channels everywhere, for the search.
    """

    cells: tuple[str, str, str]
    cut: Callable[[float], T]
    macs: Callable[[T], float]
    answers: Callable[[T], Ints]
    remedies: dict[str, Callable[[T], T]] = field(default_factory=dict)
    sketch: Callable[[float], T] | None = None

    def ratio(self, goal: float) -> float | None:
        """The ratio whose cut costs most and no more than ``goal``; None where none does."""
        low, high, most, best = 0.0, 1.0, -1.0, None
        cut = self.sketch or self.cut
        for _ in range(_TRIES):
            tried = (low + high) / 2
            price = self.macs(cut(tried))
            low, high = (low, tried) if price <= goal else (tried, high)
            if most < price <= goal:
                most, best = price, tried
        return best


def read(shared: Path, name: str, images: int, tests: int) -> Case:
    """The case ``name``; of ImageNet, odd pictures are tests and even ones have no labels."""
    path = shared / "models" / f"{name}.onnx"
    dense = opened(path)
    if name.startswith("imagenet"):
        examples, pictures = _odd_and_even(shared, images, tests)
    else:
        found = examples_for(path, shared, tests)
        if found is None or "tiny" in name:
            raise SystemExit(f"{name}: no torch module of this model is known here")
        with np.load(shared / "data" / "cifar10_calib.npz") as stored:
            examples, pictures = found, stored["images"][:images]
    whole = amount(dense, dense.graph.model, "macs", False)
    return Case(name, path, dense, whole, examples, pictures)


def _odd_and_even(shared: Path, images: int, tests: int) -> tuple[Examples, Pictures]:
    from PIL import Image

    paths = sorted((shared / "data" / "imagenet_500").glob("*.jpg"))
    pictures = np.stack([np.array(Image.open(path).convert("RGB")) for path in paths])
    labels = np.array([int(path.stem) for path in paths], np.int64)
    odd = slice(1, 2 * tests, 2)
    return Examples(_normalised(pictures[odd]), labels[odd]), pictures[0 : 2 * images : 2]
