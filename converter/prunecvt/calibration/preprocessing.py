"""What is done to an image before the model sees it, as the user states it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, cast

from prunecvt.errors import UsageError

Size = tuple[int, int]
Layout = Literal["auto", "NCHW", "NHWC"]
Color = Literal["auto", "grey", "rgb", "bgr"]
LAYOUTS = ("auto", "NCHW", "NHWC")
COLORS = ("auto", "grey", "rgb", "bgr")


@dataclass(frozen=True)
class Preprocessing:
    """The stated steps, in their order; None, ``auto`` or nothing where one is not stated.

    Attributes:
        resize: the shorter side in pixels, or (height, width).
        crop: (height, width), cut from the centre.
        scale: what pixels (0 to 255) are divided by.
        mean, std: one number or one per channel, of pixels after scaling.
        layout: order of the input's axes.
        color: of the pixels.
    """

    resize: int | Size | None = None
    crop: Size | None = None
    scale: float | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    layout: Layout = "auto"
    color: Color = "auto"

    @staticmethod
    def of(values: Mapping[str, Any]) -> Preprocessing:
        """Reads steps as flags, a calib.toml or Python state them; other names are left alone.

        Raises:
            UsageError: E236, a value cannot be read.
        """
        resize, crop, scale = values.get("resize"), values.get("crop"), values.get("scale")
        steps = Preprocessing(
            None if resize is None else _size("resize", resize),
            None if crop is None else _square(_size("crop", crop)),
            None if scale is None else _numbers("scale", scale)[0],
            _numbers("mean", values.get("mean")),
            _numbers("std", values.get("std")),
            cast(Layout, _one_of("layout", values.get("layout"), LAYOUTS)),
            cast(Color, _one_of("color", values.get("color"), COLORS)),
        )
        if steps.scale == 0 or 0 in steps.std:
            raise UsageError("E236", "scale and std divide: they cannot be 0")
        if steps.scale is None and any(abs(value) > 1.5 for value in steps.mean):
            raise UsageError(
                "E236",
                f"mean {_words(steps.mean)} is of pixels from 0 to 255, which would be divided "
                "by 255 first",
                help="state --scale 1, or the mean of pixels from 0 to 1",
            )
        return steps

    def over(self, other: Preprocessing) -> Preprocessing:
        """These steps, and the other's where these state nothing."""
        unsaid = Preprocessing()
        said = {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if getattr(self, each.name) != getattr(unsaid, each.name)
        }
        return replace(other, **said)


def _numbers(name: str, value: Any) -> tuple[float, ...]:
    """``0.5,0.5``, a number or a list of numbers; nothing where there is None."""
    if value is None:
        return ()
    parts = value.split(",") if isinstance(value, str) else value
    parts = list(parts) if isinstance(parts, Sequence) else [parts]
    try:
        found = tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        found = ()
    if not found or not all(map(math.isfinite, found)):
        raise UsageError(
            "E236", f"{name} {value!r} cannot be read", help="write numbers, such as 0.485,0.5,0.4"
        )
    return found


def _size(name: str, value: Any) -> int | Size:
    """``256``, ``256x320`` (height x width), a number or a pair of numbers."""
    parts = value.lower().split("x") if isinstance(value, str) else value
    parts = list(parts) if isinstance(parts, Sequence) else [parts]
    try:
        found = [int(part) for part in parts]
    except (TypeError, ValueError):
        found = []
    if len(found) not in (1, 2) or not all(1 <= size <= 65535 for size in found):
        raise UsageError(
            "E236",
            f"{name} {value!r} cannot be read",
            help="write pixels: 256, or height x width such as 256x320",
        )
    return found[0] if len(found) == 1 else (found[0], found[1])


def _square(size: int | Size) -> Size:
    return (size, size) if isinstance(size, int) else size


def _one_of(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    found = {each.lower(): each for each in allowed}.get(str(value or "auto").lower())
    if found is None:
        raise UsageError("E236", f"{name} is {value!r}", help=f"it can be {', '.join(allowed)}")
    return found


def _words(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)
