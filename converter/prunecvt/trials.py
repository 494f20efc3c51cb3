"""What the checks run on: random inputs, and the calibration inputs where some are given."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from prunecvt.errors import UsageError
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
    """Samples in some runs: the first dimensions of their first inputs, added up."""
    firsts = [next(iter(feed.values())) for feed in feeds if feed]
    return sum(len(values) if np.ndim(values) else 1 for values in firsts)


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
    taken = {value.name: _fitted(value, arrays[value.name], path)[:count] for value in inputs}
    batch = _batch(inputs)
    total = min(len(array) for array in taken.values())
    starts = range(0, total - batch + 1, batch) if total >= batch else range(0)
    feeds = tuple({n: a[s : s + batch] for n, a in taken.items()} for s in starts)
    if not feeds and total and not isinstance((dimensions(inputs[0]) or ("",))[0], int):
        feeds = ({n: a[:total] for n, a in taken.items()},)
    if not feeds:
        raise UsageError(
            "E232", f"the calibration data has {total} samples, too few", where=str(path)
        )
    return feeds


def _arrays(path: Path) -> dict[str, Array]:
    try:
        loaded: Any = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {path.stem: loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(
            "E230",
            "the calibration data cannot be read",
            where=f"{path}: {str(error).splitlines()[0][:200]}",
            help="give a .npz or .npy file of preprocessed inputs",
        ) from error


def _batch(inputs: list[onnx.ValueInfoProto]) -> int:
    fixed = [(dimensions(value) or ("",))[0] for value in inputs]
    numbers = [size for size in fixed if isinstance(size, int)]
    return numbers[0] if numbers else _CALIBRATION_BATCH


def _fitted(value: onnx.ValueInfoProto, array: Array, path: Path) -> Array:
    declared = dimensions(value) or ()
    dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    fits = array.ndim == len(declared) and all(
        not isinstance(dim, int) or dim == size
        for dim, size in zip(declared[1:], array.shape[1:], strict=True)
    )
    if fits and array.dtype != dtype and array.dtype.kind == "f" and dtype.kind == "f":
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
