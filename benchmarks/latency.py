"""How much of what MACs promise comes true? Measured speed-up over the bound by MACs.

Each row: a net of ``nets.py`` with random weights (latency does not depend on them), cut by the
same ratio in every layer, widths as they come (1) or rounded (auto); with ``--against`` beside what
other tools leave at no more multiply-accumulates than ``auto`` does. A share of 1 means that the
model is faster by just what it has fewer multiply-accumulates. All models of a net run against the
original in one race, round by round.

    python benchmarks/latency.py [--against]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import onnx

import prunecvt
from latency_rivals import macs, rivals
from nets import SIZED
from prunecvt.judging import bench_files

HEAD = (
    "| net | pixels | asked for | model | MACs left | onnxruntime | of the bound | OpenVINO "
    "| of the bound |\n|---|--:|--:|---|--:|--:|--:|--:|--:|"
)
QUICK = {"ir": False, "bench": False, "verify": False}


def rows(name: str, size: int, ratios: list[float], against: bool, folder: Path) -> list[str]:
    """The lines of one net."""
    path = folder / f"{name}.onnx"
    onnx.save(SIZED[name](size), path)
    whole, made, shares = macs(onnx.load(path)), [], []
    for ratio in ratios:
        for widths in (1, "auto"):
            out = folder / f"{name}_{ratio}_{widths}.onnx"
            report = prunecvt.slim(path, out, ratio=ratio, round_to=widths, force=True, **QUICK)
            made.append((ratio, f"prunecvt, `--round-to {widths}`", out))
        shares.append(report.report.totals.macs.ratio)
    if against:
        asked = dict(zip(shares, ratios, strict=True))
        made += [(asked[s], tool, out) for tool, s, out in rivals(name, path, size, shares)]
    _, table = bench_files([path, *(out for *_, out in made)], "both", {}, None)
    lines = []
    for (ratio, model, out), found in zip(made, table, strict=True):
        left = macs(onnx.load(out)) / whole
        cells = [f"x{1 / row.ratio:.2f} | {left / row.ratio:.2f}" for row in found]
        lines.append(f"| {name} | {size} | {ratio} | {model} | {left:.3f} | {' | '.join(cells)} |")
    return sorted(lines)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", default=",".join(SIZED))
    parser.add_argument("--sizes", default="224", help="of the images, in pixels")
    parser.add_argument("--against", action="store_true", help="beside models of other tools")
    parser.add_argument("--ratios", default="0.3,0.5")
    options = parser.parse_args()
    ratios = [float(ratio) for ratio in options.ratios.split(",")]
    print(HEAD)
    with tempfile.TemporaryDirectory() as name:
        for net in options.nets.split(","):
            for size in options.sizes.split(","):
                lines = rows(net, int(size), ratios, options.against, Path(name))
                print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main()
