"""How long slimming takes, and how much memory, stage by stage.

Every measurement runs in a process of its own, so that its peak memory is its own.

    python benchmarks/speed.py
    python benchmarks/speed.py --against --models densenet201 resnet50
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import onnx

from nets import MODELS

T = TypeVar("T")
Times = dict[str, float]
NOT_STAGES = ("cpu", "left", "peak", "before")
RATIO = 0.4
_LIMIT = 600  # seconds a measurement may take
TOOLS = ("prunecvt", "torch-pruning", "onnxsim simplify", "onnxsim prune")


def peak() -> float:
    """Largest resident size of this process so far, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss counts the parent's pages too, from before exec
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(times: Times, stage: str, function: Callable[..., T], *given: object) -> T:
    """Calls ``function`` and notes the seconds, of the clock and (in sum) of the processor."""
    start, worked = time.perf_counter(), time.process_time()
    made = function(*given)
    times[stage] = time.perf_counter() - start
    if stage != "load":
        times["cpu"] = times.get("cpu", 0.0) + time.process_time() - worked
    return made


def ours(path: Path) -> Times:
    """Seconds per pass of the pipeline that ``slim`` runs, and what is left of the parameters."""
    from prunecvt_passes import pipeline
    from prunecvt_passes.budget import Budget
    from prunecvt_passes.cost import parameters
    from prunecvt_passes.criteria.statistics import NO_STATISTICS
    from prunecvt_passes.model import Model
    from prunecvt_passes.normalise import Source
    from prunecvt_passes.recipes import ANALYSE, CUT, DECIDE
    from prunecvt_passes.recovery.curve import NO_CURVES
    from prunecvt_passes.score import Criterion
    from prunecvt_passes.units import Units

    times: Times = {"before": peak()}
    model = timed(times, "load", lambda: Model.take(onnx.load(path)))
    facts = pipeline.Facts()
    budget = Budget(RATIO, round_to=1)
    for fact in (Source(model), Units(), Criterion(), NO_CURVES, NO_STATISTICS, budget):
        facts.put(fact)
    worked = time.process_time()
    pipeline.run((*ANALYSE, *DECIDE, *CUT), facts)
    times["cpu"] = time.process_time() - worked
    times.update({step.name: step.seconds for step in facts.timings if step.name != "draft"})
    times["left"] = parameters(facts.get(Model)) / parameters(model)
    return times


def _torch_pruning(name: str) -> Times:
    from rivals import torch_pruning

    times: Times = torch_pruning(name, RATIO)
    return times


def _onnxsim(prune: bool, path: Path) -> Times:
    from rivals import onnxsim_prune, onnxsim_simplify

    times: Times = onnxsim_prune(path, RATIO) if prune else onnxsim_simplify(path)
    return times


def child(tool: str, name: str, path: Path) -> None:
    """Measures one tool on one model in this process and prints what it found."""
    if tool == "build":
        onnx.save(MODELS[name](), path)
        return
    runs: dict[str, Callable[[], Times]] = {
        "prunecvt": lambda: ours(path),
        "torch-pruning": lambda: _torch_pruning(name),
        "onnxsim simplify": lambda: _onnxsim(False, path),
        "onnxsim prune": lambda: _onnxsim(True, path),
    }
    try:
        times = runs[tool]()
    except ImportError as error:
        print(json.dumps({"missing": str(error)}))
        return
    print(json.dumps({**times, "peak": peak()}))


def measure(tool: str, name: str, path: Path) -> dict[str, float | str]:
    """Runs ``child`` in a fresh process."""
    command = [sys.executable, __file__, "--child", tool, name, str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return {"missing": f"stopped after {_LIMIT} s"}
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
        return {"missing": said[-1][:120]}
    found: dict[str, float | str] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def best(tool: str, name: str, path: Path, repeats: int) -> dict[str, float | str]:
    """The run with the least total of ``repeats``."""
    runs = [measure(tool, name, path) for _ in range(repeats)]
    return min(runs, key=lambda run: seconds(run) if "missing" not in run else float("inf"))


def seconds(run: dict[str, float | str]) -> float:
    """Total of the stages of a run, loading left out."""
    return sum(float(value) for key, value in run.items() if key not in (*NOT_STAGES, "load"))


def row(name: str, tool: str, run: dict[str, float | str]) -> str:
    """One line of the table."""
    if "missing" in run:
        return f"| {name} | {tool} | | | skipped: {run['missing']} | | | |"
    spent = ", ".join(f"{k} {float(v):.3f}" for k, v in run.items() if k not in NOT_STAGES)
    left = f"{float(run['left']):.3f}" if "left" in run else ""
    extra = float(run["peak"]) - float(run["before"])
    return (
        f"| {name} | {tool} | {seconds(run):.3f} | {float(run['cpu']):.3f} | {spent} "
        f"| {float(run['peak']):.0f} | {extra:.0f} | {left} |"
    )


def main() -> None:
    """Parses the command line and prints a markdown table."""
    parser = argparse.ArgumentParser(description="Measure time and memory.")
    parser.add_argument("--models", nargs="+", choices=sorted(MODELS), default=list(MODELS))
    parser.add_argument("--against", action="store_true", help="other tools too, where installed")
    parser.add_argument("--repeats", type=int, default=3, help="the fastest run counts")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child[0], options.child[1], Path(options.child[2]))
        return
    print(
        "| model | tool | s | processor s | stages, s | peak MiB | its growth | parameters left |"
    )
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.models:
            path = Path(folder) / f"{name}.onnx"
            build = [sys.executable, __file__, "--child", "build", name, str(path)]
            subprocess.run(build, check=True)
            for tool in TOOLS if options.against else TOOLS[:1]:
                print(row(name, tool, best(tool, name, path, options.repeats)), flush=True)


if __name__ == "__main__":
    main()
