"""Does the interval of a latency ratio hold the truth? A model against itself, over and over.

The ratio is 1. Its 95 % interval should hold 1 in 95 of 100 runs or more, also on a busy machine.

    python benchmarks/same_model.py --runs 100
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from prunecvt.loading.load import load
from prunecvt.runtimes.inputs import latency_inputs
from prunecvt.runtimes.latency import Contender, Schedule, compare, race
from prunecvt_passes.shapes import infer

SAMPLE = Path(__file__).parent.parent / "sample_models" / "digits_resnet.onnx"


def main() -> None:
    """Prints one line per runtime."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=SAMPLE)
    parser.add_argument("--runs", type=int, default=100)
    options = parser.parse_args()
    model = load(options.model)
    inputs = latency_inputs(model, infer(model, {})[1], {}, 0)
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / "copy.onnx"
        shutil.copy(options.model, copy)
        contenders = [Contender("one", options.model), Contender("other", copy)]
        for backend in ("onnxruntime", "openvino"):
            held, claimed, ratios = 0, 0, []
            for run in range(options.runs):
                found = race(contenders, inputs, backend=backend, schedule=Schedule(seed=run))  # type: ignore[arg-type]
                row = compare(found)
                held += row.ratio_ci95[0] <= 1 <= row.ratio_ci95[1]
                claimed += row.significant
                ratios.append(row.ratio)
            off = np.percentile(np.abs(np.array(ratios) - 1), 95)
            print(
                f"{backend}: the interval holds 1 in {held} of {options.runs} runs; a change was "
                f"claimed in {claimed}; 95 of 100 ratios are within {100 * off:.1f} % of 1; "
                f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores",
                flush=True,
            )


if __name__ == "__main__":
    main()
