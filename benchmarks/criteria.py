"""Which criterion loses least without recovery?

Slims every trained classifier with every criterion; prints top-1 and agreement with the original.

    python benchmarks/criteria.py --shared ../shared --models 'cifar10_resnet20.*'
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prunecvt_passes.budget import Budget, Scope
from prunecvt_passes.choose import choose
from prunecvt_passes.cost import cost
from prunecvt_passes.criteria.table import DATA_FREE
from prunecvt_passes.errors import UsageError
from prunecvt_passes.flow import trace
from prunecvt_passes.fold import fold_batch_norms
from prunecvt_passes.groups import Groups, solve
from prunecvt_passes.model import Model
from prunecvt_passes.normalise import Source, normalise
from prunecvt_passes.rules import RULES
from prunecvt_passes.score import Criterion, Scores, score
from prunecvt_passes.slice import remove
from trained import Quality, Trained, load_all
from variants import VARIANTS

SEEDS = (0, 1, 2)
HALVINGS = 12  # of the ratio, when a share of the MACs is asked for


@dataclass(frozen=True)
class Row:
    """What one criterion reaches."""

    criterion: str
    macs: float
    params: float
    quality: Quality


def scored(groups: Groups, name: str) -> list[Scores]:
    """Scores by the criterion ``name``, one set per seed; none where the model lacks its needs."""
    try:
        if name == "random":
            return [score(groups, Criterion(name, seed)) for seed in SEEDS]
        if name in VARIANTS:
            return [Scores(name, np.where(groups.group_of >= 0, VARIANTS[name](groups), 0.0))]
        return [score(groups, Criterion(name))]
    except UsageError:
        return []


def slimmed(groups: Groups, scores: Scores, budget: Budget) -> tuple[Model, float, float]:
    """The slimmed model, and the shares of MACs and parameters that are left."""
    model = remove(groups, choose(groups, scores, budget))
    before, after = cost(groups.channels.graph), cost(normalise(Source(model)).graph)
    return model, after.macs / before.macs, after.params / before.params


def fitted(
    groups: Groups, scores: Scores, options: argparse.Namespace, ratio: float, scope: Scope
) -> tuple[Model, float, float]:
    """As ``slimmed``; with ``--of macs``, at the ratio of channels that cuts that share of them."""
    if options.of == "channels":
        return slimmed(groups, scores, Budget(ratio, scope, options.round_to))
    low, high = 0.0, 0.95
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        _, macs, _ = slimmed(groups, scores, Budget(middle, scope, options.round_to))
        low, high = (middle, high) if macs > 1 - ratio else (low, middle)
    return slimmed(groups, scores, Budget(high, scope, options.round_to))


def rows(
    trained: Trained, options: argparse.Namespace, ratio: float, scope: Scope
) -> Iterator[Row]:
    """Yields a row per criterion; that of ``random`` is the mean over its seeds."""
    graph = trained.dense.graph
    if options.folded:
        graph = normalise(Source(fold_batch_norms(graph.model))).graph
    groups = solve(trace(graph, RULES))
    for name in options.criteria:
        found = []
        for scores in scored(groups, name):
            model, macs, params = fitted(groups, scores, options, ratio, scope)
            found.append((macs, params, trained.judge(model)))
        if found:
            quality = Quality(
                float(np.mean([q.top1 for _, _, q in found])),
                float(np.mean([q.agreement for _, _, q in found])),
            )
            macs, params = (float(np.mean([f[k] for f in found])) for k in (0, 1))
            yield Row(name, macs, params, quality)


def report(trained: Trained, options: argparse.Namespace) -> None:
    """Prints the rows of one model."""
    dense = 100 * float((trained.answers == trained.examples.labels).mean())
    for scope in options.scopes:
        for ratio in options.ratios:
            for row in rows(trained, options, ratio, scope):
                print(
                    f"| {trained.name} | {scope} | {ratio:g} | {row.criterion} | {row.macs:.3f} "
                    f"| {row.params:.3f} | {dense:.1f} | {row.quality.top1:.1f} "
                    f"| {row.quality.agreement:.1f} |",
                    flush=True,
                )


def step(text: str) -> int | str:
    """Reads ``auto`` or a number."""
    return text if text == "auto" else int(text)


def main() -> None:
    """Parses the command line and prints a markdown table."""
    parser = argparse.ArgumentParser(description="Compare data-free criteria.")
    parser.add_argument("--shared", type=Path, help="folder with models/ and data/")
    parser.add_argument("--models", default="*.onnx", help="pattern of file names")
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.1, 0.2, 0.3])
    parser.add_argument("--of", choices=("channels", "macs"), default="channels")
    parser.add_argument(
        "--scopes", nargs="+", choices=("layer", "global"), default=["layer", "global"]
    )
    parser.add_argument("--round-to", type=step, default=1)
    parser.add_argument("--folded", action="store_true", help="fold BatchNormalization first")
    parser.add_argument("--images", type=int, default=2000, help="at most so many test images")
    parser.add_argument("--criteria", nargs="+", default=[*DATA_FREE, *VARIANTS])
    options = parser.parse_args()
    print("| model | scope | ratio | criterion | MACs | params | dense | top-1 | agreement |")
    print("|---|---|---|---|---|---|---|---|---|")
    for trained in load_all(options.shared, options.models, options.images):
        report(trained, options)


if __name__ == "__main__":
    main()
