"""Rethinking the value of network pruning (Liu et al., 2019): weights or architecture?

    python benchmarks/recipe_scratch.py                                 # digits, on the CPU
    python benchmarks/recipe_scratch.py --data cifar --shared DIR --device cuda

Trains a net, cuts it, and holds training on (a quarter of the epochs, as 40 of 160 in the paper)
against the slim architecture with new weights: Scratch-E for as many epochs, Scratch-B for as much
computation as the large net had.
"""

from __future__ import annotations

import prunecvt
import recipes
from prunecvt.bridge.methods.scratch import same_computation
from prunecvt.reinit import Reinit, redraw

HEADS = ("case", "seed", "top-1 %", "epochs", "MACs %")


def cases(setting: recipes.Setting, seed: int, ratio: float, table: recipes.Table) -> None:
    """Trains and cuts one net, and adds its rows."""
    model = setting.fresh(seed)
    module = setting.module(model)
    whole = setting.timed(seed)
    epoch = len(setting.train.labels) // whole.batch
    table.add("large", seed, [setting.learn(module, whole), whole.steps / epoch, 100.0])
    result = prunecvt.slim(
        recipes.written(model, module).to_proto(),
        criterion="l1",
        scope="layer",
        ratio=ratio,
        fold_bn=False,
        **recipes.QUIET,
    )
    slim, macs = result.slimmed.model, result.report.totals.macs
    left = 100 * macs.ratio
    table.add("cut", seed, [setting.top1(slim), 0, left])
    tuning = setting.timed(seed, share=0.25, rate=0.2)
    top1 = setting.learn(setting.module(slim), tuning)
    table.add("fine-tuned", seed, [top1, tuning.steps / epoch, left])
    longer = same_computation(whole, macs.before, macs.after)
    for name, schedule in (("Scratch-E", whole), ("Scratch-B", longer)):
        fresh = redraw(slim, Reinit(seed + 1000)).model
        top1 = setting.learn(setting.module(fresh), schedule)
        table.add(name, seed, [top1, schedule.steps / epoch, left])


def main() -> None:
    parser = recipes.parser(__doc__, trained=False)
    parser.add_argument("--ratio", type=float, default=0.5, help="share of the channels that goes")
    options = parser.parse_args()
    setting = recipes.setting(options)
    table = recipes.Table(HEADS)
    for seed in setting.seeds:
        cases(setting, seed, options.ratio, table)
    means = table.close()
    gain = means["Scratch-B"][0] - means["fine-tuned"][0]
    recipes.verdict(f"Scratch-B is no worse than fine-tuning ({gain:+.2f} points)", gain >= 0)
    gain = means["Scratch-B"][0] - means["Scratch-E"][0]
    recipes.verdict(f"Scratch-B is no worse than Scratch-E ({gain:+.2f} points)", gain >= 0)


if __name__ == "__main__":
    main()
