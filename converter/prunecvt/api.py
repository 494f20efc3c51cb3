"""The Python API: ``plan``, ``apply``, ``slim``, ``trim``, ``tune``, ``inspect``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from prunecvt.emit import emit
from prunecvt.errors import OutputError, UsageError
from prunecvt.loading.load import Loadable, load
from prunecvt.loading.plan_file import read_plan
from prunecvt.options import Options
from prunecvt.pace import Progress
from prunecvt.paths import Paths
from prunecvt.report.assemble import (
    Stopwatch,
    Written,
    port_rows,
    report_of,
    skipped_rows,
)
from prunecvt.report.groups import group_rows
from prunecvt.report.schema import GroupRow, Port, Report, SkippedRow, TargetRow
from prunecvt.report.target_row import target_row
from prunecvt.slimming import Slimmed, analyse, costs, slim_in_memory
from prunecvt.trim_options import TrimOptions
from prunecvt.trimming import trim_in_memory
from prunecvt.tune_options import TuneOptions
from prunecvt.tuning import Request, tune_in_memory
from prunecvt.writing.write import check_targets
from prunecvt_passes.budget import Removal
from prunecvt_passes.cost import Cost, cost
from prunecvt_passes.groups import Groups
from prunecvt_passes.normalise import Dense, Source
from prunecvt_passes.plan import Plan, write_down
from prunecvt_passes.recovery.curve import Curves
from prunecvt_passes.score import Scores
from prunecvt_passes.seek import Probed

if TYPE_CHECKING:
    import onnx_graphsurgeon


@dataclass(frozen=True)
class Planned:
    """A plan and the model it is for.

    Attributes:
        plan: which channels stay; ``plan.to_json()`` is the document.
        model: what ``plan`` was given.
        options: the choices it was made with.
        groups, skipped: what can be cut and what cannot, with reasons.
        before, after: what the model costs, whole and cut.
        target: the trials for a target that has to be measured; None where there was none.
    """

    plan: Plan
    model: Loadable
    options: Options
    groups: list[GroupRow]
    skipped: list[SkippedRow]
    before: Cost
    after: Cost
    target: TargetRow | None = None


@dataclass(frozen=True)
class Result:
    """A slimmed model.

    Attributes:
        slimmed: the slimmed model, graph and weights apart, and every fact behind it.
        report: what it cost and what it won.
        plan: which channels stay.
        paths: the files that were written; None where none were.
    """

    slimmed: Slimmed
    report: Report
    plan: Plan
    paths: Paths | None

    @property
    def model(self) -> onnx.ModelProto:
        """The slimmed model, complete; built anew at each call."""
        return self.slimmed.model.to_proto()

    def graphsurgeon(self) -> onnx_graphsurgeon.Graph:
        """The slimmed model as an onnx-graphsurgeon graph, for further editing."""
        import onnx_graphsurgeon

        return onnx_graphsurgeon.import_onnx(self.model)


@dataclass(frozen=True)
class Inspection:
    """What can be cut of a model, and what cannot and why."""

    source: str
    opset: int
    ports: list[Port]
    criterion: str
    cost: Cost
    groups: list[GroupRow]
    skipped: list[SkippedRow]


def plan(model: Loadable, **options: Any) -> Planned:
    """Decides which channels of ``model`` go, and changes nothing.

    Args:
        model: a path, bytes, a ``ModelProto`` or a graphsurgeon graph.
        options: as ``prunecvt.options.Options`` names them (``ratio=0.4`` ...).

    Raises:
        PrunecvtError: as ``prunecvt.errors`` lists them.
    """
    chosen = Options.of(options)
    facts, sha256, _ = analyse(model, chosen)
    groups, removal = facts.get(Groups), facts.get(Removal)
    rows = group_rows(groups, removal, facts.get(Scores), facts.get(Curves))
    made = write_down(groups, removal, sha256)
    before, after = costs(facts, chosen)
    target = target_row(facts.values.get(Probed), None, chosen)
    return Planned(made, model, chosen, rows, skipped_rows(groups), before, after, target)


def apply(
    plan: Planned | Plan | str | Path, model: Loadable | None = None, **options: Any
) -> Result:
    """Slims a model as a plan says.

    Args:
        plan: what ``prunecvt.plan`` gave, or the path of a plan.json.
        model: the model, where the plan does not bring it.
        options: over those that the plan was made with.

    Raises:
        PrunecvtError: as ``prunecvt.errors`` lists them.
    """
    base: dict[str, Any] = {}
    if isinstance(plan, Planned):
        model = plan.model if model is None else model
        base = {name: getattr(plan.options, name) for name in plan.options.settings()}
        plan = plan.plan
    if model is None:
        raise UsageError("E204", "this plan does not bring its model", help="give model=")
    return slim(model, plan=plan, **{**base, **options})


def slim(
    model: Loadable,
    out: str | Path | None = None,
    *,
    plan: Plan | str | Path | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Result:
    """Slims a model; never changes what it is given.

    Args:
        model: a path, bytes, a ``ModelProto`` or a graphsurgeon graph.
        out: where to write the ONNX file; IR, plan and report come beside it. Without it nothing
            is written, and IR and latency are left out.
        plan: replays a plan instead of choosing.
        progress: called with what is being done.
        options: as ``prunecvt.options.Options`` names them (``ratio=0.4`` ...).

    Raises:
        PrunecvtError: as ``prunecvt.errors`` lists them.
    """
    watch = Stopwatch()
    chosen = Options.of(options)
    replayed = plan if plan is None or isinstance(plan, Plan) else read_plan(plan)
    read = Path(plan) if isinstance(plan, (str, os.PathLike)) else None
    paths = _placed(out, [model], chosen, plan=True, read=read)
    slimmed = slim_in_memory(model, chosen, replayed, progress)
    return _emitted(slimmed, chosen, paths, watch, progress)


def trim(
    model: Loadable,
    out: str | Path | None = None,
    *,
    progress: Progress | None = None,
    **options: Any,
) -> Result:
    """Removes what the outputs do not depend on; blocks and small weights too where asked.

    Args:
        model: a path, bytes, a ``ModelProto`` or a graphsurgeon graph; never changed.
        out: where to write the ONNX file; IR and report come beside it. Without it nothing is
            written, and IR and latency are left out.
        progress: called with what is being done.
        options: as ``prunecvt.trim_options.TrimOptions`` and ``TAKEN`` there name them.

    Raises:
        PrunecvtError: as ``prunecvt.errors`` lists them.
    """
    watch = Stopwatch()
    asked, chosen = TrimOptions.of(options)
    paths = _placed(out, [model], chosen)
    return _emitted(trim_in_memory(model, asked, chosen, progress), chosen, paths, watch, progress)


def tune(
    original: Loadable,
    slim: Loadable,
    out: str | Path | None = None,
    *,
    progress: Progress | None = None,
    **options: Any,
) -> Result | None:
    """Trains a slimmed model to answer as its original does; only its weights change.

    Args:
        original: what the answers come from: a path, bytes, a ``ModelProto`` or a graphsurgeon
            graph.
        slim: what was slimmed from it.
        out: where to write the ONNX file; IR and report come beside it, and while it runs a
            checkpoint (``.tune.pt``). Without it nothing is written.
        progress: called with what is being done.
        options: as ``prunecvt.tune_options.TuneOptions`` and ``TAKEN`` there name them; ``calib``
            or ``labels`` has to be among them.

    Returns:
        The tuned model; None in processes of torchrun that only help the first one.

    Raises:
        PrunecvtError: as ``prunecvt.errors`` lists them.
    """
    watch = Stopwatch()
    asked, chosen = TuneOptions.of(options)
    paths, checkpoint = _placed(out, [original, slim], chosen), None
    if paths is not None:
        checkpoint = paths.onnx.with_suffix(".tune.pt")
        _check_checkpoint(checkpoint, asked.resume or chosen.force)
    elif asked.resume:
        raise UsageError("E206", "a checkpoint only lies beside a model", help="give out=")
    request = Request(original, slim, checkpoint, asked)
    tuned = tune_in_memory(request, chosen, progress)
    if tuned is None:
        return None
    result = _emitted(tuned, chosen, paths, watch, progress)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    return result


def _placed(
    out: str | Path | None,
    models: Sequence[Loadable],
    options: Options,
    plan: bool = False,
    read: Path | None = None,
) -> Paths | None:
    """Where a run writes; None where it does not. Refuses early what would fail in the end.

    Raises:
        UsageError: E205 or E206, an output has an ending that it cannot have, or no place.
        InputError: E301, a model is not there, which is said before anything of the output.
        OutputError: E701 to E705.
    """
    if out is None:
        if options.report:
            raise UsageError("E206", "a report is only written beside a model", help="give out=")
        return None
    for model in models:
        if isinstance(model, (str, os.PathLike)) and not os.path.exists(model):
            load(model)
    paths = Paths.beside(Path(out), options, read)
    paths = paths if plan else replace(paths, plan=None)
    for model in models:
        paths.check(model, options)
    return paths


def _check_checkpoint(path: Path, replaced: bool) -> None:
    """Refuses to write over what another run has left.

    Raises:
        OutputError: E701, there is a checkpoint; E704 or E705, none can be written.
    """
    if path.is_file() and not replaced:
        raise OutputError(
            "E701",
            "there is the checkpoint of a run that did not end",
            where=str(path),
            help="go on from it with --resume, or start anew with --force",
        )
    check_targets([path], force=True)


def _emitted(
    slimmed: Slimmed,
    options: Options,
    paths: Paths | None,
    watch: Stopwatch,
    progress: Progress | None,
) -> Result:
    """Writes and reports; without paths the report alone."""
    if paths is not None:
        report = emit(slimmed, options, paths, watch, progress)
    else:
        size = slimmed.model.nbytes + slimmed.model.proto.ByteSize()
        report = report_of(slimmed, options, Written(bytes=size, left_out=_LEFT_OUT), watch)
    return Result(slimmed, report, slimmed.plan, paths)


def inspect(model: Loadable, **options: Any) -> Inspection:
    """Says what of a model can be cut, and what cannot and why."""
    chosen = Options.of(options)
    facts, _, _ = analyse(model, chosen)
    groups, dense = facts.get(Groups), facts.get(Dense)
    source = facts.get(Source).model
    removal = Removal(facts.get(Removal).removed & False, {})
    scores = facts.get(Scores)
    return Inspection(
        source.source,
        dense.graph.opset,
        port_rows(source),
        scores.criterion,
        cost(dense.graph, dense.batch),
        group_rows(groups, removal, scores, facts.get(Curves)),
        skipped_rows(groups),
    )


_LEFT_OUT = ("OpenVINO: nothing was written", "latency: nothing was written")
