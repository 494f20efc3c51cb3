"""Image files: found, decoded, resized and cropped, with Pillow (``prunecvt[images]``)."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prunecvt.calibration.feeds import BATCH, Feed, Feeds, steps
from prunecvt.calibration.image_input import ImageInput, Pixels, image_input
from prunecvt.calibration.preprocessing import Preprocessing, Size
from prunecvt.errors import UsageError
from prunecvt.loading.refusal import one_line
from prunecvt_passes.model import Model
from prunecvt_passes.samples import graph_inputs

if TYPE_CHECKING:
    from PIL import Image

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
_NAMED = 3
_THREADS = min(4, os.cpu_count() or 1)


def image_files(folder: Path) -> list[Path]:
    """The images in a folder and the folders in it, sorted by name; hidden ones left out.

    Raises:
        UsageError: E230, the folder holds none.
    """
    found = []
    for top, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(top, name)
            for name in names
            if name.lower().endswith(ENDINGS) and not name.startswith(".")
        ]
    if not found:
        raise UsageError(
            "E230",
            "the folder holds no images",
            where=str(folder),
            help=f"images end in {', '.join(ENDINGS)}",
        )
    return sorted(found, key=lambda path: path.relative_to(folder).parts)


def image_feeds(
    model: Model, files: Sequence[Path], stated: Preprocessing, *, hold: bool = True
) -> Feeds:
    """Batches of images; pixels are held as bytes and become the model's values when fed.

    Args:
        model: the model; it has one input.
        files: the images.
        stated: what is done to them.
        hold: decode all of them now; else each batch whenever it is asked for.

    Raises:
        UsageError: E231, E236 or E237, the model takes no such images; E232, they are fewer than
            its fixed batch; E233, Pillow is missing; E234, an image cannot be read; E235, an image
            is too large.
    """
    target = image_input(model, stated)
    fixed = steps(graph_inputs(model))[target.name]
    batch = fixed or BATCH
    runs = len(files) // batch if fixed else -(-len(files) // batch)
    if not runs:
        raise UsageError(
            "E232",
            f"there are {len(files)} images, too few",
            where=str(files[0].parent) if files else "",
            help=f"give as many as the model's fixed batch ({batch}), or more",
        )
    pixels = read_pixels(files[: runs * batch], target) if hold else None

    def make(k: int) -> Feed:
        span = slice(k * batch, (k + 1) * batch)
        found = read_pixels(files[span], target) if pixels is None else pixels[span]
        return {target.name: target.values(found)}

    notes: tuple[str, ...] = ()
    if target.assumed:
        text = f"how the images are prepared was assumed: {', '.join(target.assumed)}"
        notes = (f"{text}; state it with --resize --crop --scale --mean --std or a calib.toml",)
    return Feeds(make, runs, target.text, notes)


def read_pixels(files: Sequence[Path], target: ImageInput) -> Pixels:
    """Decodes images as the input wants them, before any arithmetic.

    Returns:
        [images, height, width, channels], 0 to 255.

    Raises:
        UsageError: E233 to E235, E237.
    """
    image_module, _ = _pillow()
    found = np.empty((len(files), *target.size, target.channels), np.uint8)

    def read(place: int) -> UsageError | None:
        try:
            found[place] = _decoded(files[place], target)
        except UsageError as error:
            return error
        return None

    with warnings.catch_warnings(), ThreadPoolExecutor(_THREADS) as threads:
        warnings.simplefilter("ignore", image_module.DecompressionBombWarning)  # E235 says it
        errors = [error for error in threads.map(read, range(len(files))) if error]
    if errors:
        first = errors[0]
        alike = [error.where for error in errors if error.code == first.code]
        more = f" and {len(alike) - _NAMED} others" if len(alike) > _NAMED else ""
        where = "; ".join(alike[:_NAMED]) + more
        raise UsageError(first.code, first.message, where=where, help=first.help)
    return found


def _pillow() -> Any:
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise UsageError(
            "E233",
            "images are read with Pillow, which is not installed",
            help="pip install prunecvt[images]",
        ) from error
    return Image, ImageOps


def _decoded(path: Path, target: ImageInput) -> Pixels:
    image_module, operations = _pillow()
    try:
        with image_module.open(path) as opened:
            limit = image_module.MAX_IMAGE_PIXELS
            if limit and opened.width * opened.height > limit:
                raise image_module.DecompressionBombError(
                    f"{opened.width}x{opened.height} pixels, the limit is {limit:,}"
                )
            upright = operations.exif_transpose(opened)
            image = _in_color(upright, target)
    except image_module.DecompressionBombError as error:
        raise UsageError(
            "E235",
            "an image is too large",
            where=f"{path}: {one_line(str(error))[:200]}",
            help="scale it down first, or leave it out",
        ) from error
    except Exception as error:  # damaged files fail in many ways: struct, zlib, SyntaxError
        raise UsageError(
            "E234",
            "an image cannot be read",
            where=f"{path}: {one_line(str(error))[:200]}",
            help="replace it or leave it out",
        ) from error
    return _cropped(_resized(image, target), target, path)


def _in_color(image: Image.Image, target: ImageInput) -> Image.Image:
    """Converts to grey or RGB; 16 bits lose their lower 8, transparency is dropped."""
    if image.mode.startswith("I"):
        image_module, _ = _pillow()
        high = np.asarray(image).astype(np.int64) >> 8
        image = image_module.fromarray(high.clip(0, 255).astype(np.uint8))
    return image.convert("L" if target.channels == 1 else "RGB")


def _resized(image: Image.Image, target: ImageInput) -> Image.Image:
    """Resizes bilinearly over the whole area that a pixel covers, as torchvision does."""
    width, height = image.size
    size = target.resize
    if size is None:
        if not target.covers:
            return image
        new = _covering((height, width), target.size)
    elif isinstance(size, int):
        longer = int(size * max(height, width) / min(height, width))
        new = (size, longer) if height <= width else (longer, size)
    else:
        new = size
    if new == (height, width):
        return image
    image_module, _ = _pillow()
    resized: Image.Image = image.resize((new[1], new[0]), image_module.Resampling.BILINEAR)
    return resized


def _covering(size: Size, wanted: Size) -> Size:
    """The smallest size of the same shape that holds ``wanted``; both (height, width)."""
    (height, width), (least_height, least_width) = size, wanted
    if least_height * width >= least_width * height:
        return least_height, max(least_width, round(width * least_height / height))
    return max(least_height, round(height * least_width / width)), least_width


def _cropped(image: Image.Image, target: ImageInput, path: Path) -> Pixels:
    width, height = image.size
    wanted_height, wanted_width = target.size
    if height < wanted_height or width < wanted_width:
        raise UsageError(
            "E237",
            f"an image is smaller than the crop of {wanted_height}x{wanted_width}",
            where=f"{path}: {height}x{width}",
            help="state a larger --resize",
        )
    top, left = round((height - wanted_height) / 2), round((width - wanted_width) / 2)
    image = image.crop((left, top, left + wanted_width, top + wanted_height))
    return np.asarray(image, np.uint8).reshape(*target.size, target.channels)
