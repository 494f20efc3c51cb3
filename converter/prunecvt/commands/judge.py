"""``prunecvt verify``, ``prunecvt bench``, ``prunecvt convert``: work on models as they are."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from prunecvt.commands import flags
from prunecvt.commands.slim import options_of
from prunecvt.commands.terminal import Terminal, write

_Models = Annotated[
    list[Path], typer.Argument(help="ONNX models (or IR .xml after the first).", show_default=False)
]
_Slimmed = Annotated[Path, typer.Argument(help="The slimmed model.", show_default=False)]


def verify(
    model: flags.Input,
    slimmed: _Slimmed,
    plan: flags.PlanFile = None,
    json: flags.Json = False,
    input_shape: flags.InputShapes = None,
    calib: flags.Calib = None,
    calib_count: flags.CalibCount = None,
    resize: flags.Resize = None,
    crop: flags.Crop = None,
    scale: flags.Scale = None,
    mean: flags.Mean = None,
    std: flags.Std = None,
    layout: flags.Layout = "auto",
    color: flags.Color = "auto",
    rtol: flags.Rtol = 1e-4,
    atol: flags.Atol = 0.0,
    ir: flags.Ir = True,
    allow_nonfinite: flags.Nonfinite = False,
    max_memory: flags.MaxMemory = None,
    timeout: flags.Timeout = 600.0,
    seed: flags.Seed = 0,
    quiet: flags.Quiet = False,
    verbose: flags.Verbose = 0,
    no_color: flags.NoColor = False,
    config: flags.Config = None,
    debug: flags.Debug = False,
) -> None:
    """Check a slimmed model against its original: inputs and outputs, oracle, drift, OpenVINO."""
    given = locals()
    terminal = Terminal.of(quiet or json, verbose, no_color)
    from prunecvt.judging import verify_files
    from prunecvt.report.wording import checks, drift

    beside = slimmed.with_suffix(".plan.json")
    found = verify_files(
        model, slimmed, plan or (beside if beside.exists() else None), options_of(given)
    )
    if json:
        write(found.model_dump_json(indent=1) + "\n")
        return
    for check in checks(found):
        terminal.show(f"{check.name}: {check.outcome}  {check.detail}".rstrip())
    if found.fidelity is not None:
        for name, value in drift(found.fidelity):
            terminal.show(f"{name}: {value}")
        for note in found.fidelity.notes:
            terminal.show(f"note: {note}")


def bench(
    models: _Models,
    backend: flags.Backend = "both",
    threads: flags.Threads = 1,
    json: flags.Json = False,
    input_shape: flags.InputShapes = None,
    allow_nonfinite: flags.Nonfinite = False,
    max_memory: flags.MaxMemory = None,
    seed: flags.Seed = 0,
    quiet: flags.Quiet = False,
    verbose: flags.Verbose = 0,
    no_color: flags.NoColor = False,
    config: flags.Config = None,
    debug: flags.Debug = False,
) -> None:
    """Time models against the first one, round by round, in onnxruntime and OpenVINO."""
    given = locals()
    terminal = Terminal.of(quiet or json, verbose, no_color)
    from prunecvt.judging import bench_files
    from prunecvt.report.tables import bench_table

    with terminal.progress() as progress:
        names, rows = bench_files(models, backend, options_of(given), progress)
    if json:
        document = [
            {"name": name, "latency": [row.model_dump(mode="json") for row in found]}
            for name, found in zip(names[1:] or names, rows, strict=True)
        ]
        write(json_module.dumps(document, indent=1, sort_keys=True) + "\n")
        return
    terminal.show(bench_table(names, rows))


def convert(
    model: flags.Input,
    output: flags.Output = None,
    fp16: flags.Fp16 = False,
    static_batch: flags.StaticBatch = None,
    force: flags.Force = False,
    timeout: flags.Timeout = 600.0,
    quiet: flags.Quiet = False,
    verbose: flags.Verbose = 0,
    no_color: flags.NoColor = False,
    config: flags.Config = None,
    debug: flags.Debug = False,
) -> None:
    """Convert an ONNX model to OpenVINO IR as it is; FP32 unless asked."""
    terminal = Terminal.of(quiet, verbose, no_color)
    from prunecvt.judging import convert_file

    out = output or model.with_suffix(".xml")
    written, notes = convert_file(model, out, fp16, force, timeout, batch=static_batch)
    for note in notes:
        terminal.show(f"note: {note}")
    for path in written:
        terminal.show(f"wrote {path}")
