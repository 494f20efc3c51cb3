"""Writes OpenVINO IR and checks it against expected outputs, in a child process.

The child costs about a second, and buys that a crash, a hang or a memory blow-up of native code
becomes an error instead of the end of the run, and that the .xml is the same every time.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from prunecvt.errors import OutputError, PrunecvtError, ResourceError, VerifyError
from prunecvt.loading.refusal import one_line, place
from prunecvt.report.schema import ParityCheck
from prunecvt.static_batch import StaticBatch
from prunecvt.writing.write import reported
from prunecvt_passes import oracle

Array = npt.NDArray[Any]
log = logging.getLogger("prunecvt")

# A difference without bound (NaN against a number); JSON has no infinity.
UNBOUNDED = sys.float_info.max
# The search path is handed over whole: the child sees the modules that this process sees, and
# nothing from the folder it happens to run in.
_BOOT = (
    "import sys; sys.path[:] = sys.argv[2:]; from pathlib import Path;"
    " from prunecvt.runtimes.openvino_child import main; main(Path(sys.argv[1]))"
)


def bounded(value: float) -> float:
    """The value, or ``UNBOUNDED`` where it is infinite or NaN."""
    return value if value < UNBOUNDED else UNBOUNDED


@dataclass(frozen=True)
class Trial:
    """One inference with a known result.

    Attributes:
        inputs: graph input -> array.
        expected: graph output -> array, for the outputs that are compared.
        tolerance: largest difference allowed, relative to the output's largest magnitude.
    """

    inputs: Mapping[str, Array]
    expected: Mapping[str, Array]
    tolerance: float


def write_ir(
    onnx_path: Path,
    xml_path: Path,
    *,
    fp16: bool = False,
    trial: Trial | None = None,
    timeout: float = 600.0,
    batch: StaticBatch | None = None,
) -> ParityCheck | None:
    """Converts a model to IR: ``xml_path`` and, beside it, the .bin of the same stem.

    Both files appear when the conversion and the trial's run are done; the same model gives the
    same bytes (for one version of OpenVINO).

    Args:
        onnx_path: the model.
        xml_path: the .xml to write; overwritten where it exists.
        fp16: stores weights in half precision.
        trial: what to run on the IR as written, in f32.
        timeout: seconds.
        batch: what the IR's batch is fixed at; None leaves it as it is in the model.

    Returns:
        How the trial came out; None without one. A failed comparison is no error here.

    Raises:
        OutputError: E720, OpenVINO cannot convert the model, or crashed; E703 to E706, the files
            cannot be written.
        VerifyError: E520, the IR was written but cannot be run; E521, an output has another shape.
        ResourceError: E810, out of time; E811, out of memory.
    """
    parent = xml_path.parent
    with (
        reported(xml_path),
        tempfile.TemporaryDirectory(prefix=".prunecvt-ir-", dir=parent) as name,
    ):
        staged = Path(name) / xml_path.name
        job = {"xml": os.path.abspath(staged), "fp16": fp16}
        if batch is not None:
            job |= {"batch": batch.size, "batched": list(batch.inputs)}
        outputs = _child(onnx_path, job, trial, timeout)
        os.replace(staged.with_suffix(".bin"), xml_path.with_suffix(".bin"))
        os.replace(staged, xml_path)
    return _compare(trial, outputs, xml_path) if trial else None


def parity(model_path: Path, trial: Trial, *, timeout: float = 600.0) -> ParityCheck:
    """Runs ``trial`` on a model (.onnx or .xml) in OpenVINO; writes nothing.

    Raises:
        VerifyError: E520, OpenVINO cannot run the model, or crashed; E521, an output has another
            shape.
        ResourceError: E810, out of time; E811, out of memory.
    """
    return _compare(trial, _child(model_path, {}, trial, timeout), model_path)


def _child(
    model: Path, job: Mapping[str, Any], trial: Trial | None, timeout: float
) -> dict[str, Array]:
    """Returns the outputs of the trial, or {} without one; ``job`` is what else is to be done."""
    with tempfile.TemporaryDirectory(prefix="prunecvt-") as name:
        folder = Path(name)
        whole = {
            **job,
            "model": os.path.abspath(model),
            "inputs": list(trial.inputs) if trial else [],
            "outputs": list(trial.expected) if trial else [],
        }
        (folder / "job.json").write_text(json.dumps(whole), "utf-8")
        if trial:
            arrays = {f"in_{i}": _savable(v) for i, v in enumerate(trial.inputs.values())}
            np.savez(folder / "inputs.npz", **arrays)  # type: ignore[arg-type]
        _run(folder, model, timeout)
        if not trial or not trial.expected:
            return {}
        with np.load(folder / "outputs.npz", allow_pickle=False) as found:
            return {output: found[f"out_{i}"] for i, output in enumerate(trial.expected)}


def _savable(values: Array) -> Array:
    """Texts as numpy saves them without pickle; anything else as it is."""
    return values.astype(str) if values.dtype == object else values


def _run(folder: Path, model: Path, timeout: float) -> None:
    """Runs the child on the job in ``folder``; turns every way to fail into an error."""
    command = [sys.executable, "-c", _BOOT, str(folder), *map(os.path.abspath, sys.path)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ResourceError(
            "E810",
            f"OpenVINO took longer than {timeout:g} s",
            where=place(model.name, f"while {_stage(folder)}"),
            help="raise --timeout, or leave the IR out with --no-ir",
        ) from error
    failure = folder / "failure"
    if failure.exists():
        raise _failed(_stage(folder), failure.read_text("utf-8"), model)
    if done.returncode == -getattr(signal, "SIGKILL", 9):
        raise _out_of_memory(_stage(folder), model)
    if done.returncode:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        how = f"OpenVINO crashed ({_exit(done.returncode)})"
        raise _failed(_stage(folder), ": ".join([how, *last]), model)
    if done.stderr:
        log.debug("OpenVINO: %s", one_line(done.stderr.decode("utf-8", "replace")))


def _out_of_memory(stage: str, model: Path) -> ResourceError:
    return ResourceError(
        "E811",
        "OpenVINO ran out of memory, or was killed for it",
        where=place(model.name, f"while {stage}"),
        help="free memory, or leave the IR out with --no-ir",
    )


def _stage(folder: Path) -> str:
    stage = folder / "stage"
    return stage.read_text() if stage.exists() else "starting Python"


def _exit(code: int) -> str:
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"exit status {code}"


def _failed(stage: str, reason: str, model: Path) -> PrunecvtError:
    """Returns the error of a failed ``stage``: of output as far as the IR is written."""
    where = place(model.name, f"while {stage}", " ".join(reason.split()))
    if reason.startswith("MemoryError"):
        return _out_of_memory(stage, model)
    if stage in ("compiling the model", "running the model", "handing back the outputs"):
        return VerifyError(
            "E520",
            "the model does not run in OpenVINO",
            where=where,
            help="give real input sizes with --input-shape, or leave the IR out with --no-ir",
        )
    return OutputError(
        "E720",
        "OpenVINO cannot convert the model",
        where=where,
        help="leave the IR out with --no-ir",
    )


def _compare(trial: Trial, outputs: Mapping[str, Array], model: Path) -> ParityCheck:
    """Returns the largest differences over all outputs, absolute and relative to its magnitude."""
    for name, expected in trial.expected.items():
        found = outputs[name]
        if found.shape != expected.shape:
            raise VerifyError(
                "E521",
                f"output '{name}' is {list(found.shape)} in OpenVINO, {list(expected.shape)} here",
                where=str(model),
            )
    gap = oracle.difference(trial.expected, outputs)
    return ParityCheck(
        max_abs=min(gap.absolute, UNBOUNDED),
        max_rel=min(gap.relative, UNBOUNDED),
        tolerance=trial.tolerance,
        passed=gap.relative <= trial.tolerance,
    )
