"""Noise with the spectrum of photographs, to run a model on where there is no data.

Amplitudes fall with one over the frequency, as those of natural images do (Field, 1987; Torralba
and Oliva, 2003), and the channels of an image go together. What is no image is white noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prunecvt_passes.errors import UsageError
from prunecvt_passes.model import Array
from prunecvt_passes.normalise import Dense
from prunecvt_passes.recovery.calibration import Calibration, split
from prunecvt_passes.samples import dimensions, graph_inputs, random_inputs

SAMPLES = 512
NUMBERS = 1 << 25  # of one input's samples, where not told otherwise: 128 MB
BATCH = 32
COMMON = 0.7  # share of an image channel's amplitude that all of them have in common
_MOST_COLOURS = 4


@dataclass(frozen=True)
class Noise:
    """How much noise: samples (None for as many as fit ``NUMBERS``, 512 at most), and a seed."""

    samples: int | None = None
    seed: int = 0


def make_noise(dense: Dense, noise: Noise) -> Calibration:
    """Noise for every input, in runs as the model takes them, a part of them held out.

    Raises:
        UsageError: E219, no input is of floating-point numbers.
    """
    model = dense.graph.model
    inputs = graph_inputs(model)
    names = [value.name for value in inputs]
    firsts = [(dimensions(value) or ("",))[0] for value in inputs]
    fixed = next((size for size in firsts if isinstance(size, int) and size > 0), None)
    batch = BATCH if fixed is None else fixed
    sizes = {name: (batch, *dense.sizes[name][1:]) for name in names if dense.sizes[name]}
    numbers = max((int(np.prod(size[1:])) for size in sizes.values()), default=1)
    wanted = noise.samples or max(2 * BATCH, min(SAMPLES, NUMBERS // max(numbers, 1)))
    runs = []
    for number in range(max(2, -(-wanted // batch))):
        seed = noise.seed * 100_003 + number
        given = random_inputs(model, {**dense.sizes, **sizes}, seed)
        runs.append({name: _shaped(values, seed) for name, values in given.items()})
    if all(values.dtype.kind != "f" for values in runs[0].values()):
        raise UsageError(
            "E219",
            "noise is for inputs of floating-point numbers",
            where=f"{model.source}: its inputs are {', '.join(names)}",
            help="give data with --calib",
        )
    return split(runs)


def _shaped(values: Array, seed: int) -> Array:
    """The input's noise: pink along the axes of an image, or as it is."""
    if values.dtype.kind != "f" or values.ndim != 4:
        return values
    last = values.shape[-1] <= _MOST_COLOURS < values.shape[1]
    images = np.moveaxis(values, -1, 1) if last else values
    found = pink(images.shape, np.random.default_rng(seed)).astype(values.dtype)
    return np.ascontiguousarray(np.moveaxis(found, 1, -1)) if last else found


def pink(shape: tuple[int, ...], chance: np.random.Generator) -> Array:
    """Images [samples, channels, height, width] of variance 1, amplitudes as 1 / frequency."""
    rows, columns = shape[2:]
    across, along = np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None]
    frequency = np.hypot(across, along)
    frequency[0, 0] = 1 / max(rows, columns)
    spectrum = np.fft.rfft2(chance.standard_normal(shape)) / frequency
    own = np.fft.irfft2(spectrum, s=(rows, columns))
    if 1 < shape[1] <= _MOST_COLOURS:
        own = (1 - COMMON) * own + COMMON * own.sum(1, keepdims=True)
    found: Array = (own / max(float(own.std()), 1e-30)).astype(np.float32)
    return found
