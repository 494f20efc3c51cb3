"""Does ``--target speedup=2.0`` end at 2.0? Measured again afterwards, in sessions of their own.

Each row: a net of ``nets.py`` with random weights (latency does not depend on them), a runtime,
what the search said after how many trials, what ``bench`` says of the written file, and CPU seconds
of the search with all that belongs to it (scores, cuts, files).

    python benchmarks/targets.py
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import onnx

import prunecvt
from nets import MODELS
from prunecvt.judging import bench_files

HEAD = "| net | runtime | target | MACs left | probes | search | measured again | off | CPU s |"


def row(path: Path, judge: str, target: str, folder: Path) -> str:
    """Searches, writes, and measures again."""
    out = folder / f"{path.stem}_{judge}.onnx"
    began = time.process_time()
    plan = prunecvt.plan(path, target=target, judge=judge)
    spent = time.process_time() - began
    quick = {"ir": False, "bench": False, "verify": False, "force": True}
    prunecvt.slim(path, out, plan=plan.plan, **quick)
    found = plan.target
    if found is None:
        raise SystemExit(f"{target} needs no search")
    _, ((latency,),) = bench_files([path, out], judge, {}, None)
    wanted = float(target.partition("=")[2])
    again = 1 / latency.ratio
    return (
        f"| {path.stem} | {judge} | {target} | {plan.after.macs / plan.before.macs:.3f} "
        f"| {len(found.probes)} | {found.value:.3f} | {again:.3f} "
        f"| {100 * (again / wanted - 1):+.1f} % | {spent:.1f} |"
    )


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", default="resnet18,resnet50,mobilenet_v2", help=", ".join(MODELS))
    parser.add_argument("--judges", default="onnxruntime,openvino")
    parser.add_argument("--target", default="speedup=2.0")
    options = parser.parse_args()
    print(f"{HEAD}\n|---|---|---|--:|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as name:
        for net in options.nets.split(","):
            path = Path(name) / f"{net}.onnx"
            onnx.save(MODELS[net](), path)
            for judge in options.judges.split(","):
                print(row(path, judge, options.target, Path(name)), flush=True)


if __name__ == "__main__":
    main()
