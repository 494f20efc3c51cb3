"""Running a ``Model`` in onnxruntime without copying its weights."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from prunecvt_passes.errors import PrunecvtError, UnsupportedError
from prunecvt_passes.graph import captured_names
from prunecvt_passes.model import Array, Model, fill
from prunecvt_passes.precision import holds_double, holds_half, in_single
from prunecvt_passes.saturation import unsaturated

log = logging.getLogger("prunecvt")
SHARED_BYTES = 1024  # smaller initializers travel inside the proto: shape inference reads them
_SILENT = 4
# Where initializers that are handed in claim to lie: onnxruntime wants the file to be there and
# never reads it. (Its add_external_initializers needs none, but copies all of them on loading.)
_PLACEHOLDER = Path(__file__).resolve()
_FOLDER_KEY = "session.model_external_initializers_file_folder_path"
onnxruntime.disable_telemetry_events()  # Windows builds report home; others do not


def skeleton(model: Model) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """Returns a proto that a session can load and the weights it wants handed in.

    Large initializers are declared external, so that onnxruntime takes the arrays as they lie in
    memory; small ones are filled in.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    shared: dict[str, Array] = {}
    # onnxruntime drops what nothing reads
    read = {name for node in proto.graph.node for name in node.input} | captured_names(proto.graph)
    for tensor in proto.graph.initializer:
        values = model.weights[tensor.name]
        if (
            tensor.name not in read
            or values.nbytes < SHARED_BYTES
            or values.dtype == object
            or not _native(values)
        ):
            fill(tensor, values)
            continue
        shared[tensor.name] = np.ascontiguousarray(values)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        where = {"location": _PLACEHOLDER.name, "offset": 0, "length": values.nbytes}
        for key, value in where.items():
            tensor.external_data.add(key=key, value=str(value))
    return proto, shared


def _native(values: Array) -> bool:
    return values.dtype.kind in "fiub" and values.dtype.isbuiltin == 1


def session(
    model: Model, *, threads: int = 0, as_written: bool = False
) -> onnxruntime.InferenceSession:
    """Opens ``model`` in onnxruntime on the CPU, node by node.

    No optimisation: fusing copies weights, and some rewrites are inexact, so that two models that
    say the same would differ. One rewrite is made for that same reason: sums of 8-bit integers
    come out as ONNX says, whatever the processor (``saturation.py``).

    Args:
        model: the model.
        threads: of one operator; 0 for as many as there are cores.
        as_written: leaves that rewrite out.

    Raises:
        UnsupportedError: E410, onnxruntime will not load the model.
    """
    proto, shared = skeleton(model if as_written else unsaturated(model))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry(_FOLDER_KEY, str(_PLACEHOLDER.parent))
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in shared.values()]
    for name, value in zip(shared, values, strict=True):
        options.add_initializer(name, value)
    try:
        opened = onnxruntime.InferenceSession(
            proto.SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
        )
        opened.weights_read_in_place = values  # have to live as long as the session
        return opened
    except PrunecvtError:
        raise
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        raise UnsupportedError(
            "E410",
            "onnxruntime cannot load the model",
            where=f"{model.source}: {_first_line(error)}",
            help="check that onnxruntime runs the original model",
        ) from error


def comparable(model: Model) -> Model:
    """The model as it is compared with another: in float32 where it holds half precision.

    Also where it holds doubles and onnxruntime has no kernels for them.
    """
    if holds_half(model):
        return in_single(model)
    if holds_double(model) and refusal(model):
        return in_single(model)
    return model


def refusal(model: Model) -> str:
    """Why onnxruntime does not load the model as it is written; "" where it does."""
    try:
        session(model, as_written=True)
    except UnsupportedError as error:
        return error.where
    return ""


def run(
    model: Model, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None
) -> dict[str, Array]:
    """Runs ``model`` once.

    Args:
        model: the model.
        inputs: graph input -> array.
        outputs: the graph outputs wanted; all where None.

    Returns:
        graph output -> array.

    Raises:
        UnsupportedError: E410 or E411, onnxruntime will not load or run it.
    """
    return run_session(session(model), inputs, outputs, model.source)


def run_session(
    opened: onnxruntime.InferenceSession,
    inputs: Mapping[str, Array],
    outputs: Sequence[str] | None = None,
    source: str = "model",
) -> dict[str, Array]:
    """As ``run`` on a session that is already open."""
    names = list(outputs) if outputs is not None else [o.name for o in opened.get_outputs()]
    wanted = {value.name: value.type for value in opened.get_inputs()}
    feed = {k: _fed(v, wanted[k]) for k, v in inputs.items() if k in wanted}
    try:
        results = opened.run(names, feed)
    except Exception as error:  # as above
        raise UnsupportedError(
            "E411",
            "onnxruntime cannot run the model",
            where=f"{source}: {_first_line(error)}",
            help="give the sizes of its inputs with --input-shape NAME:1,3,224,224",
        ) from error
    return dict(zip(names, results, strict=True))


def _fed(values: Array, kind: str) -> Array:
    """Numbers of other precision as float32, where the session runs a copy in that."""
    other = values.dtype != np.float32 and values.dtype.kind in "fV"  # V: bfloat16
    return values.astype(np.float32) if other and kind == "tensor(float)" else values


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]
