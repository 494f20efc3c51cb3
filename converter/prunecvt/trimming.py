"""Trims a model in memory: what the outputs do not depend on, and blocks and weights if asked to.

The exact part is held against the model that the rest leaves (the original, where nothing else was
asked for), to a tenth of ``rtol``.
"""

from __future__ import annotations

import fnmatch
import glob
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from prunecvt.calibrating import calibrate
from prunecvt.checks import (
    Outcomes,
    Tolerance,
    check_contract,
    compare,
    compare_original,
    run_slimmed,
)
from prunecvt.errors import VerifyError
from prunecvt.evaluation.accuracy import measure_accuracy
from prunecvt.loading.load import Loadable
from prunecvt.options import Options
from prunecvt.probing import Probing
from prunecvt.report.schema import OracleCheck
from prunecvt.runtimes.inputs import latency_inputs
from prunecvt.runtimes.latency import Contender, Schedule, race
from prunecvt.slimming import Progress, Slimmed, finished, load_facts
from prunecvt.trials import Trials, make_trials
from prunecvt.trim_options import TrimOptions
from prunecvt.writing.staged_model import staged
from prunecvt_passes import pipeline
from prunecvt_passes.budget import Budget, check
from prunecvt_passes.flow import trace
from prunecvt_passes.groups import solve
from prunecvt_passes.model import Model
from prunecvt_passes.normalise import Dense, Source, normalise
from prunecvt_passes.pipeline import Pass
from prunecvt_passes.recovery.calibration import Calibration
from prunecvt_passes.rules import RULES
from prunecvt_passes.trim.exact import Cleaned, clean
from prunecvt_passes.trim.lossy import Lossy, TrimRequest, lose
from prunecvt_passes.trim.sparsity import compressed_bytes, nonzero
from prunecvt_passes.units import Units

_SCHEDULE = Schedule(sessions=3, rounds=7)
_SHARE = 0.1  # of rtol, for what is exact


@dataclass(frozen=True)
class Masked:
    """What a mask left.

    Attributes:
        weights: weights of convolutions and products that are not zero, and all of them.
        compressed: bytes after zlib of the original and of what is left.
    """

    weights: tuple[int, int]
    compressed: tuple[int, int]


@dataclass(frozen=True)
class Trimmed:
    """What was asked for and what was done; the rest of the report is as for ``slim``.

    Attributes:
        options: the choices.
        lossy, cleaned: what the two parts did.
        masked: what a mask left; None without one.
    """

    options: TrimOptions
    lossy: Lossy
    cleaned: Cleaned
    masked: Masked | None

    @property
    def changed(self) -> bool:
        """Whether anything went, or was set to zero."""
        cleaned = self.cleaned
        kernels = any(each.before != each.after for each in cleaned.kernels)
        gone = cleaned.removal.removed.any() or cleaned.dropped or kernels
        lossy = self.lossy
        return bool(gone or lossy.taken or lossy.silenced or self.options.sparsity)


def drop_and_mask(
    source: Source,
    dense: Dense,
    request: TrimRequest,
    calibration: Calibration,
    pricing: Pricing,
) -> Lossy:
    """The pass that changes outputs, where that is asked for."""
    if not pricing.measured:
        return lose(dense, request, calibration)
    probing = pricing.probing
    inputs = latency_inputs(source.model, dense.sizes, probing.shapes, probing.seed)

    def timing(models: Mapping[str, Model]) -> dict[str, float]:
        with tempfile.TemporaryDirectory(prefix="prunecvt-") as name:
            folder = Path(name)
            original = probing.path or staged(source.model, folder / "original" / "model.onnx")
            contenders = [Contender("original", original)]
            for place, (tensor, model) in enumerate(models.items()):
                path = staged(model, folder / str(place) / "model.onnx")
                contenders.append(Contender(tensor, path))
            run = race(
                contenders,
                inputs,
                backend="onnxruntime",
                threads=probing.threads,
                schedule=_SCHEDULE,
            )
        whole = float(np.median(run.judged_ms(0)))
        saved = {
            each.name: whole - float(np.median(run.judged_ms(place)))
            for place, each in enumerate(contenders)
        }
        floor = whole / 1000  # what no clock tells costs next to nothing, and is worth no error
        return {name: max(saved[name], floor) for name in models}

    return lose(dense, request, calibration, timing)


