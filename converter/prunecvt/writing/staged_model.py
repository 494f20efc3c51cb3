"""A model in a folder of our own, for those who read files."""

from __future__ import annotations

from pathlib import Path

from prunecvt.errors import OutputError
from prunecvt.writing.serialize import onnx_parts
from prunecvt_passes.model import Model


def staged(model: Model, path: Path) -> Path:
    """Writes a model to ``path`` and returns it.

    Raises:
        OutputError: E706, the folder cannot be written.
    """
    path.parent.mkdir(exist_ok=True)
    try:
        for part in onnx_parts(model, path):
            with open(part.path, "wb") as file:
                part.write(file)
    except OSError as error:
        raise OutputError(
            "E706",
            f"the temporary folder cannot be written: {error.strerror or error}",
            where=str(path.parent),
            help="set TMPDIR to a folder with more space",
        ) from error
    return path
