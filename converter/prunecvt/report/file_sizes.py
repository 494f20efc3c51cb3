"""How many bytes a model takes on the disk."""

from __future__ import annotations

from pathlib import Path

import onnx

from prunecvt_passes.model import Model


def model_bytes(model: Model, path: Path | None) -> int:
    """Bytes of a model's file and of the files of its weights; of its parts where it has none."""
    whole: int = model.nbytes + model.proto.ByteSize()
    if path is None:
        return whole
    size = int(path.stat().st_size)
    if size >= whole:
        return size
    named = onnx.load(path, load_external_data=False)  # the model as loaded has forgotten them
    files = {
        path.parent / str(entry.value)
        for tensor in named.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return size + sum(file.stat().st_size for file in files)
