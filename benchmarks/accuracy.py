"""What criteria, allocations and recovery are worth: top-1 at a share of the MACs.

Each row: a trained classifier, a criterion, an allocation, what is left of the MACs (over all
convolutions and products), a recovery without labels. ``error`` takes what costs least for what it
saves; every other allocation takes the smallest ratio that leaves no more than the share.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from prunecvt_passes.budget import Budget, Removal
from prunecvt_passes.criteria.gather import gather
from prunecvt_passes.criteria.table import CRITERIA
from prunecvt_passes.errors import UsageError
from prunecvt_passes.flow import trace
from prunecvt_passes.fold import fold_batch_norms
from prunecvt_passes.groups import Groups, solve
from prunecvt_passes.normalise import Dense
from prunecvt_passes.recovery.allocate import allocate
from prunecvt_passes.recovery.calibration import Calibration, split
from prunecvt_passes.recovery.measure import measure
from prunecvt_passes.recovery.reach import amount
from prunecvt_passes.recovery.recover import Remedy, try_recovery
from prunecvt_passes.rules import RULES
from prunecvt_passes.score import Criterion, Scores, score
from prunecvt_passes.slice import remove
from prunecvt_passes.target import Target
from trained import Examples, answers, calibration_for, examples_for, opened

MODELS = "cifar10_resnet20.tsbn,cifar10_resnet20.dyn,cifar10_resnet56.tsbn,cifar10_resnet56.dyn"
BATCH = 32


@dataclass(frozen=True)
class Case:
    """A model, its labels, its unlabelled data and its test images."""

    name: str
    dense: Dense
    groups: Groups
    calibration: Calibration
    examples: Examples

    def scores(self, criterion: str) -> Scores:
        """The channels' scores by a criterion."""
        asked = Criterion(criterion)
        curves = measure(self.dense, self.groups, self.calibration, asked)
        statistics = gather(self.dense, self.groups, self.calibration, asked)
        return score(self.groups, asked, curves, statistics)

    def removal(self, scores: Scores, scope: str, share: float, round_to: str) -> Removal:
        """What goes so that at most ``share`` of the MACs is left."""
        step = "auto" if round_to == "auto" else int(round_to)
        budget = Budget(scope=scope, round_to=step, target=Target("macs", share))  # type: ignore[arg-type]
        return allocate(self.dense, self.groups, scores, budget)

    def left(self, removal: Removal) -> float:
        """Share of the MACs that a removal leaves."""
        whole = amount(self.dense, self.dense.graph.model, "macs", False)
        return amount(self.dense, remove(self.groups, removal), "macs", True) / whole


def case_of(shared: Path, name: str, options: argparse.Namespace) -> Case | None:
    """Opens a model with its data; None where it has no test images."""
    path = shared / "models" / f"{name}.onnx"
    dense = opened(path)
    images = calibration_for(path, shared, options.images)
    feeds = [{dense.graph.inputs[0]: images[k : k + BATCH]} for k in range(0, len(images), BATCH)]
    examples = examples_for(path, shared, options.tests)
    if examples is None:
        return None
    return Case(name, dense, solve(trace(dense.graph, RULES)), split(feeds), examples)


def rows(case: Case, options: argparse.Namespace) -> None:
    """Prints one model's rows."""
    dense, examples = case.dense, case.examples
    top1 = 100 * (answers(dense.graph.model, examples.images) == examples.labels).mean()
    print(f"| {case.name} | | | 1.000 | dense | {top1:.2f} | | |", flush=True)
    asked = CRITERIA if options.criteria == "all" else options.criteria.split(",")
    for criterion in asked:
        started = time.perf_counter()
        try:
            scores = case.scores(criterion)
        except UsageError as error:  # the model lacks what the criterion needs
            print(f"{case.name}: {error.message}", file=sys.stderr)
            continue
        measured = time.perf_counter() - started
        for scope in options.scopes.split(","):
            for share in map(float, options.macs.split(",")):
                removal = case.removal(scores, scope, share, options.round_to)
                model = fold_batch_norms(remove(case.groups, removal))
                left = case.left(removal)
                for method in options.recover.split(","):
                    remedy = Remedy(method)
                    found = try_recovery(
                        dense, case.groups, removal, model, case.calibration, remedy
                    )
                    top1 = 100 * (answers(found.model, examples.images) == examples.labels).mean()
                    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                    seconds = measured + found.seconds
                    print(
                        f"| {case.name} | {criterion} | {scope} | {left:.3f} | {method} "
                        f"| {top1:.2f} | {seconds:.0f} | {peak:.0f} |",
                        flush=True,
                    )


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--criteria", default="obs", help="names, or all")
    parser.add_argument("--scopes", default="error", help="layer, global, erk, lamp, error")
    parser.add_argument("--macs", default="0.7,0.5")
    parser.add_argument("--recover", default="none,bias,refit")
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--tests", type=int, default=10000)
    parser.add_argument("--round-to", default="1")
    options = parser.parse_args()
    print("| model | criterion | scope | MACs left | recovery | top-1 | seconds | peak MB |")
    print("|---|---|---|--:|---|--:|--:|--:|")
    for name in options.models.split(","):
        case = case_of(options.shared, name, options)
        if case is not None:
            rows(case, options)


if __name__ == "__main__":
    main()
