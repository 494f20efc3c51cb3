"""The flags, each once: a command names the ones it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from prunecvt.commands.configured import read_settings
from prunecvt_passes.criteria.table import CRITERIA, DATA_FREE

_CUT, _CHECK, _OUT, _RUN = "What to cut", "What to check", "What to write", "How to run"

Input = Annotated[Path, typer.Argument(help="The ONNX model.", show_default=False)]
Output = Annotated[
    Optional[Path],
    typer.Option(
        "--output", "-o", help="Where to write; beside the input by default.", rich_help_panel=_OUT
    ),
]
Ratio = Annotated[
    Optional[float],
    typer.Option(
        help="Share of the channels of prunable groups that goes; 0.4 by default.",
        show_default=False,
        rich_help_panel=_CUT,
    ),
]
Target = Annotated[
    str,
    typer.Option(
        help="Instead of a ratio what may be left: macs=0.5, params=0.5, bytes=4MB; or what is to "
        "be reached: speedup=2.0, latency=0.5, latency=3.5ms, agreement=0.99.",
        show_default=False,
        rich_help_panel=_CUT,
    ),
]
Judge = Annotated[
    str,
    typer.Option(
        help="Of a target of speed: onnxruntime, openvino, or both, of which the slower counts.",
        rich_help_panel=_CUT,
    ),
]
Criterion = Annotated[
    str,
    typer.Option(
        help=f"How channels are scored: auto, {', '.join(DATA_FREE)}; with --calib or --noise also "
        f"{', '.join(name for name in CRITERIA if name not in DATA_FREE)}. "
        f"Of these {' and '.join(name for name in CRITERIA if CRITERIA[name].loss)} need torch.",
        rich_help_panel=_CUT,
    ),
]
Scope = Annotated[
    str,
    typer.Option(
        help="How layers share the cut. layer: the same ratio everywhere; global: one threshold "
        "over all scores; erk, lamp: by the weights; error: where it costs least; search: by "
        "trying out on data. auto: error under a --target, else layer.",
        rich_help_panel=_CUT,
    ),
]
Threshold = Annotated[
    Optional[float],
    typer.Option(
        help="Instead of a ratio: channels that score less go (see inspect).",
        show_default=False,
        rich_help_panel=_CUT,
    ),
]
RatioOf = Annotated[
    Optional[list[str]],
    typer.Option(
        metavar="GLOB=RATIO",
        help="Ratio of the layers that a glob matches, whatever the others lose; repeatable.",
        rich_help_panel=_CUT,
    ),
]
RoundTo = Annotated[
    str,
    typer.Option(help="Multiple that widths are rounded up to; auto is 8.", rich_help_panel=_CUT),
]
MinChannels = Annotated[
    int, typer.Option(help="No group goes below it, unless it is smaller.", rich_help_panel=_CUT)
]
MaxRatio = Annotated[
    float,
    typer.Option(
        "--max-ratio-per-layer",
        help="No group loses a larger share, unless --ratio-of says so.",
        rich_help_panel=_CUT,
    ),
]
Keep = Annotated[
    Optional[list[str]],
    typer.Option(
        help="Node or tensor names (globs) that stay whole; repeatable.", rich_help_panel=_CUT
    ),
]
Only = Annotated[
    Optional[list[str]],
    typer.Option(help="Cut only what these globs match; repeatable.", rich_help_panel=_CUT),
]
AttentionUnit = Annotated[
    str,
    typer.Option(
        help="head: whole heads of an attention; channel: the same channels of every head.",
        rich_help_panel=_CUT,
    ),
]
GroupedUnit = Annotated[
    str,
    typer.Option(
        help="channel: as many channels of every group of a grouped convolution; group: whole "
        "groups.",
        rich_help_panel=_CUT,
    ),
]
AllowInexact = Annotated[
    bool,
    typer.Option(
        "--allow-inexact",
        help="Also cut what a normalisation works across; such groups are marked.",
        rich_help_panel=_CUT,
    ),
]
Recover = Annotated[
    str,
    typer.Option(
        help="How accuracy is won back with --calib or --noise: none, bias, moments, refit, auto.",
        rich_help_panel=_CUT,
    ),
]
Passes = Annotated[
    Optional[list[str]],
    typer.Option(
        "--pass", help="An installed pass to run after the cut; repeatable.", rich_help_panel=_CUT
    ),
]
PlanFile = Annotated[
    Optional[Path],
    typer.Option(
        "--plan",
        help="Replay this plan.json; recovery needs the data again.",
        rich_help_panel=_CUT,
    ),
]
FoldBn = Annotated[
    bool,
    typer.Option(
        "--fold-bn/--no-fold-bn",
        help="Fold BatchNormalization in the written model.",
        rich_help_panel=_OUT,
    ),
]
Clean = Annotated[
    str,
    typer.Option(
        help="auto: rewrite Slice, Gather and Pad of channels where weights can do the same and "
        "it is no slower; none: leave the graph as it was cut.",
        rich_help_panel=_OUT,
    ),
]
Reinit = Annotated[
    bool,
    typer.Option(
        "--reinit",
        help="Draw all weights anew by --seed, BatchNormalization kept: an architecture to train.",
        rich_help_panel=_OUT,
    ),
]
InputShapes = Annotated[
    Optional[list[str]],
    typer.Option(
        "--input-shape",
        "--input-shapes",
        help="NAME:1,3,224,224 for a dynamic input; repeatable.",
        rich_help_panel=_CHECK,
    ),
]
Calib = Annotated[
    Optional[Path],
    typer.Option(
        "--calib",
        "--check-inputs",
        help="Unlabelled inputs to score, recover, tune or check on: .npz or .npy, a folder of "
        "images, or a calib.toml.",
        rich_help_panel=_CHECK,
    ),
]
Noise = Annotated[
    bool,
    typer.Option(
        "--noise",
        help="Without data: score and recover on noise, matched to the model's BatchNormalization; "
        "512 samples, or fewer large ones, or --calib-count (4 or more).",
        rich_help_panel=_CHECK,
    ),
]
CalibCount = Annotated[
    Optional[int],
    typer.Option(
        help="Samples of the data, evenly spread; by default as many as a calib.toml says, or 1024 "
        "(tune: 4096, or what 512 MiB hold).",
        rich_help_panel=_CHECK,
    ),
]
Eval = Annotated[
    Optional[Path],
    typer.Option(
        help="Labelled data: top-1 and top-5 before and after. .npz with labels, a folder of class "
        "folders, or a list of images and classes.",
        rich_help_panel=_CHECK,
    ),
]
Resize = Annotated[
    Optional[str],
    typer.Option(
        help="Images: the shorter side, or HEIGHTxWIDTH, such as 256.", rich_help_panel=_CHECK
    ),
]
Crop = Annotated[
    Optional[str],
    typer.Option(help="Images: cut from the centre, such as 224.", rich_help_panel=_CHECK),
]
Scale = Annotated[
    Optional[float],
    typer.Option(help="Images: what pixels are divided by; 255.", rich_help_panel=_CHECK),
]
Mean = Annotated[
    Optional[str],
    typer.Option(help="Images: per channel, such as 0.485,0.456,0.406.", rich_help_panel=_CHECK),
]
Std = Annotated[
    Optional[str],
    typer.Option(help="Images: per channel, such as 0.229,0.224,0.225.", rich_help_panel=_CHECK),
]
Layout = Annotated[str, typer.Option(help="Images: auto, NCHW or NHWC.", rich_help_panel=_CHECK)]
Color = Annotated[str, typer.Option(help="Images: auto, grey, rgb or bgr.", rich_help_panel=_CHECK)]
Verify = Annotated[
    bool,
    typer.Option(
        "--verify/--no-verify", help="Check before anything is written.", rich_help_panel=_CHECK
    ),
]
Rtol = Annotated[
    float, typer.Option(help="Largest relative difference allowed.", rich_help_panel=_CHECK)
]
Atol = Annotated[
    float, typer.Option(help="Absolute difference that is always allowed.", rich_help_panel=_CHECK)
]
Nonfinite = Annotated[
    bool,
    typer.Option(
        "--allow-nonfinite", help="Take NaN and infinity among the weights.", rich_help_panel=_CHECK
    ),
]
Ir = Annotated[bool, typer.Option("--ir/--no-ir", help="Write OpenVINO IR.", rich_help_panel=_OUT)]
Fp16 = Annotated[
    bool, typer.Option("--fp16/--fp32", help="Precision of the IR's weights.", rich_help_panel=_OUT)
]
StaticBatch = Annotated[
    Optional[int],
    typer.Option(
        "--static-batch",
        metavar="[N]",
        help="Fix the IR's batch at N (1 where only the flag is given); ONNX keeps it open.",
        show_default=False,
        rich_help_panel=_OUT,
    ),
]
Bench = Annotated[
    bool, typer.Option("--bench/--no-bench", help="Measure latency.", rich_help_panel=_OUT)
]
ReportFiles = Annotated[
    Optional[list[Path]],
    typer.Option(
        "--report",
        help="Write the report here too: .json, .html or .md; repeatable.",
        rich_help_panel=_OUT,
    ),
]
FailIf = Annotated[
    Optional[list[str]],
    typer.Option(
        "--fail-if",
        metavar="EXPR",
        help="End with code 6 where it holds of the report, such as 'latency_ratio > 0.9'; "
        "repeatable.",
        rich_help_panel=_OUT,
    ),
]
StrictLayout = Annotated[
    bool,
    typer.Option(
        "--strict-layout",
        help="End with code 6 where a convolution leaves onnxruntime's blocked path.",
        rich_help_panel=_OUT,
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Replace existing files.", rich_help_panel=_OUT)
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Write only the plan; no model is checked, measured or written.",
        rich_help_panel=_OUT,
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json", help="The report as JSON on stdout, and nothing else.", rich_help_panel=_OUT
    ),
]
Format = Annotated[
    str,
    typer.Option(
        "--format",
        help="What stdout gets: text, json, md, html, github (annotations, and the job's summary), "
        "benchmark (for github-action-benchmark).",
        rich_help_panel=_OUT,
    ),
]
Config = Annotated[
    Optional[Path],
    typer.Option(
        "--config",
        is_eager=True,
        callback=read_settings,
        envvar="PRUNECVT_CONFIG",
        show_envvar=False,
        help="TOML file with flags; else prunecvt.toml, or tool.prunecvt of pyproject.toml.",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]
Threads = Annotated[int, typer.Option(help="Threads of the latency runs.", rich_help_panel=_RUN)]
Seed = Annotated[int, typer.Option(help="Of everything random.", rich_help_panel=_RUN)]
MaxMemory = Annotated[
    Optional[str],
    typer.Option(help="Most that file and weights may take, such as 4GB.", rich_help_panel=_RUN),
]
Timeout = Annotated[
    float, typer.Option(help="Seconds for OpenVINO's conversion.", rich_help_panel=_RUN)
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print nothing but errors.", rich_help_panel=_RUN)
]
Verbose = Annotated[
    int,
    typer.Option(
        "--verbose", "-v", count=True, help="Log passes; -vv logs more.", rich_help_panel=_RUN
    ),
]
NoColor = Annotated[bool, typer.Option("--no-color", help="Plain text.", rich_help_panel=_RUN)]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.", rich_help_panel=_RUN)]
Backend = Annotated[
    str,
    typer.Option(help="onnxruntime, openvino or both.", rich_help_panel=_RUN),
]
