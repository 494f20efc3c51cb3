"""The passes that win accuracy back: try what is asked for, judge it on held-out data, take it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from prunecvt_passes.budget import Removal
from prunecvt_passes.errors import UsageError
from prunecvt_passes.fold import fold_batch_norms
from prunecvt_passes.graph import Graph, index
from prunecvt_passes.groups import Groups
from prunecvt_passes.model import Array, Model
from prunecvt_passes.normalise import Dense
from prunecvt_passes.recovery.bias import absorb
from prunecvt_passes.recovery.calibration import ENOUGH, Calibration, samples_of, walkable
from prunecvt_passes.recovery.drift import Drift, drifts
from prunecvt_passes.recovery.measure import output_error, outputs_of
from prunecvt_passes.recovery.refit import MOMENTS, refit
from prunecvt_passes.samples import dimensions
from prunecvt_passes.shapes import infer

Method = Literal["none", "bias", "moments", "refit", "auto"]
METHODS: dict[str, Callable[..., Model]] = {
    "bias": absorb,
    "moments": partial(refit, effort=MOMENTS),
    "refit": refit,
}

# by ``auto``, until one is better than nothing: a refit chooses from biases too, node by node
TRIED = ("refit", "bias")


@dataclass(frozen=True)
class Remedy:
    """What is asked for.

    Attributes:
        method: ``bias`` the mean of what was removed, ``moments`` every layer's means and
            deviations, ``refit`` least squares, ``auto`` a refit where held-out data agrees better
            with the original for it, else a bias where it does, else nothing.
        folded: whether BatchNormalization was folded in the slimmed model.
        grow: whether nodes without a bias may get one.
    """

    method: Method = "none"
    folded: bool = True
    grow: bool = True


@dataclass(frozen=True)
class Quality:
    """Held-out outputs against the original's.

    Attributes:
        error: squared error over the variance of the original's outputs.
        agreement: share of samples with the same largest entry; None where outputs are no classes.
    """

    error: float
    agreement: float | None


@dataclass(frozen=True)
class Recovery:
    """What came of it; ``before`` and ``after`` are None where nothing was tried.

    ``layers`` says how far each layer is off on the data that judged.
    """

    model: Model
    method: str
    before: Quality | None = None
    after: Quality | None = None
    samples: int = 0
    seconds: float = 0.0
    layers: tuple[Drift, ...] = ()


def try_recovery(
    dense: Dense,
    groups: Groups,
    removal: Removal,
    model: Model,
    calibration: Calibration,
    remedy: Remedy,
) -> Recovery:
    """Fits on one part of the data and judges on the other; only weights and biases change.

    Raises:
        UsageError: E218, there is too little calibration data for what is asked for.
    """
    started = time.perf_counter()
    if remedy.method in METHODS and not calibration:
        raise UsageError(
            "E218",
            f"--recover {remedy.method} needs calibration data, {ENOUGH}",
            help="give some with --calib, or --noise, or leave the recovery out",
        )
    if not _worth_it(dense, removal, calibration, remedy):
        return Recovery(model, "none")
    asked = [*TRIED] if remedy.method == "auto" else [remedy.method]
    reference = dense.graph.model
    if remedy.folded:
        reference = fold_batch_norms(reference)
    original = index(reference, infer(reference, dense.sizes)[0])
    shapes = infer(model, dense.sizes)[0]
    expected = outputs_of(reference, calibration.held_out)
    before = judge(expected, model, calibration)
    tried = {} if remedy.method != "auto" else {"none": (before, model)}
    for name in asked:
        slim: Graph = index(model.copy(), shapes)
        found = METHODS[name](original, slim, groups, removal, calibration, remedy.grow)
        tried[name] = judge(expected, found, calibration), found
        if remedy.method == "auto" and tried[name][0].error < before.error:
            break
    best = min(tried, key=lambda name: tried[name][0].error)
    after, recovered = tried[best]
    pair = index(model, shapes), index(recovered, shapes)
    layers = drifts(original, *pair, groups, removal, calibration.held_out)
    spent = time.perf_counter() - started
    samples = samples_of(calibration.held_out)
    return Recovery(recovered, best, before, after, samples, spent, layers)


def recover(recovery: Recovery) -> Model:
    """Takes the model that was judged best."""
    return recovery.model


def judge(expected: Sequence[Array], model: Model, calibration: Calibration) -> Quality:
    """Compares a model's held-out outputs with the original's, ``expected``."""
    found = outputs_of(model, calibration.held_out)
    agreement = None
    classes = len(dimensions(model.proto.graph.output[0]) or ()) == 2
    if classes and expected and expected[0].shape == found[0].shape and found[0].shape[1] > 1:
        agreement = float(np.mean(expected[0].argmax(1) == found[0].argmax(1)))
    return Quality(output_error(expected, found), agreement)


def _worth_it(dense: Dense, removal: Removal, calibration: Calibration, remedy: Remedy) -> bool:
    if remedy.method == "none" or not calibration or not removal.removed.any():
        return False
    return walkable(dense.graph)