@dataclass(frozen=True)
class Pricing:
    """Whether blocks are timed, and how."""

    measured: bool
    probing: Probing


@dataclass(frozen=True)
class Limits:
    """The budget, with names as they are once BatchNormalization is folded."""

    budget: Budget


def check_limits(dense: Dense, budget: Budget) -> Limits:
    """The pass that holds patterns and multiples against the layers of the model as it came.

    A convolution makes what the BatchNormalization behind it made, once that is folded: what is
    kept by the name of its tensor is kept by that name too.

    Raises:
        UsageError: E212, a number out of range; E213, a pattern that matches nothing.
    """
    graph = dense.graph
    check(solve(trace(graph, RULES, Units())), budget)
    folded = {}
    for node in graph.nodes:
        reader = graph.only_reader(node.outputs[0]) if node.outputs else None
        if reader is not None and reader[0].op == "BatchNormalization":
            folded[node.outputs[0]] = reader[0].outputs[0]

    def also(patterns: tuple[str, ...]) -> tuple[str, ...]:
        made = (folded[n] for pattern in patterns for n in fnmatch.filter(folded, pattern))
        return tuple(dict.fromkeys((*patterns, *map(glob.escape, made))))

    return Limits(replace(budget, keep=also(budget.keep), only=also(budget.only)))


def clean_up(source: Source, lossy: Lossy, limits: Limits, request: TrimRequest) -> Cleaned:
    """The pass that removes what the outputs do not depend on."""
    return clean(lossy.dense, source, limits.budget, request.inexact, lossy.made)


def take_cleaned(cleaned: Cleaned) -> Model:
    """Takes what the clean-up left."""
    return cleaned.model


def compare_exact(
    lossy: Lossy, model: Model, trials: Trials, outcomes: Outcomes, tolerance: Tolerance
) -> OracleCheck:
    """Holds the trimmed model against the one that only lost what changes outputs.

    Raises:
        VerifyError: E507, the two differ.
    """
    strict = replace(tolerance, rtol=tolerance.rtol * _SHARE)
    found = compare(lossy.dense.graph.model, model, outcomes.fed(trials), strict)
    found = found.model_copy(update={"single": outcomes.single})
    if not found.passed:
        raise VerifyError(
            "E507",
            f"the exact clean-up changed the outputs by {found.max_rel:.2e}, "
            f"more than {strict.rtol:.0e}",
            where=f"{model.source}: over {found.samples} samples, by {found.max_abs:.2e} at most",
            help="allow more with --rtol (a tenth of it counts here), and please report it",
        )
    return found


def trim_in_memory(
    model: Loadable, trim: TrimOptions, options: Options, progress: Progress | None = None
) -> Slimmed:
    """Trims a model.

    Args:
        model: a path, bytes, a ``ModelProto`` or a graphsurgeon graph; left as it is.
        trim, options: how.
        progress: called with the name of each pass as it starts.

    Raises:
        PrunecvtError: as ``prunecvt.errors`` lists them.
    """
    facts, sha256, path = load_facts(model, options)
    facts.put(trim.request(options))
    facts.put(Pricing(trim.price == "latency", facts.get(Probing)))
    passes: list[Pass] = [normalise, check_limits, calibrate, drop_and_mask, clean_up, take_cleaned]
    pipeline.run(passes, facts, progress)
    lossy, cleaned, source = facts.get(Lossy), facts.get(Cleaned), facts.get(Source)
    facts.put(cleaned.groups)
    facts.put(cleaned.removal)
    masked = None
    if trim.sparsity:
        sizes = compressed_bytes(source.model), compressed_bytes(cleaned.model)
        masked = Masked(nonzero(lossy.dense.graph), sizes)
    facts.put(Trimmed(trim, lossy, cleaned, masked))
    passes = []
    if options.verify:
        passes = [check_contract, make_trials, run_slimmed]
        passes += [compare_original] if cleaned.inexact else [compare_exact, compare_original]
    if options.evaluation is not None:
        passes.append(measure_accuracy)
    pipeline.run(passes, facts, progress)
    return finished(facts, sha256, path, facts.values.get(OracleCheck))
