"""Slims every ONNX file of a folder and prints a table: is it right, what is left, what is pinned.

    python benchmarks/zoo.py FOLDER [--expected expected.json] [--openvino] > docs/zoo.md

Each is cut by 0.4 in every layer, lowest filter norm first, widths not rounded. Checked: the
oracle, inputs and outputs, batches of one and three where the batch is open, and with
``--openvino`` that OpenVINO gives the same outputs. Exits 1 if a file fails or keeps more than
expected (+ 0.02).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import prunecvt
from prunecvt.report.schema import Report
from prunecvt.runtimes.openvino_ir import Trial, parity
from prunecvt.slimming import Slimmed
from prunecvt_passes import oracle, runtime
from prunecvt_passes.model import Model
from prunecvt_passes.normalise import Dense
from prunecvt_passes.samples import dimensions, graph_inputs, random_inputs

SLACK = 0.02
TOLERANCE = 1e-4
_PAGE = """# The zoo

Written by `python benchmarks/zoo.py`: every file is cut by 0.4 in every layer, lowest filter norm
first, widths not rounded, and checked.

- **analysis s**: seconds of labelling, scoring, choosing and slicing; loading is left out.
- **left**: share of the weights that is left; **expected**: what an earlier experiment reached on
  the best export of the same network (0.02 more is allowed).
- **oracle**, **batches**, **OpenVINO**: largest relative difference of the slimmed model's outputs
  to those of the original with zeros where removed channels are read; the same at batches of one
  and three where the batch is open; the same in OpenVINO.
- **pinned**: channels that have to stay, by reason; `prunecvt inspect` names the nodes.
"""
HEADS = (
    "file",
    "nodes",
    "analysis s",
    "left",
    "expected",
    "oracle",
    "batches",
    "OpenVINO",
    "pinned",
)


def other_batches(slimmed: Slimmed) -> str:
    """Runs original-with-mask and slimmed model at a batch of one and of three."""
    model = slimmed.source
    dense = slimmed.facts.get(Dense)
    first = [(dimensions(value) or (0,))[0] for value in graph_inputs(model)]
    if not first or any(isinstance(size, int) for size in first):
        return "fixed"
    masked = oracle.masked(slimmed.groups, slimmed.removal)
    worst = 0.0
    for batch in (1, 3):
        sizes = {name: (batch, *shape[1:]) for name, shape in dense.sizes.items()}
        inputs = random_inputs(model, sizes, seed=batch)
        wanted, found = runtime.run(masked, inputs), runtime.run(slimmed.model, inputs)
        worst = max(worst, oracle.difference(wanted, found).relative)
    return f"{worst:.0e}"


def in_openvino(model: Model, slimmed: Slimmed) -> str:
    """Largest relative difference of OpenVINO's outputs."""
    if slimmed.reference is None:
        return ""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "model.onnx"
        onnx.save(model.to_proto(), path)
        return f"{parity(path, Trial(*slimmed.reference, 1e-3)).max_rel:.0e}"


def pinned(report: Report) -> str:
    """Channels that must stay, by reason code, the most first."""
    counted: Counter[str] = Counter()
    for row in report.skipped:
        counted[row.code] += row.channels
    return ", ".join(f"{code} {count}" for code, count in counted.most_common(3))


def weights(model: Model) -> int:
    return sum(values.size for values in model.weights.values() if values.dtype.kind == "f")


def row(
    path: Path, expected: float | None, openvino: bool, units: dict[str, Any]
) -> tuple[list[str], bool]:
    """A line of the table, and whether all is well."""
    settings = {"ratio": 0.4, "scope": "layer", "criterion": "l2", "round_to": 1, **units}
    started = time.perf_counter()
    result = prunecvt.slim(path, fold_bn=False, **settings)
    slimmed = result.slimmed
    passes = {p.name: p.seconds for p in result.report.passes}
    analysis = sum(passes[n] for n in ("normalise", "label", "solve", "score", "choose", "remove"))
    dense = slimmed.facts.get(Dense).graph
    left = weights(slimmed.model) / weights(dense.model)
    check = slimmed.oracle.max_rel if slimmed.oracle else np.inf
    batches = other_batches(slimmed)
    fine = check < TOLERANCE and (batches == "fixed" or float(batches) < TOLERANCE)
    if expected is not None:
        fine = fine and left <= expected + SLACK
    cells = [
        path.name.removesuffix(".onnx"),
        str(len(dense.nodes)),
        f"{analysis:.2f}",
        f"{left:.3f}",
        "" if expected is None else f"{expected:.3f}",
        f"{check:.0e}",
        batches,
        in_openvino(slimmed.model, slimmed) if openvino else "",
        pinned(result.report),
    ]
    sys.stderr.write(f"{path.name} {time.perf_counter() - started:.1f} s\n")
    return cells, fine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--expected", type=Path, help="architecture -> share that may be left")
    parser.add_argument("--openvino", action="store_true", help="run each in OpenVINO too")
    parser.add_argument("--files", default="*.onnx", help="pattern of file names")
    parser.add_argument("--attention-unit", default="head", help="head or channel")
    parser.add_argument("--grouped-unit", default="channel", help="channel or group")
    parser.add_argument("--allow-inexact", action="store_true", help="cut normalised axes too")
    options = parser.parse_args()
    units = {
        name: getattr(options, name) for name in ("attention_unit", "grouped_unit", "allow_inexact")
    }
    expected = json.loads(options.expected.read_text()) if options.expected else {}
    print(_PAGE)
    print(f"| {' | '.join(HEADS)} |\n|{'---|' * len(HEADS)}", flush=True)
    failed = []
    for path in sorted(options.folder.glob(options.files)):
        try:
            wanted = expected.get(path.name.split(".")[0])
            cells, fine = row(path, wanted, options.openvino, units)
        except prunecvt.PrunecvtError as error:
            cells, fine = (
                [path.name, *[""] * 7, f"{error.code} {error.message}: {error.where}"],
                False,
            )
        print(f"| {' | '.join(cells)} |", flush=True)
        if not fine:
            failed.append(path.name)
    print(f"\n{len(failed)} failed{': ' if failed else ''}{', '.join(failed)}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
