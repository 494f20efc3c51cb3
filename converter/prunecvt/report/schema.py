"""The report: one JSON document, ``schema_version`` 1, that every command's output is drawn from.

Nothing outside ``run`` and ``latency`` and ``env`` changes between two runs with the same input.
Lengths of time are milliseconds where the name says ``_ms`` and seconds elsewhere; sizes are bytes.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from prunecvt.report.latency_rows import LatencyRow as LatencyRow
from prunecvt.report.latency_rows import Layout as Layout
from prunecvt.report.latency_rows import LayoutCheck as LayoutCheck
from prunecvt.report.latency_rows import Timing as Timing
from prunecvt.report.record import Record
from prunecvt.report.rewrite_rows import RewriteCheck as RewriteCheck
from prunecvt.report.rewrite_rows import RewriteRow as RewriteRow
from prunecvt.report.trim_rows import TrimRow as TrimRow
from prunecvt.report.tune_rows import TuneRow as TuneRow

SCHEMA_VERSION = 1


class Tool(Record):
    """Which prunecvt wrote the report."""

    name: str = "prunecvt"
    version: str


class Run(Record):
    """What changes from run to run."""

    argv: list[str]
    started: str
    seconds: float
    peak_rss_mb: float


class Environment(Record):
    """The machine and the versions that a latency belongs to."""

    os: str
    cpu: str
    isa: list[str]
    cores: int
    threads: int
    python: str
    versions: dict[str, str]


class Port(Record):
    """A graph input or output; a dynamic dimension is its name, or "?" where it has none."""

    name: str
    kind: Literal["input", "output"]
    dtype: str
    shape: list[int | str]


class InputFile(Record):
    """The model as it came."""

    path: str
    sha256: str
    bytes: int
    opset: int
    ir: int
    ios: list[Port]


class OutputFile(Record):
    """A file that was written."""

    path: str
    sha256: str
    bytes: int


class Outputs(Record):
    """The files that were written; None where one was left out."""

    onnx: OutputFile | None = None
    ir: OutputFile | None = None
    plan: OutputFile | None = None


class Change(Record):
    """A number before and after."""

    before: float
    after: float

    @property
    def ratio(self) -> float:
        """After over before; 1 where there was nothing."""
        return self.after / self.before if self.before else 1.0


class ScoreRange(Record):
    """The spread of a group's scores."""

    min: float
    median: float
    max: float


class ErrorCurve(Record):
    """What a group's readers lose with ``kept`` channels left: at most 33 widths, falling.

    ``error`` is squared, with the readers refitted, on held-out rows, over the variance of what
    they feed; ``weight`` is how much of it reaches the outputs.
    """

    kept: list[int]
    error: list[float]
    weight: float


class GroupRow(Record):
    """One group: the channels that live and die together, and what became of them.

    ``members`` names the output tensors of the producing nodes; ``reason`` says why a group that
    could be cut was left whole, and is "" where it was cut. ``inexact`` names what normalises
    over these channels or takes their mean, and works on fewer of them then (``--allow-inexact``).
    ``error`` is what its readers lose by the cut once they are refitted, relative to the variance
    of what they feed and summed over them, where that was measured: the point of ``curve`` at
    ``channels_after``. ``drift`` is how far they really are off, with all that was cut before them,
    by the cut alone and after recovery.
    """

    id: int
    members: list[str]
    channels_before: int
    channels_after: int
    kept: list[int]
    score: ScoreRange | None = None
    reason: str = ""
    inexact: list[str] = Field(default_factory=list)
    error: float | None = None
    curve: ErrorCurve | None = None
    drift: Change | None = None


class SkippedRow(Record):
    """A producing node whose width cannot be cut (all of it, or ``channels`` of ``width``)."""

    node: str
    op: str
    tensor: str
    channels: int
    width: int
    code: str
    reason: str


class PassRow(Record):
    """How long a pass took, and whether it changed the graph."""

    name: str
    seconds: float
    changed: bool


class Totals(Record):
    """What the model costs, before and after; ``bytes`` is the ONNX file (with external data)."""

    params: Change
    macs: Change
    bytes: Change
    channels: Change


class OracleCheck(Record):
    """Slimmed model against the original with the removed channels multiplied by zero.

    ``at`` is where ``max_rel`` was found: at the outputs, or, where these are too close to a
    Sigmoid's zero to tell, before it, or without the rounding of quantised activations, which makes
    whole steps of last places. ``single`` says that both ran as copies in float32, because
    half precision rounds by more than the tolerance. ``narrowed`` counts the nodes that lost
    channels they work across (``--allow-inexact``): in the masked original these work on the kept
    channels alone.
    """

    at: Literal["outputs", "logits", "unrounded"] = "outputs"
    max_abs: float
    max_rel: float
    tolerance: float
    samples: int
    single: bool = False
    passed: bool
    narrowed: int = 0


