"""``prunecvt tune``: a slimmed model learns from its original, without labels."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from prunecvt.commands import flags
from prunecvt.commands.documents import renderer
from prunecvt.commands.slim import conclude, options_of
from prunecvt.commands.terminal import Terminal

_LEARN, _RUN = "How to learn", "How to run"
_Original = Annotated[Path, typer.Argument(help="The original.", show_default=False)]
_Slim = Annotated[Path, typer.Argument(help="What was slimmed from it.", show_default=False)]
_Epochs = Annotated[
    Optional[float],
    typer.Option(help="Passes over the data; 30 by default.", rich_help_panel=_LEARN),
]
_Steps = Annotated[Optional[int], typer.Option(help="Or steps.", rich_help_panel=_LEARN)]
_Minutes = Annotated[
    Optional[float],
    typer.Option(help="Or minutes of CPU time; the first reached counts.", rich_help_panel=_LEARN),
]
_Batch = Annotated[int, typer.Option(help="Samples of a step.", rich_help_panel=_LEARN)]
_Optimiser = Annotated[str, typer.Option(help="adamw or sgd.", rich_help_panel=_LEARN)]
_Rate = Annotated[
    Optional[float],
    typer.Option(
        help="Highest learning rate; 0.005 for adamw (of each weight's size), 0.001 for sgd.",
        rich_help_panel=_LEARN,
    ),
]
_Decay = Annotated[float, typer.Option(help="Weight decay.", rich_help_panel=_LEARN)]
_Temperature = Annotated[float, typer.Option(help="That softens classes.", rich_help_panel=_LEARN)]
_Loss = Annotated[
    str,
    typer.Option(
        help="auto: scores of classes, and what a Softmax makes, are classes; values: numbers.",
        rich_help_panel=_LEARN,
    ),
]
_Hint = Annotated[
    float,
    typer.Option(help="Weight of inner activations; 0 leaves them out.", rich_help_panel=_LEARN),
]
_Layers = Annotated[
    Optional[list[str]],
    typer.Option(
        "--layer",
        help="Inner activations to compare (globs); repeatable. By default the sums that end "
        "residual blocks.",
        rich_help_panel=_LEARN,
    ),
]
_Norms = Annotated[
    str,
    typer.Option(
        help="Folded BatchNormalization is put back while training: where the original has it "
        "(original), behind all inner convolutions (all), or nowhere (none).",
        rich_help_panel=_LEARN,
    ),
]
_Augment = Annotated[
    Optional[str],
    typer.Option(
        help="Of flip, crop, noise, mixup, with commas: the original answers each anew.",
        rich_help_panel=_LEARN,
    ),
]
_Labels = Annotated[
    Optional[Path],
    typer.Option(
        help="Labelled data (as for --eval) to learn from, instead of --calib.",
        rich_help_panel=_LEARN,
    ),
]
_LabelWeight = Annotated[
    float, typer.Option(help="Share of cross-entropy then.", rich_help_panel=_LEARN)
]
_Holdout = Annotated[
    float, typer.Option(help="Share of the data to judge by.", rich_help_panel=_LEARN)
]
_Device = Annotated[str, typer.Option(help="auto, cpu or cuda.", rich_help_panel=_RUN)]
_Threads = Annotated[
    Optional[int], typer.Option(help="Of torch; all cores by default.", rich_help_panel=_RUN)
]
_Checkpoint = Annotated[
    float,
    typer.Option(help="Between two checkpoints (OUTPUT.tune.pt).", rich_help_panel=_RUN),
]
_Resume = Annotated[
    bool, typer.Option("--resume", help="Go on from the checkpoint.", rich_help_panel=_RUN)
]


def tune(
    original: _Original,
    slim: _Slim,
    output: flags.Output = None,
    calib: flags.Calib = None,
    calib_count: flags.CalibCount = None,
    labels: _Labels = None,
    label_weight: _LabelWeight = 0.5,
    augment: _Augment = None,
    epochs: _Epochs = None,
    steps: _Steps = None,
    minutes: _Minutes = None,
    batch: _Batch = 64,
    optimiser: _Optimiser = "adamw",
    rate: _Rate = None,
    decay: _Decay = 0.0,
    temperature: _Temperature = 4.0,
    loss: _Loss = "auto",
    hint: _Hint = 1.0,
    layers: _Layers = None,
    norms: _Norms = "original",
    holdout: _Holdout = 0.1,
    ir: flags.Ir = True,
    fp16: flags.Fp16 = False,
    bench: flags.Bench = False,
    report: flags.ReportFiles = None,
    fail_if: flags.FailIf = None,
    force: flags.Force = False,
    json: flags.Json = False,
    format: flags.Format = "text",
    input_shape: flags.InputShapes = None,
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
    device: _Device = "auto",
    threads: _Threads = None,
    checkpoint_minutes: _Checkpoint = 5.0,
    resume: _Resume = False,
    seed: flags.Seed = 0,
    max_memory: flags.MaxMemory = None,
    timeout: flags.Timeout = 600.0,
    quiet: flags.Quiet = False,
    verbose: flags.Verbose = 0,
    no_color: flags.NoColor = False,
    config: flags.Config = None,
    debug: flags.Debug = False,
) -> None:
    """Train a slimmed model to answer as its original does, without labels; needs torch."""
    given = locals()
    format = "json" if json else format
    terminal = Terminal.of(quiet or format not in ("text", "github"), verbose, no_color)
    render = renderer(format, terminal)
    from prunecvt.api import tune as tune_model

    out: Path = output or slim.parent / f"{slim.stem}_tuned.onnx"
    with terminal.progress(lines=True) as progress:
        result = tune_model(original, slim, out, progress=progress, **_options(given))
    if result is None:
        return
    conclude(result, terminal, None if format == "text" else render)


def _options(given: dict[str, Any]) -> dict[str, Any]:
    """The API's options from the flags."""
    from prunecvt.tune_options import TuneOptions

    own = [each.name for each in fields(TuneOptions)]
    return {**options_of(given), **{name: given[name] for name in own}}
