"""The checks every run passes before anything is written, as passes over facts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx

from prunecvt.calibration.feeds import Feeds
from prunecvt.errors import PrunecvtError, UnsupportedError, VerifyError
from prunecvt.evaluation.fidelity import drift_intervals
from prunecvt.evaluation.intervals import wilson
from prunecvt.loading.validate import validate
from prunecvt.report.schema import Fidelity, OracleCheck, RewriteCheck
from prunecvt.runtimes.openvino_ir import UNBOUNDED
from prunecvt.trials import Feed, Trials, samples
from prunecvt_passes import oracle, runtime
from prunecvt_passes.budget import Removal
from prunecvt_passes.graph import index
from prunecvt_passes.groups import Groups
from prunecvt_passes.inexact import narrowed_nodes
from prunecvt_passes.model import Model
from prunecvt_passes.normalise import Source
from prunecvt_passes.rewriting.rewrite import Rewritten
from prunecvt_passes.samples import dimensions
from prunecvt_passes.saturation import multiplies_integers
from prunecvt_passes.unrounded import unrounded

SQUASHED_STEP = 1e-6  # a few float32 steps of functions that end at 1
OUTPUT_BYTES = 1 << 28  # outputs held at once; what is beyond is not compared
_HELP = "this is a bug in prunecvt: please report it with the model's operators"


@dataclass(frozen=True)
class Tolerance:
    """How far two runs may be apart: relative to each output's peak, and absolutely."""

    rtol: float
    atol: float


@dataclass(frozen=True)
class Contract:
    """The slimmed model is valid, and has the original's inputs and outputs."""

    checker: bool
    io_contract: bool


@dataclass(frozen=True)
class Outcomes:
    """What the slimmed model gives out on the trials, in order; fewer where they are large.

    ``single`` says that a float32 copy gave it out; ``refusal`` why onnxruntime runs no other.
    """

    random: tuple[Feed, ...]
    calibration: tuple[Feed, ...]
    single: bool = False
    refusal: str = ""

    def fed(self, trials: Trials) -> list[tuple[Feed, Feed]]:
        """Pairs of inputs and outputs."""
        return [
            *zip(trials.random, self.random, strict=False),
            *zip(trials.calibration, self.calibration, strict=False),
        ]


def check_contract(source: Source, model: Model) -> Contract:
    """Checks the slimmed model's validity and its inputs and outputs.

    Raises:
        UnsupportedError: E425, an output cannot be checked.
        VerifyError: E501, onnx's checker refuses it; E503, an input or output changed.
    """
    for value in source.model.proto.graph.output:
        if value.type.WhichOneof("value") != "tensor_type":
            raise UnsupportedError(
                "E425",
                f"output '{value.name}' is not a tensor, so it cannot be checked",
                where=source.model.source,
                help="leave the checks out with --no-verify, or export without it",
            )
    try:
        validate(model)
    except PrunecvtError as error:
        raise VerifyError(
            "E501",
            "the slimmed model is not valid",
            where=f"{error.message}: {error.where}",
            help=_HELP,
        ) from error
    before, after = source.model.proto.graph, model.proto.graph
    stored = source.model.weights
    for kind, old, new in (
        ("input", [v for v in before.input if v.name not in stored], list(after.input)),
        ("output", list(before.output), list(after.output)),
    ):
        if [_port(v) for v in old] != [_port(v) for v in new]:
            raise VerifyError(
                "E503",
                f"the slimmed model has other {kind}s than the original",
                where=f"{model.source}: {list(map(_port, new))}, not {list(map(_port, old))}",
                help="was it slimmed from this model? If prunecvt just did so, please report it",
            )
    return Contract(True, True)


def _port(value: onnx.ValueInfoProto) -> tuple[str, int, tuple[int | str, ...] | None]:
    return value.name, value.type.tensor_type.elem_type, dimensions(value)


def run_slimmed(source: Source, model: Model, trials: Trials) -> Outcomes:
    """Runs the slimmed model on every trial, as far as the outputs fit a fixed memory.

    A model in half precision is run as it is once, where onnxruntime can, and compared in float32;
    so is one that multiplies 8-bit integers, whose sums are compared as they are without overflow.

    Raises:
        UnsupportedError: E410 or E411, onnxruntime does not run the original either.
        VerifyError: E502, onnxruntime will not load or run the slimmed model.
    """
    random: list[Feed] = []
    calibration: list[Feed] = []
    feed = trials.random[0]
    compared = runtime.comparable(model)
    refused = ""
    try:
        if compared is not model or multiplies_integers(model):
            refused = _refusal(model, feed)
            if refused and not _refusal(source.model, feed):
                _run_as_written(model, feed)  # the cut is to blame
        opened = runtime.session(compared)
        held = 0
        for feed, found in (
            *((feed, random) for feed in trials.random),
            *((feed, calibration) for feed in trials.calibration),
        ):
            if held < OUTPUT_BYTES or not found:
                found.append(runtime.run_session(opened, feed, source=model.source))
                held += sum(np.asarray(values).nbytes for values in found[-1].values())
    except PrunecvtError as error:
        original = runtime.comparable(source.model)
        runtime.run(original, feed)  # where it fails too, the cut is not to blame
        raise VerifyError(
            "E502", "onnxruntime does not run the slimmed model", where=error.where, help=_HELP
        ) from error
    return Outcomes(tuple(random), tuple(calibration), compared is not model, refused)


