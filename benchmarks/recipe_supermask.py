"""Supermasks: an untrained net made good by a mask (Zhou et al., 2019).

    python benchmarks/recipe_supermask.py --data digits
    python benchmarks/recipe_supermask.py --shared ../shared --device cuda

The net is trained once; its weights then go back to their initial values, masked by criteria of
initial and final weights. Nothing is trained afterwards, except for the last table.
"""

from __future__ import annotations

import torch

from mask_recipes import Setting, asked, compare, mean, spread, table, verdict
from prunecvt.bridge.methods.masks import Masked, apply_masks, density, maskable
from prunecvt.bridge.methods.supermask import layer_shares, supermask, treated
from prunecvt.bridge.methods.training import State, capture, restore, values_of
from prunecvt.bridge.module import GraphModule

RATE = 0.05
ROUNDS = (1, 3, 5, 8)  # of 20 %, all at once: as sparse as after so many
CRITERIA = (
    *(("large_final", "same"), ("large_final", "any"), ("large_final", "different")),
    *(("magnitude_increase", "same"), ("magnitude_increase", "any"), ("movement", "any")),
    *(("large_init_large_final", "any"), ("large_init", "any"), ("small_final", "any")),
    ("random", "any"),
)
ACTIONS = {
    "rewind": {},
    "signed constant": {"kept": "constant"},
    "reshuffle, initial signs": {"kept": "reshuffle"},
    "reinitialise, initial signs": {"kept": "reinitialise"},
    "constant, random signs": {"kept": "constant", "sign": "random"},
    "reinitialise, random signs": {"kept": "reinitialise", "sign": "random"},
    "rewind, flipped signs": {"sign": "flipped"},
    "masked ones at their initial value": {"gone": "initial"},
    "masked ones zero where they shrank": {"gone": "zero_if_shrunk"},
}
Scores = dict[tuple[str, ...], list[float]]


def name_of(criterion: str, signs: str) -> str:
    return criterion if signs == "any" else f"{criterion}, {signs} sign"


def untrained(setting: Setting, module: GraphModule, start: State, values: State) -> float:
    """Accuracy with some of the initial weights replaced."""
    restore(module, start)
    everything = {n: torch.zeros_like(v, dtype=torch.bool) for n, v in values.items()}
    apply_masks(module, everything, values)
    return setting.score(module)


def play(setting: Setting, seed: int, scores: Scores) -> dict[int, float]:
    """One seed; returns the density of each number of rounds."""
    module = setting.module(setting.plain, seed, "glorot")
    start, names = capture(module), maskable(module)
    training = setting.training(RATE, seed, warmup=0.1)
    training.run(module)
    initial, final = values_of(module, names, start), values_of(module, names)
    scores.setdefault(("trained",), []).append(setting.score(module))
    scores.setdefault(("untrained",), []).append(setting.score(module, start))
    densities = {}
    for rounds in ROUNDS:
        shares = layer_shares(names, 0.2, rounds)
        for criterion, signs in CRITERIA:
            masks = supermask(criterion, initial, final, shares, signs=signs, seed=seed)
            densities[rounds] = density(masks)
            values = treated(masks, initial, final)
            key = ("criterion", name_of(criterion, signs), str(rounds))
            scores.setdefault(key, []).append(untrained(setting, module, start, values))
        masks = supermask("large_final", initial, final, shares, signs="same", seed=seed)
        for title, action in ACTIONS.items():
            values = treated(masks, initial, final, seed=seed, **action)
            key = ("action", title, str(rounds))
            scores.setdefault(key, []).append(untrained(setting, module, start, values))
    masks = supermask("large_final", initial, final, layer_shares(names, 0.2, ROUNDS[-1]))
    for title, action in ACTIONS.items():
        values = treated(masks, initial, final, seed=seed, **action)
        untrained(setting, module, start, values)
        training.run(module, Masked(module, masks, held=values))
        scores.setdefault(("trained", title), []).append(setting.score(module))
    return densities


def show(kind: str, names: list[str], scores: Scores, densities: dict[int, float]) -> None:
    heads = (kind, *(f"{densities[rounds]:.0%} left" for rounds in ROUNDS))
    rows = [[n, *(spread(scores[kind, n, str(r)]) for r in ROUNDS)] for n in names]
    table(heads, rows)


def main() -> None:
    options = asked(__doc__, 20, 12)
    setting, scores = options.setting, Scores()
    for seed in setting.seeds:
        densities = play(setting, seed, scores)
    print(f"Trained {spread(scores['trained',])} %, untrained {spread(scores['untrained',])} %.\n")
    show("criterion", [name_of(*pair) for pair in CRITERIA], scores, densities)
    print("Masks of large_final, same sign:\n")
    show("action", list(ACTIONS), scores, densities)
    print(f"Trained with masks of large_final, {densities[ROUNDS[-1]]:.0%} left:\n")
    table(("action", "accuracy"), [(n, spread(scores["trained", n])) for n in ACTIONS])

    def best(kind: str, name: str) -> float:
        return max(mean(scores[kind, name, str(rounds)]) for rounds in ROUNDS)

    chance = max(mean(scores["untrained",]), best("criterion", "random"))
    good = best("criterion", "large_final, same sign")
    verdict("masks make an untrained net far better than chance", good > chance + 20, options)

    def over_rounds(name: str) -> list[float]:
        rows = [scores["criterion", name, str(rounds)] for rounds in ROUNDS]
        return [mean(seed) for seed in zip(*rows, strict=True)]

    signed, any_sign = (over_rounds(f"large_final{end}") for end in (", same sign", ""))
    compare("masks that keep signs are better still, all sparsities", signed, any_sign, options)
    constant = best("action", "signed constant")
    verdict("a constant with the right signs is as good", constant > good - 5, options)
    wrong = max(best("action", n) for n in ("constant, random signs", "rewind, flipped signs"))
    verdict("wrong signs destroy it", wrong < chance + 10, options)
    trained = {name: scores["trained", name] for name in ACTIONS}
    names = list(ACTIONS)
    finding = "trained, zeros are better than frozen initial values"
    compare(finding, trained["rewind"], trained[names[-2]], options)
    finding = "trained, new weights are better with the old signs than with random ones"
    compare(finding, trained[names[3]], trained[names[5]], options)


if __name__ == "__main__":
    main()
