"""``prunecvt slim`` and ``prunecvt plan``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from prunecvt.commands import flags
from prunecvt.commands.configured import strongest
from prunecvt.commands.documents import renderer
from prunecvt.commands.terminal import Terminal, write

if TYPE_CHECKING:
    from prunecvt.api import Result
    from prunecvt.report.schema import Report


def slim(
    context: typer.Context,
    model: flags.Input,
    output: flags.Output = None,
    ratio: flags.Ratio = None,
    target: flags.Target = "",
    judge: flags.Judge = "onnxruntime",
    threshold: flags.Threshold = None,
    criterion: flags.Criterion = "auto",
    scope: flags.Scope = "auto",
    ratio_of: flags.RatioOf = None,
    round_to: flags.RoundTo = "auto",
    min_channels: flags.MinChannels = 1,
    max_ratio: flags.MaxRatio = 0.9,
    keep: flags.Keep = None,
    only: flags.Only = None,
    attention_unit: flags.AttentionUnit = "head",
    grouped_unit: flags.GroupedUnit = "channel",
    allow_inexact: flags.AllowInexact = False,
    recover: flags.Recover = "auto",
    passes: flags.Passes = None,
    plan: flags.PlanFile = None,
    dry_run: flags.DryRun = False,
    fold_bn: flags.FoldBn = True,
    clean: flags.Clean = "auto",
    reinit: flags.Reinit = False,
    ir: flags.Ir = True,
    fp16: flags.Fp16 = False,
    static_batch: flags.StaticBatch = None,
    bench: flags.Bench = True,
    report: flags.ReportFiles = None,
    fail_if: flags.FailIf = None,
    strict_layout: flags.StrictLayout = False,
    force: flags.Force = False,
    json: flags.Json = False,
    format: flags.Format = "text",
    input_shape: flags.InputShapes = None,
    calib: flags.Calib = None,
    calib_count: flags.CalibCount = None,
    noise: flags.Noise = False,
    resize: flags.Resize = None,
    crop: flags.Crop = None,
    scale: flags.Scale = None,
    mean: flags.Mean = None,
    std: flags.Std = None,
    layout: flags.Layout = "auto",
    color: flags.Color = "auto",
    eval: flags.Eval = None,
    verify: flags.Verify = True,
    rtol: flags.Rtol = 1e-4,
    atol: flags.Atol = 0.0,
    allow_nonfinite: flags.Nonfinite = False,
    threads: flags.Threads = 1,
    seed: flags.Seed = 0,
    max_memory: flags.MaxMemory = None,
    timeout: flags.Timeout = 600.0,
    quiet: flags.Quiet = False,
    verbose: flags.Verbose = 0,
    no_color: flags.NoColor = False,
    config: flags.Config = None,
    debug: flags.Debug = False,
) -> None:
    """Remove whole channels from a trained ONNX model, check the result, write and time it."""
    given = strongest(context, locals())
    format = "json" if json else format
    shown = format in ("text", "github")
    terminal = Terminal.of(quiet or not shown, verbose, no_color)
    render = renderer(format, terminal)
    out = output or model.parent / f"{model.stem}_slim.onnx"
    if plan is not None:
        _refuse_beside_plan(context)
    if dry_run:
        _refuse_beside_dry_run(context, given)
        _plan(terminal, {**given, "output": _plan_beside(out, plan)})
        return
    from prunecvt.api import slim as slim_model

    with terminal.progress() as progress:
        result = slim_model(model, out, plan=plan, progress=progress, **options_of(given))
    conclude(result, terminal, None if format == "text" else render)


def plan(
    context: typer.Context,
    model: flags.Input,
    output: flags.Output = None,
    ratio: flags.Ratio = None,
    target: flags.Target = "",
    judge: flags.Judge = "onnxruntime",
    threshold: flags.Threshold = None,
    criterion: flags.Criterion = "auto",
    scope: flags.Scope = "auto",
    ratio_of: flags.RatioOf = None,
    round_to: flags.RoundTo = "auto",
    min_channels: flags.MinChannels = 1,
    max_ratio: flags.MaxRatio = 0.9,
    keep: flags.Keep = None,
    only: flags.Only = None,
    attention_unit: flags.AttentionUnit = "head",
    grouped_unit: flags.GroupedUnit = "channel",
    allow_inexact: flags.AllowInexact = False,
    recover: flags.Recover = "auto",
    fold_bn: flags.FoldBn = True,
    force: flags.Force = False,
    json: flags.Json = False,
    input_shape: flags.InputShapes = None,
    calib: flags.Calib = None,
    calib_count: flags.CalibCount = None,
    noise: flags.Noise = False,
    resize: flags.Resize = None,
    crop: flags.Crop = None,
    scale: flags.Scale = None,
    mean: flags.Mean = None,
    std: flags.Std = None,
    layout: flags.Layout = "auto",
    color: flags.Color = "auto",
    allow_nonfinite: flags.Nonfinite = False,
    threads: flags.Threads = 1,
    seed: flags.Seed = 0,
    max_memory: flags.MaxMemory = None,
    quiet: flags.Quiet = False,
    verbose: flags.Verbose = 0,
    no_color: flags.NoColor = False,
    config: flags.Config = None,
    debug: flags.Debug = False,
) -> None:
    """Decide which channels go and write the plan, without touching the model."""
    given = strongest(context, locals())
    _refuse_idle_recovery(context, given)
    _plan(Terminal.of(quiet or json, verbose, no_color), given)


def conclude(
    result: Result, terminal: Terminal, render: Callable[[Report], str] | None = None
) -> None:
    """Says what a run gave and wrote; ``render`` makes what goes to stdout beside that.

    Raises:
        GateError: E601, a gate was missed; everything is written by then.
    """
    from prunecvt.report.tables import summary_table

    terminal.show(summary_table(result.report))
    for path in reversed(result.paths.all if result.paths else []):
        terminal.show(f"wrote {path}")
    if render is not None:
        write(render(result.report))
    _pass_gates(result.report)


def _pass_gates(report: Report) -> None:
    from prunecvt.report.wording import gate_value

    missed = [gate for gate in report.gates if not gate.passed]
    if missed:
        raise _missed("; ".join(f"{gate.expr}: missed ({gate_value(gate)})" for gate in missed))


def _missed(what: str) -> Exception:
    from prunecvt.errors import GateError

    return GateError("E601", what, help="the output was written all the same; see docs/errors.md")


_RENAMED = {"max_ratio": "max_ratio_per_layer"}
_CUTS = (
    *("ratio", "target", "judge", "threshold", "criterion", "scope", "ratio_of", "round_to"),
    *("min_channels", "max_ratio", "keep", "only"),
    *("attention_unit", "grouped_unit", "allow_inexact"),
)
_DECIDES = (
    *_CUTS,
    *("recover", "passes", "fold_bn", "ir", "fp16", "bench", "force", "fail_if", "strict_layout"),
    "reinit",
    *("calib", "verify", "rtol", "atol", "allow_nonfinite"),
    *("report", "threads", "seed", "timeout", "clean", "static_batch"),
    *("calib_count", "noise", "eval", "resize", "crop", "scale", "mean", "std", "layout", "color"),
)


def _refuse_beside_plan(context: typer.Context) -> None:
    """A plan decides everything: flags that would decide something are refused beside it."""
    from prunecvt.errors import UsageError

    for name in _CUTS:
        if _stated(context, name):
            raise UsageError(
                "E207",
                f"--{_RENAMED.get(name, name).replace('_', '-')} says nothing beside --plan",
                help="leave it out, or make another plan with 'prunecvt plan'",
            )


def _stated(context: typer.Context, name: str) -> bool:
    """Whether a flag stands on the command line; what a file says holds for many commands."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _refuse_idle_recovery(context: typer.Context, given: dict[str, Any]) -> None:
    """A plan holds no weights: how they are won back is only looked at by trials."""
    from prunecvt.errors import UsageError
    from prunecvt_passes.target import parse_target

    tried = bool(given["target"]) and parse_target(given["target"]).currency == "agreement"
    if _stated(context, "recover") and given["recover"] not in ("auto", "none") and not tried:
        message = f"--recover {given['recover']} says nothing of a plan, which holds no weights"
        raise UsageError(
            "E207", message, help="leave it out, and give it where the plan is applied"
        )


