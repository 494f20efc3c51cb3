"""Models that take images, and folders of images to feed them with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from PIL import Image

from prunecvt_passes.model import Model


def image_model(shape: str, dtype: str = "float") -> Model:
    """A model with one input of the given shape that gives it back."""
    text = f"""
    <ir_version: 8, opset_import: ["" : 17]>
    net ({dtype}[{shape}] x) => ({dtype}[{shape}] y) {{ y = Identity (x) }}
    """
    return Model.take(onnx.parser.parse_model(text), "images.onnx")


def picture(height: int, width: int, channels: int = 3, seed: int = 0) -> Image.Image:
    """Smooth noise, so that resizing is no matter of luck."""
    draw = np.random.default_rng(seed)
    shape = (height, width, channels) if channels > 1 else (height, width)
    return Image.fromarray(draw.integers(0, 256, shape, np.uint8))


def folder_of(folder: Path, sizes: list[tuple[int, int]], channels: int = 3) -> Path:
    """Images of some sizes (height, width), named in order."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, (height, width) in enumerate(sizes):
        picture(height, width, channels, k).save(folder / f"{k:03d}.png")
    return folder
