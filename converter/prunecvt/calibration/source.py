"""Where data comes from: one entry for files, folders, calib.toml and Python objects."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from prunecvt.calibration.arrays import array_feeds, read_arrays
from prunecvt.calibration.feeds import Feeds, spread
from prunecvt.calibration.images import image_feeds, image_files
from prunecvt.calibration.preprocessing import Preprocessing
from prunecvt.calibration.settings_file import read_settings
from prunecvt.calibration.stream import Stream
from prunecvt.errors import UsageError
from prunecvt_passes.model import Array, Model

Data = Path | Stream | Mapping[str, Array]
COUNT = 1024


def data_of(value: Any) -> Data | None:
    """What a caller gives as data: a path, arrays, or something that yields samples.

    Raises:
        UsageError: E201, it is nothing of this.
    """
    if value is None or isinstance(value, (Stream, Path)):
        return value
    if isinstance(value, (str, os.PathLike)):
        return Path(value)
    if isinstance(value, Mapping):
        return {str(name): np.asarray(array) for name, array in value.items()}
    if isinstance(value, np.ndarray):
        return {"": value}
    if callable(value) or isinstance(value, Iterable):
        return Stream(value)
    raise UsageError(
        "E201",
        f"data cannot be a {type(value).__name__}",
        help="give a path, an array, a dictionary of arrays, or what yields samples",
    )


def data_name(data: Data | None) -> str | None:
    """How reports call it: a file's or folder's name, or what it is."""
    if isinstance(data, Path):
        return data.name
    if data is None:
        return None
    return "samples from Python" if isinstance(data, Stream) else "arrays from Python"


@dataclass(frozen=True)
class Calibration:
    """Data, what is done to it, and how much of it is taken at most (None: the default)."""

    data: Data
    stated: Preprocessing = field(default_factory=Preprocessing)
    count: int | None = None

    def resolved(self) -> Calibration:
        """With a calib.toml read; what this states goes before what the file says.

        Raises:
            UsageError: E230 or E236, the file cannot be read.
        """
        if not isinstance(self.data, Path) or self.data.suffix.lower() != ".toml":
            return self
        read = read_settings(self.data)
        count = read.count if self.count is None else self.count
        return Calibration(read.path, self.stated.over(read.stated), count)


def calibration_feeds(model: Model, source: Calibration | Path, count: int | None = None) -> Feeds:
    """Reads the samples of every input, in batches that the model takes.

    The same call gives the same batches; images are decoded now and become floats when fed.

    Args:
        model: the model.
        source: .npy or .npz (arrays as the model reads them, one per input by name, the first axis
            the sample), a folder of images, a calib.toml, or Python objects.
        count: samples at most, evenly spread over the data; where None, what the source states or
            1,024.

    Raises:
        UsageError: E230, unreadable; E231, an input is missing; E232, shape or type do not fit;
            E233 to E237, images cannot be read or do not fit.
    """
    source = Calibration(source) if isinstance(source, Path) else source.resolved()
    source = source.resolved()
    limit = min(filter(None, (count, source.count)), default=COUNT)
    data = source.data
    if isinstance(data, Path) and data.is_dir():
        files = image_files(data)
        return image_feeds(model, [files[k] for k in spread(len(files), limit)], source.stated)
    name = data_name(data) or ""
    if isinstance(data, Path):
        arrays: Mapping[str, Array] = read_arrays(data)
        name = str(data)
    else:
        arrays = data.arrays(model, limit) if isinstance(data, Stream) else data
    return Feeds.of(array_feeds(model, arrays, limit, name), unused(source.stated))


def unused(stated: Preprocessing) -> tuple[str, ...]:
    """Says that steps for images were stated where arrays were given."""
    if stated == Preprocessing():
        return ()
    return ("arrays are taken as they are: the steps stated for images were not applied",)


def all_of(source: Calibration) -> Calibration:
    """The source, with a calib.toml read and its count forgotten: all of the data."""
    return replace(source.resolved(), count=None)
