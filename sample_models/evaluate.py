"""Measures sample models on the 797 held-out digits, with onnxruntime and no torch.

A model whose output has rank 4 is judged as a denoiser (PSNR, seeded noise), any other as a
classifier (accuracy).
    python sample_models/evaluate.py MODEL.onnx [MODEL.onnx ...]
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from digits import Floats, add_noise, load

BATCH = 64


@dataclass(frozen=True)
class Result:
    """One model's measure: its value, and the sentence that goes with it."""

    value: float
    text: str


def predict(session: onnxruntime.InferenceSession, images: Floats) -> Floats:
    """Runs the model over the images in batches and returns its first output."""
    name = session.get_inputs()[0].name
    starts = range(0, len(images), BATCH)
    batches = [session.run(None, {name: images[start : start + BATCH]})[0] for start in starts]
    return np.concatenate(batches)


def psnr(images: Floats, clean: Floats) -> float:
    """Returns the peak signal-to-noise ratio in decibels over all pixels, for a peak of 1."""
    error = images.astype(np.float64) - clean
    return float(-10 * np.log10(np.mean(error**2)))


def evaluate(model: Path) -> Result:
    """Measures one model: accuracy in percent, or PSNR in decibels."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    _, images, labels = load()
    if len(session.get_outputs()[0].shape) == 4:
        noisy = add_noise(images)
        value = psnr(predict(session, noisy), images)
        return Result(value, f"PSNR {value:.2f} dB (noisy input {psnr(noisy, images):.2f} dB)")
    right = int((predict(session, images).argmax(axis=1) == labels).sum())
    value = 100 * right / len(labels)
    return Result(value, f"accuracy {value:.2f} % ({right} of {len(labels)})")


def main() -> None:
    """Parses the command line and prints one line per model."""
    parser = argparse.ArgumentParser(description="Measure models on the held-out digits.")
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL.onnx")
    models = parser.parse_args().models
    missing = [str(model) for model in models if not model.is_file()]
    if missing:
        parser.error(f"no such file: {', '.join(missing)}")
    width = max(len(model.name) for model in models)
    for model in models:
        print(f"{model.name:{width}}  {evaluate(model).text}", flush=True)


if __name__ == "__main__":
    main()
