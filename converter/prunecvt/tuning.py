"""Tunes a slimmed model in memory: reads, trains, checks, and says what came of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from prunecvt.bridge import require_torch
from prunecvt.calibration.feeds import steps
from prunecvt.calibration.source import Calibration, calibration_feeds
from prunecvt.calibration.stream import Stream
from prunecvt.checks import check_contract, compare_original, run_slimmed
from prunecvt.errors import UsageError, VerifyError
from prunecvt.evaluation.accuracy import EvaluationRequest, check_evaluation, measure_accuracy
from prunecvt.evaluation.labels import labelled_feeds
from prunecvt.loading.load import Loadable, load
from prunecvt.options import Options
from prunecvt.pace import Progress, silent
from prunecvt.report.schema import Accuracy
from prunecvt.slimming import Slimmed, file_sha256, finished, load_facts
from prunecvt.trials import Feed, Trials, make_trials
from prunecvt.tune_options import TuneOptions
from prunecvt_passes import pipeline
from prunecvt_passes.budget import Removal
from prunecvt_passes.graph import index
from prunecvt_passes.groups import Groups
from prunecvt_passes.model import Model
from prunecvt_passes.normalise import Source, inline_functions
from prunecvt_passes.pipeline import Facts
from prunecvt_passes.recipes import ANALYSE
from prunecvt_passes.samples import graph_inputs

if TYPE_CHECKING:
    from prunecvt.bridge.tuning.distil import Distilled
    from prunecvt.bridge.tuning.samples import Samples

COUNT = 4096  # samples that are read where nothing says how many
BYTES = 1 << 29  # and more where they fit in so many, unless they come from a stream


@dataclass(frozen=True)
class Tuned:
    """What was asked for and what was done; the rest of the report is as for ``slim``.

    Attributes:
        options: the choices.
        slim, sha256: the name of the slimmed model's file and its hash; "" from memory.
        distilled: what training did.
        accuracy: right answers of the slimmed model before and after; None without labelled data.
        channels: that could be cut, of the original and of what is left.
        torch_gap: how far onnxruntime's outputs are from torch's, relatively; None unchecked.
    """

    options: TuneOptions
    slim: str
    sha256: str
    distilled: Distilled
    accuracy: Accuracy | None
    channels: tuple[int, int]
    torch_gap: float | None


@dataclass(frozen=True)
class Request:
    """The two models, where the checkpoint lies (None: nowhere), and how to tune."""

    original: Loadable
    slim: Loadable
    checkpoint: Path | None
    options: TuneOptions


def tune_in_memory(
    request: Request, options: Options, progress: Progress | None = None
) -> Slimmed | None:
    """Tunes a slimmed model.

    Args:
        request: what to tune, and how.
        options: what is shared with ``slim``.
        progress: called with what is being done.

    Returns:
        The original and the tuned model; None in processes that only help (torchrun).

    Raises:
        PrunecvtError: as ``prunecvt.errors`` lists them.
    """
    say = _speaking(progress)
    say("tune: loading torch and the models", lasting=True)
    require_torch()
    facts, sha256, path = load_facts(request.original, options)
    slim = load(
        request.slim, max_memory=options.max_memory, allow_nonfinite=options.allow_nonfinite
    )
    source = facts.get(Source)
    _check_pair(source, slim)
    say("tune: reading the data", lasting=True)
    samples = _samples(source.model, request.options, options)
    pipeline.run(ANALYSE, facts, say)
    _checked_before(facts, slim, options, say)
    distilled = _distilled(request, (source.model, slim), samples, say)
    if not distilled.first:
        return None
    groups = facts.get(Groups)
    facts.put(Removal(np.zeros(groups.total, bool), {}))
    facts.put(distilled.model)
    say("tune: checking the result", lasting=True)
    gap = _checked(facts, slim, options, say)
    if options.evaluation is not None:
        say("measure_accuracy")
        pipeline.run((measure_accuracy,), facts, say)
    facts.put(_tuned(request, options, facts, (slim, distilled, gap)))
    return finished(facts, sha256, path)


def _speaking(progress: Progress | None) -> Progress:
    """The progress; silent in processes that only help (torchrun numbers them in RANK)."""
    return silent if progress is None or os.environ.get("RANK", "0") != "0" else progress


def _distilled(
    request: Request, models: tuple[Model, Model], samples: Samples, say: Progress
) -> Distilled:
    from prunecvt.bridge.tuning.distil import Pair, distil

    return distil(Pair(*models), samples, request.options, request.checkpoint, say)


def _check_pair(source: Source, slim: Model) -> None:
    """Refuses a model that was not slimmed from this original.

    Raises:
        UsageError: E261, it has other inputs or outputs, or more parameters.
    """
    try:
        check_contract(source, slim)
    except VerifyError as error:
        raise UsageError(
            "E261",
            f"'{slim.source}' was not slimmed from '{source.model.source}'",
            where=f"{error.message}: {error.where}",
            help="give the original first, and then what was slimmed from it",
        ) from error
    before, after = _floats(source.model), _floats(slim)
    if after > before:
        raise UsageError(
            "E261",
            f"'{slim.source}' was not slimmed from '{source.model.source}'",
            where=f"it has {after:,} parameters, more than {before:,}",
            help="give the original first, and then what was slimmed from it",
        )


def _floats(model: Model) -> int:
    """How many floating-point numbers it stores, in initializers and Constant nodes."""
    from prunecvt.bridge.roles import roles_of
    from prunecvt.bridge.weights import stored_names

    values = roles_of(index(inline_functions(model)), stored_names(model)).values
    return sum(array.size for array in values.values() if array.dtype.kind in "fV")


def _samples(model: Model, tune: TuneOptions, options: Options) -> Samples:
    """The data to learn from, all in memory."""
    from prunecvt.bridge.tuning.samples import stacked

    labelled = tune.labelled(options)
    if labelled is not None:
        data = labelled_feeds(model, labelled)
        return stacked(list(data.feeds), data.labels).spread(options.calib_count)
    if options.calibration is None:
        raise UsageError("E260", "tuning needs data to learn from", help="give --calib DATA")
    count = _count(model, options.calibration) if options.calib_count is None else None
    return stacked(list(calibration_feeds(model, options.calibration, count)))


def _count(model: Model, data: Calibration) -> int:
    """Samples that are read where nothing says how many."""
    if isinstance(data.data, Stream):
        return COUNT
    least = max(filter(None, steps(graph_inputs(model)).values()), default=1)
    first = next(iter(calibration_feeds(model, data, least)), {})
    # half precision is trained in single
    each: int = sum(max(v.itemsize, 4) * v[0].size for v in first.values() if v.ndim and len(v))
    return max(COUNT, BYTES // max(each, 1))


def _checked_before(facts: Facts, slim: Model, options: Options, say: Progress) -> None:
    """What would fail in the end fails before training: data to judge by, torch's outputs."""
    from prunecvt.bridge.tuning.check import check_torch

    if options.evaluation is not None:
        say("tune: reading the labelled data", lasting=True)
        check_evaluation(facts.get(Source), EvaluationRequest(options.evaluation))
    if options.verify:
        say("tune: trying the slimmed model in torch", lasting=True)
        pipeline.run((make_trials,), facts, say)
        check_torch(slim, _feed(facts.get(Trials)), options.rtol, trained=False)


