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
from prunecvt.reinit import Redrawn, skipped_by
from prunecvt.report.cautions import cautions, measured_otherwise
from prunecvt.report.file_sizes import model_bytes
from prunecvt.report.groups import group_rows, layer_rows
from prunecvt.report.resolved import resolved
from prunecvt.report.rewrite_rows import rewrite_rows
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
from prunecvt.runtimes.backends import JUDGES
from prunecvt.runtimes.environment import describe
from prunecvt.runtimes.openvino_ir import UNBOUNDED
from prunecvt.slimming import Slimmed, file_sha256
from prunecvt.version import VERSION
from prunecvt_passes.graph import opset_of
from prunecvt_passes.groups import Groups
from prunecvt_passes.model import Model
from prunecvt_passes.recovery.recover import Recovery
from prunecvt_passes.recovery.search import Searched
from prunecvt_passes.samples import dimensions, graph_inputs

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
    skipped = [*skipped, *skipped_by(slimmed.facts.values.get(Redrawn))]
    return Verify(
        checker=contract.checker,
        ort=slimmed.reference is not None and not slimmed.refusal,
        io_contract=contract.io_contract,
        masked_dense=slimmed.oracle,
        rewritten=slimmed.rewriting,
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


def input_row(slimmed: Slimmed, size: int) -> InputFile:
    """The original's file, of so many bytes."""
    proto = slimmed.source.proto
    return InputFile(
        path=slimmed.path.name if slimmed.path else slimmed.source.source,
        sha256=slimmed.sha256,
        bytes=size,
        opset=opset_of(proto),
        ir=proto.ir_version,
        ios=port_rows(slimmed.source),
    )


def report_of(slimmed: Slimmed, options: Options, written: Written, watch: Stopwatch) -> Report:
    """The whole report."""
    layers = slimmed.recovery.layers if slimmed.recovery is not None else ()
    rows = group_rows(slimmed.groups, slimmed.removal, slimmed.scores, slimmed.curves, layers)
    counted = totals(slimmed, written.bytes)
    report = Report(
        status="ok" if slimmed.removal.removed.any() else "nothing-to-prune",
        tool=Tool(version=VERSION),
        run=run_row(watch),
        env=describe(options.threads),
        input=input_row(slimmed, int(counted.bytes.before)),
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
        rewrites=rewrite_rows(slimmed.rewritten),
        latency=list(written.latency),
        layout=written.layout,
        warnings=[
            *cautions(slimmed, options, written.layout),
            *measured_otherwise(options.budget.target, JUDGES[options.judge], written.latency),
        ],
    )
    report = as_tuned(as_trimmed(report, slimmed, options), slimmed, options)
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
