"""Writes everything a run gives out, in one go: ONNX, IR, plan, report; all of it or nothing."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnxruntime

from prunecvt.errors import OutputError, UsageError, VerifyError
from prunecvt.loading.load import Loadable
from prunecvt.options import Options
from prunecvt.report.assemble import Stopwatch, Written, output_file, report_of
from prunecvt.report.html import render_html
from prunecvt.report.schema import LatencyRow, Outputs, ParityCheck, Report
from prunecvt.runtimes.latency import Contender, compare, race
from prunecvt.runtimes.layout import check_layout
from prunecvt.runtimes.openvino_ir import Trial, parity, write_ir
from prunecvt.runtimes.runners import Backend
from prunecvt.slimming import Slimmed
from prunecvt.writing.serialize import onnx_parts
from prunecvt.writing.write import Part, check_targets, from_bytes, from_file, write_set
from prunecvt_passes import oracle
from prunecvt_passes.model import Array, Model
from prunecvt_passes.normalise import Dense
from prunecvt_passes.samples import dimensions, graph_inputs, random_inputs
from prunecvt_passes.shapes import Sizes

Progress = Callable[..., None]
OPENVINO_SLACK = 10.0  # OpenVINO's kernels sum in another order, and approximate some functions


@dataclass(frozen=True)
class Paths:
    """Where a run writes; None for what is left out."""

    onnx: Path
    plan: Path
    report: Path
    html: Path
    xml: Path | None

    @staticmethod
    def beside(out: Path, options: Options) -> Paths:
        """All paths, named after the ONNX file."""
        if out.suffix != ".onnx":
            raise UsageError(
                "E205",
                f"the output '{out}' does not end in .onnx",
                help="name it like out/slim.onnx",
            )
        return Paths(
            out,
            out.with_suffix(".plan.json"),
            out.with_suffix(".report.json"),
            out.with_suffix(".report.html"),
            out.with_suffix(".xml") if options.ir else None,
        )

    @property
    def all(self) -> list[Path]:
        """Every file, the ONNX file last."""
        ir = [self.xml.with_suffix(".bin"), self.xml] if self.xml else []
        return [*ir, self.plan, self.report, self.html, self.onnx]

    def check(self, model: Loadable, options: Options) -> None:
        """Refuses early what could not be written in the end.

        Raises:
            OutputError: E701 to E705.
        """
        inputs = [Path(model)] if isinstance(model, (str, Path)) else []
        check_targets(self.all, inputs=inputs, force=options.force)


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
    say = progress or (lambda *what: None)
    with tempfile.TemporaryDirectory(prefix="prunecvt-") as name:
        folder = Path(name)
        say("write")
        model = _staged(slimmed.model, folder / paths.onnx.name)
        checked, left_out = None, []
        if paths.xml is not None:
            say("openvino")
            checked = _ir(slimmed, options, model, folder / paths.xml.name)
        else:
            left_out.append("OpenVINO: left out by --no-ir")
        latency: list[LatencyRow] = []
        layout = None
        if options.bench:
            original = slimmed.path or _staged(slimmed.source, folder / "original" / "model.onnx")
            ir = folder / paths.xml.name if paths.xml else None
            contenders = [Contender("before", original), Contender("after", model, ir)]
            latency = _latency(slimmed, options, contenders, say)
            layout = check_layout(original, model)
        written = Written(
            bytes=sum(f.stat().st_size for f in folder.glob(f"{paths.onnx.name}*")),
            outputs=_outputs(paths, folder, slimmed),
            parity=checked,
            left_out=tuple(left_out),
            latency=tuple(latency),
            layout=layout,
        )
        report = report_of(slimmed, options, written, watch)
        _publish(slimmed, options, paths, folder, report)
    return report


def _staged(model: Model, path: Path) -> Path:
    """Writes a model into a folder of our own."""
    path.parent.mkdir(exist_ok=True)
    try:
        for part in onnx_parts(model, path):
            with open(part.path, "wb") as file:
                part.write(file)
    except OSError as error:
        raise OutputError(
            "E706",
            f"the temporary folder cannot be written: {error.strerror or error}",
            where=str(path.parent),
            help="set TMPDIR to a folder with more space",
        ) from error
    return path


def _ir(slimmed: Slimmed, options: Options, model: Path, xml: Path) -> ParityCheck | None:
    """Writes IR and holds its outputs against onnxruntime's."""
    if slimmed.reference is None:
        return write_ir(model, xml, fp16=options.fp16, timeout=options.timeout)
    tolerance = max(OPENVINO_SLACK * options.rtol, 0.01 if options.fp16 else 0.0)
    trial = Trial(*slimmed.reference, tolerance)
    found = write_ir(model, xml, fp16=options.fp16, trial=trial, timeout=options.timeout)
    if found is not None and not found.passed and found.max_abs > options.atol:
        before = _original_parity(slimmed, options, tolerance)
        if found.max_rel > 2 * before.max_rel:
            raise VerifyError(
                "E505",
                f"OpenVINO's outputs differ by {found.max_rel:.2e}, more than {tolerance:.0e}",
                where=f"{slimmed.source.source}: the original's differ by {before.max_rel:.2e}",
                help="leave the IR out with --no-ir, or allow more with --rtol",
            )
    return found


