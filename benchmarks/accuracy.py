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
from pathlib import Path

from accuracy_case import Case, case_of
from prunecvt_passes.criteria.table import CRITERIA
from prunecvt_passes.errors import UsageError
from trained import answers

MODELS = "cifar10_resnet20.tsbn,cifar10_resnet20.dyn,cifar10_resnet56.tsbn,cifar10_resnet56.dyn"


def rows(case: Case, options: argparse.Namespace) -> None:
    """Prints one model's rows."""
    examples = case.examples
    top1 = 100 * (answers(case.dense.graph.model, examples.images) == examples.labels).mean()
    print(f"| {case.name} | | | 1.000 | dense | {top1:.2f} | | |", flush=True)
    source = "noise" if case.noise else "images"
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
                started = time.perf_counter()
                removal = case.removal(scores, scope, share, options.round_to)
                left, chosen = case.left(removal), time.perf_counter() - started
                for method in options.recover.split(","):
                    found = case.recovered(removal, method)
                    top1 = 100 * (answers(found.model, examples.images) == examples.labels).mean()
                    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                    seconds = measured + chosen + found.seconds
                    print(
                        f"| {case.name} | {criterion} | {scope} | {left:.3f} | {method}, {source} "
                        f"| {top1:.2f} | {seconds:.0f} | {peak:.0f} |",
                        flush=True,
                    )


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--criteria", default="obs", help="names, or all")
    parser.add_argument("--scopes", default="error", help="layer, global, erk, lamp, error, search")
    parser.add_argument("--macs", default="0.7,0.5")
    parser.add_argument("--recover", default="none,bias,refit")
    parser.add_argument("--images", type=int, help="samples; 1,024 images by default")
    parser.add_argument("--noise", action="store_true", help="noise in the place of images")
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
