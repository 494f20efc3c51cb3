"""Puts the report together from what the run found."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import onnx

from prunecvt.gates import judged
from prunecvt.options import Options
from prunecvt.report.file_sizes import model_bytes
from prunecvt.report.groups import group_rows, layer_rows
from prunecvt.report.resolved import resolved
from prunecvt.report.schema import (
    Agreement,
    Change,
    InputFile,
    LatencyRow,
    LayoutCheck,
    OutputFile,
    Outputs,
    ParityCheck,
    PassRow,
    Port,
    RecoveryRow,
    Report,
    Run,
    SearchRow,
    SkippedRow,
    Tool,
    Totals,
    Verify,
)
from prunecvt.report.target_row import target_row
from prunecvt.report.trimmed import as_trimmed
from prunecvt.report.tuned import as_tuned
from prunecvt.runtimes.environment import describe
from prunecvt.runtimes.openvino_ir import UNBOUNDED
from prunecvt.slimming import Slimmed, file_sha256
from prunecvt.version import VERSION
from prunecvt_passes.budget import stated_ratio
from prunecvt_passes.graph import opset_of
from prunecvt_passes.groups import Groups
from prunecvt_passes.model import Model
from prunecvt_passes.normalise import Dense
from prunecvt_passes.plan import Plan
from prunecvt_passes.recovery.recover import Recovery
from prunecvt_passes.recovery.search import Searched
from prunecvt_passes.samples import dimensions, graph_inputs
from prunecvt_passes.synthetic.match import Matched

FEW = 8  # held-out samples that tell little
_BODY_WIDTHS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def port_rows(model: Model) -> list[Port]:
    """Inputs and outputs of a model."""
    rows = []
    for kind, values in (("input", graph_inputs(model)), ("output", model.proto.graph.output)):
        for value in values:
            dtype = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
            shape = [dim or "?" for dim in dimensions(value) or ()]
            rows.append(Port(name=value.name, kind=kind, dtype=dtype, shape=shape))  # type: ignore[arg-type]
    return rows


def search_row(searched: Searched | None) -> SearchRow | None:
    """What a search of rates found; None where none was made."""
    if searched is None:
        return None
    before, after = (min(error, UNBOUNDED) for error in (searched.before, searched.after))
    return SearchRow(trials=searched.trials, error=Change(before=before, after=after))


def recovery_row(recovery: Recovery | None, noise: bool = False) -> RecoveryRow | None:
    """What recovery did; None where none was tried."""
    if recovery is None or recovery.before is None or recovery.after is None:
        return None
    before, after = (
        Agreement(error=min(quality.error, UNBOUNDED), top1_agree=quality.agreement)
        for quality in (recovery.before, recovery.after)
    )
    return RecoveryRow(
        data="noise" if noise else "calibration",
        method=recovery.method,  # type: ignore[arg-type]
        samples=recovery.samples,
        before=before,
        after=after,
        seconds=round(recovery.seconds, 3),
        layers=layer_rows(recovery.layers),
    )


def skipped_rows(groups: Groups) -> list[SkippedRow]:
    """Channels that must stay, and why; what lies in bodies of If, Loop and Scan too."""
    rows = [
        SkippedRow(
            node=fixed.producer.node.name,
            op=fixed.producer.node.op,
            tensor=fixed.producer.tensor,
            channels=fixed.channels,
            width=fixed.producer.width,
            code=fixed.code,
            reason=fixed.reason,
        )
        for fixed in groups.fixed
    ]
    followed = {producer.tensor for producer in groups.channels.producers}
    for node in groups.channels.graph.nodes:
        for body in node.subgraphs if node.scope == 0 else ():
            reason = f"it lies in a body of {node.title}, where its channels cannot be followed"
            rows += [row for row in _body_rows(groups, body, reason) if row.tensor not in followed]
    return rows


def _body_rows(groups: Groups, body: onnx.GraphProto, reason: str) -> list[SkippedRow]:
    """The convolutions and products inside a body, and inside its own bodies."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in body.initializer}
    weights = groups.channels.graph.model.weights
    rows = []
    for node in body.node:
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                rows += _body_rows(groups, inner, reason)
        if node.op_type not in _BODY_WIDTHS or len(node.input) < 2:
            continue
        name = node.input[1]
        shape = weights[name].shape if name in weights else shapes.get(name, ())
        width = int(shape[0]) if shape else 0
        rows.append(
            SkippedRow(
                node=node.name,
                op=node.op_type,
                tensor=node.output[0],
                channels=width,
                width=width,
                code="subgraph",
                reason=reason,
            )
        )
    return rows