class Fidelity(Record):
    """Slimmed model against the original as it was: what the cut costs.

    ``finite`` is the share of the original's output values that are finite numbers; the others tell
    nothing, and where only the slimmed model's is one, it counts as a value lost. ``*_ci95``
    are over calibration samples: Wilson's for the agreement, bootstrap for cosine and SQNR.
    """

    data: Literal["random", "calibration"]
    samples: int
    finite: float = 1.0
    cosine: float
    sqnr_db: float | None
    max_rel: float
    top1_agree: float | None = None
    cosine_ci95: tuple[float, float] | None = None
    sqnr_db_ci95: tuple[float, float] | None = None
    top1_agree_ci95: tuple[float, float] | None = None
    preprocessing: str = ""
    notes: list[str] = Field(default_factory=list)


class TopK(Record):
    """Share of samples whose class is among the best k scores; ``change`` is after less before.

    Intervals are Wilson's, that of the change Newcombe's for paired shares: same samples twice.
    """

    before: float
    after: float
    before_ci95: tuple[float, float]
    after_ci95: tuple[float, float]
    change_ci95: tuple[float, float]

    @property
    def change(self) -> float:
        """After less before."""
        return self.after - self.before


class Accuracy(Record):
    """Original and slimmed model on the same labelled samples; ``top5`` with 6 classes or more."""

    data: str
    samples: int
    classes: int
    preprocessing: str = ""
    top1: TopK
    top5: TopK | None = None
    notes: list[str] = Field(default_factory=list)


class Agreement(Record):
    """Outputs on held-out calibration data, against the original's.

    ``error`` is squared and relative to the variance of the original's outputs; ``top1_agree`` is
    None where the first output is no classes.
    """

    error: float
    top1_agree: float | None = None


class LayerRow(Record):
    """A convolution or product: what it feeds against the original's, by the cut and recovered.

    ``reason`` says why recovery left it as it was, and then there is no error.
    """

    node: str
    error: Change | None = None
    reason: str = ""


class RecoveryRow(Record):
    """What was done for the accuracy, judged on ``samples`` that nothing was fitted on.

    On noise, errors are those of the original and the cut model with statistics matched to it.
    """

    data: Literal["calibration", "noise"] = "calibration"
    method: Literal["none", "bias", "moments", "refit"]
    samples: int
    before: Agreement
    after: Agreement
    seconds: float
    layers: list[LayerRow] = Field(default_factory=list)


class SearchRow(Record):
    """A search of rates: how many were tried, and the output error by error curves and by the best.

    Errors are on held-out data, after a shorter recovery than the one that follows.
    """

    trials: int
    error: Change


class ParityCheck(Record):
    """The same file in another runtime.

    ``at`` is where ``max_rel`` was found: at the outputs, or, where the runtimes round quantised
    activations to other integers, at those of the model without that rounding.
    """

    at: Literal["outputs", "unrounded"] = "outputs"
    max_abs: float
    max_rel: float
    tolerance: float
    passed: bool


class Verify(Record):
    """Every check that ran before anything was written; None where a check was left out.

    ``exact`` is that of a clean-up which is to change nothing (``trim``).
    """

    checker: bool
    ort: bool
    io_contract: bool
    masked_dense: OracleCheck | None = None
    exact: OracleCheck | None = None
    rewritten: RewriteCheck | None = None
    fidelity: Fidelity | None = None
    openvino: ParityCheck | None = None
    skipped: list[str] = Field(default_factory=list)


class Gate(Record):
    """A ``--fail-if`` expression, a target or a layout, and what it came to.

    ``value`` is the first number compared; None where it was not measured, which misses the gate.
    """

    expr: str
    value: float | None
    passed: bool


class ProbeRow(Record):
    """A model that was tried out: its share of the multiply-accumulates, and what was measured."""

    macs: float
    value: float


class TargetRow(Record):
    """A target that has to be measured: what was tried, in order, and what was taken.

    Values are speed-ups, latencies (as a share, or in milliseconds) or agreements, as ``text`` is.
    ``taken`` is the place among the probes, from 0.
    """

    text: str
    judge: list[str]
    value: float
    met: bool
    probes: list[ProbeRow]
    taken: int | None = None


class Report(Record):
    """All of it."""

    schema_version: Literal[1] = 1
    status: Literal["ok", "nothing-to-prune", "failed"]
    tool: Tool
    run: Run
    env: Environment
    input: InputFile
    output: Outputs
    settings: dict[str, Any]
    resolved: dict[str, str] = Field(default_factory=dict)  # what settings left at "auto" were
    criterion: str
    groups: list[GroupRow]
    skipped: list[SkippedRow]
    passes: list[PassRow]
    totals: Totals
    verify: Verify | None
    accuracy: Accuracy | None = None
    search: SearchRow | None = None
    target: TargetRow | None = None
    recovery: RecoveryRow | None = None
    trim: TrimRow | None = None
    rewrites: list[RewriteRow] = Field(default_factory=list)
    tune: TuneRow | None = None
    latency: list[LatencyRow]
    layout: LayoutCheck | None
    gates: list[Gate] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
