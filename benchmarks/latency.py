"""How much of what MACs promise comes true? Measured speed-up over the bound by MACs.

Each row: a net of ``nets.py`` at 224 px with random weights (latency does not depend on them), cut
by the same ratio in every layer, widths as they come (1) or rounded (auto). A share of 1 means that
the model is faster by just what it has fewer multiply-accumulates. All cuts of a net run against
the original in one race, round by round.

    python benchmarks/latency.py
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import onnx

import prunecvt
from nets import MODELS
from prunecvt.judging import bench_files

HEAD = "| net | ratio | widths | MACs left | onnxruntime | of the bound | OpenVINO | of the bound |"
QUICK = {"ir": False, "bench": False, "verify": False}


def rows(name: str, ratios: list[float], folder: Path) -> list[str]:
    """The lines of one net."""
    path = folder / f"{name}.onnx"
    onnx.save(MODELS[name](), path)
    made = []
    for ratio in ratios:
        for widths in (1, "auto"):
            out = folder / f"{name}_{ratio}_{widths}.onnx"
            report = prunecvt.slim(path, out, ratio=ratio, round_to=widths, **QUICK).report
            made.append((ratio, widths, report.totals.macs.ratio, out))
    _, table = bench_files([path, *(out for *_, out in made)], "both", {}, None)
    lines = []
    for (ratio, widths, macs, _), found in zip(made, table, strict=True):
        cells = [f"x{1 / row.ratio:.2f} | {macs / row.ratio:.2f}" for row in found]
        lines.append(f"| {name} | {ratio} | {widths} | {macs:.3f} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", default="resnet18,resnet50,mobilenet_v2,vgg16")
    parser.add_argument("--ratios", default="0.3,0.5")
    options = parser.parse_args()
    ratios = [float(ratio) for ratio in options.ratios.split(",")]
    print(f"{HEAD}\n|---|--:|--:|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as name:
        for net in options.nets.split(","):
            print("\n".join(rows(net, ratios, Path(name))), flush=True)


if __name__ == "__main__":
    main()
