"""Plain supervised training, with places for what the methods add to it.

Stochastic gradient descent with Nesterov's momentum and a rate that follows a schedule. The order
of the samples, every augmentation and what Dropout drops follow from the seed and the step alone,
so that a run that goes on from a step (rewinding) sees what the first run saw from there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from prunecvt.bridge.module import GraphModule
from prunecvt.bridge.tuning.samples import batch_places
from prunecvt.errors import UsageError

Augment = Callable[[Tensor, torch.Generator], Tensor]
_SHOWN = 250  # samples at once, where nothing is learnt


@dataclass(frozen=True)
class Schedule:
    """How long and how fast.

    Attributes:
        steps: of the whole run.
        rate: the highest learning rate.
        batch: samples of a step.
        shape: ``cosine`` to zero, or ``thirds``: a tenth of the rate from half of the run, a
            hundredth from three quarters (as CIFAR's ResNets were trained; He et al., 2016).
        warmup: steps in which the rate rises from zero.
        momentum, decay: of the optimiser; decay is left out for vectors (biases and norms).
        seed: of the order, of augmentations and of Dropout.
    """

    steps: int
    rate: float = 0.1
    batch: int = 128
    shape: Literal["cosine", "thirds"] = "cosine"
    warmup: int = 0
    momentum: float = 0.9
    decay: float = 5e-4
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.batch) < 1 or not 0 <= self.warmup <= self.steps:
            raise UsageError(
                "E256", "a schedule needs a step and a sample or more, and a warm-up within it"
            )

    def at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(self.steps - self.warmup, 1)
        if self.shape == "cosine":
            return self.rate * (1 + math.cos(math.pi * done)) / 2
        return self.rate * (1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01)


class Hook:
    """What a method adds to training; each of these does nothing unless it is overridden."""

    def penalty(self, module: nn.Module) -> Tensor | None:
        """A term of the loss, or None."""
        return None

    def before_step(self, module: nn.Module) -> None:
        """Called when gradients are there."""

    def after_step(self, module: nn.Module, rate: float) -> None:
        """Called when weights have moved, at that learning rate."""


@dataclass(frozen=True)
class Examples:
    """Samples with labels: images [N, C, H, W] as the module takes them, classes [N]."""

    images: Tensor
    labels: Tensor

    def to(self, device: torch.device | str) -> Examples:
        """The same on a device."""
        return Examples(self.images.to(device), self.labels.to(device))


def fit(
    module: nn.Module,
    examples: Examples,
    schedule: Schedule,
    *,
    hooks: Sequence[Hook] = (),
    steps: range | None = None,
    augment: Augment | None = None,
) -> list[float]:
    """Trains a module in place; it is left in evaluation mode.

    Args:
        module: images -> logits.
        examples: on the module's device.
        schedule: how.
        hooks: what methods add, in this order.
        steps: those of the schedule that are run; None for all.
        augment: makes other images of some, drawing from a generator on the CPU.

    Returns:
        The loss of every step, without penalties.
    """
    steps = range(schedule.steps) if steps is None else steps
    optimiser = _optimiser(module, schedule)
    module.train()
    losses = []
    for step in steps:
        _seed_dropout(module, schedule.seed * 3_000_017 + step)
        batch = _batch(examples, schedule, step, augment)
        losses.append(_step(module, optimiser, batch, schedule.at(step), hooks))
    module.eval()
    return [float(loss) for loss in losses]


def accuracy(module: nn.Module, examples: Examples) -> float:
    """Share of right answers, in evaluation mode."""
    module.eval()
    with torch.inference_mode():
        pairs = zip(examples.images.split(_SHOWN), examples.labels.split(_SHOWN), strict=True)
        right = sum(int((module(x).argmax(1) == y).sum()) for x, y in pairs)
    return right / len(examples.labels)


def _seed_dropout(module: nn.Module, seed: int) -> None:
    """For every graph in a module; layers of torch draw from torch's own numbers."""
    for part in module.modules():
        if isinstance(part, GraphModule):
            part.seed_dropout(seed)


def _optimiser(module: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    trained = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": schedule.decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(
        groups, lr=schedule.rate, momentum=schedule.momentum, nesterov=schedule.momentum > 0
    )


def _batch(
    examples: Examples, schedule: Schedule, step: int, augment: Augment | None
) -> tuple[Tensor, Tensor]:
    """The samples of a step, augmented."""
    chosen = batch_places(len(examples.labels), schedule.batch, step, schedule.seed)
    chosen = chosen.to(examples.images.device)
    images = examples.images[chosen]
    if augment is not None:
        images = augment(images, torch.Generator().manual_seed(schedule.seed * 7_000_003 + step))
    return images, examples.labels[chosen]


def _step(
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    batch: tuple[Tensor, Tensor],
    rate: float,
    hooks: Sequence[Hook],
) -> Tensor:
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad(set_to_none=True)
    loss = nn.functional.cross_entropy(module(batch[0]), batch[1])
    terms = [term for hook in hooks if (term := hook.penalty(module)) is not None]
    torch.stack([loss, *terms]).sum().backward()
    for hook in hooks:
        hook.before_step(module)
    optimiser.step()
    with torch.no_grad():
        for hook in hooks:
            hook.after_step(module, rate)
    return loss.detach()
