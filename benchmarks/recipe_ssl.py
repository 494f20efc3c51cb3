"""Structured Sparsity Learning (Wen et al., 2016): do whole structures go, at what loss and gain?

    python benchmarks/recipe_ssl.py                                     # digits, on the CPU
    python benchmarks/recipe_ssl.py --data cifar --shared DIR --device cuda

Trains with a group lasso over each kind of structure, and over all of them; trims what is zero,
measures the latency in onnxruntime on one thread of the CPU (``--no-bench`` leaves it out).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx

import prunecvt
import recipes
from prunecvt.bridge.methods.group_lasso import GroupLasso, Kind, count_zeros, find_structures
from prunecvt_passes.model import Model

# strengths that leave some and take some, in runs as short as these
STRENGTHS: dict[str, dict[Kind, float]] = {
    "digits": {"shape": 0.15, "channel": 0.3, "filter": 0.3, "depth": 2.5},
    "cifar": {"shape": 0.015, "channel": 0.03, "filter": 0.03, "depth": 0.25},
    "trained": {"shape": 0.05, "channel": 0.1, "filter": 0.1, "depth": 0.8},
}
HEADS = ("groups", "seed", "top-1 %", "zero groups %", "off after trim", "MACs %", "latency %")


def trimmed(model: Model, bench: bool) -> tuple[Model, float, float]:
    """The model without its zeros; MACs and, with widths in eights, latency left in percent."""
    result = prunecvt.trim(model.to_proto(), **recipes.QUIET)
    latency = float("nan")
    if bench:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trained.onnx"
            onnx.save(model.to_proto(), path)
            report = prunecvt.trim(path, Path(folder) / "trimmed.onnx", ir=False).report
        latency = 100 * report.latency[0].ratio
    return result.slimmed.model, 100 * result.report.totals.macs.ratio, latency


def case(
    setting: recipes.Setting, seed: int, strengths: dict[Kind, float], bench: bool
) -> list[float]:
    model = setting.fresh(seed)
    module = setting.module(model)
    found = find_structures(module, list(strengths)) if strengths else []
    hooks = [GroupLasso(found, strengths)] if strengths else []
    top1 = setting.learn(module, setting.timed(seed), hooks)
    counts = count_zeros(module, found).values()
    zeros = 100 * sum(zero for zero, _ in counts) / max(sum(total for _, total in counts), 1)
    if not strengths:
        return [top1, zeros, 0.0, 100.0, 100.0]
    small, macs, latency = trimmed(recipes.written(model, module), bench)
    return [top1, zeros, setting.top1(small) - top1, macs, latency]


def main() -> None:
    parser = recipes.parser(__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="times all strengths")
    parser.add_argument("--groups", help="one of the cases alone, beside none")
    parser.add_argument("--no-bench", action="store_true", help="leave latencies out")
    options = parser.parse_args()
    setting = recipes.setting(options)
    strengths = {k: v * options.scale for k, v in STRENGTHS[setting.data].items()}
    cases: dict[str, dict[Kind, float]] = {"none": {}}
    cases |= {kind: {kind: strength} for kind, strength in strengths.items()}
    cases["filter + channel"] = {k: v for k, v in strengths.items() if k in ("filter", "channel")}
    cases["all"] = {kind: strength / 2 for kind, strength in strengths.items()}
    if options.groups is not None:
        if options.groups not in cases:
            parser.error(f"--groups is one of {', '.join(cases)}")
        cases = {name: cases[name] for name in ("none", options.groups)}
    table = recipes.Table(HEADS)
    for name, chosen in cases.items():
        for seed in setting.seeds:
            table.add(name, seed, case(setting, seed, chosen, not options.no_bench))
    means = table.close()
    others = {name: row for name, row in means.items() if name != "none"}
    recipes.verdict(
        "every kind of structure gets exactly zero", all(row[1] > 0 for row in others.values())
    )
    recipes.verdict("trim changes no accuracy", all(abs(r[2]) < 0.02 for r in others.values()))
    lost = {name: means["none"][0] - row[0] for name, row in others.items()}
    listed = ", ".join(f"{name} {value:.1f}" for name, value in lost.items())
    recipes.verdict(f"accuracy drops little (points: {listed})", max(lost.values()) < 2)
    if not options.no_bench:
        best = float(np.nanmin([row[4] for row in others.values()]))
        recipes.verdict(f"latency falls (best case: {best:.0f} % is left)", best < 90)


if __name__ == "__main__":
    main()
