"""Files that no command may accept, each with the error that it must give.

``CASES`` is used for the library and for the command line alike: each case writes one bad file (and
whatever it needs beside it) into an empty folder.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from bad_case import Case, conv_model, external, model_case, nodes_model, saved, without, written
from bad_graphs import BAD_VALUES, BROKEN_GRAPHS, MISFITS, UNSUPPORTED

POSIX = sys.platform != "win32"
_VALID = conv_model().SerializeToString()


def _folder(folder: Path) -> Path:
    (folder / "model.onnx").mkdir()
    return folder / "model.onnx"


def _fifo(folder: Path) -> Path:
    os.mkfifo(folder / "model.onnx")
    return folder / "model.onnx"


def _beside(location: str, prepare: Callable[[Path], None], **keys: str) -> Callable[[Path], Path]:
    """A model in ``folder/model`` whose weight lies at ``location``; the data file is ``w.bin``."""

    def make(folder: Path) -> Path:
        inside = folder / "model"
        inside.mkdir()
        for place in (folder, inside):
            (place / "w.bin").write_bytes(bytes(16 * 27 * 4))
        prepare(inside)
        return saved(lambda: external(conv_model(), location, **keys))(inside)

    return make


def _nothing(folder: Path) -> None:
    """Leaves the folder as it is."""


def _symlink(folder: Path) -> None:
    (folder / "link.bin").symlink_to(folder / "w.bin")


def _parent_symlink(folder: Path) -> None:
    (folder / "link").symlink_to(folder.parent, target_is_directory=True)


def _data_fifo(folder: Path) -> None:
    os.mkfifo(folder / "fifo.bin")


def _hard_link(folder: Path) -> None:
    os.link(folder.parent / "w.bin", folder / "hard.bin")


def _external_constant() -> onnx.ModelProto:
    tensor = external(conv_model(), "../w.bin").graph.initializer[0]
    return nodes_model(
        helper.make_node("Constant", [], ["w"], name="n_const", value=tensor),
        helper.make_node("Conv", ["x", "w"], ["y"], name="n_conv"),
    )


def _external(
    name: str,
    code: str,
    location: str,
    *mentions: str,
    prepare: Callable[[Path], None] = _nothing,
    posix: bool = False,
    **keys: str,
) -> Case:
    return Case(name, _beside(location, prepare, **keys), 3, code, ("'w'", *mentions), posix=posix)


_NOT_MODELS = [
    Case("missing", lambda folder: folder / "model.onnx", 3, "E301", ("no such file",)),
    Case("folder", _folder, 3, "E301", ("folder",)),
    Case("fifo", _fifo, 3, "E301", ("not a regular file",), posix=True),
    Case("device", lambda folder: Path("/dev/zero"), 3, "E301", ("regular",), posix=True),
    Case("empty", written(b""), 3, "E302", ("empty",)),
    Case("truncated", written(_VALID[: len(_VALID) // 2]), 3, "E302", ("cut off",)),
    Case("trailing_bytes", written(_VALID + bytes(8)), 3, "E302", ("damaged",)),
    Case("trailing_field", written(_VALID + b"\xba\x06\x03abc"), 3, "E302", ("not part of",)),
    Case("text", written(b"hello, this is a text\n" * 9), 3, "E302", ("text file",)),
    Case("html", written(b"<!DOCTYPE html><html></html>"), 3, "E302", ("HTML",)),
    Case("git_lfs", written(b"version https://git-lfs.github.com/spec/v1\n"), 3, "E302", ("LFS",)),
    Case("zip", written(b"PK\x03\x04" + bytes(64), "model.pt"), 3, "E302", ("zip", "PyTorch")),
    Case("pickle", written(b"\x80\x02}q\x00."), 3, "E302", ("pickle",)),
    Case("random", written(np.random.default_rng(0).bytes(4096)), 3, "E302", ("not an ONNX",)),
    Case("zeros", written(bytes(64)), 3, "E302", ("not an ONNX",)),
    Case("not_utf8", written(_VALID.replace(b"n_relu", b"n_\xff\xfelu")), 3, "E302", ("UTF-8",)),
    model_case("no_graph", lambda: without("graph"), "E302"),
    model_case("no_opset", lambda: without("opset_import"), "E302", "operator set"),
    model_case("no_ir_version", lambda: without("ir_version"), "E302", "IR version"),
]


_EXTERNAL = [
    _external("external_missing", "E306", "gone.bin", "no such file", "gone.bin"),
    _external("external_too_short", "E306", "w.bin", "wanted", offset="8"),
    _external("external_wrong_length", "E306", "w.bin", "1728", length="1724"),
    _external("external_absurd_offset", "E306", "w.bin", offset="9223372036854775807"),
    _external("external_negative_offset", "E306", "w.bin", "'-4'", offset="-4"),
    _external("external_offset_no_number", "E306", "w.bin", "'1_0'", offset="1_0"),
    _external("external_folder", "E306", ".", "folder"),
    _external("external_fifo", "E306", "fifo.bin", "regular", prepare=_data_fifo, posix=True),
    _external("external_outside", "E307", "../w.bin", "'..'"),
    _external("external_outside_indirect", "E307", "a/../../w.bin", "'..'"),
    _external("external_outside_backslash", "E307", "a\\..\\..\\w.bin", "'..'"),
    _external("external_absolute", "E307", "/etc/hostname", "absolute"),
    _external("external_drive", "E307", "C:\\w.bin", "absolute"),
    _external("external_empty", "E307", "", "empty"),
    _external("external_nul", "E307", "w.bin\0.txt", "NUL"),
    _external("external_symlink", "E307", "link.bin", "symbolic", prepare=_symlink, posix=True),
    _external(
        "external_parent_symlink",
        "E307",
        "link/w.bin",
        "symbolic",
        prepare=_parent_symlink,
        posix=True,
    ),
    _external(
        "external_hard_link", "E307", "hard.bin", "hard link", prepare=_hard_link, posix=True
    ),
    _external("external_memory_tag", "E307", "*/_ORT_MEM_ADDR_/*", "memory", offset="140000"),
    Case("external_constant", saved(_external_constant), 3, "E307", ("Constant 'n_const'",)),
]
CASES: list[Case] = [
    case
    for case in _NOT_MODELS + BROKEN_GRAPHS + MISFITS + BAD_VALUES + _EXTERNAL + UNSUPPORTED
    if POSIX or not case.posix
]