def _refuse_beside_dry_run(context: typer.Context, given: dict[str, Any]) -> None:
    """A gate looks at a report, and a dry run makes none; nor is there a model to judge."""
    from prunecvt.errors import UsageError

    _refuse_idle_recovery(context, given)
    for name in ("eval", "report", "passes", "static_batch"):
        if _stated(context, name):
            flag = {"passes": "pass"}.get(name, name).replace("_", "-")
            message = f"--{flag} is for a model that is written, and --dry-run writes none"
            raise UsageError("E207", message, help="leave one of them out")

    for name in ("fail_if", "strict_layout"):
        if given[name]:
            flag = name.replace("_", "-")
            message = f"--{flag} looks at a report, and --dry-run makes none"
            raise UsageError("E207", message, help="leave one of them out")
    if given["reinit"]:
        message = "--reinit draws weights anew, and --dry-run writes none"
        raise UsageError("E207", message, help="leave one of them out")


def options_of(given: dict[str, Any]) -> dict[str, Any]:
    """The API's options from a command's flags."""
    from prunecvt.commands import texts

    found = {_RENAMED.get(name, name): given[name] for name in _DECIDES if name in given}
    for name in ("keep", "only", "passes", "report", "fail_if"):
        if name in found:
            found[name] = tuple(found[name] or ())
    if "round_to" in found:
        found["round_to"] = texts.multiple(found["round_to"])
    if "ratio_of" in found:
        found["ratio_of"] = texts.ratios(found["ratio_of"] or [])
    found["input_shape"] = texts.input_shapes(given.get("input_shape") or [])
    found["max_memory"] = texts.byte_count(given.get("max_memory"))
    return found


