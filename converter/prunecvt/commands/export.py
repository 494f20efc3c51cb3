"""``prunecvt export``: a torch module as an ONNX file, checked against torch."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated, Optional

import typer

from prunecvt.commands import flags
from prunecvt.commands.terminal import Terminal, stdout_on_stderr, write

_Factory = Annotated[
    str,
    typer.Argument(
        metavar="PACKAGE.MODULE:NAME",
        help="A torch.nn.Module, or a function that makes one.",
        show_default=False,
    ),
]
_Shapes = Annotated[
    list[str],
    typer.Option(
        "--shape",
        help="1,3,224,224 or NAME:1,3,224,224, the batch first; once for each input, in order.",
        show_default=False,
    ),
]
_Output = Annotated[
    Optional[Path],
    typer.Option("--output", "--out", "-o", help="Where to write; NAME.onnx by default."),
]
_Exporter = Annotated[
    str,
    typer.Option(
        help="torchscript, dynamo, or auto: the second where the first or its check fails."
    ),
]
_Opset = Annotated[
    Optional[int],
    typer.Option(help="Version of the operator set; the exporter's usual one by default."),
]


def export(
    factory: _Factory,
    shape: _Shapes,
    output: _Output = None,
    exporter: _Exporter = "auto",
    opset: _Opset = None,
    force: flags.Force = False,
    rtol: flags.Rtol = 1e-4,
    seed: flags.Seed = 0,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
    verbose: flags.Verbose = 0,
    no_color: flags.NoColor = False,
    config: flags.Config = None,
    debug: flags.Debug = False,
) -> None:
    """Export a torch module to ONNX, BatchNormalization kept, and check it against torch."""
    terminal = Terminal.of(quiet or json, verbose, no_color)
    from prunecvt.bridge.export import export as export_module

    out = output or Path(f"{factory.rpartition(':')[2].rpartition('.')[2]}.onnx")
    options = {"exporter": exporter, "opset": opset, "force": force, "seed": seed, "rtol": rtol}
    with stdout_on_stderr():  # stdout is for what the command says, not for what others' code does
        done = export_module(factory, out, shapes=shape, **options)
    if json:
        document = {
            "schema_version": 1,
            "path": str(done.path),
            "exporter": done.exporter,
            "opset": {o.domain: o.version for o in done.model.proto.opset_import},
            "batch_norms": done.batch_norms,
            "max_rel": {str(b): gap.relative for b, gap in done.differences.items()},
            "max_abs": {str(b): gap.absolute for b, gap in done.differences.items()},
        }
        write(json_module.dumps(document, indent=1, sort_keys=True) + "\n")
        return
    terminal.show(f"{done.exporter}: {done.batch_norms} BatchNormalization nodes")
    for batch, gap in done.differences.items():
        terminal.show(
            f"batch {batch}: differs from torch by at most {gap.absolute:.1e}, "
            f"{gap.relative:.1e} of the output's scale"
        )
    terminal.show(f"wrote {done.path}")
