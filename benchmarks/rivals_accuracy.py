"""Top-1 of trained classifiers that Torch-Pruning and onnxsim cut to a share of their MACs.

The same models and count of MACs as ``accuracy.py`` has. Each tool's ratio is bisected: the MACs
left are at most the goal and as near to it as a ratio gets. Torch-Pruning gets torch modules with
the weights of the ONNX files and is told how a zero-padded shortcut loses channels: what it traces
of one by itself is a cut that does not run. Scope ``inner``: widths inside one block; ``all``: the
residual stream too. Re-estimated on pictures without labels, plain and (CIFAR) augmented as in
training: the row has what does better on the test images, which flatters the tool, and names the
other. Seconds: one cut and one re-estimation, without the search for the ratio.

    python benchmarks/rivals_accuracy.py --shared ../shared
"""

from __future__ import annotations

import argparse
import importlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from rival_case import Case, Way, read

T = TypeVar("T")
MODELS = "cifar10_resnet20.tsbn,cifar10_resnet56.tsbn,imagenet_mobilenet_v2.tsbn"
SHARES = {"cifar10": "0.7,0.5,0.4", "imagenet": "0.8,0.7"}
TOOLS = {  # module of this folder, what it needs
    "torch-pruning": ("torch_rival", ("torch", "torch_pruning")),
    "onnxsim": ("onnxsim_rival", ("onnxsim",)),
}
INSTALL = {
    "torch": "pip install torch==2.13.0",
    "torch_pruning": "pip install --no-deps torch-pruning==1.6.1",
    "onnxsim": "pip install --no-deps onnxsim==0.8.1",
}
HEAD = "| model | tool | criterion | scope | re-estimated | MACs left | top-1 | seconds |"


def ways(case: Case, options: argparse.Namespace) -> Iterator[Way[Any]]:
    """Every setting of every tool, of which one of ``--only`` is a part."""
    for tool in options.tools:
        for way in importlib.import_module(TOOLS[tool][0]).ways(case):
            if any(text in " | ".join(way.cells) for text in options.only):
                yield way


def rows(case: Case, way: Way[T], share: float) -> Iterator[str]:
    """The lines of one setting: as cut, and with BatchNormalization estimated anew."""
    start = f"| {case.name} | {' | '.join(way.cells)}"
    ratio = way.ratio(share * case.macs)
    if ratio is None:
        yield f"{start} | | {share} out of reach | | |"
        return
    began = time.perf_counter()
    model = way.cut(ratio)
    spent = time.perf_counter() - began
    left = way.macs(model) / case.macs
    top1 = case.top1(way.answers(model))
    yield f"{start} | no | {left:.3f} | {top1:.2f} | {spent:.1f} |"
    found: dict[str, tuple[float, float]] = {}
    for name, remedy in way.remedies.items():
        began = time.perf_counter()
        better = remedy(model)
        seconds = spent + time.perf_counter() - began
        found[name] = case.top1(way.answers(better)), seconds
    best = max(found, key=lambda name: found[name][0])
    others = "".join(f" ({name}: {found[name][0]:.2f})" for name in found if name != best)
    yield f"{start} | {best}{others} | {left:.3f} | {found[best][0]:.2f} | {found[best][1]:.1f} |"


def check_installed(tools: list[str]) -> None:
    """Ends the run with what to install where a package is missing."""
    for package in (package for tool in tools for package in TOOLS[tool][1]):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise SystemExit(f"{package}: {error}. To install it: {INSTALL[package]}") from None


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--macs", help="shares; 0.7,0.5,0.4 for CIFAR-10, 0.8,0.7 for ImageNet")
    parser.add_argument("--tools", nargs="+", choices=sorted(TOOLS), default=list(TOOLS))
    parser.add_argument("--only", nargs="+", default=[""], help="such as inner 'Wanda | global'")
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--tests", type=int, default=10000)
    options = parser.parse_args()
    check_installed(options.tools)
    print(f"{HEAD}\n|---|---|---|---|---|--:|--:|--:|")
    for name in options.models.split(","):
        case = read(options.shared, name, options.images, options.tests)
        shares = options.macs or SHARES[name.split("_")[0]]
        for share in map(float, shares.split(",")):
            for way in ways(case, options):
                for row in rows(case, way, share):
                    print(row, flush=True)


if __name__ == "__main__":
    main()
