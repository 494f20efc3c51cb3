"""Reading weights that lie in files beside the model.

The paths come from the model, so from whoever made it. A file is read only if it lies below the
model's folder by its plain name: no absolute path, no "..", no symbolic link on the way, no second
hard link, no pipe or device, none of onnxruntime's in-memory tags. Values are read, not mapped, so
that a file changed later cannot change (or crash) a run.
"""

from __future__ import annotations

import logging
import ntpath
import os
import stat
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from prunecvt.loading.refusal import invalid, one_line
from prunecvt.loading.regular_file import NO_FOLLOW, open_regular
from prunecvt.loading.stored import stored_bytes
from prunecvt_passes.errors import InputError
from prunecvt_passes.model import Array

log = logging.getLogger("prunecvt")
_KNOWN_KEYS = ("location", "offset", "length", "checksum", "basepath")
_MEMORY_TAG = "_ORT_MEM_ADDR_"
_LONGEST_NUMBER = 19  # digits of 2**63
_MISSING_HELP = "put the model's data files back beside it, where they were when it was saved"


@dataclass(frozen=True)
class Extent:
    """Where the values of a tensor lie: ``length`` bytes at ``offset`` of file ``location``."""

    location: str
    offset: int
    length: int


def read_external(tensor: TensorProto, folder: str | None, where: str) -> Array:
    """Reads the stored bytes of an external tensor.

    Args:
        tensor: the header.
        folder: of the model file; None for a model that came without one.
        where: the place that errors name.

    Returns:
        ``stored_bytes(tensor)`` values of type uint8, as they lie in the file.

    Raises:
        InputError: E306, the data is missing or too short; E307, its location is not safe.
    """
    extent = _extent(tensor, where)
    where = f"{where}: external data '{one_line(extent.location)}'"
    if folder is None:
        raise invalid(
            "E306",
            "a model given in memory cannot refer to files",
            where,
            help="give the path of the model file, or load its external data first",
        )
    path = _contained(folder, extent.location, where)
    _check_way(folder, extent.location, where)
    with open_regular(path, "E306", where, flags=NO_FOLLOW, missing_help=_MISSING_HELP) as handle:
        opened = os.fstat(handle.fileno())
        found = _check_way(folder, extent.location, where)
        if found is None or not os.path.samestat(opened, found):
            raise _unsafe("it changed while it was opened", where)
        end, size = extent.offset + extent.length, opened.st_size
        if end > size:
            raise _too_short(f"bytes {extent.offset} to {end} are wanted, it has {size}", where)
        handle.seek(extent.offset)
        data: Array = np.fromfile(handle, dtype=np.uint8, count=extent.length)
    if data.size != extent.length:
        raise _too_short("it was cut while it was read", where)
    return data


def _extent(tensor: TensorProto, where: str) -> Extent:
    """Reads the keys of an external tensor; unknown ones are logged and left out."""
    keys: dict[str, str] = {}
    for entry in tensor.external_data:
        if entry.key in keys:
            raise invalid(
                "E306", "external data states a key twice", f"{where}: '{one_line(entry.key)}'"
            )
        if entry.key not in _KNOWN_KEYS:
            log.warning("%s: external data key '%s' is unknown", where, one_line(entry.key))
        keys[entry.key] = entry.value
    needed = stored_bytes(tensor)
    offset = _number(keys, "offset", 0, where)
    length = _number(keys, "length", needed, where)
    if length != needed:
        raise invalid(
            "E306",
            "external data is not as long as its tensor",
            f"{where}: length {length}, but type and dims want {needed} bytes",
            help="export the model again",
        )
    return Extent(keys.get("location", ""), offset, length)


def _number(keys: dict[str, str], key: str, default: int, where: str) -> int:
    text = keys.get(key)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER):
        raise invalid(
            "E306",
            f"the {key} of external data is not a number of bytes",
            f"{where}: {key} '{one_line(text)}'",
            help="export the model again",
        )
    return int(text)


def _contained(folder: str, location: str, where: str) -> str:
    """Returns the path of ``location``, whose text may not lead out of ``folder``."""
    parts = location.replace("\\", "/").split("/")
    if _MEMORY_TAG in location:
        raise _unsafe("it names an address in memory, not a file", where)
    if not location or "\0" in location:
        raise _unsafe("it is empty or holds a NUL", where)
    if os.path.isabs(location) or ntpath.isabs(location) or ntpath.splitdrive(location)[0]:
        raise _unsafe("it is an absolute path", where)
    if ".." in parts:
        raise _unsafe("it leads out of the model's folder by '..'", where)
    return os.path.join(folder, location)


def _check_way(folder: str, location: str, where: str) -> os.stat_result | None:
    """Refuses links on the way to a file; returns the file's status, None where it is missing.

    It is called before the file is opened and again after, to compare with what was opened: so a
    file that is exchanged in between is noticed.
    """
    path, found = folder, None
    for part in location.split("/"):
        path = os.path.join(path, part)
        try:
            found = os.lstat(path)
        except (OSError, ValueError):
            return None
        if stat.S_ISLNK(found.st_mode):
            raise _unsafe("it is, or lies behind, a symbolic link", where)
    if found is not None and stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
        raise _unsafe("it has a second hard link", where)
    return found


def _unsafe(reason: str, where: str) -> InputError:
    return invalid(
        "E307",
        "external data has an unsafe location",
        f"{where}: {reason}",
        help="copy the data file itself into the model's folder and save the model again",
    )


def _too_short(reason: str, where: str) -> InputError:
    return invalid("E306", "external data is too short", f"{where}: {reason}", help=_MISSING_HELP)
