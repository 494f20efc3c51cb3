"""How images become one input of a model: what the user states, and what its shape settles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx

from prunecvt.calibration.preprocessing import Preprocessing, Size
from prunecvt.errors import UsageError
from prunecvt_passes.model import Array, Model
from prunecvt_passes.samples import dimensions, graph_inputs

Pixels = npt.NDArray[np.uint8]
_CHANNELS = {"grey": 1, "rgb": 3, "bgr": 3}


@dataclass(frozen=True)
class ImageInput:
    """One input that takes images, and every step on the way to it.

    Attributes:
        name, dtype: of the input.
        first: whether the channels are axis 1 (NCHW), else the last (NHWC).
        color: what pixels are converted to.
        resize: the shorter side, (height, width), or None to cover ``size`` or to leave alone.
        size: (height, width) that is cut from the centre.
        covers: whether images are resized, as little as can be, until they cover ``size``.
        scale, mean, std: ``(pixel / scale - mean) / std``.
        assumed: the steps that nobody stated, in words.
    """

    name: str
    dtype: np.dtype[np.generic]
    first: bool
    color: Literal["grey", "rgb", "bgr"]
    resize: int | Size | None
    size: Size
    covers: bool
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    assumed: tuple[str, ...]

    @property
    def channels(self) -> int:
        """1 or 3."""
        return _CHANNELS[self.color]

    def values(self, pixels: Pixels) -> Array:
        """What the model reads.

        Args:
            pixels: [samples, height, width, channels], 0 to 255.

        Returns:
            [samples, channels, height, width] or [samples, height, width, channels].
        """
        found: Array = pixels[..., ::-1] if self.color == "bgr" else pixels
        if self.dtype != np.uint8:
            found = found.astype(np.float32) / np.float32(self.scale)
            if self.mean:
                found -= np.asarray(self.mean, np.float32)
            if self.std:
                found /= np.asarray(self.std, np.float32)
        if self.first:
            found = found.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(found.astype(self.dtype, copy=False))

    @property
    def text(self) -> str:
        """Every step in words, in order."""
        height, width = self.size
        cover = "resize to cover it" if self.covers else ""
        resize = f"resize {_size(self.resize)}" if self.resize else cover
        numbers = [f"divide by {self.scale:g}"] if self.scale != 1 else []
        numbers += [f"mean {_list(self.mean)}"] if self.mean else []
        numbers += [f"std {_list(self.std)}"] if self.std else []
        steps = [resize, f"crop {height}x{width}", *numbers, self.color]
        return ", ".join([*filter(None, steps), "NCHW" if self.first else "NHWC"])


def image_input(model: Model, stated: Preprocessing) -> ImageInput:
    """Settles how images become the input of a model.

    Raises:
        UsageError: E231, the model has more inputs than one; E237, the input does not take images,
            or not such as are stated; E236, mean or std do not fit the channels.
    """
    value, dtype = _only_input(model)
    declared = dimensions(value) or ()
    first = _channels_first(value, stated)
    channels = declared[1 if first else 3]
    color = _color(value, channels, stated)
    _check_numbers(stated, _CHANNELS[color])
    size = _final_size(value, declared[2:4] if first else declared[1:3], stated)
    scale = 255.0 if stated.scale is None else stated.scale
    if dtype == np.uint8:
        if stated.mean or stated.std or stated.scale not in (None, 1.0):
            raise _no_image(value, "it takes pixels as they are: leave scale, mean and std out")
        scale = 1.0
    return ImageInput(
        value.name,
        dtype,
        first,
        color,
        stated.resize,
        size,
        stated.resize is None and stated.crop is None,
        scale,
        stated.mean,
        stated.std,
        _assumed(stated, size, dtype == np.uint8),
    )


def _only_input(model: Model) -> tuple[onnx.ValueInfoProto, np.dtype[np.generic]]:
    """The one input, of rank 4, and its type."""
    inputs = graph_inputs(model)
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs)
        raise UsageError(
            "E231",
            f"images serve a model with one input, this one has {len(inputs)}",
            where=f"{model.source}: {names}",
            help="give a .npz with one array per input",
        )
    dtype = onnx.helper.tensor_dtype_to_np_dtype(inputs[0].type.tensor_type.elem_type)
    if len(dimensions(inputs[0]) or ()) != 4 or not (dtype.kind in "fV" or dtype == np.uint8):
        raise _no_image(inputs[0], "give arrays as .npz instead of images")
    return inputs[0], dtype


def _check_numbers(stated: Preprocessing, channels: int) -> None:
    for name, values in (("mean", stated.mean), ("std", stated.std)):
        if len(values) not in (0, 1, channels):
            raise UsageError(
                "E236",
                f"{name} has {len(values)} numbers, the images have {channels} channels",
                help="give one number, or one per channel",
            )


def _channels_first(value: onnx.ValueInfoProto, stated: Preprocessing) -> bool:
    if stated.layout != "auto":
        return stated.layout == "NCHW"
    declared = dimensions(value) or ()
    if declared[1] in (1, 3):
        return True
    if declared[3] in (1, 3):
        return False
    raise _no_image(value, "state --layout NCHW or NHWC, or give arrays as .npz")


def _color(
    value: onnx.ValueInfoProto, channels: int | str, stated: Preprocessing
) -> Literal["grey", "rgb", "bgr"]:
    if stated.color != "auto":
        if isinstance(channels, int) and channels != _CHANNELS[stated.color]:
            raise _no_image(value, f"{stated.color} has {_CHANNELS[stated.color]} channels")
        return stated.color
    if isinstance(channels, int) and channels not in (1, 3):
        raise _no_image(value, "images have 1 or 3 channels: check --layout, or give .npz")
    return "grey" if channels == 1 else "rgb"


def _final_size(
    value: onnx.ValueInfoProto, declared: Sequence[int | str], stated: Preprocessing
) -> Size:
    wanted = stated.crop
    resized = stated.resize
    if wanted is None and isinstance(resized, tuple):
        wanted = resized
    if wanted is None and all(isinstance(side, int) for side in declared):
        return int(declared[0]), int(declared[1])
    if wanted is None and resized is not None:
        wanted = (
            declared[0] if isinstance(declared[0], int) else int(str(resized)),
            declared[1] if isinstance(declared[1], int) else int(str(resized)),
        )
    if wanted is None:
        raise _no_image(value, "its height and width are open: state --resize 256 --crop 224")
    for side, size in zip(declared, wanted, strict=True):
        if isinstance(side, int) and side != size:
            raise _no_image(value, f"images come out as {wanted[0]}x{wanted[1]}: change the crop")
    return wanted


def _assumed(stated: Preprocessing, size: Size, raw: bool) -> tuple[str, ...]:
    found = []
    if stated.resize is None and stated.crop is None:
        found.append(f"resize and centre crop to {size[0]}x{size[1]}")
    if not raw and stated.scale is None:
        found.append("division by 255")
    if not raw and not stated.mean and not stated.std:
        found.append("no mean and std")
    return tuple(found)


def _no_image(value: onnx.ValueInfoProto, help: str) -> UsageError:
    shape = ",".join(str(dim or "?") for dim in dimensions(value) or ())
    dtype = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
    return UsageError(
        "E237",
        f"input '{value.name}' cannot be fed with such images",
        where=f"it takes {dtype} [{shape}]",
        help=help,
    )


def _size(size: int | Size) -> str:
    return str(size) if isinstance(size, int) else f"{size[0]}x{size[1]}"


def _list(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)
