"""Is every slimmed model what it should be?

The oracle is the original with the removed channels multiplied by zero where they are read. Slims
every model at several ratios, steps and scopes, compares the two in onnxruntime, prints a table and
exits with 1 if a relative difference is 1e-4 or more.

    python benchmarks/oracle_matrix.py --shared ../shared
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prunecvt_passes import oracle, runtime
from prunecvt_passes.budget import Budget, Scope
from prunecvt_passes.choose import choose
from prunecvt_passes.cost import parameters
from prunecvt_passes.flow import trace
from prunecvt_passes.fold import fold_batch_norms
from prunecvt_passes.groups import Groups, solve
from prunecvt_passes.normalise import Dense, Source, normalise
from prunecvt_passes.rules import RULES
from prunecvt_passes.samples import random_inputs
from prunecvt_passes.score import Criterion, Scores, score
from prunecvt_passes.slice import remove
from trained import SAMPLES, opened

LIMIT = 1e-4
PATTERNS = ("cifar10_resnet*.onnx", "cifar10_mlperf*.onnx", "imagenet_mobilenet*.onnx")
BUDGETS: tuple[tuple[float, int | str, Scope], ...] = tuple(
    itertools.product((0.1, 0.4, 0.7), (1, "auto"), ("layer", "global"))
)


@dataclass(frozen=True)
class Case:
    """One model under one budget: share of parameters left, and how far from the oracle."""

    left: float
    relative: float


def paths(shared: Path | None, pattern: str) -> list[Path]:
    """The sample models, and the classifiers of ``shared`` where it is given."""
    found = sorted(SAMPLES.glob("*.onnx"))
    if shared is not None:
        found += [p for each in PATTERNS for p in sorted((shared / "models").glob(each))]
    return [path for path in found if path.match(pattern)]


def forms(path: Path) -> Iterator[tuple[str, Dense]]:
    """The model as it is and, where that differs, with BatchNormalization folded."""
    dense = opened(path)
    yield path.stem, dense
    folded = fold_batch_norms(dense.graph.model)
    if folded is not dense.graph.model:
        yield f"{path.stem}, folded", normalise(Source(folded))


def case(dense: Dense, groups: Groups, scores: Scores, budget: Budget) -> Case:
    """Slims under one budget and compares with the oracle."""
    removal = choose(groups, scores, budget)
    slim = remove(groups, removal)
    inputs = random_inputs(dense.graph.model, dense.sizes)
    expected = runtime.run(oracle.masked(groups, removal), inputs)
    gap = oracle.difference(expected, runtime.run(slim, inputs))
    return Case(parameters(slim) / parameters(dense.graph.model), gap.relative)


def worst_of(name: str, dense: Dense, criterion: str) -> float:
    """Prints a line per budget; returns the largest difference."""
    groups = solve(trace(dense.graph, RULES))
    scores = score(groups, Criterion(criterion))
    worst = 0.0
    for ratio, step, scope in BUDGETS:
        budget = Budget(ratio, scope, step if step == "auto" else int(step))  # type: ignore[arg-type]
        found = case(dense, groups, scores, budget)
        mark = "" if found.relative < LIMIT else " **too far**"
        print(
            f"| {name} | {scope} | {ratio:g} | {step} | {found.left:.3f} "
            f"| {found.relative:.1e}{mark} |",
            flush=True,
        )
        worst = max(worst, found.relative)
    return worst


def main() -> int:
    """Parses the command line, prints a markdown table and returns the exit status."""
    parser = argparse.ArgumentParser(description="Compare slimmed models with the oracle.")
    parser.add_argument("--shared", type=Path, help="folder with models/")
    parser.add_argument("--models", default="*.onnx", help="pattern of file names")
    parser.add_argument("--criterion", default="auto")
    options = parser.parse_args()
    found = paths(options.shared, options.models)
    if not found:
        parser.error("no model matches")
    print("| model | scope | ratio | round to | parameters left | relative difference |")
    print("|---|---|---|---|---|---|")
    worst = max(worst_of(n, d, options.criterion) for path in found for n, d in forms(path))
    print(f"\nLargest relative difference: {worst:.1e}; the limit is {LIMIT:g}.")
    return int(not worst < LIMIT)


if __name__ == "__main__":
    sys.exit(main())
