"""Sparse Structure Selection (Huang & Wang, 2018): do blocks select themselves?

    python benchmarks/recipe_sss.py                                     # digits, on the CPU
    python benchmarks/recipe_sss.py --data cifar --shared DIR --device cuda

Puts a factor on every residual branch (``--kind neuron``: on every channel), trains weights and
factors together, trims what has factor zero and folds the other factors into the weights.
"""

from __future__ import annotations

from itertools import pairwise

import prunecvt
import recipes
from prunecvt.bridge.methods.structure_selection import (
    Selection,
    factors_of,
    fold_factors,
    insert_factors,
)

STRENGTHS = {"digits": 0.3, "cifar": 0.05, "trained": 0.5}
NEURONS = 0.1  # times the strength of blocks: there are many more of them, each weaker
HEADS = ("gamma", "seed", "top-1 %", "zero factors", "of", "off after removal", "MACs %")


def case(setting: recipes.Setting, seed: int, strength: float, kind: str) -> list[float]:
    model, factors = insert_factors(setting.fresh(seed), kind)  # type: ignore[arg-type]
    module = setting.module(model)
    top1 = setting.learn(module, setting.timed(seed), [Selection(factors, strength)])
    values = [value for each in factors_of(module, factors) for value in each]
    result = prunecvt.trim(
        recipes.written(model, module).to_proto(), fold_bn=False, **recipes.QUIET
    )
    folded, _ = fold_factors(result.slimmed.model, factors)
    macs = 100 * result.report.totals.macs.ratio
    off = setting.top1(folded) - top1
    return [top1, sum(value == 0 for value in values), len(values), off, macs]


def main() -> None:
    parser = recipes.parser(__doc__)
    parser.add_argument("--strength", type=float, help="gamma")
    parser.add_argument("--kind", choices=("block", "neuron"), default="block")
    options = parser.parse_args()
    setting = recipes.setting(options)
    strength = options.strength or STRENGTHS[setting.data]
    strength *= NEURONS if options.kind == "neuron" and not options.strength else 1
    cases = [0.0, *(strength * factor for factor in (1 / 9, 1 / 3, 1.0))]
    table = recipes.Table(HEADS)
    for each in cases:
        for seed in setting.seeds:
            table.add(f"{each:.1e}", seed, case(setting, seed, each, options.kind))
    means = list(table.close().values())
    zeros = [row[1] for row in means]
    grows = all(a <= b for a, b in pairwise(zeros)) and zeros[0] < zeros[-1]
    listed = ", ".join(f"{count:.1f}" for count in zeros)
    recipes.verdict(f"more factors are exactly zero as gamma grows ({listed})", grows)
    recipes.verdict("removal changes no accuracy", all(abs(row[3]) < 0.02 for row in means))


if __name__ == "__main__":
    main()
