"""The data as tensors: a part to learn from, a part held out, and batches in a drawn order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from prunecvt.errors import UsageError
from prunecvt_passes.model import Array

FEWEST = 16  # samples that can be parted
MOST_HELD_OUT = 1024


@dataclass(frozen=True)
class Samples:
    """Samples of every input.

    Attributes:
        inputs: input -> [samples, ...]; without a sample axis for what all samples share.
        shared: names of those.
        labels: [samples] classes; None where there are none.
    """

    inputs: dict[str, Tensor]
    shared: frozenset[str] = frozenset()
    labels: Tensor | None = None

    def __len__(self) -> int:
        return next(len(v) for name, v in self.inputs.items() if name not in self.shared)

    def at(self, places: Tensor) -> Samples:
        """Some of the samples."""
        found = {
            name: values if name in self.shared else values[places]
            for name, values in self.inputs.items()
        }
        return Samples(found, self.shared, None if self.labels is None else self.labels[places])

    def spread(self, count: int | None) -> Samples:
        """So many, evenly spread, as classes often come in order; all where None."""
        total = len(self)
        if count is None or count >= total:
            return self
        return self.at(torch.arange(count) * total // count)

    def on(self, device: torch.device) -> Samples:
        """The same on a device."""
        moved = {name: values.to(device) for name, values in self.inputs.items()}
        labels = None if self.labels is None else self.labels.to(device)
        return Samples(moved, self.shared, labels)


def stacked(feeds: list[Mapping[str, Array]], labels: Array | None = None) -> Samples:
    """Puts the batches of a source together; half precision becomes float32, which is trained in.

    Raises:
        UsageError: E260, there are too few samples, or inputs have different numbers of them.
    """
    first = feeds[0]
    shared = frozenset(name for name, values in first.items() if not np.ndim(values))
    inputs = {}
    for name in first:
        parts = [np.asarray(feed[name]) for feed in feeds]
        whole = parts[0] if name in shared else np.concatenate(parts)
        half = whole.dtype.itemsize == 2 and whole.dtype.kind in "fV"  # V: bfloat16
        kind = np.float32 if half else whole.dtype
        whole = whole.astype(kind, order="C", copy=name in shared)  # the rest is ours already
        inputs[name] = torch.from_numpy(whole)
    counts = {len(values) for name, values in inputs.items() if name not in shared}
    if len(counts) != 1 or min(counts) < FEWEST:
        raise UsageError(
            "E260",
            f"there is too little data to learn from: {', '.join(map(str, sorted(counts)))} samples"
            if len(counts) == 1
            else "the inputs have different numbers of samples, or none",
            help=f"give {FEWEST} samples or more, as many of every input",
        )
    return Samples(inputs, shared, None if labels is None else torch.from_numpy(np.array(labels)))


def parted(samples: Samples, share: float, seed: int) -> tuple[Samples, Samples]:
    """What is learned from, and what is held out: drawn by the seed, in the order of the data."""
    total = len(samples)
    held = min(max(round(share * total), FEWEST // 4), MOST_HELD_OUT, total // 2)
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    return samples.at(order[held:].sort().values), samples.at(order[:held].sort().values)


def batch_places(total: int, size: int, step: int, seed: int) -> Tensor:
    """The samples of a step: one after the other, in an order that is drawn anew every epoch."""
    size = min(size, total)
    epoch, place = divmod(step, max(total // size, 1))
    draw = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return torch.randperm(total, generator=draw)[place * size : (place + 1) * size]
