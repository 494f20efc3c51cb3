"""``prunecvt sweep``: one model, many amounts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from prunecvt.commands import flags
from prunecvt.commands.slim import options_of
from prunecvt.commands.terminal import Terminal, write

_Ratios = Annotated[
    str,
    typer.Option(help="Shares of the channels that go, such as 0.1,0.2,0.3.", show_default=True),
]
_Targets = Annotated[
    Optional[list[str]],
    typer.Option("--target", help="A target beside the ratios, as slim takes it; repeatable."),
]
_Folder = Annotated[
    Optional[Path],
    typer.Option("--output", "-o", help="Folder for models, reports, sweep.json and sweep.html."),
]
_Force = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Replace results of another model or other settings; those of the same are taken up "
        "either way.",
    ),
]
_Jobs = Annotated[int, typer.Option(help="Processes that slim at a time.")]


def sweep(
    model: flags.Input,
    output: _Folder = None,
    ratios: _Ratios = "0.1,0.2,0.3,0.4,0.5",
    targets: _Targets = None,
    jobs: _Jobs = 1,
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
    clean: flags.Clean = "auto",
    ir: flags.Ir = True,
    force: _Force = False,
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
    eval: flags.Eval = None,
    threads: flags.Threads = 1,
    seed: flags.Seed = 0,
    max_memory: flags.MaxMemory = None,
    quiet: flags.Quiet = False,
    verbose: flags.Verbose = 0,
    no_color: flags.NoColor = False,
    config: flags.Config = None,
    debug: flags.Debug = False,
) -> None:
    """Slim by many amounts, time all in one race, and mark what no other beats."""
    given = locals()
    terminal = Terminal.of(quiet or json, verbose, no_color)
    from prunecvt.commands.texts import numbers
    from prunecvt.report.tables import sweep_table
    from prunecvt.sweeping import amounts
    from prunecvt.sweeping import sweep as sweep_model

    folder = output or model.parent / f"{model.stem}_sweep"
    points = amounts(numbers("--ratios", ratios), targets or [])
    with terminal.progress(lines=True) as progress:
        found = sweep_model(model, folder, points, options_of(given), jobs=jobs, progress=progress)
    if json:
        write(found.model_dump_json(indent=1) + "\n")
        return
    terminal.show(sweep_table(found))
    for name in ("sweep.json", "sweep.html"):
        terminal.show(f"wrote {folder / name}")