def _plan(terminal: Terminal, given: dict[str, Any]) -> None:
    from prunecvt.api import plan as plan_model
    from prunecvt.options import Options
    from prunecvt.report.tables import plan_table
    from prunecvt.report.wording import target_line
    from prunecvt.writing.write import check_targets, from_bytes, write_set

    model: Path = given["model"]
    out = given["output"] or model.parent / f"{model.stem}_slim.plan.json"
    options = options_of(given)
    Options.of(options)  # what is wrong with them comes before what is wrong with files
    check_targets([out], inputs=[model], force=given["force"])
    planned = plan_model(model, **options)
    text = planned.plan.to_json()
    write_set([from_bytes(out, text.encode())], inputs=[model], force=given["force"])
    if given["json"]:
        write(text)
    else:
        terminal.show(plan_table(planned.groups, planned.skipped, planned.before, planned.after))
        if planned.target is not None:
            terminal.show(target_line(planned.target))
        terminal.show(f"wrote {out}")
    if planned.target is not None and not planned.target.met:
        raise _missed(target_line(planned.target))


def _plan_beside(out: Path, replayed: Path | None) -> Path:
    """Where a dry run writes its plan: named after the model that it does not write."""
    from prunecvt.errors import UsageError
    from prunecvt.options import Options
    from prunecvt.paths import Paths

    if replayed is not None:
        raise UsageError(
            "E207",
            "--dry-run makes a plan, and --plan gives one",
            help="leave one of them out",
        )
    Paths.beside(out, Options())  # refuses an output of another ending
    return out.with_suffix(".plan.json")
