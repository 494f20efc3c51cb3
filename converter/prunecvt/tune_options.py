"""The choices of ``tune`` that ``slim`` has not, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from prunecvt.calibration.source import Calibration, Data, data_name, data_of
from prunecvt.errors import UsageError
from prunecvt.option_checks import check_names, check_number, check_one_of
from prunecvt.options import Options

AUGMENTATIONS = ("flip", "crop", "noise", "mixup")
# of ``Options``: what tune looks at
TAKEN = (
    *("input_shape", "calib", "calib_count", "eval", "resize", "crop", "scale", "mean", "std"),
    *("layout", "color", "verify", "rtol", "atol", "ir", "fp16", "bench", "seed"),
    *("allow_nonfinite", "max_memory", "timeout", "fail_if", "report", "force"),
)
_CHOICES = {
    "optimiser": ("adamw", "sgd"),
    "loss": ("auto", "values"),
    "device": ("auto", "cpu", "cuda"),
    "norms": ("original", "all", "none"),
}
_RANGES: Mapping[str, tuple[float, float, str]] = {  # from, to below, what to give
    "epochs": (1e-9, math.inf, "a number above 0"),
    "steps": (1, math.inf, "1 or more"),
    "minutes": (1e-9, math.inf, "minutes of CPU time above 0"),
    "batch": (2, math.inf, "2 or more"),
    "rate": (1e-12, math.inf, "a number above 0, such as 1e-3"),
    "decay": (0, math.inf, "a number from 0 on"),
    "temperature": (1e-3, math.inf, "a number above 0, such as 4"),
    "hint": (0, math.inf, "a number from 0 on"),
    "label_weight": (0, 1.0000001, "a share from 0 to 1"),
    "holdout": (1e-9, 0.5000001, "a share above 0, up to 0.5"),
    "threads": (1, math.inf, "1 or more"),
    "seed": (0, 2**32, "a whole number from 0, below 2^32"),
    "checkpoint_minutes": (0, math.inf, "a number from 0 on"),
}
_WHOLE = ("steps", "batch", "threads", "seed")
_OF_THE_RUN = ("device", "threads", "checkpoint_minutes", "resume", "labels")


@dataclass(frozen=True)
class TuneOptions:
    """How to tune.

    Attributes:
        epochs, steps, minutes: when the run ends (minutes are of CPU time); the first that is
            reached counts; 30 epochs where none is given.
        batch: samples of a step.
        optimiser: ``adamw`` or ``sgd`` (with Nesterov's momentum).
        rate: the highest learning rate; None for 0.005 of adamw, a share of each
            tensor's size, and 0.001 of sgd.
        decay: of the weights.
        temperature: of the softened classes.
        loss: ``auto``: outputs of [samples, classes] and those of a Softmax are classes; ``values``
            takes all as numbers.
        hint: weight of the inner activations; 0 leaves them out.
        layers: patterns of their names; without any, the sums that end residual blocks.
        norms: behind which layers BatchNormalization is put back for the time of training:
            ``original``, where the original has it and the slimmed model has it folded; ``all``
            convolutions but those that make an output; ``none``.
        augment: of ``flip``, ``crop``, ``noise``, ``mixup``.
        labels: labelled data to learn from as well, instead of ``calib``.
        label_weight: share of cross-entropy then.
        holdout: share of the data that is not learned from.
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: of torch; None for as many as it takes.
        checkpoint_minutes: between two writes of the state.
        resume: go on from the checkpoint beside the output.
    """

    epochs: float | None = None
    steps: int | None = None
    minutes: float | None = None
    batch: int = 64
    optimiser: str = "adamw"
    rate: float | None = None
    decay: float = 0.0
    temperature: float = 4.0
    loss: str = "auto"
    hint: float = 1.0
    layers: tuple[str, ...] = ()
    norms: str = "original"
    augment: tuple[str, ...] = ()
    labels: Data | None = None
    label_weight: float = 0.5
    holdout: float = 0.1
    device: str = "auto"
    threads: int | None = None
    checkpoint_minutes: float = 5.0
    resume: bool = False
    seed: int = 0

    @staticmethod
    def of(values: Mapping[str, Any]) -> tuple[TuneOptions, Options]:
        """Splits keyword arguments into those of ``tune`` alone and those it shares with ``slim``.

        Raises:
            UsageError: E201, a name or a value that is not known; E207, two that contradict
                each other or one that says nothing; E212, one out of range; E260, there is no data.
        """
        own = {each.name for each in fields(TuneOptions)} - {"seed"}
        check_names(values, {*own, *TAKEN}, "tune")
        labels = values.get("labels")
        taken = {"bench": False, **{n: values[n] for n in TAKEN if n in values}}
        if labels is not None and taken.get("calib") is None:
            # the preprocessing and the count are of the labelled data
            shared = replace(Options.of({**taken, "calib": labels}), calib=None)
        else:
            shared = Options.of(taken)
        given = {name: _plain(name, values[name]) for name in own & values.keys()}
        chosen = TuneOptions(**given, seed=shared.seed)
        _check(chosen)
        _check_idle(chosen, shared)
        if shared.calib is None and chosen.labels is None:
            raise UsageError(
                "E260", "tuning needs data to learn from", help="give --calib DATA (no labels)"
            )
        return chosen, shared

    def recipe_settings(self) -> dict[str, Any]:
        """What says where a run goes; not how long it waits, or where it runs."""
        return {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if each.name not in _OF_THE_RUN
        }

    def settings(self, options: Options) -> dict[str, Any]:
        """What the report says of both."""
        shared = {name: value for name, value in options.settings().items() if name in TAKEN}
        mine = {each.name: getattr(self, each.name) for each in fields(self)}
        listed = {name: list(v) for name, v in mine.items() if isinstance(v, tuple)}
        return {**shared, **mine, **listed, "labels": data_name(self.labels)}

    def labelled(self, options: Options) -> Calibration | None:
        """The labelled data and what is done to it; None where there is none."""
        if self.labels is None:
            return None
        return Calibration(self.labels, options.preprocessing, options.calib_count)


def _plain(name: str, value: Any) -> Any:
    if name == "labels":
        return data_of(value)
    if name in ("layers", "augment"):
        several = (value,) if isinstance(value, str) else tuple(value or ())
        return tuple(part for each in several for part in str(each).split(",") if part)
    return value


def _check(options: TuneOptions) -> None:
    for name, choices in _CHOICES.items():
        check_one_of(name, getattr(options, name), choices)
    for name in options.augment:
        check_one_of("augment", name, AUGMENTATIONS)
    for name, (least, end, what) in _RANGES.items():
        value = getattr(options, name)
        if value is None:
            continue
        kinds = (int,) if name in _WHOLE else (int, float)
        check_number(name, value, *kinds, help=f"give {what}")
        if not least <= value < end:
            flag = name.replace("_", "-")
            raise UsageError("E212", f"--{flag} {value} is out of range", help=f"give {what}")


def _check_idle(options: TuneOptions, shared: Options) -> None:
    """Refuses what nothing would look at."""
    usual = TuneOptions()
    labelled = options.labels is not None
    idle = {
        "--calib beside --labels: one of them is learned from": labelled
        and shared.calib is not None,
        "--augment mixup beside --labels: a mixture has no label": labelled
        and "mixup" in options.augment,
        "--label-weight without --labels": not labelled
        and options.label_weight != usual.label_weight,
        "--temperature with --loss values: numbers are not softened": options.loss == "values"
        and options.temperature != usual.temperature,
        "--layer with --hint 0: inner activations are left out": options.hint == 0
        and bool(options.layers),
    }
    for what, found in idle.items():
        if found:
            flags, _, why = what.partition(": ")
            message = f"{flags} says nothing" + (f": {why}" if why else "")
            raise UsageError("E207", message, help="leave one of them out")
