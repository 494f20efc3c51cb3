"""Says where the time of an inference goes, kernel by kernel, as the runtime itself measures it.

Kernels stand for several nodes of the model each (a convolution with what was fused into it); the
runtimes name some of those nodes, or tensors, and ``latency_prices`` finds the way back. Times are
wall times: of onnxruntime the lower end over all runs is taken. OpenVINO gives out means over all
runs so far, in whole microseconds; a run is the difference of two sums, and the median counts.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from prunecvt.runtimes.runners import (
    Array,
    Backend,
    cannot_run,
    onnxruntime_settings,
    openvino_request,
)
from prunecvt_passes.recovery.latency_prices import Kernel

RUNS, WARM = 12, 2
_SESSIONS, _RUNS_EACH = 3, 6
_SUFFIX, _PREFIX = "_kernel_time", "fused "
_STANDS_FOR = "originalLayersNames"
_ADDED = re.compile(
    r"(_nchwc|_token_\d+|/\w*Fusion\w*/?)+$"
)  # what onnxruntime's rewrites add to a name


def profile(
    path: Path, inputs: Mapping[str, Array], *, backend: Backend, threads: int
) -> list[Kernel]:
    """Runs a model and lists its kernels with the milliseconds that each takes.

    Args:
        path: the model (.onnx, or .xml for OpenVINO).
        inputs: input name -> array.
        backend: the runtime.
        threads: intra-op threads.

    Raises:
        UnsupportedError: E412 or E430, the runtime cannot load or run it.
    """
    if backend == "onnxruntime":
        return _of_onnxruntime(path, inputs, threads)
    return _of_openvino(path, inputs, threads)


def _of_onnxruntime(path: Path, inputs: Mapping[str, Array], threads: int) -> list[Kernel]:
    import onnxruntime

    options = onnxruntime_settings(threads)
    options.enable_profiling = True
    with tempfile.TemporaryDirectory(prefix="prunecvt-") as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        try:
            session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
            for _ in range(WARM + RUNS):
                session.run(None, dict(inputs))
            written = Path(session.end_profiling())
        except Exception as error:  # onnxruntime's errors have no base of their own
            raise cannot_run("E412", "onnxruntime", path, error) from error
        events = json.loads(written.read_text(encoding="utf-8"))
    taken: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        name = event.get("name", "")
        if event.get("cat") == "Node" and name.endswith(_SUFFIX):
            key = name.removesuffix(_SUFFIX), str(event.get("args", {}).get("op_name", ""))
            taken[key].append(float(event["dur"]))
    return [
        Kernel(op, (name, _ADDED.sub("", name).removeprefix(_PREFIX)), _low(times) / 1e3)
        for (name, op), times in taken.items()
    ]


def _low(times: list[float]) -> float:
    return float(np.percentile(times[WARM:] or times, 10))


def _of_openvino(path: Path, inputs: Mapping[str, Array], threads: int) -> list[Kernel]:
    taken: dict[str, list[float]] = defaultdict(list)
    for _ in range(_SESSIONS):
        try:
            request = openvino_request(path, inputs, threads, PERF_COUNT=True)
            totals = _totals(request, 1)
            for runs in range(2, 2 + _RUNS_EACH):
                request.infer()
                before, totals = totals, _totals(request, runs)
                for name, total in totals.items():
                    taken[name].append(max(total - before.get(name, 0.0), 0.0))
            ops, stands_for = _nodes(request)
        except Exception as error:  # OpenVINO raises plain RuntimeError
            raise cannot_run("E430", "OpenVINO", path, error) from error
    return [
        Kernel(ops[name], (*stands_for.get(name, ()), name), float(np.median(times)))
        for name, times in taken.items()
        if name in ops and any(times)
    ]


def _totals(request: Any, runs: int) -> dict[str, float]:
    """Milliseconds of each kernel over all runs: what OpenVINO says is their mean."""
    return {e.node_name: e.real_time.total_seconds() * 1e3 * runs for e in request.profiling_info}


def _nodes(request: Any) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """Kernel -> what it does, and the nodes of the model that it stands for."""
    ops = {entry.node_name: entry.node_type for entry in request.profiling_info}
    stands_for = {}
    for node in request.get_compiled_model().get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        listed = str(info[_STANDS_FOR].astype(str)) if _STANDS_FOR in info else ""
        stands_for[node.get_friendly_name()] = tuple(filter(None, listed.split(",")))
    return ops, stands_for