def _feed(trials: Trials) -> Feed:
    return trials.calibration[0] if trials.calibration else trials.random[0]


def _checked(facts: Facts, slim: Model, options: Options, say: Progress) -> float | None:
    """Runs the checks; how far torch is from onnxruntime."""
    from prunecvt.bridge.tuning.check import check_only_weights_changed, check_torch

    model = facts.get(Model)
    check_only_weights_changed(slim, model)
    if not options.verify:
        return None
    pipeline.run((check_contract, run_slimmed, compare_original), facts, say)
    return check_torch(model, _feed(facts.get(Trials)), options.rtol)


def _tuned(
    request: Request,
    options: Options,
    facts: Facts,
    made: tuple[Model, Distilled, float | None],
) -> Tuned:
    slim, distilled, gap = made
    accuracy = None
    if options.evaluation is not None:
        asked = EvaluationRequest(options.evaluation)
        accuracy = measure_accuracy(Source(slim), distilled.model, asked)
    inner = Facts()
    inner.put(Source(slim, dict(options.input_shape)))
    inner.put(options.units)
    pipeline.run(ANALYSE, inner)
    found = facts.get(Groups), inner.get(Groups)
    before, after = (sum(group.size for group in groups.groups) for groups in found)
    path = Path(request.slim) if isinstance(request.slim, (str, Path)) else None
    return Tuned(
        options=request.options,
        slim=path.name if path else "",
        sha256=file_sha256(path) if path else "",
        distilled=distilled,
        accuracy=accuracy,
        channels=(before, after),
        torch_gap=gap,
    )
