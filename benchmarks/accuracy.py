"""What recovery without labels is worth: top-1 of trained classifiers at a share of their MACs.

Each row: a model, what may be left, a recovery; the criterion is ``obs`` on unlabelled images, the
allocation by error. MACs are counted over all convolutions and products.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

from prunecvt_passes.choose import Budget
from prunecvt_passes.flow import trace
from prunecvt_passes.fold import fold_batch_norms
from prunecvt_passes.groups import solve
from prunecvt_passes.recovery.allocate import allocate, amount
from prunecvt_passes.recovery.calibration import split
from prunecvt_passes.recovery.measure import measure
from prunecvt_passes.recovery.recover import Remedy, try_recovery
from prunecvt_passes.rules import RULES
from prunecvt_passes.score import Criterion, score
from prunecvt_passes.slice import remove
from prunecvt_passes.target import Target
from trained import answers, calibration_for, examples_for, opened

MODELS = "cifar10_resnet20.tsbn,cifar10_resnet20.dyn,cifar10_resnet56.tsbn,cifar10_resnet56.dyn"
BATCH = 32


def rows(shared: Path, name: str, options: argparse.Namespace) -> None:
    """Prints one model's rows."""
    path = shared / "models" / f"{name}.onnx"
    dense = opened(path)
    groups = solve(trace(dense.graph, RULES))
    images = calibration_for(path, shared, options.images)
    feeds = [{dense.graph.inputs[0]: images[k : k + BATCH]} for k in range(0, len(images), BATCH)]
    calibration = split(feeds)
    started = time.perf_counter()
    scores = score(groups, Criterion("obs"), measure(dense, groups, calibration))
    measured = time.perf_counter() - started
    examples = examples_for(path, shared, options.tests)
    if examples is None:
        return
    whole = amount(dense, dense.graph.model, "macs", False)
    top1 = 100 * (answers(dense.graph.model, examples.images) == examples.labels).mean()
    print(f"| {name} | 1.000 | dense | {top1:.2f} | | |", flush=True)
    for share in map(float, options.macs.split(",")):
        budget = Budget(round_to=options.round_to, target=Target("macs", share))
        removal = allocate(dense, groups, scores, budget)
        cut = remove(groups, removal)
        left, model = amount(dense, cut, "macs", True) / whole, fold_batch_norms(cut)
        for method in options.recover.split(","):
            found = try_recovery(dense, groups, removal, model, calibration, Remedy(method))
            top1 = 100 * (answers(found.model, examples.images) == examples.labels).mean()
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            seconds = measured + found.seconds
            print(
                f"| {name} | {left:.3f} | {method} | {top1:.2f} | {seconds:.0f} | {peak:.0f} |",
                flush=True,
            )


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--macs", default="0.7,0.5")
    parser.add_argument("--recover", default="none,bias,refit")
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--tests", type=int, default=10000)
    parser.add_argument("--round-to", type=int, default=1)
    options = parser.parse_args()
    print("| model | MACs left | recovery | top-1 | seconds | peak MB |\n|---|--:|---|--:|--:|--:|")
    for name in options.models.split(","):
        rows(options.shared, name, options)


if __name__ == "__main__":
    main()
