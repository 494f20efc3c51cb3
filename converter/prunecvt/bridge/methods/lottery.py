"""Lottery tickets: masks of weights that train well from where they once were.

Iterative magnitude pruning (Frankle and Carbin, 2019, "The lottery ticket hypothesis: finding
sparse, trainable neural networks"): train, mask the smallest 20 % of what is left, put the others
back to their initial values, train again. On larger nets they go back to a step k early in
training instead (Frankle et al., 2020, "Linear mode connectivity and the lottery ticket
hypothesis"). With ``trained="kept"`` only the learning rate goes back (Renda et al., 2020,
"Comparing rewinding and fine-tuning in neural network pruning", algorithm 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from prunecvt.bridge.methods.initialise import Initialisation, initialise
from prunecvt.bridge.methods.masks import (
    Masked,
    Masks,
    Scope,
    Share,
    full_masks,
    magnitude_masks,
    random_masks,
)
from prunecvt.bridge.methods.training import Checkpoints, State, Training, capture, restore
from prunecvt.bridge.module import GraphModule
from prunecvt.errors import UsageError


@dataclass(frozen=True)
class Pruning:
    """How tickets are looked for.

    Attributes:
        rounds: of masking; one round with a large rate is the one-shot variant.
        rate: share of the remaining weights that goes in each round; by layer where it is a dict
            (Frankle and Carbin took the last layer at half the rate).
        scope: ``layer`` or ``global``, as ``masks.prune``.
        rewind: steps of training after which the state is that tickets start from; 0 is the
            initial one.
        trained: what becomes of the trained weights between rounds: ``rewound``, or ``kept``
            while the schedule starts again at that step.
    """

    rounds: int
    rate: Share = 0.2
    scope: Scope = "global"
    rewind: int = 0
    trained: Literal["rewound", "kept"] = "rewound"

    def __post_init__(self) -> None:
        if self.rounds < 0 or self.rewind < 0:
            raise UsageError("E272", "rounds of masking and the step to rewind to are 0 or more")


@dataclass(frozen=True)
class Ticket:
    """What a round gives.

    Attributes:
        round: 0 for the dense net.
        masks: what is left.
        start: the state that it was trained from, before it is masked.
        first: the step of the schedule that training began with.
        trained: the state at the end.
    """

    round: int
    masks: Masks
    start: State
    first: int
    trained: State


def find_tickets(module: GraphModule, training: Training, pruning: Pruning) -> Iterator[Ticket]:
    """Trains, masks, rewinds, and again; one ticket a round, the dense net first.

    Args:
        module: holds the initial weights; at each ticket it holds that ticket's trained state, and
            may be used at will before the next is asked for.
        training: of every round. From the step rewound to, each run has a fresh momentum.
        pruning: how.

    Raises:
        UsageError: E272, the step to rewind to is no step of the schedule.
    """
    k = pruning.rewind
    if k >= training.schedule.steps:
        raise UsageError("E272", f"step {k} is not before the end of training")
    early = Checkpoints(module, {0, k})
    training.run(module, early)
    masks, trained = full_masks(module), capture(module)
    yield Ticket(0, masks, early.states[0], 0, trained)
    for number in range(1, pruning.rounds + 1):
        restore(module, trained)
        masks = magnitude_masks(module, pruning.rate, masks=masks, scope=pruning.scope)
        start = early.states[k] if pruning.trained == "rewound" else trained
        trained = train_masked(module, training, masks, start, first=k)
        yield Ticket(number, masks, start, k, trained)


def train_masked(
    module: GraphModule, training: Training, masks: Masks, start: State, *, first: int = 0
) -> State:
    """Trains a masked net from a state and a step on; the module is left in what it returns."""
    restore(module, start)
    training.run(module, Masked(module, masks), first=first)
    return capture(module)


def train_reinitialised(
    module: GraphModule,
    training: Training,
    masks: Masks,
    seed: int,
    kind: Initialisation = "he",
) -> State:
    """The control with the ticket's mask and new random weights, trained for the whole schedule."""
    initialise(module, seed, kind)
    return train_masked(module, training, masks, capture(module))


def train_elsewhere(module: GraphModule, training: Training, ticket: Ticket, seed: int) -> State:
    """The control with the ticket's start and as many weights of each layer at random places."""
    masks = random_masks(ticket.masks, seed)
    return train_masked(module, training, masks, ticket.start, first=ticket.first)
