"""Loading a model from wherever it comes, with everything checked before any pass sees it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeAlias

import onnx

from prunecvt.loading.finite import check_finite
from prunecvt.loading.model_file import check_presence, parse, read_model_file
from prunecvt.loading.refusal import invalid, one_line, place
from prunecvt.loading.structure import check_names, sort_nodes
from prunecvt.loading.validate import validate
from prunecvt.loading.versions import check_versions, newest_ir
from prunecvt.loading.weights import check_budget, memory_limit, split
from prunecvt_passes.errors import ResourceError, UnsupportedError
from prunecvt_passes.model import Model

if TYPE_CHECKING:
    import onnx_graphsurgeon

Loadable: TypeAlias = "str | os.PathLike[str] | bytes | onnx.ModelProto | onnx_graphsurgeon.Graph"
_IN_MEMORY = "model"


def load(model: Loadable, *, max_memory: int | None = None, allow_nonfinite: bool = False) -> Model:
    """Loads and validates a model; what it is given is never written to.

    Args:
        model: path of an ONNX file, a serialized model, a ``ModelProto``, or an onnx-graphsurgeon
            ``Graph``. External data is read only for a path.
        max_memory: bytes that file and weights may each take; the machine's memory where None.
        allow_nonfinite: take NaN and infinity among the weights.

    Raises:
        InputError: E301 to E309, unreadable or invalid.
        UnsupportedError: E420 to E424 or E426, valid but nothing prunecvt works on.
        ResourceError: E801, larger than ``max_memory``.
        TypeError: ``model`` is none of the above.
    """
    limit = memory_limit(max_memory)
    source, folder = _IN_MEMORY, None
    if isinstance(model, (str, os.PathLike)):
        source = os.fsdecode(model)
        folder = os.path.dirname(source) or os.curdir
    try:
        loaded = _split(_proto(model, source, limit), source, folder, limit)
        sort_nodes(loaded.proto, source)
        validate(loaded)
    except MemoryError as error:
        raise ResourceError(
            "E801",
            "the model does not fit into memory",
            where=place(source),
            help="run on a machine with more memory",
        ) from error
    except UnicodeDecodeError as error:
        raise invalid(
            "E302", "a text in the model is not UTF-8", place(source, str(error))
        ) from error
    _check_inputs(loaded)
    if not allow_nonfinite:
        check_finite(loaded)
    return loaded


def _check_inputs(model: Model) -> None:
    """Checks that every input is a tensor: no other is fed.

    Raises:
        UnsupportedError: E426, one is a sequence, a map, sparse or optional.
    """
    for value in model.proto.graph.input:
        if value.type.WhichOneof("value") not in ("tensor_type", None):
            raise UnsupportedError(
                "E426",
                f"input '{value.name}' is not a tensor",
                where=place(model.source),
                help="export the model with tensors as inputs",
            )


def _split(proto: onnx.ModelProto, source: str, folder: str | None, limit: int) -> Model:
    """Checks headers and names, then takes the weights out; ``proto`` is let go of on return."""
    check_presence(proto, source)
    check_versions(proto, source)
    check_names(proto, source)
    check_budget(proto, source, limit)
    return split(proto, source, folder)


def _proto(model: Loadable, source: str, limit: int) -> onnx.ModelProto:
    if isinstance(model, onnx.ModelProto):
        return model
    if isinstance(model, bytes):
        return parse(model, source)
    if isinstance(model, (str, os.PathLike)):
        return read_model_file(source, limit)
    if type(model).__module__.partition(".")[0] == "onnx_graphsurgeon":
        return _exported(model)
    raise TypeError(f"cannot load a model from {type(model).__name__}")


def _exported(graph: Any) -> onnx.ModelProto:
    """Exports a graphsurgeon graph.

    The export states the newest IR version onnx knows unless the graph brings one; that is lowered
    to what onnxruntime reads, since the user had no part in it.
    """
    import onnx_graphsurgeon

    try:
        proto: onnx.ModelProto = onnx_graphsurgeon.export_onnx(graph)
    except Exception as error:  # it raises whatever its parts raise
        raise invalid(
            "E309",
            "onnx-graphsurgeon cannot export the graph",
            place(_IN_MEMORY, one_line(str(error))),
        ) from error
    if getattr(graph, "ir_version", None) is None:
        proto.ir_version = min(proto.ir_version, newest_ir())
    return proto
