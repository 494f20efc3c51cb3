"""Three ways to retrain after pruning, at equal steps (Renda et al., 2020).

    python benchmarks/recipe_rewinding.py --data digits
    python benchmarks/recipe_rewinding.py --shared ../shared --device cuda

A ResNet with BatchNormalization is trained; weights go by magnitude over all layers at once, or
channels by a plan of prunecvt; then a third of the steps of training is spent in each way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import prunecvt
from mask_recipes import Setting, asked, compare, spread, table
from prunecvt.bridge.methods.masks import apply_masks, magnitude_masks
from prunecvt.bridge.methods.rewinding import Retraining, cut_alike, retrain, with_state
from prunecvt.bridge.methods.training import Checkpoints, capture, restore
from prunecvt.bridge.module import GraphModule

RATE = 0.1
SPARSITIES = (0.9, 0.97)
CHANNELS = 0.5
TITLES = {
    "weights": "weight rewinding",
    "rate": "learning-rate rewinding",
    "fine-tuning": "fine-tuning at the last rate",
}
Scores = dict[tuple[str, str], list[float]]  # of what was removed and a way, over seeds


def play(setting: Setting, share: float, seed: int, scores: Scores) -> None:
    """One seed: trains, prunes, retrains in all ways."""
    model = setting.normed
    module = setting.module(model, seed, "he")
    training = setting.training(RATE, seed, warmup=0.05)
    total = training.schedule.steps
    steps = int(share * total)
    early = Checkpoints(module, {total - steps})
    training.run(module, early)
    states = {"early": early.states[total - steps], "late": capture(module)}

    def note(what: str, way: str, value: float) -> None:
        scores.setdefault((what, way), []).append(value)

    def all_ways(what: str, make: Callable[[str], GraphModule], masks=None) -> None:  # type: ignore[no-untyped-def]
        pruned = make("late")
        if masks is not None:
            apply_masks(pruned, masks)
        note(what, "not retrained", setting.score(pruned))
        for method in get_args(Retraining):
            trained = make("early" if method == "weights" else "late")
            retrain(trained, training, capture(trained), steps, method, masks=masks)
            note(what, TITLES[method], setting.score(trained))

    def whole(when: str) -> GraphModule:
        restore(module, states[when])
        return module

    note("nothing", "not retrained", setting.score(module))
    for sparsity in SPARSITIES:
        masks = magnitude_masks(whole("late"), sparsity)
        all_ways(f"{sparsity:.0%} of the weights", whole, masks)
    trained = with_state(model, states["late"]).to_proto()
    plan = prunecvt.plan(trained, ratio=CHANNELS, round_to=1, criterion="l2").plan
    cut = {when: cut_alike(model, state, plan) for when, state in states.items()}
    starts = {when: capture(one) for when, one in cut.items()}

    def slim(when: str) -> GraphModule:
        restore(cut["late"], {name: value.cpu() for name, value in starts[when].items()})
        return cut["late"].to(setting.device)

    all_ways(f"{CHANNELS:.0%} of the channels", slim)


def main() -> None:
    options = asked(__doc__, 12, 16, share=1 / 3)
    setting, scores = options.setting, Scores()
    for seed in setting.seeds:
        play(setting, options.share, seed, scores)
    removed = list(dict.fromkeys(what for what, _ in scores if what != "nothing"))
    print(f"Dense: {spread(scores['nothing', 'not retrained'])} %.\n")
    ways = ("not retrained", *TITLES.values())
    table(("removed", *ways), [(w, *(spread(scores[w, way]) for way in ways)) for w in removed])
    for what in removed:
        for method in ("weights", "rate"):
            finding = f"{what} gone: {TITLES[method]} is better than fine-tuning"
            low = scores[what, TITLES["fine-tuning"]]
            compare(finding, scores[what, TITLES[method]], low, options)


if __name__ == "__main__":
    main()
