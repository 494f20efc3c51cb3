"""Puts distillation together: models and data in, a model with new weights out."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch

from prunecvt.bridge import to_module
from prunecvt.bridge.module import GraphModule
from prunecvt.bridge.tuning.augment import check_augmentable
from prunecvt.bridge.tuning.checkpoint import Checkpoint
from prunecvt.bridge.tuning.hints import Hints, hints_of
from prunecvt.bridge.tuning.losses import Objective, Target, targets_of, with_batch
from prunecvt.bridge.tuning.norms import Norms, norms_put_back
from prunecvt.bridge.tuning.parallel import Processes, whole_number
from prunecvt.bridge.tuning.quality import Quality
from prunecvt.bridge.tuning.samples import Samples, parted
from prunecvt.bridge.tuning.taught import check_labels
from prunecvt.bridge.tuning.teacher import teacher_of
from prunecvt.bridge.tuning.training import Lesson, Recipe, Training
from prunecvt.bridge.weights import replaced
from prunecvt.errors import UsageError
from prunecvt.pace import Progress, silent
from prunecvt.tune_options import TuneOptions
from prunecvt_passes import oracle, runtime
from prunecvt_passes.graph import index
from prunecvt_passes.model import Model

log = logging.getLogger("prunecvt")
RATES = {"adamw": 5e-3, "sgd": 1e-3}
EPOCHS = 30.0
Compared = Literal["divergence", "error", "labels"]


@dataclass(frozen=True)
class Distilled:
    """A model with new weights, and how it came about.

    Attributes:
        model: the slimmed model with the best weights that were seen.
        before, after: on held-out data, with the weights that came and with those.
        hints: inner activations that were held to the original's.
        unhinted: those that were meant to be and were not, and why.
        norms: layers that BatchNormalization was put back behind, for the time of training.
        unnormed: those that were meant to have it and have not, and why.
        recipe: how weights moved.
        samples: learned from, and held out.
        steps, best_step: that were made, and after which the best weights were seen.
        minutes: of CPU time.
        history: step and quality, whenever it was measured.
        ended: why the run ended before its time; "".
        compared: of the outputs: ``divergence`` or ``error``; ``labels``: with cross-entropy.
        first: whether this process is the one that writes.
    """

    model: Model
    before: Quality
    after: Quality
    hints: tuple[str, ...]
    recipe: Recipe
    samples: tuple[int, int]
    steps: int
    best_step: int
    minutes: float
    history: tuple[tuple[int, Quality], ...]
    ended: str
    compared: Compared
    first: bool = True
    unhinted: Mapping[str, str] = field(default_factory=dict)
    norms: int = 0
    unnormed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Pair:
    """The original, and what was slimmed from it."""

    original: Model
    slim: Model


def distil(
    pair: Pair,
    samples: Samples,
    options: TuneOptions,
    checkpoint: Path | None,
    say: Progress,
) -> Distilled:
    """Trains the slimmed model to answer as the original does; half precision in float32.

    Args:
        pair: the models; left untouched.
        samples: of all inputs.
        options: how.
        checkpoint: where the state goes every so often; None for nowhere.
        say: progress.

    Raises:
        UsageError: E250, no torch; E260 to E267, models, data or device do not fit.
        UnsupportedError: E440 or E441, the bridge cannot train the model.
    """
    device = _device(options.device)
    with _threads(options.threads):
        processes = Processes.joined(device)
        try:
            return _distilled(pair, samples, options, checkpoint, (say, processes, device))
        finally:
            processes.leave()


def _distilled(
    pair: Pair,
    samples: Samples,
    options: TuneOptions,
    path: Path | None,
    run: tuple[Progress, Processes, torch.device],
) -> Distilled:
    say, processes, device = run
    given, pair = pair, Pair(*map(runtime.comparable, (pair.original, pair.slim)))
    learned, held = (e.on(device) for e in parted(samples, options.holdout, options.seed))
    check_augmentable(learned.inputs, options.augment, pair.original.source)
    say = say if processes.first else silent
    say("tune: looking for inner activations to compare", lasting=options.hint > 0)
    objective, unhinted = _objective(pair, samples, options)
    norms = norms_put_back(pair.original, pair.slim, options.norms, learned, say)
    student = _student(norms.model, objective, device)
    teacher = teacher_of(pair.original, objective.tensors, device, torch.get_num_threads())
    recipe = _recipe(options, len(learned))
    _check_share(student, recipe.batch, processes.size, put_back=bool(norms.biases))
    lesson = Lesson(teacher, learned, held, objective, norms.sizes)
    training = Training(student, lesson, recipe, processes, say)
    digest = _digest(given, samples, options, processes)
    kept = Checkpoint(path if processes.first else None, digest, options.checkpoint_minutes)
    if options.resume and path is not None:
        training.restore(replace(kept, path=path).read())
    training.run(kept)
    log.info("tuned: held-out loss %.4g -> %.4g", training.first.loss, training.best.loss)
    return Distilled(
        model=_learned(given.slim, norms, training),
        before=training.first,
        after=training.best,
        hints=tuple(objective.hints),
        recipe=recipe,
        samples=(len(learned), len(held)),
        steps=training.step,
        best_step=training.best_step,
        minutes=training.spent / 60,
        history=tuple(training.history),
        ended=training.ended,
        compared=_compared(objective, held),
        first=processes.first,
        unhinted=unhinted,
        norms=len(norms.biases),
        unnormed=norms.left_out,
    )


def _learned(slim: Model, norms: Norms, training: Training) -> Model:
    """The slimmed model with the best weights; to the byte as it came where those are the best."""
    return replaced(slim, norms.folded(training.weights)) if training.best_step else slim


def _check_share(student: GraphModule, batch: int, processes: int, put_back: bool) -> None:
    """Refuses shares of a batch that BatchNormalization cannot take statistics of.

    Raises:
        UsageError: E267, a process gets one sample.
    """
    if student.roles.statistics and batch // processes < 2:
        raise UsageError(
            "E267",
            f"a batch of {batch} leaves each of {processes} processes one sample, and "
            "BatchNormalization needs two",
            help="give a larger --batch or more samples, or start fewer processes"
            + (", or take --norms none" if put_back else ""),
        )


def _objective(
    pair: Pair, samples: Samples, options: TuneOptions
) -> tuple[Objective, Mapping[str, str]]:
    """What is compared; and the inner activations that are not, and why.

    Raises:
        UsageError: E266, no output is a number; E262, a pattern matches nothing; E238, labels
            that do not fit.
    """
    targets = _targets(pair.original, samples, options)
    hints = Hints()
    if options.hint > 0:
        few = samples.at(torch.arange(min(len(samples), 32))).inputs
        hints = hints_of(pair.original, pair.slim, few, options.layers)
    weights = options.temperature, options.hint, options.label_weight
    return Objective(tuple(targets), hints.taken, *weights), hints.dropped


def _targets(original: Model, samples: Samples, options: TuneOptions) -> list[Target]:
    """The outputs that are compared.

    Raises:
        UsageError: E266, none is a number for each sample; E238, labels do not fit the first.
    """
    module = GraphModule(original).eval()

    def run(count: int) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            found: dict[str, torch.Tensor] = module(samples.at(torch.arange(count)).inputs)
        return found

    every = targets_of(index(original), options.loss)
    targets = with_batch(every, run)
    for left in [each.name for each in every if each not in targets]:
        log.warning("tune: output '%s' has no axis of samples first: it is left out", left)
    if not targets:
        raise UsageError(
            "E266",
            "the original has no output of floating-point numbers, some for each sample",
            where=original.source,
            help="give the model without what turns its outputs into integers or joins samples",
        )
    if samples.labels is not None:
        check_labels(targets[0], run(2)[targets[0].name], samples.labels, original.source)
    return targets


def _compared(objective: Objective, held: Samples) -> Compared:
    if held.labels is not None:
        return "labels"
    values = all(target.kind == "values" for target in objective.targets)
    return "error" if values else "divergence"


def _student(slim: Model, objective: Objective, device: torch.device) -> GraphModule:
    shown = oracle.showing(slim, objective.tensors)
    student = to_module(shown, train=True).to(device)
    if device.type == "cpu":
        student = student.to(memory_format=torch.channels_last)
    return student


def _recipe(options: TuneOptions, total: int) -> Recipe:
    """The recipe, with the defaults of what was left open."""
    batch = min(options.batch, total)
    ends = [] if options.steps is None else [options.steps]
    if options.epochs is not None or not (ends or options.minutes is not None):
        epochs = EPOCHS if options.epochs is None else options.epochs
        ends.append(max(round(epochs * max(total // batch, 1)), 1))
    steps = min(ends, default=None)
    rate = RATES[options.optimiser] if options.rate is None else options.rate
    return Recipe(
        options.optimiser,
        rate,
        options.decay,
        batch,
        steps,
        options.minutes,
        options.augment,
        options.seed,
    )


def _device(name: str) -> torch.device:
    """The device of that name.

    Raises:
        UsageError: E265, there is none, or fewer than processes on this machine.
    """
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise UsageError("E265", "torch finds no CUDA device", help="take --device cpu")
    if name == "cpu" or not there:
        return torch.device("cpu")
    place, count = whole_number("LOCAL_RANK", 0), torch.cuda.device_count()
    if place >= count:
        raise UsageError(
            "E265",
            f"this is process {place + 1} here, and torch finds {count} CUDA "
            f"device{'s' if count > 1 else ''}",
            help="start as many processes as there are devices (CUDA_VISIBLE_DEVICES hides some), "
            "or take --device cpu",
        )
    return torch.device("cuda", place)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """So many threads, and kernels that give the same each time."""
    before = torch.get_num_threads(), torch.backends.cudnn.deterministic
    if count is not None:
        torch.set_num_threads(count)
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.backends.cudnn.deterministic = before[1]


def _digest(pair: Pair, samples: Samples, options: TuneOptions, processes: Processes) -> str:
    """SHA-256 of all that says where a run goes."""
    digest = hashlib.sha256(repr((options.recipe_settings(), processes.size)).encode())
    for model in (pair.original, pair.slim):
        digest.update(model.proto.SerializeToString(deterministic=True))
        for name, values in sorted(model.weights.items()):
            digest.update(name.encode())
            digest.update(values.tobytes())
    for name, tensor in samples.inputs.items():
        digest.update(name.encode())
        digest.update(tensor.numpy())
    if samples.labels is not None:
        digest.update(samples.labels.numpy().tobytes())
    return digest.hexdigest()
