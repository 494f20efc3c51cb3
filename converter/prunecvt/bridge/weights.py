"""Weights on their way back: from a module into the model it was made from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from prunecvt.errors import UsageError
from prunecvt.loading.load import Loadable, load
from prunecvt_passes.graph import DEFAULT_DOMAINS
from prunecvt_passes.model import Array, Model, fill
from prunecvt_passes.normalise import constant_value


def loaded(model: Loadable | Model) -> Model:
    """The model, loaded where it is not yet (with external data, where its path is given)."""
    return model if isinstance(model, Model) else load(model)


def stored_names(model: Model) -> frozenset[str]:
    """Constants of the main graph that can be given new values: initializers, Constant nodes."""
    return frozenset((*model.weights, *_constant_nodes(model.proto)))


def _constant_nodes(proto: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """The Constant nodes of the main graph that hold a dense tensor, by what they make."""
    return {
        node.output[0]: node
        for node in proto.graph.node
        if node.op_type == "Constant"
        and node.domain in DEFAULT_DOMAINS
        and len(node.attribute) == 1
        and node.attribute[0].name in ("value", "value_float", "value_floats")
    }


def replaced(model: Model, values: Mapping[str, Array]) -> Model:
    """The model with new values for some of its constants.

    Args:
        model: left untouched; what does not change is shared with it.
        values: constant -> array of its shape; of its type or another that is rounded to it.

    Raises:
        UsageError: E251, a name or a shape is not the model's.
    """
    made = model.copy()
    nodes = _constant_nodes(made.proto)
    changed: dict[str, Array] = {}
    for name, array in values.items():
        old = made.weights.get(name)
        if old is None and name in nodes:
            old = constant_value(nodes[name])
        if old is None or old.shape != array.shape:
            raise _foreign(model, name, array, old)
        new = np.ascontiguousarray(array.astype(old.dtype, copy=False)).reshape(old.shape)
        if new.tobytes() == old.tobytes():
            continue  # stored as it was, to the byte
        if name in nodes:
            _set_constant(nodes[name], new)
        else:
            changed[name] = new
    made.set_weights(changed)
    return made


def _set_constant(node: onnx.NodeProto, values: Array) -> None:
    """Stores ``values`` in a Constant node, in the attribute that it has."""
    attribute = node.attribute[0]
    if attribute.name == "value_float":
        attribute.f = float(values)
    elif attribute.name == "value_floats":
        attribute.floats[:] = values.tolist()
    else:
        header = onnx.TensorProto(name=attribute.t.name, doc_string=attribute.t.doc_string)
        header.data_type, header.dims[:] = attribute.t.data_type, attribute.t.dims
        fill(header, values)
        attribute.t.CopyFrom(header)
        numpy_helper.to_array(attribute.t)  # what cannot be read again is not given out


def _foreign(model: Model, name: str, array: Array, old: Array | None) -> UsageError:
    found = "has none of that name" if old is None else f"has it as {list(old.shape)}"
    return UsageError(
        "E251",
        f"the module is not of this model: weight '{name}' {list(array.shape)}",
        where=f"{model.source} {found}",
        help="give the model that to_module() was called with",
    )
