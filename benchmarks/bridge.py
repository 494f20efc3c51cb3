"""Takes every ONNX file of folders to torch and back, and prints how far the outputs are apart.

    python benchmarks/bridge.py FOLDER ... > table.md

Exits with 1 where a file that is not refused differs by more than 1e-5 of its outputs' scale, and
by more than twice what onnxruntime's own outputs move by where the inputs do by a last place.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import prunecvt
from prunecvt.bridge import to_module, with_weights
from prunecvt.loading.load import load
from prunecvt.writing.serialize import serialize_onnx
from prunecvt_passes import oracle, runtime
from prunecvt_passes.errors import PrunecvtError
from prunecvt_passes.model import Array, Model
from prunecvt_passes.samples import dimensions, graph_inputs, probes, random_inputs

GOAL = 1e-5
HEADS = ("file", "weights", "batch 1", "batch 3", "last place", "after training", "gradients", "s")


def feeds(model: Model, batch: int) -> dict[str, Array]:
    """Random inputs of a batch, where it is open, at the first sizes that the model runs at."""
    for sizes, _ in probes(model, {}):
        shapes = {}
        for value in graph_inputs(model):
            shape, declared = sizes[value.name], dimensions(value) or ()
            opened = len(declared) > 1 and not isinstance(declared[0], int)
            shapes[value.name] = (batch, *shape[1:]) if opened else shape
        inputs = random_inputs(model, shapes, seed=batch)
        try:
            runtime.run(model, inputs)
        except PrunecvtError:
            continue
        return inputs
    raise prunecvt.UnsupportedError("E402", "no size was found at which it runs")


def outputs(module: Any, inputs: dict[str, Array]) -> dict[str, Array]:
    with torch.no_grad():
        given = {name: torch.from_numpy(values) for name, values in inputs.items()}
        return {name: value.numpy() for name, value in module(given).items()}


def apart(model: Model, module: Any, inputs: dict[str, Array]) -> float:
    return oracle.difference(runtime.run(model, inputs), outputs(module, inputs)).relative


def last_place(model: Model, inputs: dict[str, Array]) -> float:
    """How far onnxruntime's own outputs move where the inputs do by a last place of float32."""
    rng = np.random.default_rng(0)
    moved = dict(inputs)
    for name, values in inputs.items():
        if values.dtype.kind == "f":
            ends = np.array([-np.inf, np.inf], values.dtype)  # of its own type: else nothing moves
            moved[name] = np.nextafter(values, rng.choice(ends, values.shape))
    return oracle.difference(runtime.run(model, inputs), runtime.run(model, moved)).relative


def train(module: Any, inputs: dict[str, Array]) -> tuple[int, int]:
    """One backward run in training mode, then every weight moved a little, with the statistics.

    Returns:
        How many parameters got a gradient, and how many there are.
    """
    module.train()
    given = {
        name: torch.from_numpy(np.concatenate([values] * 2) if values.ndim else values)
        for name, values in inputs.items()
    }
    made = module(given)
    sum(value.double().square().mean() for value in made.values() if value.requires_grad).backward()
    reached = [p.grad is not None and bool(p.grad.isfinite().all()) for p in module.parameters()]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.mul_(1 + 0.01 * noise.to(parameter.dtype))
    return sum(reached), len(reached)


def row(path: Path) -> tuple[list[str], bool]:
    """A line of the table, and whether all is well."""
    started = time.perf_counter()
    model = load(path)
    module = to_module(model, train=True).eval()
    inputs, three = feeds(model, 1), feeds(model, 3)
    opened = any(values.shape != three[name].shape for name, values in inputs.items())
    found = [apart(model, module, inputs), apart(model, module, three)]
    same = serialize_onnx(with_weights(model, module)) == serialize_onnx(model)
    off = max(last_place(model, each) for each in (inputs, three)) if max(found) > GOAL else 0.0
    reached, count = train(module, inputs)
    found.append(apart(with_weights(model, module), module.eval(), inputs))
    fine = same and reached == count and max(found) <= max(GOAL, 2 * off)
    cells = [
        path.name.removesuffix(".onnx"),
        f"{sum(p.numel() for p in module.parameters()):,}",
        f"{found[0]:.0e}",
        f"{found[1]:.0e}" if opened else "fixed",
        f"{off:.0e}" if off else "",
        f"{found[2]:.0e}" if same else "bytes differ",
        f"{reached} of {count}",
        f"{time.perf_counter() - started:.1f}",
    ]
    return cells, fine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--files", default="*.onnx", help="pattern of file names")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"| {' | '.join(HEADS)} |\n|{'---|' * len(HEADS)}", flush=True)
    failed, refused = [], []
    for path in sorted(p for folder in options.folders for p in folder.glob(options.files)):
        try:
            cells, fine = row(path)
        except PrunecvtError as error:
            refused.append(f"- {path.stem}: {error.code} {error.message}")
            continue
        print(f"| {' | '.join(cells)} |", flush=True)
        if not fine:
            failed.append(path.stem)
    print("\nRefused:\n\n" + "\n".join(refused or ["- none"]))
    print(f"\n{len(failed)} failed{': ' if failed else ''}{', '.join(failed)}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
