"""Writes everything a run gives out, in one go: ONNX, IR, plan, report; all of it or nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import onnx
import onnxruntime

from prunecvt.checks import SQUASHED_STEP, Outcomes, ends_squashed
from prunecvt.errors import VerifyError
from prunecvt.loading.refusal import one_line
from prunecvt.options import Options
from prunecvt.pace import Progress, silent
from prunecvt.paths import Paths
from prunecvt.report.assemble import Stopwatch, Written, output_file, report_of
from prunecvt.report.files import RENDERERS
from prunecvt.report.schema import LatencyRow, Outputs, ParityCheck, Report
from prunecvt.runtimes.inputs import latency_inputs
from prunecvt.runtimes.latency import Contender, compare, race
from prunecvt.runtimes.layout import check_layout
from prunecvt.runtimes.openvino_ir import UNBOUNDED, Trial, parity, write_ir
from prunecvt.runtimes.runners import Backend
from prunecvt.slimming import Slimmed
from prunecvt.trials import Feed
from prunecvt.writing.serialize import weights_file
from prunecvt.writing.staged_model import staged
from prunecvt.writing.write import Part, from_bytes, from_file, write_set
from prunecvt_passes import oracle, runtime
from prunecvt_passes.graph import every_node
from prunecvt_passes.model import Array, Model
from prunecvt_passes.normalise import Dense
from prunecvt_passes.precision import in_single, output_step
from prunecvt_passes.samples import random_inputs
from prunecvt_passes.saturation import multiplies_integers
from prunecvt_passes.unrounded import unrounded

OPENVINO_SLACK = 10.0  # OpenVINO's kernels sum in another order, and approximate some functions


def emit(
    slimmed: Slimmed,
    options: Options,
    paths: Paths,
    watch: Stopwatch,
    progress: Progress | None = None,
) -> Report:
    """Converts, measures, reports and writes.

    Raises:
        VerifyError: E505, OpenVINO gives other outputs; E506, the file as written does.
        OutputError: E7xx, something cannot be converted or written.
    """
    say = progress or silent
    with tempfile.TemporaryDirectory(prefix="prunecvt-") as name:
        folder = Path(name)
        say("write")
        model = staged(slimmed.model, folder / paths.onnx.name)
        checked, left_out = None, []
        if paths.xml is not None:
            say("openvino")
            checked = _ir(slimmed, options, model, folder / paths.xml.name)
        else:
            left_out.append("OpenVINO: left out by --no-ir")
        latency: list[LatencyRow] = []
        layout = None
        if options.bench or options.strict_layout:
            original = slimmed.path or staged(slimmed.source, folder / "original" / "model.onnx")
            layout = None if slimmed.refusal else check_layout(original, model)
        if options.bench:
            ir = folder / paths.xml.name if paths.xml else None
            contenders = [Contender("before", original), Contender("after", model, ir)]
            latency = _latency(slimmed, options, contenders, say)
        written = Written(
            bytes=sum(file.stat().st_size for file in _onnx_files(folder, paths)),
            outputs=_outputs(paths, folder, slimmed),
            parity=checked,
            left_out=tuple(left_out),
            latency=tuple(latency),
            layout=layout,
        )
        report = report_of(slimmed, options, written, watch)
        _publish(slimmed, options, paths, folder, report)
    return report


def _ir(slimmed: Slimmed, options: Options, model: Path, xml: Path) -> ParityCheck | None:
    """Writes IR and holds its outputs against onnxruntime's."""
    batch, trial = slimmed.static_batch, None
    if slimmed.reference is not None:
        tolerance = max(openvino_tolerance(slimmed.model, options), 0.01 if options.fp16 else 0.0)
        trial = Trial(*_reference(slimmed, *slimmed.reference), tolerance)
    found = write_ir(
        model, xml, fp16=options.fp16, trial=trial, timeout=options.timeout, batch=batch
    )
    if trial is None:
        return None
    pair = slimmed.source, slimmed.model
    return found and judge_parity(found, trial, options, pair, slimmed.path)


