"""Opens a model in a runtime, ready to run the same inference again and again.

onnxruntime runs at its highest optimisation level, on bound inputs, with threads that do not spin
while they wait: that costs a little on an idle machine and saves much on a shared one. OpenVINO
runs one stream on preset tensors and is held to f32, so that both runtimes do the same arithmetic
(by itself it takes bf16 where the CPU has it).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from prunecvt.errors import UnsupportedError
from prunecvt.loading.refusal import place
from prunecvt.runtimes.backends import Backend as Backend
from prunecvt.runtimes.openvino_quiet import import_openvino

Array = npt.NDArray[Any]
Runner = Callable[[], None]


def open_runner(
    path: Path, inputs: Mapping[str, Array], *, backend: Backend, threads: int
) -> Runner:
    """Loads the model at ``path`` (.onnx, or .xml for OpenVINO).

    Returns:
        A function that runs one inference on ``inputs`` (input name -> array) and drops the result.

    Raises:
        UnsupportedError: onnxruntime (E412) or OpenVINO (E430) cannot load it or take the inputs;
            the function raises the same when it cannot run.
    """
    if backend == "onnxruntime":
        return _open_onnxruntime(path, inputs, threads)
    return _open_openvino(path, inputs, threads)


def onnxruntime_settings(threads: int) -> Any:
    """The session options that models are timed with."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _open_onnxruntime(path: Path, inputs: Mapping[str, Array], threads: int) -> Runner:
    import onnxruntime

    options = onnxruntime_settings(threads)
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        binding = session.io_binding()
        for name, values in inputs.items():
            value = onnxruntime.OrtValue.ortvalue_from_numpy(np.asarray(values, order="C"))
            binding.bind_ortvalue_input(name, value)
        for output in session.get_outputs():
            binding.bind_output(output.name, "cpu")
    except Exception as error:  # onnxruntime's errors have no base of their own
        raise cannot_run("E412", "onnxruntime", path, error) from error

    def run() -> None:
        try:
            session.run_with_iobinding(binding)
        except Exception as error:
            raise cannot_run("E412", "onnxruntime", path, error) from error

    return run


def openvino_request(path: Path, inputs: Mapping[str, Array], threads: int, **more: object) -> Any:
    """A request that has run once on ``inputs``, compiled as models are timed."""
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": False,  # a thread tied to a core waits while others use that core
        **more,
    }
    request = _core().compile_model(str(path), "CPU", settings).create_infer_request()
    for name, values in inputs.items():
        request.set_tensor(name, _tensor(import_openvino(), np.asarray(values, order="C")))
    request.infer()
    return request


@cache
def _core() -> Any:
    """The one ``Core`` of this process.

    Each one gives the thread another stack for signals and, when it goes, the one before it back:
    of several, not gone in turn, a stack that is no more is left, and Ctrl-C crashes the process.
    """
    return import_openvino().Core()


def _open_openvino(path: Path, inputs: Mapping[str, Array], threads: int) -> Runner:
    try:
        request = openvino_request(path, inputs, threads)
        if any(0 in tensor.shape for tensor in request.output_tensors):
            raise RuntimeError("it gives out empty tensors at these input sizes")
    except Exception as error:  # OpenVINO raises plain RuntimeError; it may be missing
        raise cannot_run("E430", "OpenVINO", path, error) from error

    def run() -> None:
        try:
            request.infer(share_outputs=True)  # else every output is copied
        except Exception as error:
            raise cannot_run("E430", "OpenVINO", path, error) from error

    return run


def _tensor(openvino: Any, values: Array) -> Any:
    """A tensor of OpenVINO's; it takes bfloat16, which is not numpy's own, as plain 16 bits."""
    if values.dtype.name != "bfloat16":
        return openvino.Tensor(values)
    return openvino.Tensor(values.view(np.uint16), values.shape, openvino.Type.bf16)


def cannot_run(code: str, runtime: str, path: Path, error: Exception) -> UnsupportedError:
    """What to say where a runtime gives up."""
    return UnsupportedError(
        code,
        f"{runtime} cannot run the model",
        where=place(str(path), " ".join(str(error).split())),
        help="give the real sizes of its inputs with --input-shape NAME:1,3,224,224",
    )
