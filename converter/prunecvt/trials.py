"""What the checks run on: random inputs, and the calibration inputs where some are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prunecvt.calibration.feeds import Feed, Feeds, samples
from prunecvt.calibration.source import Calibration, calibration_feeds
from prunecvt_passes.normalise import Dense
from prunecvt_passes.samples import random_inputs

__all__ = ["Feed", "TrialRequest", "Trials", "calibration_feeds", "make_trials", "samples"]
_RANDOM_FEEDS = 2
_CALIBRATION_SAMPLES = 256


@dataclass(frozen=True)
class TrialRequest:
    """Where the trials come from: a seed, and calibration data or None."""

    seed: int = 0
    calib: Calibration | None = None


@dataclass(frozen=True)
class Trials:
    """Inputs to run, one dictionary per run.

    Attributes:
        random: always there.
        calibration: of the user's data; empty where none was given.
    """

    random: tuple[Feed, ...]
    calibration: Sequence[Feed]


def make_trials(dense: Dense, request: TrialRequest) -> Trials:
    """Makes random inputs and reads the calibration inputs.

    Raises:
        UsageError: E230 to E237, the calibration data cannot be read or does not fit.
    """
    model = dense.graph.model
    random = tuple(
        random_inputs(model, dense.sizes, request.seed + k) for k in range(_RANDOM_FEEDS)
    )
    if request.calib is None:
        return Trials(random, Feeds.of(()))
    return Trials(random, calibration_feeds(model, request.calib, _CALIBRATION_SAMPLES))
