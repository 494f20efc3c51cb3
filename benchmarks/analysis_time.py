"""Times the analysis and the slice of every ONNX file of a folder, pass by pass, worst first.

    python benchmarks/analysis_time.py FOLDER [--files '*.onnx'] [--repeats 3]

Seconds of processor time of one process, the best of the repeats, loading the file left out;
settings as in ``zoo.py``. For figures that mean something the machine has to be idle.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import onnx

from prunecvt_passes import pipeline
from prunecvt_passes.budget import Budget
from prunecvt_passes.criteria.statistics import NO_STATISTICS
from prunecvt_passes.errors import PrunecvtError
from prunecvt_passes.model import Model
from prunecvt_passes.normalise import Dense, Source
from prunecvt_passes.recipes import ANALYSE, CUT, DECIDE
from prunecvt_passes.recovery.curve import NO_CURVES
from prunecvt_passes.score import Criterion
from prunecvt_passes.units import Units

PASSES = tuple(step.__name__ for step in (*ANALYSE, *DECIDE, *CUT) if step.__name__ != "draft")


def analysed(model: Model) -> tuple[dict[str, float], int]:
    """Seconds of processor time per pass, and the nodes of the model in normal form."""
    facts = pipeline.Facts()
    budget = Budget(0.4, scope="layer", round_to=1)
    for fact in (Source(model), Units(), Criterion("l2"), NO_CURVES, NO_STATISTICS, budget):
        facts.put(fact)
    marks: list[tuple[str, float]] = []
    pipeline.run(
        (*ANALYSE, *DECIDE, *CUT), facts, lambda name: marks.append((name, time.process_time()))
    )
    ends = [start for _, start in marks[1:]] + [time.process_time()]
    spent = {name: end - start for (name, start), end in zip(marks, ends, strict=True)}
    return {name: spent[name] for name in PASSES}, len(facts.get(Dense).graph.nodes)


def best(path: Path, repeats: int) -> tuple[int, dict[str, float], int]:
    """Nodes of the file, the run with the least total, nodes in normal form."""
    model = Model.take(onnx.load(path), path.name)
    runs = [analysed(model) for _ in range(repeats)]
    spent, nodes = min(runs, key=lambda run: sum(run[0].values()))
    return len(model.proto.graph.node), spent, nodes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", default="*.onnx", help="pattern of file names")
    parser.add_argument("--repeats", type=int, default=3, help="the fastest run counts")
    parser.add_argument("--limit", type=float, default=1.0, help="seconds that none may exceed")
    options = parser.parse_args()
    rows = []
    for path in sorted(options.folder.glob(options.files)):
        try:
            nodes, spent, left = best(path, options.repeats)
        except PrunecvtError as error:
            sys.stderr.write(f"{path.name}: {error.code} {error.message}\n")
            continue
        rows.append((sum(spent.values()), path.name.removesuffix(".onnx"), nodes, left, spent))
    print(f"| file | nodes | in normal form | s | {' | '.join(PASSES)} |")
    print("|---" * (4 + len(PASSES)) + "|")
    for total, name, nodes, left, spent in sorted(rows, key=lambda row: row[0], reverse=True):
        cells = " | ".join(f"{spent[step]:.3f}" for step in PASSES)
        print(f"| {name} | {nodes} | {left} | {total:.3f} | {cells} |")
    over = sum(total > options.limit for total, *_ in rows)
    print(f"\n{len(rows)} files, {over} of them over {options.limit} s")
    sys.exit(bool(over))


if __name__ == "__main__":
    main()
