"""Works on files as they are: verifies a pair, times any number, converts one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from prunecvt.checks import (
    Tolerance,
    check_contract,
    compare_masked,
    compare_original,
    run_slimmed,
)
from prunecvt.emit import judge_parity, openvino_tolerance
from prunecvt.errors import InputError, UsageError, VerifyError
from prunecvt.loading.load import load
from prunecvt.loading.plan_file import read_plan
from prunecvt.options import Options
from prunecvt.pace import Progress
from prunecvt.report.schema import LatencyRow, Report, Verify
from prunecvt.runtimes.backends import JUDGES
from prunecvt.runtimes.inputs import latency_inputs
from prunecvt.runtimes.latency import Contender, compare, race
from prunecvt.runtimes.openvino_ir import Trial, parity, write_ir
from prunecvt.slimming import file_sha256
from prunecvt.static_batch import static_batch
from prunecvt.trials import TrialRequest, make_trials
from prunecvt.writing.write import check_targets, from_file, write_set
from prunecvt_passes.bodies import hoist_weights, separate_names
from prunecvt_passes.budget import Removal
from prunecvt_passes.cost import cost
from prunecvt_passes.graph import index
from prunecvt_passes.groups import Groups, solve
from prunecvt_passes.model import Model
from prunecvt_passes.normalise import Dense, Source, normalise
from prunecvt_passes.plan import replay
from prunecvt_passes.recipes import label
from prunecvt_passes.shapes import infer


def verify_files(
    original: Path, slimmed: Path, plan: Path | None, options: Mapping[str, Any]
) -> Verify:
    """Checks a slimmed file against its original.

    Args:
        original: the model as it was.
        slimmed: the model as it is now.
        plan: what was cut; without it the oracle cannot be asked.
        options: as ``Options`` names them.

    Raises:
        VerifyError: E501 to E505, a check failed.
    """
    chosen = Options.of(options)
    source = Source(_load(original, chosen), dict(chosen.input_shape))
    model = _load(slimmed, chosen)
    dense = normalise(source)
    trials = make_trials(dense, TrialRequest(chosen.seed, chosen.calibration))
    contract = check_contract(source, model)
    outcomes = run_slimmed(source, model, trials)
    skipped, oracle, openvino = list[str](), None, None
    cut = None if plan is None else _cut(dense, plan)
    report = _report_of(slimmed)
    since = "" if report is None else _since(report)
    if since:
        skipped.append(f"oracle: it speaks of the cut alone; {since} since")
    elif cut is None:
        skipped.append("oracle: no plan was given, and without one it is not known what was cut")
    else:
        tolerance = Tolerance(chosen.rtol, chosen.atol)
        with _explained(slimmed, report):
            oracle = compare_masked(*cut, model, trials, outcomes, tolerance)
    if chosen.ir:
        trial = Trial(trials.random[0], outcomes.random[0], openvino_tolerance(model, chosen))
        found = parity(slimmed, trial, timeout=chosen.timeout)
        openvino = judge_parity(found, trial, chosen, (source.model, model), original)
    else:
        skipped.append("OpenVINO: left out by --no-ir")
    return Verify(
        checker=contract.checker,
        ort=bool(outcomes.random) and not outcomes.refusal,
        io_contract=contract.io_contract,
        masked_dense=oracle,
        fidelity=compare_original(source, trials, outcomes),
        openvino=openvino,
        skipped=skipped,
    )


def _cut(dense: Dense, plan: Path) -> tuple[Groups, Removal]:
    """What a plan takes from the original."""
    planned = read_plan(plan)
    groups = solve(label(dense, planned.units))
    return groups, replay(groups, planned)


@contextmanager
def _explained(slimmed: Path, report: Report | None) -> Iterator[None]:
    """Says of a failure what may be no fault, where no report tells what became of the weights."""
    try:
        yield
    except VerifyError as error:
        if error.code != "E504" or report is not None:
            raise
        beside = slimmed.with_suffix(".report.json").name
        raise VerifyError(
            error.code,
            error.message,
            where=error.where,
            help="a model that was trained or recovered after the cut is not held to it where its "
            f"report says so: put {beside} beside it, as it was written with just this file",
        ) from error


def _report_of(slimmed: Path) -> Report | None:
    """The report beside a file; None where there is none of just this file.

    What was damaged or changed since is asked the oracle.
    """
    try:
        report = Report.model_validate_json(slimmed.with_suffix(".report.json").read_bytes())
    except (OSError, ValidationError):
        return None
    written = report.output.onnx
    return None if written is None or written.sha256 != file_sha256(slimmed) else report


def _since(report: Report) -> str:
    """What became of a model's weights after the cut; "" where nothing."""
    if report.tune is not None:
        return "trained"
    if report.settings.get("reinit"):
        return "drawn anew"
    method = report.recovery.method if report.recovery is not None else "none"
    return "" if method == "none" else f"recovered by {method}"


