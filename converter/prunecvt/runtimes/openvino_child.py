"""What runs in the child process of ``openvino_ir``: reads a model, writes its IR, runs it once.

A fresh process per model, because OpenVINO numbers unnamed nodes by a counter of the process: only
the first model it reads gets the same names, and so the same .xml, every time. And because native
code that crashes or hangs takes only this process with it.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np

from prunecvt.runtimes.openvino_quiet import import_openvino

# exactly the arithmetic of the model: no bf16, no reordering of sums for speed
_EXACT = {"INFERENCE_PRECISION_HINT": "f32", "EXECUTION_MODE_HINT": "ACCURACY"}
# nor quantised layers moved into 8-bit kernels, which round otherwise and saturate on some
# processors: it is the file that is to be proved
_AS_WRITTEN = {"LP_TRANSFORMS_MODE": False}


def main(folder: Path) -> None:
    """Does the job in ``folder``/job.json.

    The job: ``model`` path; where IR is to be written ``xml``, its path, ``fp16``, and ``batch`` of
    the inputs ``batched`` where it is to be fixed; ``inputs`` and ``outputs``, tensor names in the
    order of ``in_0``, ``in_1``, .. of inputs.npz; no run without ``outputs``.
    Leaves outputs.npz (``out_0``, ``out_1``, ..), ``stage`` with the step under way, and on an
    error of OpenVINO its message in ``failure``.
    """
    _prepare()
    job = json.loads((folder / "job.json").read_text("utf-8"))
    try:
        _work(job, folder)
    except Exception as error:  # OpenVINO raises plain RuntimeError
        (folder / "failure").write_text(f"{type(error).__name__}: {error}", "utf-8")


def _prepare() -> None:
    """Keeps heavy optional imports out, and a crash from leaving a core file behind."""
    modules = cast("dict[str, ModuleType | None]", sys.modules)
    for name in ("torch", "tensorflow", "paddle"):
        modules.setdefault(name, None)
    try:
        import resource
    except ImportError:  # not on Windows
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _work(job: dict[str, Any], folder: Path) -> None:
    stage = folder / "stage"
    stage.write_text("starting OpenVINO")
    openvino = import_openvino()
    core = openvino.Core()
    with contextlib.suppress(RuntimeError):  # a version that does not know it
        core.set_property("CPU", _AS_WRITTEN)
    stage.write_text("reading the model")
    model = core.read_model(job["model"])
    if job.get("xml"):
        stage.write_text("fixing the batch")
        _fix_batch(model, job)
        stage.write_text("writing the IR")
        openvino.save_model(model, job["xml"], compress_to_fp16=job["fp16"])
        model = job["xml"]  # the run is to prove the file, not what is in memory
    if not job["outputs"]:
        return
    stage.write_text("compiling the model")
    compiled = core.compile_model(model, "CPU", _EXACT)
    stage.write_text("running the model")
    with np.load(folder / "inputs.npz", allow_pickle=False) as arrays:
        feeds = {name: arrays[f"in_{i}"] for i, name in enumerate(job["inputs"])}
    results = compiled(feeds)
    outputs = {f"out_{i}": _numbers(results, name) for i, name in enumerate(job["outputs"])}
    stage.write_text("handing back the outputs")
    np.savez(folder / "outputs.npz", **outputs)


def _fix_batch(model: Any, job: dict[str, Any]) -> None:
    """Fixes the first axis of the inputs that the job names."""
    shapes = {}
    for port in model.inputs:
        if any(name in port.get_names() for name in job.get("batched", ())):
            shapes[port] = port.get_partial_shape()
            shapes[port][0] = job["batch"]
    if shapes:
        model.reshape(shapes)


def _numbers(results: Any, name: str) -> Any:
    """An output as numpy knows it: OpenVINO hands back bfloat16 as the same bits of float16."""
    port = next(port for port in results if name in port.get_names())
    values = results[port]
    if port.get_element_type().get_type_name() != "bf16":
        return values
    return (values.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
