"""Slims every sample model and prints what that cost and won: the table in the README."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import prunecvt
from prunecvt.report.schema import LatencyRow

HEADS = (
    *("model", "ratio", "parameters", "MACs", "onnxruntime", "OpenVINO", "oracle"),
    *("score before", "after"),
)
SAMPLES = Path(__file__).parent.parent / "sample_models"
sys.path.insert(0, str(SAMPLES))

from evaluate import Result, evaluate  # noqa: E402  (lies beside the models)


def score(result: Result) -> str:
    unit = "dB" if "dB" in result.text else "%"
    return f"{result.value:.1f} {unit}"


def latency(timed: LatencyRow) -> str:
    low, high = timed.ratio_ci95
    return f"{timed.ratio - 1:+.0%} ({low - 1:+.0%} to {high - 1:+.0%})"


def row(model: Path, ratio: float, folder: Path) -> str:
    out = folder / f"{model.stem}_{ratio}.onnx"
    calib = SAMPLES / "digits_calib.npz"
    report = prunecvt.slim(model, out, ratio=ratio, calib=calib, recover="none").report
    oracle = report.verify.masked_dense if report.verify else None
    cells = [
        model.name,
        f"{ratio:g}",
        f"{report.totals.params.ratio - 1:+.0%}",
        f"{report.totals.macs.ratio - 1:+.0%}",
        *(latency(timed) for timed in report.latency),
        f"{oracle.max_rel:.0e}" if oracle else "",
        score(evaluate(model)),
        score(evaluate(out)),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.1, 0.2, 0.4])
    ratios = parser.parse_args().ratios
    print(f"| {' | '.join(HEADS)} |\n|{'---|' * len(HEADS)}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        for model in sorted(SAMPLES.glob("digits_*.onnx")):
            for ratio in ratios:
                if not model.stem.endswith("_slim"):
                    print(row(model, ratio, Path(name)), flush=True)


if __name__ == "__main__":
    main()
