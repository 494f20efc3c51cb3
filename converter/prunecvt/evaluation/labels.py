"""Labelled data: arrays with labels, folders of class folders, list files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from prunecvt.calibration.arrays import array_feeds, read_arrays
from prunecvt.calibration.feeds import Feeds, samples
from prunecvt.calibration.images import ENDINGS, image_feeds, image_files
from prunecvt.calibration.source import Calibration, all_of, data_name, unused
from prunecvt.calibration.stream import Stream
from prunecvt.errors import UsageError
from prunecvt_passes.model import Array, Model
from prunecvt_passes.samples import graph_inputs

Labels = npt.NDArray[np.int64]
LISTS = (".txt", ".csv", ".tsv", ".lst")
_ROW = re.compile(r"^(?P<file>.+?)\s*[,;\t]\s*(?P<name>[^,;\t]+)$|^(?P<first>.+)\s+(?P<last>\S+)$")


@dataclass(frozen=True)
class Labelled:
    """Batches and the class of each of their samples, in order."""

    feeds: Feeds
    labels: Labels


def labelled_feeds(model: Model, source: Calibration) -> Labelled:
    """Reads labelled data; images are decoded batch by batch, whenever they are fed.

    Args:
        model: the model.
        source: .npz with ``labels`` (or .npz or .npy beside a labels.npy or labels.csv), a folder
            with one folder per class (or a labels.csv in it), a list file (``image class`` in each
            line, paths relative to it), a calib.toml that names one of these, or a dictionary of
            arrays with ``labels``.

    Raises:
        UsageError: E230 to E237, as for calibration data; E238, labels are missing or do not fit.
    """
    source = all_of(source)
    data = source.data
    if isinstance(data, Path) and (data.is_dir() or data.suffix.lower() in LISTS):
        files, labels = _labelled_files(data)
        feeds = image_feeds(model, files, source.stated, hold=False)
        batch = len(next(iter(feeds[0].values()))) if feeds else 0
        return Labelled(feeds, labels[: len(feeds) * batch])
    if isinstance(data, Stream):
        raise _refused("what yields samples has no labels", "", "give arrays with 'labels'")
    arrays = dict(read_arrays(data) if isinstance(data, Path) else data)
    name = str(data) if isinstance(data, Path) else str(data_name(data))
    found = arrays.pop("labels", None)
    if found is None and isinstance(data, Path):
        found = _beside(data)
    labels = _integers(found, name)
    runs = array_feeds(model, arrays, None, name)
    taken = samples(runs)
    own = [value.name for value in graph_inputs(model) if value.name in arrays] or list(arrays)
    if not any(len(labels) == len(arrays[each]) for each in own if arrays[each].ndim):
        raise _refused(f"{len(labels)} labels for {taken} samples", name, "give one per sample")
    return Labelled(Feeds.of(runs, unused(source.stated)), labels[:taken])


def _labelled_files(data: Path) -> tuple[list[Path], Labels]:
    if data.is_file():
        return _listed(data)
    if (data / "labels.csv").is_file():
        return _listed(data / "labels.csv")
    folders = {path.name for path in data.iterdir() if path.is_dir()}
    names = sorted(name for name in folders if not name.startswith("."))
    if not names:
        raise _refused("the folder has no class folders", str(data), "put each class in one")
    classes = _classes(names)
    files = image_files(data)
    parts = [path.relative_to(data).parts for path in files]
    loose = [path for path, part in zip(files, parts, strict=True) if len(part) == 1]
    if loose:
        raise _refused("an image lies in no class folder", str(loose[0]), "move it into one")
    return files, np.array([classes[part[0]] for part in parts], np.int64)


def _classes(names: Sequence[str]) -> Mapping[str, int]:
    """Class name -> index: the number it is, or its place in sorted order where any is none."""
    if all(name.isascii() and name.isdigit() for name in names):
        return {name: int(name) for name in names}
    return {name: k for k, name in enumerate(sorted(set(names)))}


def _listed(file: Path) -> tuple[list[Path], Labels]:
    """Reads a list of images and their classes; a first line that names no file is a heading."""
    try:
        lines = file.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _refused("the list cannot be read", str(file), "write UTF-8 text") from error
    rows: list[tuple[Path, str]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        match = _ROW.match(line.strip())
        found = match and [part for part in match.groups() if part is not None]
        if not found:
            raise _refused("a line names no class", f"{file}:{number}", "write: image class")
        path = file.parent / found[0].strip().strip('"')
        if path.is_file():
            rows.append((path, found[1].strip().strip('"')))
        elif number > 1 or path.suffix.lower() in ENDINGS:
            raise _refused("a listed image does not exist", f"{file}:{number}: {path}", "fix it")
    if not rows:
        raise _refused("the list names no images", str(file), "write: image class")
    classes = _classes([name for _, name in rows])
    return [path for path, _ in rows], np.array([classes[name] for _, name in rows], np.int64)


def _beside(data: Path) -> Array | None:
    """The labels in labels.npy or labels.csv (the last number of each line) beside a file."""
    array, table = data.parent / "labels.npy", data.parent / "labels.csv"
    if array.is_file():
        return next(iter(read_arrays(array).values()))
    if not table.is_file():
        return None
    texts = [re.split(r"[,;\s]+", line.strip())[-1] for line in table.read_text().splitlines()]
    texts = [text for text in texts if text]
    body = texts[1:] if texts and not texts[0].isdigit() else texts
    if not all(text.isdigit() for text in body):
        raise _refused("a label is no number", str(table), "write one class number in each line")
    return np.array(body, np.int64)


def _integers(found: Array | None, where: str) -> Labels:
    if found is None:
        raise _refused(
            "there are no labels", where, "store an array 'labels', or labels.npy beside it"
        )
    labels = np.asarray(found)
    whole = labels.ndim == 1 and labels.dtype.kind in "iu" and labels.size > 0
    if not whole or labels.min() < 0:
        kind = f"{labels.dtype} {list(labels.shape)}"
        raise _refused(f"labels are {kind}", where, "give one class number, from 0, per sample")
    return labels.astype(np.int64)


def _refused(message: str, where: str, help: str) -> UsageError:
    return UsageError("E238", f"labelled data: {message}", where=where, help=help)
