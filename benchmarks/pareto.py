"""At equal measured latency: does choosing where to cut keep more answers than a uniform ratio?

A trained classifier is cut by the same ratio in every layer, and timed; then ``--target latency=``
asks for that latency with ``--scope error``, everything else alike (criterion, rounding, refit, the
same unlabelled images). All models run in one race against the original; answers are those to test
images that nothing was fitted on.

    python benchmarks/pareto.py --shared DIR
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

import prunecvt
from prunecvt.judging import bench_files
from trained import Examples, Ints, calibration_for, examples_for

RATIOS = {"cifar10_resnet56.tsbn": (0.1, 0.2, 0.3), "imagenet_mobilenet_v2.tsbn": (0.1, 0.2, 0.3)}
HEAD = (
    "| model | asked for | widths by | MACs left | latency, onnxruntime | OpenVINO | agreement "
    "| top-1 |\n|---|---|---|--:|--:|--:|--:|--:|"
)
QUICK = {"ir": False, "bench": False, "force": True}
_SHOWN = 50  # images at once


def answers(path: Path, examples: Examples) -> Ints:
    """The class that a model gives each test image."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    places = range(0, len(examples.labels), _SHOWN)
    found = [session.run(None, {name: examples.images[k : k + _SHOWN]})[0] for k in places]
    made: Ints = np.concatenate(found).argmax(1).astype(np.int64)
    return made


def pairs(path: Path, data: Path, ratios: tuple[float, ...], folder: Path) -> list[Any]:
    """For each ratio the uniform cut and the one that is searched at its latency."""
    made = []
    for ratio in ratios:
        out = folder / f"uniform_{ratio}.onnx"
        how = {"calib": data, "recover": "refit", **QUICK}
        even = prunecvt.slim(path, out, ratio=ratio, scope="layer", **how).report
        _, ((row,),) = bench_files([path, out], "onnxruntime", {}, None)
        made.append((f"ratio={ratio}", "uniform", even.totals.macs.ratio, out))
        target, out = f"latency={row.ratio:.3f}", folder / f"chosen_{ratio}.onnx"
        chosen = prunecvt.slim(path, out, target=target, **how).report
        made.append((target, "choice", chosen.totals.macs.ratio, out))
    return made


def rows(shared: Path, name: str, images: int, tests: int) -> list[str]:
    """The lines of one model."""
    path = shared / "models" / f"{name}.onnx"
    examples = examples_for(path, shared, tests)
    if examples is None:
        raise SystemExit(f"{name} has no test images")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = folder / "calibration.npz"
        np.savez(data, input=calibration_for(path, shared, images))
        made = pairs(path, data, RATIOS[name], folder)
        _, table = bench_files([path, *(out for *_, out in made)], "both", {}, None)
        whole = answers(path, examples)
        lines = []
        for (asked, ways, macs, out), found in zip(made, table, strict=True):
            given = answers(out, examples)
            cells = [f"{row.ratio:.3f}" for row in found]
            kept, right = (given == whole).mean(), (given == examples.labels).mean()
            lines.append(
                f"| {name} | {asked} | {ways} | {macs:.3f} | {' | '.join(cells)} "
                f"| {100 * kept:.1f} % | {100 * right:.1f} % |"
            )
    return lines


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--models", default=",".join(RATIOS))
    parser.add_argument("--images", type=int, default=512, help="to fit on")
    parser.add_argument("--tests", type=int, default=10_000)
    options = parser.parse_args()
    print(HEAD)
    for name in options.models.split(","):
        images = min(options.images, 250) if name.startswith("imagenet") else options.images
        tests = min(options.tests, 250) if name.startswith("imagenet") else options.tests
        print("\n".join(rows(options.shared, name, images, tests)), flush=True)


if __name__ == "__main__":
    main()
