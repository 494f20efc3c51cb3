"""A training run as one value, and states of a module to go back to.

Methods that rewind train the same module many times from several states. A state is everything that
training changes, under the module's names: parameters and running statistics. The momentum of the
optimiser is no part of it: every run of ``fit`` begins without.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from prunecvt.bridge.methods.fit import Augment, Examples, Hook, Schedule, fit
from prunecvt.bridge.module import GraphModule

State = dict[str, Tensor]


def capture(module: GraphModule) -> State:
    """Copies of the parameters and buffers, on the module's device, by name in state_dict."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def restore(module: GraphModule, state: State) -> None:
    """Puts a state of ``capture`` back, exactly; gradients are let go of."""
    module.load_state_dict(state)
    module.zero_grad(set_to_none=True)


def values_of(module: GraphModule, names: Iterable[str], state: State | None = None) -> State:
    """Tensors by initializer: of a state, or copies of the module's own."""
    if state is None:
        return {name: module.tensor(name).detach().clone() for name in names}
    return {name: state[module.places[name]] for name in names}


class Checkpoints(Hook):
    """Keeps states on the way, without disturbing the run.

    Attributes:
        states: number of steps done -> state; 0 is the state when this was made.
    """

    def __init__(self, module: GraphModule, steps: Iterable[int]) -> None:
        self.wanted = frozenset(steps)
        self.done = 0
        self.states: dict[int, State] = {0: capture(module)} if 0 in self.wanted else {}

    def after_step(self, module: GraphModule, rate: float) -> None:
        """Captures the state where it is wanted."""
        self.done += 1
        if self.done in self.wanted:
            self.states[self.done] = capture(module)


@dataclass(frozen=True)
class Training:
    """What a module is trained on, and how.

    Attributes:
        examples: on the module's device.
        schedule: its ``steps`` are the whole run, of which a part can be run.
        augment: as for ``fit``.
        hooks: that take part in every run, before those of a method.
    """

    examples: Examples
    schedule: Schedule
    augment: Augment | None = None
    hooks: Sequence[Hook] = ()

    def run(
        self, module: GraphModule, *hooks: Hook, first: int = 0, last: int | None = None
    ) -> list[float]:
        """Trains in place from step ``first`` to before ``last`` (None: the end); the losses."""
        steps = range(first, self.schedule.steps if last is None else last)
        return fit(
            module,
            self.examples,
            self.schedule,
            hooks=(*self.hooks, *hooks),
            steps=steps,
            augment=self.augment,
        )

    def seeded(self, seed: int) -> Training:
        """The same with another order of samples and other augmentations."""
        return replace(self, schedule=replace(self.schedule, seed=seed))


def generator(seed: int) -> torch.Generator:
    """Random numbers that are the same on every device: they are drawn on the CPU."""
    return torch.Generator().manual_seed(seed)
