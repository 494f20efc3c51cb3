"""``prunecvt inspect``, ``prunecvt env``: look, and change nothing."""

from __future__ import annotations

import json as json_module
from dataclasses import asdict

from prunecvt.commands import flags
from prunecvt.commands.slim import options_of
from prunecvt.commands.terminal import Terminal, write


def inspect(
    model: flags.Input,
    criterion: flags.Criterion = "auto",
    attention_unit: flags.AttentionUnit = "head",
    grouped_unit: flags.GroupedUnit = "channel",
    allow_inexact: flags.AllowInexact = False,
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
    seed: flags.Seed = 0,
    max_memory: flags.MaxMemory = None,
    quiet: flags.Quiet = False,
    verbose: flags.Verbose = 0,
    no_color: flags.NoColor = False,
    config: flags.Config = None,
    debug: flags.Debug = False,
) -> None:
    """Show what can be cut, and what cannot and why."""
    given = locals()
    terminal = Terminal.of(quiet or json, verbose, no_color)
    from prunecvt.api import inspect as inspect_model
    from prunecvt.report.tables import groups_table
    from prunecvt.report.wording import count

    found = inspect_model(model, **options_of(given))
    if json:
        document = {
            "schema_version": 1,
            "path": model.name,
            "opset": found.opset,
            "ios": [port.model_dump() for port in found.ports],
            "criterion": found.criterion,
            **asdict(found.cost),
            "groups": [row.model_dump() for row in found.groups],
            "skipped": [row.model_dump() for row in found.skipped],
        }
        write(json_module.dumps(document, indent=1, sort_keys=True) + "\n")
        return
    cost = f"{count(found.cost.params)} parameters, {count(found.cost.macs)} MACs"
    terminal.show(f"{model.name}: opset {found.opset}, {cost}; scores by {found.criterion}")
    terminal.show(groups_table(found.groups, found.skipped))


def env() -> None:
    """Print versions, CPU and instruction sets as JSON."""
    from prunecvt.runtimes.environment import describe

    write(json_module.dumps(describe().model_dump(mode="json"), indent=1, sort_keys=True) + "\n")