def _reference(slimmed: Slimmed, inputs: Feed, outputs: Feed) -> tuple[Feed, Feed]:
    """Inputs and outputs of one run, of the batch that the IR takes."""
    batch = slimmed.static_batch
    if batch is None or not batch.inputs:
        return inputs, outputs
    inputs = random_inputs(slimmed.source, batch.sizes(slimmed.facts.get(Dense).sizes))
    return inputs, runtime.run(runtime.comparable(slimmed.model), inputs, list(outputs))


def openvino_tolerance(model: Model, options: Options) -> float:
    """How far outputs of the two runtimes may be apart; those of 16 bits by what rounds them."""
    return max(OPENVINO_SLACK * options.rtol, output_step(model))


def judge_parity(
    found: ParityCheck,
    trial: Trial,
    options: Options,
    pair: tuple[Model, Model],
    path: Path | None,
) -> ParityCheck:
    """Judges OpenVINO's outputs of the slimmed model, where need be by those of the original.

    The two runtimes differ on some models by more than any sum's order explains; then the slimmed
    model may differ by twice what the original does, and the check says that this was the bound.
    Where it rounds activations to integers, it may also do without that in both runtimes.

    Args:
        found: what the slimmed model's outputs differ by.
        trial: what it was run on.
        options: the tolerances.
        pair: the original and the slimmed model.
        path: the original's file, None where it came from memory.

    Raises:
        VerifyError: E505, they differ by more.
    """
    if found.passed or found.max_abs <= options.atol:
        return found.model_copy(update={"passed": True})
    source, slimmed = pair
    if found.max_abs <= SQUASHED_STEP and ends_squashed(source):  # as in compare_masked
        return found.model_copy(update={"passed": True})
    expected = runtime.run(runtime.comparable(source), trial.inputs)
    with tempfile.TemporaryDirectory(prefix="prunecvt-") as name:
        path = path or staged(source, Path(name) / "original.onnx")
        before = parity(
            path, Trial(trial.inputs, expected, trial.tolerance), timeout=options.timeout
        )
    if found.max_rel <= 2 * before.max_rel:
        bound = min(2 * before.max_rel, UNBOUNDED)
        return found.model_copy(update={"passed": True, "tolerance": bound})
    smooth = _smooth_parity(slimmed, trial, options)
    if smooth is not None and (smooth.passed or smooth.max_abs <= options.atol):
        return smooth.model_copy(update={"passed": True})
    raise VerifyError(
        "E505",
        f"OpenVINO's outputs differ by {found.max_rel:.2e}, more than {trial.tolerance:.0e}",
        where=f"{source.source}: the original's differ by {before.max_rel:.2e}",
        help="leave the IR out with --no-ir, or allow more with --rtol",
    )


def _smooth_parity(slimmed: Model, trial: Trial, options: Options) -> ParityCheck | None:
    """How far the runtimes are apart without the rounding of activations; None where none is.

    OpenVINO runs what stands between two roundings in 8-bit integers. It rounds sums of another
    order, so that some come out a whole step apart; and on processors without dot products of
    integers the sums of its kernels end at 16 bits (as in ``saturation.py``), which no public
    setting prevents. Neither says anything of what was converted, and both end with the rounding.
    """
    smooth = unrounded(slimmed)
    if smooth is slimmed:
        return None
    expected = runtime.run(runtime.comparable(smooth), trial.inputs, list(trial.expected))
    with tempfile.TemporaryDirectory(prefix="prunecvt-") as name:
        path = staged(smooth, Path(name) / "unrounded.onnx")
        found = write_ir(
            path,
            path.with_suffix(".xml"),
            fp16=options.fp16,
            trial=Trial(trial.inputs, expected, trial.tolerance),
            timeout=options.timeout,
        )
    return found and found.model_copy(update={"at": "unrounded"})


def _latency(
    slimmed: Slimmed, options: Options, contenders: list[Contender], say: Progress
) -> list[LatencyRow]:
    inputs = latency_inputs(
        slimmed.source, slimmed.facts.get(Dense).sizes, options.input_shape, options.seed
    )
    if slimmed.static_batch is not None:
        sizes = {name: values.shape for name, values in inputs.items()}
        inputs = random_inputs(slimmed.source, slimmed.static_batch.sizes(sizes), options.seed)
    bound = slimmed.after.macs / slimmed.before.macs if slimmed.before.macs else None
    rows = []
    backends: list[Backend] = [] if slimmed.refusal else ["onnxruntime"]
    backends += ["openvino"] if options.ir else []
    for backend in backends:

        def advance(done: int, total: int, name: str = backend) -> None:
            say(f"latency in {name}", done / total)

        run = race(contenders, inputs, backend=backend, threads=options.threads, progress=advance)
        rows.append(compare(run, macs_ratio=bound))
    return rows


