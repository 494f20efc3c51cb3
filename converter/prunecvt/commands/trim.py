"""``prunecvt trim``: what the outputs do not depend on, and blocks and small weights if asked."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from prunecvt.commands import flags
from prunecvt.commands.documents import renderer
from prunecvt.commands.slim import conclude, options_of
from prunecvt.commands.terminal import Terminal

_CUT = "What to cut"
_Tolerance = Annotated[
    float,
    typer.Option(
        help="Filters, input channels, kernel borders, gammas and factors count as zero that hold "
        "nothing larger (BatchNormalization folded); 0 is exact.",
        rich_help_panel=_CUT,
    ),
]
_Blocks = Annotated[
    Optional[int],
    typer.Option(
        help="So many residual blocks go, those of least error for what they cost; needs --calib.",
        rich_help_panel=_CUT,
    ),
]
_Macs = Annotated[
    Optional[float],
    typer.Option(
        help="Instead: blocks go until this share of the MACs is left.", rich_help_panel=_CUT
    ),
]
_Price = Annotated[
    str,
    typer.Option(
        help="What a block costs: macs, or latency, measured in onnxruntime.", rich_help_panel=_CUT
    ),
]
_Sparsity = Annotated[
    float,
    typer.Option(
        help="Share of the weights set to zero, the smallest. No dense kernel gets faster by it; "
        "files compress better.",
        rich_help_panel=_CUT,
    ),
]
_SparsityScope = Annotated[
    str,
    typer.Option(help="layer: the same share everywhere; global: of all.", rich_help_panel=_CUT),
]
_Inexact = Annotated[
    bool,
    typer.Option(
        "--allow-inexact",
        help="Also take constant channels that are read with zero padding: off at the borders.",
        rich_help_panel=_CUT,
    ),
]


def trim(
    model: flags.Input,
    output: flags.Output = None,
    tolerance: _Tolerance = 0.0,
    blocks: _Blocks = None,
    macs: _Macs = None,
    price: _Price = "macs",
    sparsity: _Sparsity = 0.0,
    sparsity_scope: _SparsityScope = "layer",
    round_to: flags.RoundTo = "auto",
    min_channels: flags.MinChannels = 1,
    keep: flags.Keep = None,
    only: flags.Only = None,
    allow_inexact: _Inexact = False,
    fold_bn: flags.FoldBn = True,
    ir: flags.Ir = True,
    fp16: flags.Fp16 = False,
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
    """Remove what the outputs do not depend on: dead channels, dead branches, kernels of zeros."""
    given = locals()
    format = "json" if json else format
    terminal = Terminal.of(quiet or format not in ("text", "github"), verbose, no_color)
    render = renderer(format, terminal)
    from prunecvt.api import trim as trim_model

    out: Path = output or model.parent / f"{model.stem}_trim.onnx"
    with terminal.progress() as progress:
        result = trim_model(model, out, progress=progress, **_options(given))
    conclude(result, terminal, None if format == "text" else render)


def _options(given: dict[str, Any]) -> dict[str, Any]:
    """The API's options from the flags."""
    from prunecvt.trim_options import TrimOptions

    own = [each.name for each in fields(TrimOptions)]
    return {**options_of(given), **{name: given[name] for name in own}}
