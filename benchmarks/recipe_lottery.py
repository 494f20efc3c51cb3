"""Lottery tickets against their controls (Frankle and Carbin, 2019; Frankle et al., 2020).

    python benchmarks/recipe_lottery.py --data digits
    python benchmarks/recipe_lottery.py --shared ../shared --device cuda --rounds 12 --seeds 0,1

Iterative magnitude pruning, 20 % a round, rewound to the start and to an early step; controls have
the ticket's mask with new random weights, or its weights with the mask shuffled in each layer.
"""

from __future__ import annotations

from mask_recipes import Setting, asked, compare, spread, table
from prunecvt.bridge.methods.lottery import (
    Pruning,
    Ticket,
    find_tickets,
    train_elsewhere,
    train_masked,
    train_reinitialised,
)
from prunecvt.bridge.methods.masks import density, magnitude_masks
from prunecvt.bridge.methods.training import State, Training, restore
from prunecvt.bridge.module import GraphModule

Scores = dict[tuple[str, int], list[float]]  # of a way and a round, over seeds
CONTROLS = 3  # rounds at which they are trained
RATE = 0.05


def play(setting: Setting, rounds: int, early: float, seed: int, scores: Scores) -> list[float]:
    """One seed; returns the densities."""
    training = setting.training(RATE, seed, warmup=0.1)
    densities: list[float] = []

    def note(way: str, number: int, state: State) -> None:
        scores.setdefault((way, number), []).append(setting.score(other, state))

    k = max(1, int(early * training.schedule.steps))
    shown = {rounds * part // CONTROLS for part in range(1, CONTROLS + 1)}
    for way, step in (("rewound to the start", 0), (f"rewound to step {k}", k)):
        module = setting.module(setting.plain, seed, "glorot")
        other = setting.module(setting.plain, seed, "glorot")
        for ticket in find_tickets(module, training, Pruning(rounds, rewind=step)):
            note(way, ticket.round, ticket.trained)
            if ticket.round == 0:
                dense = ticket
            if not step:
                densities.append(density(ticket.masks))
            if ticket.round in shown:
                state = train_elsewhere(other, training, ticket, seed)
                note(f"{way}, random mask", ticket.round, state)
            if ticket.round in shown and not step:
                state = train_reinitialised(other, training, ticket.masks, 1000 + seed, "glorot")
                note("new random weights", ticket.round, state)
                state = one_shot(training, other, dense, ticket.round)
                note("one-shot, rewound to the start", ticket.round, state)
    return densities


def one_shot(training: Training, other: GraphModule, dense: Ticket, number: int) -> State:
    """As sparse in one round: the dense net masked at once, rewound to the start."""
    restore(other, dense.trained)
    masks = magnitude_masks(other, 1 - 0.8**number)
    return train_masked(other, training, masks, dense.start)


def main() -> None:
    options = asked(__doc__, 20, 8, rounds=15, early=0.02)
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
            compare(finding, scores[ticket, last], scores[control, last], options)


if __name__ == "__main__":
    main()
