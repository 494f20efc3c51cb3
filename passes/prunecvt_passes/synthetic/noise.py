"""Noise to run a model on where there is no data: made-up images, white noise elsewhere."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from prunecvt_passes.errors import UsageError
from prunecvt_passes.model import Array
from prunecvt_passes.normalise import Dense, Source
from prunecvt_passes.recovery.calibration import Calibration, split
from prunecvt_passes.samples import dimensions, graph_inputs, random_inputs
from prunecvt_passes.synthetic.leaves import COLOURS, dead_leaves

SAMPLES = 512
NUMBERS = 1 << 25  # of all inputs' samples, where not told otherwise: 128 MB,
LEAST = 8  # but so many samples in any case
FEWEST = 4  # that may be asked for: two to fit on, and two that judge
BATCH = 32

Sizes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Noise:
    """How much noise, and a seed.

    ``samples``, ``FEWEST`` or more, is rounded up to whole runs, two at least; None for 512 or as
    many as hold ``NUMBERS``, ``LEAST`` at least.
    """

    samples: int | None = None
    seed: int = 0


def make_noise(dense: Dense, source: Source, noise: Noise) -> Calibration:
    """Noise for every input, in runs as the model takes them, a part of them held out.

    Args:
        dense: the model.
        source: the sizes that the user gave; a batch among them is taken.
        noise: how much.

    Raises:
        UsageError: E219, no input is of floating-point numbers.
    """
    model = dense.graph.model
    sizes, batch = _sizes(dense, source, noise)
    runs = []
    for number in range(max(2, -(-_wanted(dense, noise) // batch))):
        chance = np.random.default_rng((noise.seed, number))
        given = random_inputs(model, sizes, int(chance.integers(1 << 31)))
        runs.append({name: _shaped(values, chance) for name, values in given.items()})
    if all(values.dtype.kind != "f" for values in runs[0].values()):
        raise UsageError(
            "E219",
            "noise is for inputs of floating-point numbers",
            where=f"{model.source}: its inputs are {', '.join(sizes)}",
            help="give data with --calib",
        )
    return split(runs)


def _wanted(dense: Dense, noise: Noise) -> int:
    """Samples."""
    each = sum(math.prod(dense.sizes[v.name][1:]) for v in graph_inputs(dense.graph.model))
    return noise.samples or max(LEAST, min(SAMPLES, NUMBERS // max(each, 1)))


def _sizes(dense: Dense, source: Source, noise: Noise) -> tuple[Sizes, int]:
    """Every input's sizes in one run, and the samples that makes: an open batch is chosen here."""
    declared = {v.name: dimensions(v) or () for v in graph_inputs(dense.graph.model)}
    sizes = {name: tuple(dense.sizes[name]) for name in declared}
    names = {dims[0] for dims in declared.values() if len(dims) > 1 and isinstance(dims[0], str)}
    opened = {
        (name, axis)
        for name, dims in declared.items()
        for axis, dim in enumerate(dims)
        if isinstance(dim, str) and (dim in names if dim else axis == 0 and len(dims) > 1)
    }
    stated = [sizes[name][axis] for name, axis in opened if name in source.input_sizes]
    if not opened or stated:
        firsts = [size[0] for size in sizes.values() if len(size) > 1]
        return sizes, max(1, stated[0] if stated else next(iter(firsts), 1))
    batch = min(BATCH, max(1, _wanted(dense, noise) // LEAST))
    for name, axis in opened:
        sizes[name] = (*sizes[name][:axis], batch, *sizes[name][axis + 1 :])
    return sizes, batch


def _shaped(values: Array, chance: np.random.Generator) -> Array:
    """The input's noise: images of dead leaves, or what is no image as it is."""
    if values.dtype.kind != "f" or values.ndim != 4:
        return values
    last = values.shape[-1] <= COLOURS < values.shape[1]
    shape = np.moveaxis(values, -1, 1).shape if last else values.shape
    found = dead_leaves(shape, chance).astype(values.dtype)
    return np.ascontiguousarray(np.moveaxis(found, 1, -1)) if last else found
