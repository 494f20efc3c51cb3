"""Lottery tickets against their controls (Frankle and Carbin, 2019; Frankle et al., 2020).

    python benchmarks/recipe_lottery.py --data digits
    python benchmarks/recipe_lottery.py --shared ../shared --device cuda

Iterative magnitude pruning, 20 % a round, rewound to the start and to an early step; controls have
the ticket's mask with new random weights, or its weights with the mask shuffled in each layer.
"""

from __future__ import annotations

from mask_recipes import Setting, asked, mean, spread, table, verdict
from prunecvt.bridge.methods.lottery import (
    Pruning,
    find_tickets,
    train_elsewhere,
    train_reinitialised,
)
from prunecvt.bridge.methods.masks import density
from prunecvt.bridge.methods.training import Training

Scores = dict[tuple[str, int], list[float]]  # of a way and a round, over seeds
CONTROLS = 3  # rounds at which they are trained
RATE = 0.05


def play(setting: Setting, rounds: int, early: float, seed: int, scores: Scores) -> list[float]:
    """One seed; returns the densities."""
    training = setting.training(RATE, seed, warmup=0.1)
    densities: list[float] = []
    k = int(early * training.schedule.steps)
    shown = {rounds * part // CONTROLS for part in range(1, CONTROLS + 1)}
    for way, step in (("rewound to the start", 0), (f"rewound to step {k}", k)):
        module = setting.module(setting.plain, seed, "glorot")
        other = setting.module(setting.plain, seed, "glorot")
        for ticket in find_tickets(module, training, Pruning(rounds, rewind=step)):
            scores.setdefault((way, ticket.round), []).append(setting.score(module))
            if not step:
                densities.append(density(ticket.masks))
            if ticket.round in shown:
                state = train_elsewhere(other, training, ticket, seed)
                add(setting, scores, (f"{way}, random mask", ticket.round), other, state)
            if ticket.round in shown and not step:
                state = train_reinitialised(other, training, ticket.masks, 1000 + seed, "glorot")
                add(setting, scores, ("new random weights", ticket.round), other, state)
                one_shot(setting, training, seed, ticket.round, scores)
    return densities


def one_shot(setting: Setting, training: Training, seed: int, number: int, scores: Scores) -> None:
    """As sparse in one round: trained, masked at once, rewound to the start."""
    module = setting.module(setting.plain, seed, "glorot")
    rate = 1 - 0.8**number
    *_, ticket = find_tickets(module, training, Pruning(1, rate))
    add(setting, scores, ("one-shot, rewound to the start", number), module, ticket.trained)


def add(setting: Setting, scores: Scores, key: tuple[str, int], module, state) -> None:  # type: ignore[no-untyped-def]
    scores.setdefault(key, []).append(setting.score(module, state))


def main() -> None:
    options = asked(__doc__, 20, 12, rounds=15, early=0.02)
    setting, scores = options.setting, Scores()
    for seed in setting.seeds:
        densities = play(setting, options.rounds, options.early, seed, scores)
    ways = dict.fromkeys(way for way, _ in scores)
    shown = sorted({n for w, n in scores if w == "new random weights"} | {0})
    heads = ("weights left", *(f"{densities[n]:.1%}" for n in shown))
    cells = [
        (way, *(spread(scores[way, n]) if (way, n) in scores else "" for n in shown))
        for way in ways
    ]
    table(heads, cells)
    last = shown[-1]
    tickets = [w for w in ways if w.startswith("rewound") and "mask" not in w]
    for ticket in tickets:
        for control in (f"{ticket}, random mask", "new random weights"):
            finding = f"at {densities[last]:.1%} of the weights '{ticket}' beats '{control}'"
            verdict(finding, mean(scores[ticket, last]) > mean(scores[control, last]), options)


if __name__ == "__main__":
    main()
