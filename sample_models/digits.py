"""The digits the sample models are trained and judged on, prepared with numpy alone.

scikit-learn ships 1,797 handwritten digits of 8x8 pixels. They are scaled to [0, 1], enlarged to
32x32 by bilinear interpolation and split once and for all: 1,000 to train and calibrate on, 797
held out. The split uses no random numbers, so no library version can move an image across it.

Run as a script, it writes both halves as .npz files for the command line:
    python sample_models/digits.py digits.npz     (digits_test.npz and digits_calib.npz)
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Arrays = dict[str, Floats | Integers]

SIDE = 32
TRAIN_COUNT = 1000
NOISE = 0.3
# Coprime to the length of both halves: see `_mix`.
STRIDE = 617


@dataclass(frozen=True)
class Digits:
    """Both halves of the data: images float32 [N, 1, 32, 32] in [0, 1], labels int64 [N]."""

    train_images: Floats
    train_labels: Integers
    test_images: Floats
    test_labels: Integers


def prepare(images: npt.ArrayLike) -> Floats:
    """Scales 8x8 images with values 0..16 to [0, 1] and enlarges them to [N, 1, 32, 32]."""
    small = np.asarray(images, dtype=np.float64) / 16.0
    weights = _interpolation(small.shape[-1], SIDE)
    return (weights @ small @ weights.T)[:, np.newaxis].astype(np.float32)


def split() -> Digits:
    """Returns the fixed split: 1,000 training and 797 held-out digits, stratified by class."""
    bunch = load_digits()
    images, labels = prepare(bunch.images), bunch.target.astype(np.int64)
    by_class = np.argsort(labels, kind="stable")
    chosen = np.zeros(len(labels), dtype=bool)
    chosen[np.arange(TRAIN_COUNT) * len(labels) // TRAIN_COUNT] = True
    train, test = _mix(by_class[chosen]), _mix(by_class[~chosen])
    return Digits(images[train], labels[train], images[test], labels[test])


def load() -> tuple[Floats, Floats, Integers]:
    """Returns the calibration images (unlabelled), the held-out images and their labels."""
    digits = split()
    return digits.train_images, digits.test_images, digits.test_labels


def add_noise(images: Floats, seed: int = 0, noise: float = NOISE) -> Floats:
    """Adds Gaussian noise of standard deviation `noise`: what the U-Net is given."""
    drawn = np.random.default_rng(seed).standard_normal(images.shape, dtype=np.float32)
    return images + np.float32(noise) * drawn


def write(out: Path, noise: float = 0.0) -> list[Path]:
    """Writes OUT_test.npz and OUT_calib.npz and returns their paths.

    Both hold the array `input`; the test file adds `labels`. With noise, `input` is noisy and the
    test file adds the clean images as `target`.
    """
    calib_images, test_images, labels = load()
    calib: Arrays = {"input": calib_images}
    test: Arrays = {"input": test_images, "labels": labels}
    if noise:
        calib = {"input": add_noise(calib_images, 1, noise)}
        test |= {"input": add_noise(test_images, 0, noise), "target": test_images}
    paths = [out.with_name(f"{out.stem}_{part}.npz") for part in ("test", "calib")]
    for path, arrays in zip(paths, (test, calib), strict=True):
        np.savez_compressed(path, **arrays)
    return paths


def _interpolation(source: int, target: int) -> npt.NDArray[np.float64]:
    """Returns the [target, source] matrix of bilinear interpolation between pixel centres."""
    centres = (np.arange(target) + 0.5) * source / target - 0.5
    distance = np.abs(np.clip(centres, 0, source - 1)[:, np.newaxis] - np.arange(source))
    return np.maximum(0.0, 1.0 - distance)


def _mix(indices: Integers) -> Integers:
    """Reorders class-sorted indices so that every prefix holds all classes about equally."""
    return indices[np.arange(len(indices)) * STRIDE % len(indices)]


def main() -> None:
    """Parses the command line and writes the two files."""
    parser = argparse.ArgumentParser(description="Write the sample digits as .npz files.")
    parser.add_argument("out", type=Path, metavar="OUT.npz", help="writes OUT_test, OUT_calib")
    parser.add_argument("--noise", type=float, default=0.0, help="0.3 for the U-Net (default: 0)")
    arguments = parser.parse_args()
    for path in write(arguments.out, arguments.noise):
        print(path)


if __name__ == "__main__":
    main()