def _outputs(paths: Paths, folder: Path, slimmed: Slimmed) -> Outputs:
    if paths.plan:
        (folder / paths.plan.name).write_bytes(slimmed.plan.to_json().encode())
    return Outputs(
        onnx=output_file(paths.onnx, folder / paths.onnx.name),
        ir=output_file(paths.xml, folder / paths.xml.name) if paths.xml else None,
        plan=output_file(paths.plan, folder / paths.plan.name) if paths.plan else None,
    )


def _onnx_files(folder: Path, paths: Paths) -> list[Path]:
    """The staged ONNX file, after the file of its weights where there is one."""
    model = folder / paths.onnx.name
    return [file for file in (weights_file(model), model) if file.exists()]


def _publish(
    slimmed: Slimmed, options: Options, paths: Paths, folder: Path, report: Report
) -> None:
    """Moves everything into place at once, after a look at the model as read back."""
    parts: list[Part] = []
    if paths.xml is not None:
        for path in (paths.xml.with_suffix(".bin"), paths.xml):
            parts.append(from_file(path, folder / path.name))
    if paths.plan is not None:
        parts.append(from_file(paths.plan, folder / paths.plan.name))
    for path in paths.reports:  # names may hold bytes that are no UTF-8
        text = RENDERERS[path.suffix](report)
        parts.append(from_bytes(path, text.encode("utf-8", "replace")))
    for path in _onnx_files(folder, paths):
        parts.append(from_file(paths.onnx.with_name(path.name), path))

    def verify(staged: Mapping[Path, Path]) -> None:
        _read_back(slimmed, options, staged[paths.onnx])

    inputs = [slimmed.path] if slimmed.path else []
    write_set(parts, inputs=inputs, force=options.force, verify=verify)


def _read_back(slimmed: Slimmed, options: Options, path: Path) -> None:
    """Runs the file as it lies on the disk once more."""
    if slimmed.reference is None:
        return
    inputs, outputs = slimmed.reference
    single = slimmed.facts.get(Outcomes).single
    nodes = every_node(slimmed.model.proto.graph)
    quantised = any(node.op_type == "QuantizeLinear" for node in nodes)
    try:
        found = _run_file(path, inputs, list(outputs), single=single, quantised=quantised)
        if multiplies_integers(slimmed.model):  # that it runs is known now; its sums may overflow
            found = _run_copy(path, inputs, list(outputs), single=single)
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        raise VerifyError(
            "E506", "the file as written does not run", where=f"{path.name}: {one_line(str(error))}"
        ) from error
    gap = oracle.difference(outputs, found)
    allowed = max(options.atol, SQUASHED_STEP if ends_squashed(slimmed.model) else 0.0)
    if not (gap.relative <= options.rtol or gap.absolute <= allowed):
        raise VerifyError(
            "E506",
            f"the file as written gives other outputs: they differ by {gap.relative:.2e}",
            where=path.name,
            help="this is a bug in prunecvt: please report it",
        )


def _run_file(
    path: Path, inputs: Mapping[str, Array], outputs: list[str], *, single: bool, quantised: bool
) -> dict[str, Array]:
    """Runs a file as users do, or in float32 where that is what its outputs are held against.

    onnxruntime's optimiser moves quantisation about, so that activations round to other integers:
    there the file is run as it is written.
    """
    if single:
        return _run_copy(path, inputs, outputs, single=True)
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    settings.add_session_config_entry("session.disable_prepacking", "1")  # copies weights
    if quantised:
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    opened = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    return runtime.run_session(opened, inputs, outputs, path.name)


def _run_copy(
    path: Path, inputs: Mapping[str, Array], outputs: list[str], *, single: bool
) -> dict[str, Array]:
    """Reads a file and runs it as it was compared."""
    model = Model.take(onnx.load(path), path.name)
    return runtime.run(in_single(model) if single else model, inputs, outputs)