def _refusal(model: Model, feed: Feed) -> str:
    """Why onnxruntime does not run the model as it is; "" where it does."""
    try:
        _run_as_written(model, feed)
    except UnsupportedError as error:
        return error.where
    return ""


def _run_as_written(model: Model, feed: Feed) -> None:
    opened = runtime.session(model, as_written=True)
    runtime.run_session(opened, feed, source=model.source)


def compare_masked(
    groups: Groups,
    removal: Removal,
    model: Model,
    trials: Trials,
    outcomes: Outcomes,
    tolerance: Tolerance,
) -> OracleCheck:
    """The oracle: slimmed model against the original with removed channels multiplied by zero.

    Sigmoids and the like give out multiples of 1e-7: outputs that are all about as small differ by
    rounding alone. There the values before them are compared, and the outputs by that step. Where
    activations are rounded to integers, a last place more or less may be a whole step: there the
    models are compared without that rounding.

    Raises:
        VerifyError: E504, the two differ.
    """
    check = compare(oracle.masked(groups, removal), model, outcomes.fed(trials), tolerance)
    narrowed = len(narrowed_nodes(groups, removal))
    check = check.model_copy(update={"single": outcomes.single, "narrowed": narrowed})
    if not check.passed:
        raise VerifyError(
            "E504",
            f"the slimmed model differs from the masked original by {check.max_rel:.2e}, "
            f"more than {tolerance.rtol:.0e}",
            where=f"{model.source}: over {check.samples} samples, by {check.max_abs:.2e} at most",
            help="try --calib with real inputs, or --keep some layers, and please report it",
        )
    return check


def compare(
    expected: Model, model: Model, feeds: list[tuple[Feed, Feed]], tolerance: Tolerance
) -> OracleCheck:
    """Runs ``expected`` on inputs whose outputs of ``model`` are known, and compares."""
    expected, model = runtime.comparable(expected), runtime.comparable(model)
    opened = runtime.session(expected)
    gaps = [
        oracle.difference(runtime.run_session(opened, feed, source=model.source), found)
        for feed, found in feeds
    ]
    at, absolute, relative = _settled((expected, model), feeds, _worst(gaps), tolerance)
    return OracleCheck(
        at=at,
        max_abs=min(absolute, UNBOUNDED),
        max_rel=min(relative, UNBOUNDED),
        tolerance=tolerance.rtol,
        samples=samples(feed for feed, _ in feeds),
        passed=relative <= tolerance.rtol or absolute <= tolerance.atol,
    )


Where = Literal["outputs", "logits", "unrounded"]


def _settled(
    pair: tuple[Model, Model],
    feeds: list[tuple[Feed, Feed]],
    gap: tuple[float, float],
    tolerance: Tolerance,
) -> tuple[Where, float, float]:
    """Where a pair of models is to be compared, given its outputs' gap, and the gap there."""
    absolute, relative = gap
    if relative <= tolerance.rtol:
        return "outputs", absolute, relative
    logits = oracle.before_squashing(index(pair[0]), pair[1])
    if absolute <= SQUASHED_STEP and logits:
        shown = [oracle.showing(each, logits) for each in pair]
        return "logits", absolute, _gap(shown, feeds, logits)[1]
    smooth = [unrounded(each) for each in pair]
    if smooth[1] is not pair[1]:
        return "unrounded", *_gap(smooth, feeds)
    return "outputs", absolute, relative


def _gap(
    pair: list[Model], feeds: list[tuple[Feed, Feed]], outputs: list[str] | None = None
) -> tuple[float, float]:
    opened = [runtime.session(each) for each in pair]
    runs = [[runtime.run_session(each, feed, outputs) for each in opened] for feed, _ in feeds]
    return _worst([oracle.difference(*run) for run in runs])


def ends_squashed(model: Model) -> bool:
    """Whether an output is a Sigmoid's or the like, so that tiny differences say nothing."""
    return bool(oracle.before_squashing(index(model), model))