def _load(path: Path, options: Options) -> Model:
    return load(path, max_memory=options.max_memory, allow_nonfinite=options.allow_nonfinite)


def bench_files(
    models: list[Path], backend: str, options: Mapping[str, Any], progress: Progress | None
) -> tuple[list[str], list[list[LatencyRow]]]:
    """Times models against the first.

    Returns:
        The models' names, and per model after the first (or the only one) a row per runtime.

    Raises:
        InputError: E301 to E309, a model cannot be read.
        UsageError: E222, an unknown runtime; E223, the first is not an ONNX file.
    """
    chosen = Options.of(options)
    if backend not in JUDGES:
        raise UsageError("E222", f"--backend {backend} is not known", help=", ".join(JUDGES))
    if models[0].suffix == ".xml":
        raise UsageError(
            "E223", "the first model has to be an ONNX file: its inputs are read from it"
        )
    for path in models:
        if path.suffix == ".xml":
            backend = "openvino"
            if not path.is_file():
                raise InputError(
                    "E301", "there is no such file", where=str(path), help="check the path"
                )
    model = _load(models[0], chosen)
    _, sizes = infer(model, chosen.input_shape)
    inputs = latency_inputs(model, sizes, chosen.input_shape, chosen.seed)
    macs = [_macs(path, chosen) for path in models]
    others = range(1, len(models)) if len(models) > 1 else range(1)
    rows: list[list[LatencyRow]] = [[] for _ in others]
    contenders = [Contender(path.name, path) for path in models]
    for runtime_name in JUDGES[backend]:

        def advance(done: int, total: int, name: str = runtime_name) -> None:
            if progress is not None:
                progress(f"latency in {name}", done / total)

        found = race(
            contenders, inputs, backend=runtime_name, threads=chosen.threads, progress=advance
        )
        for row, other in zip(rows, others, strict=True):
            bound = macs[other] / macs[0] if macs[0] and macs[other] else None
            row.append(compare(found, after=other, macs_ratio=bound))
    return [path.name for path in models], rows


def _macs(path: Path, options: Options) -> int:
    """Multiply-accumulates of an ONNX file, 0 for IR."""
    if path.suffix == ".xml":
        return 0
    model = _load(path, options).copy()
    separate_names(model)
    hoist_weights(model)
    shapes, _ = infer(model, options.input_shape)
    return cost(index(model, shapes)).macs


def convert_file(
    model: Path, xml: Path, fp16: bool, force: bool, timeout: float, *, batch: int | None = None
) -> tuple[list[Path], list[str]]:
    """Writes OpenVINO IR of a model as it is.

    Args:
        model: the ONNX file.
        xml: where to write; the .bin comes beside it.
        fp16: stores weights in half precision.
        force: replaces existing files.
        timeout: seconds.
        batch: what the IR's batch is fixed at; None leaves it open where it is.

    Returns:
        The files that were written, and what is to be said of them.

    Raises:
        UsageError: E205, ``xml`` has another ending; E201, the batch is below 1.
        UnsupportedError: E427, the first axis is no batch.
    """
    if batch is not None and batch < 1:
        raise UsageError("E201", "static_batch is 1 or more")
    if xml.suffix != ".xml":
        raise UsageError(
            "E205", f"the output '{xml}' does not end in .xml", help="name it model.xml"
        )
    targets = [xml.with_suffix(".bin"), xml]
    check_targets(targets, inputs=[model], force=force)
    loaded, fixed, notes = load(model), None, list[str]()
    if batch is not None:
        fixed = static_batch(loaded, infer(loaded)[1], batch)
        if not fixed.inputs:
            notes.append("the model's batch is fixed already, and the IR's with it")
    with tempfile.TemporaryDirectory(prefix="prunecvt-") as name:
        staged = Path(name) / xml.name
        write_ir(model, staged, fp16=fp16, timeout=timeout, batch=fixed)
        parts = [from_file(target, Path(name) / target.name) for target in targets]
        write_set(parts, inputs=[model], force=force)
    return targets, notes
