"""Trained classifiers, their test images, and how well a slimmed one still does."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from prunecvt_passes.model import Model
from prunecvt_passes.normalise import Dense, Source, normalise

Floats32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

MEAN = np.array((0.485, 0.456, 0.406), np.float32)
STD = np.array((0.229, 0.224, 0.225), np.float32)
SAMPLES = Path(__file__).resolve().parent.parent / "sample_models"
BATCH = 100


@dataclass(frozen=True)
class Examples:
    """Images as the model wants them, and their classes."""

    images: Floats32
    labels: Ints


@dataclass(frozen=True)
class Quality:
    """Percent of right answers, and percent of answers equal to the original's."""

    top1: float
    agreement: float


@dataclass(frozen=True)
class Trained:
    """A trained classifier in normal form, its test set and the original's answers."""

    name: str
    dense: Dense
    examples: Examples
    answers: Ints

    def judge(self, model: Model) -> Quality:
        """Measures a slimmed model."""
        found = answers(model, self.examples.images)
        return Quality(
            100 * float((found == self.examples.labels).mean()),
            100 * float((found == self.answers).mean()),
        )


def answers(model: Model, images: Floats32) -> Ints:
    """The class that ``model`` gives each image."""
    return logits(model, images).argmax(axis=1).astype(np.int64)


def logits(model: Model, images: Floats32) -> Floats32:
    """What ``model`` computes from each image."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.to_proto().SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    batches = np.split(images, range(BATCH, len(images), BATCH))
    return np.concatenate([session.run(None, {name: batch})[0] for batch in batches])


def opened(path: Path) -> Dense:
    """The model at ``path`` in normal form."""
    return normalise(Source(Model.take(onnx.load(path), path.name)))


def load_all(shared: Path | None, pattern: str, count: int) -> Iterator[Trained]:
    """Yields the classifiers whose file name matches ``pattern``, with at most ``count`` images."""
    paths = sorted(SAMPLES.glob("*.onnx"))
    if shared is not None:
        paths = sorted((shared / "models").glob("*.onnx")) + paths
    for path in paths:
        if not path.match(pattern):
            continue
        examples = examples_for(path, shared, count)
        if examples is not None:
            dense = opened(path)
            known = answers(dense.graph.model, examples.images)
            yield Trained(path.stem, dense, examples, known)


def examples_for(path: Path, shared: Path | None, count: int) -> Examples | None:
    """The first ``count`` test images of a classifier; None where it has none here."""
    if path.stem.startswith("digits_") and "unet" not in path.stem:
        return _digits(count)
    if shared is not None and path.stem.startswith("cifar10_"):
        return _cifar(shared, count, raw="tiny" in path.stem)
    if shared is not None and path.stem.startswith("imagenet_"):
        return _imagenet(shared, count)
    return None


def calibration_for(path: Path, shared: Path, count: int) -> Floats32:
    """Unlabelled images as the classifier wants them; none is among its test images.

    After the 4,096 that have no labels come those that have, without them.
    """
    if path.stem.startswith("imagenet_"):
        return _pictures(_imagenet_paths(shared)[0::2][:count])
    with np.load(shared / "data" / "cifar10_calib.npz") as stored:
        images = stored["images"][:count]
    if len(images) < count:
        with np.load(shared / "data" / "cifar10_train10k.npz") as stored:
            images = np.concatenate([images, stored["images"][: count - len(images)]])
    if "tiny" in path.stem:
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)
    return _normalised(images)


def _normalised(images: npt.NDArray[np.uint8]) -> Floats32:
    scaled = (images.astype(np.float32) / 255 - MEAN) / STD
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def _digits(count: int) -> Examples:
    with np.load(SAMPLES / "digits_test.npz") as stored:
        return Examples(stored["input"][:count], stored["labels"][:count].astype(np.int64))


def _cifar(shared: Path, count: int, raw: bool) -> Examples:
    with np.load(shared / "data" / "cifar10_test.npz") as stored:
        images, labels = stored["images"][:count], stored["labels"][:count].astype(np.int64)
    if raw:
        return Examples(np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32), labels)
    return Examples(_normalised(images), labels)


def _imagenet(shared: Path, count: int) -> Examples:
    """The images at odd positions of the sorted list: those at even ones are for calibration."""
    paths = _imagenet_paths(shared)[1::2][:count]
    return Examples(_pictures(paths), np.array([int(p.stem) for p in paths], np.int64))


def _imagenet_paths(shared: Path) -> list[Path]:
    return sorted((shared / "data" / "imagenet_500").glob("*.jpg"))


def _pictures(paths: list[Path]) -> Floats32:
    from PIL import Image

    pictures = [np.array(Image.open(io.BytesIO(p.read_bytes())).convert("RGB")) for p in paths]
    return _normalised(np.stack(pictures))