def totals(slimmed: Slimmed, written: int) -> Totals:
    """What the model costs before and after; ``written`` is the size of the new file."""
    groups, removal = slimmed.groups, slimmed.removal
    channels = sum(group.size for group in groups.groups)
    return Totals(
        params=Change(before=slimmed.before.params, after=slimmed.after.params),
        macs=Change(before=slimmed.before.macs, after=slimmed.after.macs),
        bytes=Change(before=model_bytes(slimmed.source, slimmed.path), after=written),
        channels=Change(before=channels, after=channels - int(removal.removed.sum())),
    )


def verify_row(slimmed: Slimmed, parity: ParityCheck | None, skipped: list[str]) -> Verify | None:
    """The checks that ran; None where none did."""
    contract = slimmed.contract
    if contract is None:
        return None
    if slimmed.refusal:
        why = f"onnxruntime, its latency too: it has no kernels for this model: {slimmed.refusal}"
        skipped = [*skipped, why]
    return Verify(
        checker=contract.checker,
        ort=slimmed.reference is not None and not slimmed.refusal,
        io_contract=contract.io_contract,
        masked_dense=slimmed.oracle,
        fidelity=slimmed.fidelity,
        openvino=parity,
        skipped=skipped,
    )


def output_file(path: Path, staged: Path) -> OutputFile:
    """A written file; ``staged`` is where its bytes lie now."""
    return OutputFile(path=path.name, sha256=file_sha256(staged), bytes=staged.stat().st_size)


@dataclass(frozen=True)
class Stopwatch:
    """When a run started: by the calendar, and by a clock that only goes forward (seconds)."""

    started: float = field(default_factory=time.time)
    clock: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return time.perf_counter() - self.clock


@dataclass(frozen=True)
class Written:
    """What came of writing: files, IR check, latency, layout, and the bytes of the ONNX files."""

    bytes: int
    outputs: Outputs = field(default_factory=Outputs)
    parity: ParityCheck | None = None
    left_out: tuple[str, ...] = ()
    latency: tuple[LatencyRow, ...] = ()
    layout: LayoutCheck | None = None


def report_of(slimmed: Slimmed, options: Options, written: Written, watch: Stopwatch) -> Report:
    """The whole report."""
    proto = slimmed.source.proto
    layers = slimmed.recovery.layers if slimmed.recovery is not None else ()
    rows = group_rows(slimmed.groups, slimmed.removal, slimmed.scores, slimmed.curves, layers)
    counted = totals(slimmed, written.bytes)
    report = Report(
        status="ok" if slimmed.removal.removed.any() else "nothing-to-prune",
        tool=Tool(version=VERSION),
        run=run_row(watch),
        env=describe(options.threads),
        input=InputFile(
            path=slimmed.path.name if slimmed.path else slimmed.source.source,
            sha256=slimmed.sha256,
            bytes=int(counted.bytes.before),
            opset=opset_of(proto),
            ir=proto.ir_version,
            ios=port_rows(slimmed.source),
        ),
        output=written.outputs,
        settings=options.settings(),
        resolved=resolved(slimmed, options),
        criterion=slimmed.scores.criterion if slimmed.scores else "plan",
        groups=rows,
        skipped=skipped_rows(slimmed.groups),
        passes=[
            PassRow(name=t.name, seconds=round(t.seconds, 6), changed=t.changed)
            for t in slimmed.facts.timings
        ],
        totals=counted,
        verify=verify_row(slimmed, written.parity, list(written.left_out)),
        accuracy=slimmed.accuracy,
        search=search_row(slimmed.searched),
        target=target_row(slimmed.probed, slimmed.recovery, options),
        recovery=recovery_row(slimmed.recovery, options.noise),
        latency=list(written.latency),
        layout=written.layout,
        warnings=cautions(slimmed, options, written.layout),
    )
    report = as_tuned(as_trimmed(report, slimmed), slimmed)
    gates = judged(report, options.fail_if, options.strict_layout)
    return report.model_copy(update={"gates": gates})


def run_row(watch: Stopwatch) -> Run:
    """What changes from run to run."""
    started = datetime.fromtimestamp(watch.started, timezone.utc)
    return Run(
        argv=sys.argv[1:],
        started=started.isoformat(timespec="seconds"),
        seconds=round(watch.seconds, 3),
        peak_rss_mb=peak_rss_mb(),
    )


