"""Times ``prunecvt slim`` as a user runs it: a 102 MB ResNet-50, start of Python and all."""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx

from nets import resnet50


def run(*arguments: str) -> float:
    """Seconds of wall time of one run of the command line."""
    command = [sys.executable, "-c", "from prunecvt.cli import main; main()", *arguments]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def calibrated(images: int) -> None:
    """Times a run to half the MACs with error curves and a refit on random images at 224 px."""
    with tempfile.TemporaryDirectory() as name:
        model, data = Path(name) / "model.onnx", Path(name) / "images.npz"
        onnx.save(resnet50(), model)
        shape = (images, 3, 224, 224)
        values = np.random.default_rng(0).standard_normal(shape, np.float32)
        (port,) = onnx.load(model, load_external_data=False).graph.input
        np.savez(data, **{port.name: values})
        del values
        given = ("--calib", str(data), "--calib-count", str(images), "--target", "macs=0.5")
        seconds = run("slim", str(model), *given, "--no-ir", "--no-bench")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(
        f"prunecvt slim --calib, {images} images: {seconds:.0f} s, peak memory {peak / 1e6:.0f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--images", type=int, help="one run with curves and refit on so many")
    options = parser.parse_args()
    if options.images:
        calibrated(options.images)
        return
    runs = options.runs
    print(f"prunecvt --help: {min(run('--help') for _ in range(runs)):.2f} s")
    with tempfile.TemporaryDirectory() as name:
        model = Path(name) / "model.onnx"
        onnx.save(resnet50(), model)
        size = model.stat().st_size
        slim = ("slim", str(model), "--ratio", "0.4", "--no-ir", "--no-bench", "--force")
        seconds = [run(*slim) for _ in range(runs)]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(f"prunecvt slim, {size / 1e6:.0f} MB, without IR and latency: {min(seconds):.2f} s,")
    print(f"  slowest of {runs} {max(seconds):.2f} s; peak memory {peak / 1e6:.0f} MB")
    print(f"  (300 MB + 3 x the model are {300 + 3 * size / 1e6:.0f} MB)")


if __name__ == "__main__":
    main()
