"""Network Slimming (Liu et al., 2017): do sparse scales make the cut harmless?

    python benchmarks/recipe_slimming.py                                # digits, on the CPU
    python benchmarks/recipe_slimming.py --data cifar --shared DIR --device cuda

Trains with and without lambda * sum |gamma|, cuts the same share of channels by one global
threshold over |gamma|, and trains on for a quarter of the epochs.
"""

from __future__ import annotations

import prunecvt
import recipes
from prunecvt.bridge.methods.slimming import Slimming, prunable_scales, sizes
from prunecvt_passes.model import Model

STRENGTHS = {"digits": 3e-2, "cifar": 2e-3, "trained": 5e-2}
HEADS = ("lambda", "seed", "top-1 %", "scales < 2 % of largest, %", "cut %", "tuned %", "MACs %")


def cut(model: Model, ratio: float) -> tuple[Model, float]:
    """The model without that share of its channels, and the MACs that are left in percent."""
    result = prunecvt.slim(
        model.to_proto(),
        criterion="bn",
        scope="global",
        ratio=ratio,
        max_ratio_per_layer=0.95,
        fold_bn=False,
        **recipes.QUIET,
    )
    return result.slimmed.model, 100 * result.report.totals.macs.ratio


def case(setting: recipes.Setting, seed: int, strength: float, ratio: float) -> list[float]:
    """Accuracies of one net: trained, cut, and trained on; how sparse it was; what is left."""
    model = setting.fresh(seed)
    scales = prunable_scales(model)
    module = setting.module(model)
    hooks = [Slimming(scales, strength)] if strength else []
    top1 = setting.learn(module, setting.timed(seed), hooks)
    found = sizes(module, scales)
    small = 100 * float((found < 0.02 * found.max()).float().mean())
    slim, macs = cut(recipes.written(model, module), ratio)
    tuned = setting.module(slim)
    after = setting.top1(slim)
    regained = setting.learn(tuned, setting.timed(seed, share=0.25, rate=0.2))
    return [top1, small, after, regained, macs]


def main() -> None:
    parser = recipes.parser(__doc__)
    parser.add_argument("--strength", type=float, help="lambda")
    parser.add_argument("--ratio", type=float, default=0.4, help="share of the channels that goes")
    options = parser.parse_args()
    setting = recipes.setting(options)
    strength = options.strength or STRENGTHS[setting.data]
    cases = (0.0, strength / 3, strength)
    table = recipes.Table(HEADS)
    for each in cases:
        for seed in setting.seeds:
            table.add(f"{each:.1e}", seed, case(setting, seed, each, options.ratio))
    means = table.close()
    none, some, more = (means[f"{each:.1e}"] for each in cases)
    recipes.verdict("scales get sparser with lambda", none[1] < some[1] < more[1])
    lost = [row[0] - row[2] for row in (none, more)]
    recipes.verdict(
        f"at the same ratio the cut costs {lost[0]:.1f} points without, {lost[1]:.1f} with lambda",
        lost[1] < lost[0] / 2,
    )
    recipes.verdict(
        f"training on ends {more[3] - none[0]:+.1f} points off the net without lambda",
        more[3] > none[0] - 2,
    )


if __name__ == "__main__":
    main()
