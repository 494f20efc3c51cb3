"""The loop: a student that learns from a teacher, and the weights that did best on held-out data.

Order and augmentation follow from the seed and the step alone, so that a run that goes on from a
checkpoint sees what it would have seen.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from prunecvt.bridge.module import GraphModule
from prunecvt.bridge.tuning.augment import augmented, augmented_once
from prunecvt.bridge.tuning.checkpoint import Checkpoint
from prunecvt.bridge.tuning.interrupts import noted_interrupts
from prunecvt.bridge.tuning.losses import Objective
from prunecvt.bridge.tuning.parallel import Processes
from prunecvt.bridge.tuning.quality import Quality, mean_quality, quality_of
from prunecvt.bridge.tuning.samples import Samples, batch_places
from prunecvt.bridge.tuning.teacher import Answer, answers, remembered
from prunecvt.pace import Progress
from prunecvt.percent import percent
from prunecvt_passes.model import Array

_LOOKS = 20  # at held-out data, over a run
_WARM = 0.03  # of the run, in which the rate rises
_SMALLEST = 1e-3  # size of weights, so that zeros can move


@dataclass(frozen=True)
class Recipe:
    """How the weights move.

    Attributes:
        optimiser: ``adamw`` (Loshchilov and Hutter, 2019), or ``sgd`` with Nesterov's momentum.
        rate: the highest; it rises from zero over 3 % of the run and falls as a cosine. Of
            ``adamw`` it is a share of each tensor's size.
        decay: of weights, without biases and norms.
        batch: samples of a step.
        steps, minutes: the run ends after so many, or so many minutes of CPU time, whatever is
            first; None for no such end.
        augment: names of augmentations.
        seed: of the order, and of augmentation.
    """

    optimiser: str
    rate: float
    decay: float
    batch: int
    steps: int | None
    minutes: float | None
    augment: tuple[str, ...]
    seed: int

    def share(self, step: int, spent: float) -> float:
        """How much of the run is done, of 1; ``spent`` is seconds of CPU time."""
        parts = [step / self.steps] if self.steps is not None else []
        parts += [spent / (60 * self.minutes)] if self.minutes is not None else []
        return min(max(parts), 1.0)

    def rate_at(self, share: float) -> float:
        """The rate, where so much of the run is done; never zero, so that every step counts."""
        rising = min((share + 1e-3) / _WARM, 1.0)
        return self.rate * rising * (1 + math.cos(math.pi * share)) / 2


@dataclass(frozen=True)
class Lesson:
    """What is learned: from whom, on what, and what for.

    Attributes:
        sizes: of parameters, by name, where theirs at the start says too little.
    """

    teacher: Answer
    learned: Samples
    held: Samples
    objective: Objective
    sizes: Mapping[str, float] = field(default_factory=dict)


class Training:
    """A run.

    Attributes:
        step: of the next batch.
        spent: seconds of CPU time so far.
        best: quality of the best weights, and the step they were seen at.
        first: quality of the weights that were given.
        ended: why a run ended before its time; "".
    """

    def __init__(
        self,
        student: GraphModule,
        lesson: Lesson,
        recipe: Recipe,
        processes: Processes,
        say: Progress,
    ) -> None:
        self.student, self.lesson, self.recipe = student, lesson, recipe
        self.processes, self.say = processes, say
        self.device = next(student.parameters()).device
        self.optimiser = _optimiser(student, recipe, lesson.sizes)
        say("tune: asking the original for its answers", lasting=True)
        self.known = None if recipe.augment else remembered(lesson.teacher, lesson.learned)
        self.names = [target.name for target in lesson.objective.targets]
        self.looked = [lesson.held]
        if recipe.augment:
            self.looked.append(augmented_once(lesson.held, recipe.augment, recipe.seed))
        self.right = [answers(lesson.teacher, each, self.names) for each in self.looked]
        self.step, self.spent, self.ended = 0, 0.0, ""
        say(f"tune: first look at {len(lesson.held):,} held-out samples", lasting=True)
        self.first = self.quality()
        self.best, self.best_step = self.first, 0
        self.weights: dict[str, Array] = student.weights()
        self.history: list[tuple[int, Quality]] = [(0, self.first)]

    def run(self, checkpoint: Checkpoint) -> None:
        """Goes through the steps that are left.

        Raises:
            KeyboardInterrupt: at the end of a step, after the state was written.
        """
        before, clock = self.spent, time.process_time()
        pace = time.monotonic(), self.recipe.share(self.step, self.spent)
        with noted_interrupts() as interrupts:
            while (share := self.recipe.share(self.step, self.spent)) < 1 and not self.ended:
                self._learn(share)
                spent = before + time.process_time() - clock
                self.spent = self.processes.told(spent, self.device)
                self._report(share, pace)
                stopped = self.processes.any(bool(interrupts), self.device)
                if stopped or checkpoint.due():
                    checkpoint.write(self.state())
                if stopped:
                    raise KeyboardInterrupt
            checkpoint.write(self.state())  # checks may fail
        if interrupts:
            raise KeyboardInterrupt

    def _report(self, share: float, pace: tuple[float, float]) -> None:
        """Says where the run stands, and looks at held-out data where it is time to."""
        reached = self.recipe.share(self.step, self.spent)
        left = _left(pace, reached)
        if int(reached * _LOOKS) > int(share * _LOOKS) or reached >= 1:
            self._look()
            self.say(self._words(), reached, left, lasting=True)
        else:
            self.say("tune", reached, left)

    def quality(self) -> Quality:
        """What the weights are worth on held-out data: as it is, and augmented if training is.

        An original knows its own training data by heart: where that is what is held out, its
        answers say little of other inputs, and those to augmented ones say more.
        """
        self.student.eval()
        found = []
        for samples, right in zip(self.looked, self.right, strict=True):
            made = answers(self._answer, samples, self.names)
            found.append(quality_of(self.lesson.objective, made, right, samples.labels))
        self.student.train()
        return mean_quality(found)

    def state(self) -> dict[str, Any]:
        """All that a run needs to go on."""
        return {
            "step": self.step,
            "spent": self.spent,
            "student": self.student.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "weights": {name: torch.from_numpy(v.copy()) for name, v in self.weights.items()},
            "history": [
                (step, each.loss, each.agreement, each.correct) for step, each in self.history
            ],
            "best_step": self.best_step,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes back to a state."""
        self.step, self.spent = state["step"], state["spent"]
        self.student.load_state_dict(state["student"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.weights = {name: values.numpy() for name, values in state["weights"].items()}
        self.history = [(step, Quality(*rest)) for step, *rest in state["history"]]
        self.best_step = state["best_step"]
        self.first = self.history[0][1]
        self.best = dict(self.history)[self.best_step]

    def _learn(self, share: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.rate_at(share) * group["scale"]
        recipe, lesson = self.recipe, self.lesson
        places = batch_places(len(lesson.learned), recipe.batch, self.step, recipe.seed)
        places = self.processes.share(places).to(self.device)
        batch = lesson.learned.at(places)
        inputs = batch.inputs
        mark = recipe.seed * 7_000_003 + self.step * self.processes.size + self.processes.rank
        self.student.seed_dropout(mark)
        if recipe.augment:
            draw = torch.Generator().manual_seed(mark)
            inputs = augmented(inputs, recipe.augment, draw)
        if self.known is None:
            right = lesson.teacher(inputs)
        else:
            right = {name: values[places] for name, values in self.known.items()}
        made = self._answer(inputs)
        loss = lesson.objective.loss(made, right, batch.labels)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if not bool(torch.isfinite(self.processes.mean(loss.detach()))):
            self.ended = f"the loss was no finite number at step {self.step}"
            return
        self.processes.average(self.student.parameters())
        nn.utils.clip_grad_norm_(self.student.parameters(), 5.0)
        self.optimiser.step()
        self.step += 1

    def _answer(self, inputs: Any) -> dict[str, Tensor]:
        given = {name: _laid_out(values, self.device) for name, values in inputs.items()}
        if self.student.training:
            found: dict[str, Tensor] = self.student(given)
            return found
        with torch.no_grad():
            shown: dict[str, Tensor] = self.student(given)
        return shown

    def _look(self) -> None:
        """Keeps the weights where they are the best so far.

        By the loss alone: agreement moves by whole samples, and one that falls by chance would
        turn better weights away.
        """
        quality = self.quality()
        self.history.append((self.step, quality))
        if quality.loss < self.best.loss:
            self.best, self.best_step = quality, self.step
            self.weights = self.student.weights()

    def _words(self) -> str:
        quality = self.history[-1][1]
        text = f"tune: step {self.step}, held-out loss {quality.loss:.4g}"
        if quality.agreement is not None:
            text += f", agreement {percent(quality.agreement)}"
        if quality.correct is not None:
            text += f", right {percent(quality.correct)}"
        return text


def _left(pace: tuple[float, float], reached: float) -> float | None:
    """Seconds that are left, at the pace since this process began."""
    started, share = pace
    gone = time.monotonic() - started
    return gone * (1 - reached) / (reached - share) if reached > share else None


def _laid_out(values: Tensor, device: torch.device) -> Tensor:
    """Images with channels last in memory: the CPU's convolutions are a quarter faster so."""
    if device.type == "cpu" and values.ndim == 4 and values.is_floating_point():
        return values.contiguous(memory_format=torch.channels_last)
    return values


def _optimiser(
    student: GraphModule, recipe: Recipe, sizes: Mapping[str, float]
) -> torch.optim.Optimizer:
    """The optimiser, one group of weights for each tensor.

    Where normalisations are folded, the sizes of a network's weights lie orders of magnitude apart,
    and one step for all is too long for some. AdamW's steps have one length whatever the gradients
    are; here it is a share of the tensor's own size, its root mean square at the start (as in LARS,
    You et al., 2017, and the relative steps of Adafactor, Shazeer and Stern, 2018), or of
    ``sizes`` where that is more.
    """
    names = {place: name for name, place in student.places.items()}
    adaptive = recipe.optimiser == "adamw"
    groups = [
        {
            "params": [each],
            "weight_decay": recipe.decay if each.ndim > 1 else 0.0,
            "scale": max(_size(each), sizes.get(names[place], 0.0)) if adaptive else 1.0,
        }
        for place, each in student.named_parameters()
        if each.requires_grad
    ]
    if adaptive:
        return torch.optim.AdamW(groups, lr=recipe.rate)
    return torch.optim.SGD(groups, lr=recipe.rate, momentum=0.9, nesterov=True)


def _size(weights: Tensor) -> float:
    return max(float(weights.detach().square().mean().sqrt()), _SMALLEST)
