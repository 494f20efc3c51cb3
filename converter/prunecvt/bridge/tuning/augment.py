"""Other inputs from given ones; the original answers them anew, so nothing needs a label.

All draw from a generator on the CPU, so that a seed says everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from prunecvt.bridge.tuning.samples import Samples
from prunecvt.errors import UsageError
from prunecvt.tune_options import AUGMENTATIONS

Augmentation = Callable[[Tensor, torch.Generator, bool], Tensor]
_REACH = 8  # images are moved by an eighth of their size at most
_NOISE = 0.1  # standard deviations of the batch
_AT_ONCE = 128


def flipped(images: Tensor, draw: torch.Generator, last: bool = False) -> Tensor:
    """Mirrors each image left to right, with probability a half.

    Args:
        images: [N, C, H, W], or [N, H, W, C] where channels are last.
        draw: where chance comes from.
        last: whether channels are last.
    """
    chosen = torch.rand(len(images), generator=draw) < 0.5
    shape = (-1,) + (1,) * (images.ndim - 1)
    return torch.where(chosen.to(images.device).view(shape), images.flip(2 if last else 3), images)


def moved(images: Tensor, draw: torch.Generator, last: bool = False) -> Tensor:
    """Cuts each image out of itself, mirrored at its borders, an eighth of its size off at most."""
    if last:
        return moved(images.movedim(3, 1), draw).movedim(1, 3).contiguous()
    height, width = images.shape[2:]
    up, left = (max(size // _REACH, 1) if size > 1 else 0 for size in (height, width))
    padded = functional.pad(images, (left, left, up, up), mode="reflect")
    rows, columns = (
        torch.randint(2 * reach + 1, (len(images), 1), generator=draw) + torch.arange(size)
        for reach, size in ((up, height), (left, width))
    )
    each = torch.arange(len(images))[:, None, None, None]
    channels = torch.arange(images.shape[1])[None, :, None, None]
    places = (each, channels, rows[:, None, :, None], columns[:, None, None, :])
    return padded[tuple(place.to(images.device) for place in places)]


def noisy(values: Tensor, draw: torch.Generator, last: bool = False) -> Tensor:
    """Adds a tenth of the batch's standard deviation of Gaussian noise."""
    noise = torch.randn(values.shape, generator=draw).to(values)
    return values + _NOISE * values.std() * noise


def mixed(values: Tensor, draw: torch.Generator, last: bool = False) -> Tensor:
    """Mixes each sample with another, in a proportion drawn evenly (mixup; Zhang et al., 2018)."""
    shape = (-1,) + (1,) * (values.ndim - 1)
    share = torch.rand(len(values), generator=draw).to(values).view(shape)
    other = torch.randperm(len(values), generator=draw).to(values.device)
    return share * values + (1 - share) * values[other]


_AUGMENTED_BY: Mapping[str, Augmentation] = dict(
    zip(AUGMENTATIONS, (flipped, moved, noisy, mixed), strict=True)
)
_OF_IMAGES = ("flip", "crop")


def augmented(
    batch: Mapping[str, Tensor], names: Sequence[str], draw: torch.Generator
) -> dict[str, Tensor]:
    """Other inputs like these.

    Args:
        batch: input -> samples; only the one floating-point input is changed.
        names: of ``AUGMENTATIONS``, applied in their order there.
        draw: where chance comes from.
    """
    changed = dict(batch)
    (name,) = (each for each, values in batch.items() if values.is_floating_point())
    for kind, augmentation in _AUGMENTED_BY.items():
        if kind in names:
            values = changed[name]
            changed[name] = augmentation(values, draw, _channels_last(values))
    return changed


def augmented_once(samples: Samples, names: Sequence[str], seed: int) -> Samples:
    """The same samples, each augmented once, in parts of the size of a batch."""
    draw = torch.Generator().manual_seed(seed)
    parts = [
        augmented(samples.at(places).inputs, names, draw)
        for places in torch.arange(len(samples)).split(_AT_ONCE)
    ]
    own = samples.inputs.keys() - samples.shared
    joined = {name: torch.cat([part[name] for part in parts]) for name in own}
    return replace(samples, inputs={**samples.inputs, **joined})


def check_augmentable(batch: Mapping[str, Tensor], names: Sequence[str], source: str) -> None:
    """Refuses augmentations that the inputs are not made for.

    Raises:
        UsageError: E264, there is not one floating-point input, or it holds no images.
    """
    if not names:
        return
    floats = [values for values in batch.values() if values.is_floating_point()]
    images = len(floats) == 1 and floats[0].ndim == 4
    if len(floats) != 1 or (not images and any(name in _OF_IMAGES for name in names)):
        shapes = ", ".join(f"{name} {list(values.shape)}" for name, values in batch.items())
        raise UsageError(
            "E264",
            f"--augment {','.join(names)} does not fit the inputs",
            where=f"{source}: {shapes}",
            help="flip and crop take one input of images, noise and mixup one of numbers",
        )


def _channels_last(values: Tensor) -> bool:
    return values.ndim == 4 and values.shape[3] in (1, 3, 4) and values.shape[1] not in (1, 3, 4)