def peak_rss_mb() -> float:
    """Most memory this process has held, in MB; 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10), 1)


def cautions(slimmed: Slimmed, options: Options, layout: LayoutCheck | None = None) -> list[str]:
    """What a user should know before relying on the result."""
    found = []
    if slimmed.contract is None:
        found.append("the checks were left out by --no-verify")
    if options.passes:
        found.append(
            f"the oracle speaks of the cut alone: {', '.join(options.passes)} ran after it, and "
            "'prunecvt verify' does not know what changed"
        )
    found += _data_notes(slimmed)
    found += _left_alone(slimmed)
    found += _guessed_sizes(slimmed, options)
    found += _small_cut(slimmed, options)
    plan = slimmed.facts.values.get(Plan)
    if plan is not None and plan.model_sha256 != slimmed.sha256:
        found.append(
            "the plan was made for another file (its model_sha256 differs): it fits this model, "
            "but other channels may be the weakest"
        )
    if slimmed.before.uncounted:
        found.append(
            f"MACs leave out {slimmed.before.uncounted} convolutions or products: inside bodies "
            "of If, Loop and Scan, or of unknown shape"
        )
    if options.round_to != "auto" and options.round_to < 4:
        found.append(
            f"widths are rounded to multiples of {options.round_to}: onnxruntime's blocked "
            "convolutions want multiples of 4 or 8, and may be slower without"
        )
    if layout is not None and layout.after.nchwc_convs > layout.before.nchwc_convs:
        gained = layout.after.nchwc_convs - layout.before.nchwc_convs
        found.append(
            f"{gained} more convolutions run in onnxruntime's blocked layout than in the original: "
            "that part of the gain comes from the file's form or its widths, not from fewer MACs"
        )
    if layout is not None and layout.fell_off:
        names = ", ".join(layout.fell_off[:5])
        found.append(
            f"{len(layout.fell_off)} convolutions left onnxruntime's blocked layout: {names}"
        )
    return found


def _data_notes(slimmed: Slimmed) -> list[str]:
    """What was assumed of the user's data, and whether the original answers as if it guessed."""
    fidelity, accuracy = slimmed.fidelity, slimmed.accuracy
    found = [*(fidelity.notes if fidelity else ()), *(accuracy.notes if accuracy else ())]
    if accuracy is not None and accuracy.top1.before_ci95[0] <= 1 / accuracy.classes:
        found.append(
            f"the original is right on {accuracy.top1.before:.1%} of the labelled samples, no more "
            "than by guessing: check the preprocessing and the order of the classes"
        )
    return list(dict.fromkeys(found))


def _left_alone(slimmed: Slimmed) -> list[str]:
    """Says what recovery could not judge, left as it was, or could not match noise to."""
    recovery = slimmed.recovery
    layers = recovery.layers if recovery is not None else ()
    found = []
    if recovery is not None and 0 < recovery.samples < FEW:
        found.append(
            f"what recovery is worth was judged on {recovery.samples} of the samples: its errors "
            "and the choice of what to take say little; give more with --calib-count"
        )
    for reason in dict.fromkeys(layer.reason for layer in layers if layer.reason):
        names = [layer.node for layer in layers if layer.reason == reason]
        found.append(f"recovery left {', '.join(names[:3])}{_more(names)} as it was: {reason}")
    matched = slimmed.facts.values.get(Matched)
    if matched is not None and matched.left:
        names = list(matched.left)
        found.append(
            f"noise was not matched to {', '.join(names[:3])}{_more(names)}: in a body, in "
            "training mode, or with statistics that are no constants of their own"
        )
    return found


def _more(names: list[str]) -> str:
    return f" and {len(names) - 3} more" if len(names) > 3 else ""


def _guessed_sizes(slimmed: Slimmed, options: Options) -> list[str]:
    """Names the sizes that were made up for inputs of open size; a batch is no matter."""
    sizes = slimmed.facts.get(Dense).sizes
    guessed = []
    for value in graph_inputs(slimmed.source):
        dims = dimensions(value) or ()
        batch = len(dims) > 1
        if value.name not in options.input_shape and any(
            not isinstance(dim, int) for dim in dims[1 if batch else 0 :]
        ):
            guessed.append(f"{value.name}:{','.join(map(str, sizes[value.name]))}")
    if not guessed:
        return []
    text = f"input sizes were made up where the model leaves them open ({' '.join(guessed)})"
    return [f"{text}: latency and MACs hold for them; give real ones with --input-shape"]


def _small_cut(slimmed: Slimmed, options: Options) -> list[str]:
    """Says so where rounding left much less cut than was asked for."""
    budget, every = options.budget, slimmed.groups
    groups = [g for g in every.groups if stated_ratio(every, g, budget) is None]
    asked = budget.ratio * sum(group.size for group in groups)
    cut = sum(int(slimmed.removal.removed[group.classes].sum()) for group in groups)
    rounded = sum("rounds up" in reason for reason in slimmed.removal.reasons.values())
    if options.ratio is None or slimmed.scores is None or not rounded or cut > 0.75 * asked:
        return []
    share = cut / sum(group.size for group in groups)
    return [
        f"of the channels {budget.ratio:.1%} were to go and {share:.1%} went: rounding widths up "
        f"left {rounded} groups whole; a larger --ratio or a smaller --round-to cuts more"
    ]