def _worst(gaps: list[oracle.Difference]) -> tuple[float, float]:
    return max(g.absolute for g in gaps), max(g.relative for g in gaps)


def compare_rewritten(rewritten: Rewritten, trials: Trials, tolerance: Tolerance) -> RewriteCheck:
    """The model as it was cleaned up against what it was: the same, but for the order of sums.

    Compared where and as ``compare_masked`` does, on random input and the first calibration batch.

    Raises:
        VerifyError: E508, the two differ.
    """
    pair = runtime.comparable(rewritten.before), runtime.comparable(rewritten.model)
    calibration = [trials.calibration[0]] if len(trials.calibration) else []
    inputs = [*trials.random, *calibration]
    feeds: list[tuple[Feed, Feed]] = [(feed, {}) for feed in inputs]
    gap = _gap(list(pair), feeds)
    at, absolute, relative = _settled(pair, feeds, gap, tolerance)
    passed = relative <= tolerance.rtol or absolute <= tolerance.atol
    if not passed:
        raise VerifyError(
            "E508",
            f"clean-ups changed the outputs by {relative:.2e}, more than {tolerance.rtol:.0e}",
            where=rewritten.model.source,
            help="leave them out with --clean none, and please report it",
        )
    return RewriteCheck(
        at=at,
        max_abs=min(absolute, UNBOUNDED),
        max_rel=min(relative, UNBOUNDED),
        tolerance=tolerance.rtol,
        samples=samples(inputs),
        passed=passed,
    )


def compare_original(source: Source, trials: Trials, outcomes: Outcomes) -> Fidelity:
    """What the cut costs: slimmed model against the original, on calibration data if given."""
    found = list(zip(trials.calibration, outcomes.calibration, strict=False))
    found = found or list(zip(trials.random, outcomes.random, strict=False))
    opened = runtime.session(runtime.comparable(source.model))
    pairs: list[tuple[Feed, Feed]] = []
    for feed, after in found:
        before = runtime.run_session(opened, feed, list(after), source.model.source)
        pairs.append((before, after))
    gap = max((oracle.difference(a, b).relative for a, b in pairs), default=0.0)
    first, second = (_flat(runs) for runs in ([a for a, _ in pairs], [b for _, b in pairs]))
    batches = [samples([feed]) for feed, _ in found]
    calibrated = bool(trials.calibration)
    cosines, decibels = drift_intervals(pairs, batches) if calibrated else (None, None)
    agree = _agreement(pairs)
    told = trials.calibration if isinstance(trials.calibration, Feeds) else Feeds.of(())
    return Fidelity(
        data="calibration" if calibrated else "random",
        samples=sum(batches),
        finite=float(np.isfinite(first).mean()) if first.size else 1.0,
        cosine=_cosine(first, second),
        sqnr_db=_sqnr(first, second),
        max_rel=min(gap, UNBOUNDED),
        top1_agree=agree,
        cosine_ci95=cosines,
        sqnr_db_ci95=decibels,
        top1_agree_ci95=None if agree is None else wilson(agree, sum(batches)),
        preprocessing=told.preprocessing,
        notes=list(told.notes),
    )


def _flat(runs: list[Feed]) -> npt.NDArray[np.float64]:
    parts = [
        np.asarray(values, np.float64).ravel()
        for run in runs
        for values in run.values()
        if values.dtype.kind in "fiub"
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def _numbers(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """NaN and infinity as 0: beside a number they count as all of it lost."""
    return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)


def _cosine(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    """Cosine of the angle between two outputs; 0 where only one of them is all zero."""
    first, second = _numbers(first), _numbers(second)
    norms = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second / norms) if norms else float(np.array_equal(first, second))


def _sqnr(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float | None:
    """Signal to noise in dB; None where there is no noise or no signal."""
    first, second = _numbers(first), _numbers(second)
    noise, signal = float(((first - second) ** 2).sum()), float((first**2).sum())
    return 10 * float(np.log10(signal / noise)) if noise > 0 and signal > 0 else None


def _agreement(pairs: list[tuple[Feed, Feed]]) -> float | None:
    """Share of samples with the same largest entry; None unless output 0 is [samples, classes]."""
    same: list[npt.NDArray[np.bool_]] = []
    for before, after in pairs:
        first, second = next(iter(before.values())), next(iter(after.values()))
        if first.ndim != 2 or first.shape[1] < 2 or first.dtype.kind != "f":
            return None
        numbers = ~(np.isnan(first).any(1) | np.isnan(second).any(1))
        same.append(numbers & (first.argmax(1) == second.argmax(1)))
    return float(np.concatenate(same).mean()) if same else None