def _original_parity(slimmed: Slimmed, options: Options, tolerance: float) -> ParityCheck:
    """How far OpenVINO is from onnxruntime on the original: what the runtimes differ by."""
    from prunecvt_passes import runtime

    inputs = slimmed.reference[0] if slimmed.reference else {}
    expected = runtime.run(slimmed.source, inputs)
    with tempfile.TemporaryDirectory(prefix="prunecvt-") as name:
        path = slimmed.path or _staged(slimmed.source, Path(name) / "original.onnx")
        return parity(path, Trial(inputs, expected, tolerance), timeout=options.timeout)


def _latency(
    slimmed: Slimmed, options: Options, contenders: list[Contender], say: Progress
) -> list[LatencyRow]:
    inputs = latency_inputs(slimmed.source, slimmed.facts.get(Dense).sizes, options)
    bound = slimmed.after.macs / slimmed.before.macs if slimmed.before.macs else None
    rows = []
    backends: tuple[Backend, ...] = ("onnxruntime", "openvino") if options.ir else ("onnxruntime",)
    for backend in backends:

        def advance(done: int, total: int, name: str = backend) -> None:
            say(f"latency in {name}", done / total)

        run = race(contenders, inputs, backend=backend, threads=options.threads, progress=advance)
        rows.append(compare(run, macs_ratio=bound))
    return rows


def latency_inputs(model: Model, sizes: Sizes, options: Options) -> dict[str, Array]:
    """Random inputs to time a model on: the stated sizes, and a batch of one where it is open."""
    declared = {value.name: dimensions(value) or () for value in graph_inputs(model)}
    batches = {
        dims[0] for dims in declared.values() if len(dims) > 1 and not isinstance(dims[0], int)
    }
    single = {
        name: tuple(
            1
            if not isinstance(dim, int) and (dim in batches if dim else axis == 0 and len(dims) > 1)
            else sizes[name][axis]
            for axis, dim in enumerate(dims)
        )
        for name, dims in declared.items()
    }
    return random_inputs(model, {**single, **options.input_shape}, options.seed)


def _outputs(paths: Paths, folder: Path, slimmed: Slimmed) -> Outputs:
    plan = folder / paths.plan.name
    plan.write_text(slimmed.plan.to_json(), "utf-8")
    return Outputs(
        onnx=output_file(paths.onnx, folder / paths.onnx.name),
        ir=output_file(paths.xml, folder / paths.xml.name) if paths.xml else None,
        plan=output_file(paths.plan, plan),
    )


def report_json(report: Report) -> str:
    """The report as text: keys sorted."""
    return json.dumps(report.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"


def _publish(
    slimmed: Slimmed, options: Options, paths: Paths, folder: Path, report: Report
) -> None:
    """Moves everything into place at once, after a look at the model as read back."""
    parts: list[Part] = []
    if paths.xml is not None:
        for path in (paths.xml.with_suffix(".bin"), paths.xml):
            parts.append(from_file(path, folder / path.name))
    parts.append(from_file(paths.plan, folder / paths.plan.name))
    parts.append(from_bytes(paths.report, report_json(report).encode()))
    parts.append(from_bytes(paths.html, render_html(report).encode()))
    for path in sorted(folder.glob(f"{paths.onnx.name}*"), reverse=True):
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
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    try:
        opened = onnxruntime.InferenceSession(
            str(path), settings, providers=["CPUExecutionProvider"]
        )
        names = list(outputs)
        wanted = {value.name for value in opened.get_inputs()}
        feed = {name: values for name, values in inputs.items() if name in wanted}
        found = dict(zip(names, opened.run(names, feed), strict=True))
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        raise VerifyError(
            "E506", "the file as written does not run", where=f"{path.name}: {str(error)[:300]}"
        ) from error
    gap = oracle.difference(outputs, found)
    if not (gap.relative <= options.rtol or gap.absolute <= options.atol):
        raise VerifyError(
            "E506",
            f"the file as written gives other outputs: they differ by {gap.relative:.2e}",
            where=path.name,
            help="this is a bug in prunecvt: please report it",
        )
