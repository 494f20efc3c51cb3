"""Preprocessed arrays: .npz and .npy files, and dictionaries."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from prunecvt.calibration.feeds import BATCH, Feed, spread, steps
from prunecvt.errors import UsageError
from prunecvt.loading.refusal import one_line
from prunecvt_passes.model import Array, Model
from prunecvt_passes.samples import dimensions, graph_inputs


def read_arrays(path: Path) -> dict[str, Array]:
    """The arrays of a .npz by name, or that of a .npy under the file's.

    Raises:
        UsageError: E230, it cannot be read.
    """
    try:
        loaded: Any = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {path.stem: loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except Exception as error:  # damaged archives fail in many ways: zlib, zipfile, numpy, memory
        raise UsageError(
            "E230",
            "the data cannot be read",
            where=f"{path}: {one_line(str(error))[:200]}",
            help="give a .npz or .npy of preprocessed inputs, a folder of images or a calib.toml",
        ) from error


def array_feeds(
    model: Model, arrays: Mapping[str, Array], count: int | None, where: str
) -> tuple[Feed, ...]:
    """Cuts arrays into batches that the model takes.

    Args:
        model: the model.
        arrays: one per input, by name (a single array that fits serves a single input whatever it
            is called). The first axis is the sample.
        count: samples, evenly spread over what there is; None for all.
        where: what the arrays come from, for messages.

    Raises:
        UsageError: E231, an input is missing; E232, shape or type do not fit.
    """
    inputs = graph_inputs(model)
    wanted = {value.name for value in inputs}
    if len(inputs) == 1 and not wanted & arrays.keys():
        fitting = [k for k, a in arrays.items() if a.ndim == len(dimensions(inputs[0]) or ())]
        if len(fitting) == 1:
            arrays = {inputs[0].name: arrays[fitting[0]]}
    missing = wanted - arrays.keys()
    if missing:
        raise UsageError(
            "E231",
            f"the data has nothing for input '{min(missing)}'",
            where=f"{where}: it holds {', '.join(sorted(arrays)) or 'nothing'}",
            help="store one array per input under its name, the first axis the sample",
        )
    taken = {value.name: _fitted(value, arrays[value.name], where) for value in inputs}
    feeds = _batched(taken, steps(inputs), count)
    if not feeds:
        total = min(len(array) for array in taken.values() if array.ndim)
        raise UsageError(
            "E232",
            f"the data has {total} samples, too few",
            where=where,
            help="give as many as the model's fixed batch, or more",
        )
    return feeds


def _batched(
    taken: dict[str, Array], each: dict[str, int | None], count: int | None
) -> tuple[Feed, ...]:
    """Cuts arrays into runs of up to ``count`` samples; an array without axes goes to every run.

    Args:
        taken: input -> samples.
        each: input -> samples that one run takes, None where it takes any number.
        count: samples of each input.
    """
    scalars = {name: array for name, array in taken.items() if not array.ndim}
    rows = {name: array for name, array in taken.items() if array.ndim}
    if not rows:
        return (scalars,)
    fixed = [step for step in each.values() if step]
    any_number = fixed[0] if fixed else min(BATCH, *map(len, rows.values()))
    step = {name: each[name] or any_number for name in rows}
    rows = _some(rows, count, alike=len(set(step.values())) == 1)
    parts = [(len(array), step[name]) for name, array in rows.items()]
    # the last run is shorter only where the model takes any number
    runs = min(
        (total // size if fixed else -(-total // size)) if size else 0 for total, size in parts
    )
    return tuple(
        {**scalars, **{n: a[k * step[n] : (k + 1) * step[n]] for n, a in rows.items()}}
        for k in range(runs)
    )


def _some(rows: dict[str, Array], count: int | None, *, alike: bool) -> dict[str, Array]:
    """Up to ``count`` samples; the first ones where inputs take them in different numbers."""
    if not alike:
        return {name: array[:count] for name, array in rows.items()}
    total = min(map(len, rows.values()))
    if count is None or total <= count:
        return {name: array[:total] for name, array in rows.items()}
    places = spread(total, count)
    return {name: array[places] for name, array in rows.items()}


def _fitted(value: onnx.ValueInfoProto, array: Array, where: str) -> Array:
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
            f"the data does not fit input '{value.name}'",
            where=f"{where}: {array.dtype} {list(array.shape)}, the model takes {dtype} [{shape}]",
            help="store the inputs as the model reads them: preprocessed, right type and layout",
        )
    return array
