"""Which operator sets and IR versions prunecvt reads: those that this onnxruntime and onnx read.

The limits are found by asking onnxruntime to open one-node models, so they hold for any release.
"""

from __future__ import annotations

from functools import cache

import onnx

from prunecvt.loading.refusal import place
from prunecvt_passes.errors import UnsupportedError
from prunecvt_passes.graph import opset_of

OLDEST_OPSET = 7
# Read by every onnxruntime that prunecvt can be installed with (>= 1.20): no need to ask.
_SAFE_OPSET = 21
_SAFE_IR = 10
_SILENT = 4


def check_versions(proto: onnx.ModelProto, source: str) -> None:
    """Checks the versions that ``proto`` states.

    Raises:
        UnsupportedError: E420 or E421, the operator set is too new or too old; E422, the IR version
            is too new.
    """
    opset, where = opset_of(proto), place(source)
    if opset < OLDEST_OPSET:
        raise UnsupportedError(
            "E421",
            f"opset {opset} is older than {OLDEST_OPSET}, the oldest that is supported",
            where=where,
            help="convert it with onnx.version_converter, or export the model again",
        )
    if opset > _SAFE_OPSET and opset > newest_opset():
        raise UnsupportedError(
            "E420",
            f"opset {opset} is newer than {newest_opset()}, the newest that onnxruntime reads",
            where=where,
            help=f"export the model again with opset {newest_opset()} or older",
        )
    if proto.ir_version > _SAFE_IR and proto.ir_version > newest_ir():
        raise UnsupportedError(
            "E422",
            f"IR version {proto.ir_version} is newer than {newest_ir()}, "
            "the newest that onnxruntime reads",
            where=where,
            help=f"re-export the model, or lower its ir_version to {newest_ir()}",
        )


@cache
def newest_opset() -> int:
    """Newest version of the ONNX operator set that both onnx and onnxruntime know."""
    known = onnx.defs.onnx_opset_version()
    return next((v for v in range(known, _SAFE_OPSET, -1) if _opens(v, _SAFE_IR)), _SAFE_OPSET)


@cache
def newest_ir() -> int:
    """Newest IR version that both onnx and onnxruntime read."""
    known = int(onnx.IR_VERSION)
    return next((v for v in range(known, _SAFE_IR, -1) if _opens(_SAFE_OPSET, v)), _SAFE_IR)


def _opens(opset: int, ir_version: int) -> bool:
    """Whether onnxruntime opens a model of these versions."""
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])],
        "probe",
        [value("x", onnx.TensorProto.FLOAT, [1])],
        [value("y", onnx.TensorProto.FLOAT, [1])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    model.ir_version = ir_version
    return opens(model)


def opens(model: onnx.ModelProto) -> bool:
    """Whether onnxruntime opens ``model``, as it is and for one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception:  # onnxruntime's exceptions share no base class of their own
        return False
    return True
