"""What the checks run on: random inputs, and the calibration inputs where some are given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from prunecvt.errors import UsageError
from prunecvt.loading.refusal import one_line
from prunecvt_passes.model import Array, Model
from prunecvt_passes.normalise import Dense
from prunecvt_passes.samples import dimensions, graph_inputs, random_inputs

Feed = dict[str, Array]
_RANDOM_FEEDS = 2
_CALIBRATION_SAMPLES = 256
_CALIBRATION_BATCH = 32


@dataclass(frozen=True)
class TrialRequest:
    """Where the trials come from: a seed, and a calibration file or None."""

    seed: int = 0
    calib: Path | None = None


@dataclass(frozen=True)
class Trials:
    """Inputs to run, one dictionary per run.

    Attributes:
        random: always there.
        calibration: of the user's data; empty where none was given.
    """

    random: tuple[Feed, ...]
    calibration: tuple[Feed, ...]


def samples(feeds: Iterable[Feed]) -> int:
    """Samples in some runs: the first dimensions of their first inputs that have any, added up."""
    sizes = ([len(values) for values in feed.values() if np.ndim(values)] for feed in feeds)
    return sum(found[0] if found else 1 for found in sizes)


def make_trials(dense: Dense, request: TrialRequest) -> Trials:
    """Makes random inputs and reads the calibration inputs.

    Raises:
        UsageError: E230 to E232, the calibration file cannot be read or does not fit.
    """
    model = dense.graph.model
    random = tuple(
        random_inputs(model, dense.sizes, request.seed + k) for k in range(_RANDOM_FEEDS)
    )
    if request.calib is None:
        return Trials(random, ())
    return Trials(random, calibration_feeds(model, request.calib, _CALIBRATION_SAMPLES))


def calibration_feeds(model: Model, path: Path, count: int) -> tuple[Feed, ...]:
    """Reads up to ``count`` samples of every input, in batches that the model takes.

    Args:
        model: the model.
        path: .npy for a model with one input; .npz with one array per input, by name (a single
            array serves a single input whatever it is called). The first axis is the sample.
        count: samples.

    Raises:
        UsageError: E230, unreadable; E231, an input is missing; E232, shape or type do not fit.
    """
    inputs = graph_inputs(model)
    arrays = _arrays(path)
    wanted = {value.name for value in inputs}
    if len(inputs) == 1 and not wanted & arrays.keys():
        fitting = [k for k, a in arrays.items() if a.ndim == len(dimensions(inputs[0]) or ())]
        if len(fitting) == 1:
            arrays = {inputs[0].name: arrays[fitting[0]]}
    missing = wanted - arrays.keys()
    if missing:
        raise UsageError(
            "E231",
            f"the calibration data has nothing for input '{min(missing)}'",
            where=f"{path}: it holds {', '.join(sorted(arrays)) or 'nothing'}",
            help="store one array per input under its name, the first axis the sample",
        )
    taken = {value.name: _fitted(value, arrays[value.name], path) for value in inputs}
    feeds = _batched(taken, _steps(inputs), count)
    if not feeds:
        total = min(len(array) for array in taken.values() if array.ndim)
        raise UsageError(
            "E232",
            f"the calibration data has {total} samples, too few",
            where=str(path),
            help="give as many as the model's fixed batch, or more",
        )
    return feeds


def _batched(taken: dict[str, Array], steps: dict[str, int | None], count: int) -> tuple[Feed, ...]:
    """Cuts arrays into runs of up to ``count`` samples; an array without axes goes to every run.

    Args:
        taken: input -> samples.
        steps: input -> samples that one run takes, None where it takes any number.
        count: samples of each input.
    """
    scalars = {name: array for name, array in taken.items() if not array.ndim}
    rows = {name: array[:count] for name, array in taken.items() if array.ndim}
    if not rows:
        return (scalars,)
    fixed = [step for step in steps.values() if step]
    any_number = fixed[0] if fixed else min(_CALIBRATION_BATCH, *map(len, rows.values()))
    each = {name: steps[name] or any_number for name in rows}
    runs = min(len(array) // each[name] if each[name] else 0 for name, array in rows.items())
    return tuple(
        {**scalars, **{n: a[k * each[n] : (k + 1) * each[n]] for n, a in rows.items()}}
        for k in range(runs)
    )


def _arrays(path: Path) -> dict[str, Array]:
    try:
        loaded: Any = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {path.stem: loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except Exception as error:  # damaged archives fail in many ways: zlib, zipfile, numpy, memory
        raise UsageError(
            "E230",
            "the calibration data cannot be read",
            where=f"{path}: {one_line(str(error))[:200]}",
            help="give a .npz or .npy file of preprocessed inputs",
        ) from error


def _steps(inputs: list[onnx.ValueInfoProto]) -> dict[str, int | None]:
    """Input -> samples that one run takes; None where the model leaves that open."""
    firsts = {value.name: (dimensions(value) or ("",))[0] for value in inputs}
    return {name: size if isinstance(size, int) else None for name, size in firsts.items()}


def _fitted(value: onnx.ValueInfoProto, array: Array, path: Path) -> Array:
    declared = dimensions(value) or ()
    dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    fits = array.ndim == len(declared) and all(
        not isinstance(dim, int) or dim == size
        for dim, size in zip(declared[1:], array.shape[1:], strict=True)
    )
    floats = array.dtype.kind == "f" and dtype.kind in "fV"  # V: bfloat16
    if fits and array.dtype != dtype and floats:
        array = array.astype(dtype)
    if not fits or array.dtype != dtype:
        shape = ",".join(str(dim or "?") for dim in declared)
        raise UsageError(
            "E232",
            f"the calibration data does not fit input '{value.name}'",
            where=f"{path}: {array.dtype} {list(array.shape)}, the model takes {dtype} [{shape}]",
            help="store the inputs as the model reads them: preprocessed, right type and layout",
        )
    return array
