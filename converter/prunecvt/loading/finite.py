"""Finds NaN and infinity among the weights.

What counts as a weight is decided by who reads it. Convolutions, matrix products, normalisations
and recurrent cells take no value that is not finite: one makes a whole channel NaN. Element-wise
arithmetic takes infinity, since attention masks are added -inf, but no NaN. Where, Max, Pad and
all other operators take anything: there such values are masks and bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from prunecvt.loading.refusal import dims, label, place, title
from prunecvt.loading.structure import subgraphs
from prunecvt_passes.errors import UnsupportedError
from prunecvt_passes.graph import DEFAULT_DOMAINS
from prunecvt_passes.model import Array, Model

_COMPUTING = frozenset(
    (
        *("Conv", "ConvTranspose", "ConvInteger", "DeformConv", "QLinearConv"),
        *("Gemm", "MatMul", "MatMulInteger", "QLinearMatMul", "Einsum"),
        *("BatchNormalization", "InstanceNormalization", "LayerNormalization"),
        *("GroupNormalization", "RMSNormalization", "PRelu", "LSTM", "GRU", "RNN"),
        *("QuantizeLinear", "DequantizeLinear"),
    )
)
_ELEMENTWISE = frozenset(("Add", "Sub", "Mul", "Div"))
# What comes out is not finite exactly where what goes in (first) is not.
_PASSING_ON = frozenset(
    ("Identity", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast")
)
_CHUNK = 2**20  # elements looked at in one go: no second array as large as the weight
Bad = Callable[[Any], Any]


def check_finite(model: Model) -> None:
    """Checks that weights are finite numbers.

    Raises:
        UnsupportedError: E423, one is NaN or infinite.
    """
    constants = _Constants(model)
    done: set[tuple[str, bool]] = set()
    for node, name, bad in _reads(model.proto.graph):
        key = (name, bad is np.isnan)
        if key in done:
            continue
        done.add(key)
        values = constants.values(name)
        index = None if values is None else _first(values, bad)
        if values is None or index is None:
            continue
        at = dims(np.unravel_index(index, values.shape))
        value = str(np.ravel(values)[index])
        raise UnsupportedError(
            "E423",
            "a weight is not a finite number",
            where=place(model.source, title(node), f"'{name}' holds {value} at {at}"),
            node=label(node),
            help="train or export the model again, or pass --allow-nonfinite",
        )


class _Constants:
    """The floating-point constants of a model by name, those of subgraphs and nodes included."""

    def __init__(self, model: Model) -> None:
        self._weights = model.weights
        self._tensors: dict[str, TensorProto] = {}
        for graph in _graphs(model.proto.graph):
            if graph is not model.proto.graph:
                self._tensors.update((tensor.name, tensor) for tensor in graph.initializer)
            sparse = graph.sparse_initializer
            self._tensors.update((tensor.values.name, tensor.values) for tensor in sparse)
            for node in graph.node:
                if node.op_type == "Constant":
                    self._tensors.update(
                        (node.output[0], a.t if a.name == "value" else a.sparse_tensor.values)
                        for a in node.attribute
                        if a.name in ("value", "sparse_value")
                    )

    def values(self, name: str) -> Array | None:
        """Values of a constant, None where ``name`` is not one or holds no floating point."""
        values = self._weights.get(name)
        if values is None and name in self._tensors:
            values = numpy_helper.to_array(self._tensors[name])
        return values if values is not None and _is_floating(values.dtype) else None


def _is_floating(dtype: np.dtype[Any]) -> bool:
    """Whether numbers of this type can be NaN or infinite; the small types are not numpy's own."""
    return dtype.kind in "fc" or dtype.name.startswith(("bfloat", "float8"))


def _first(values: Array, bad: Bad) -> int | None:
    """Flat index of the first bad value, None where there is none."""
    flat = values.reshape(-1)
    for start in range(0, flat.size, _CHUNK):
        found = bad(flat[start : start + _CHUNK])
        if found.any():
            return start + int(np.argmax(found))
    return None


def _infinite_or_nan(values: Array) -> Any:
    return ~np.isfinite(values)


def _reads(graph: onnx.GraphProto) -> Iterator[tuple[onnx.NodeProto, str, Bad]]:
    """Yields (node, tensor it reads, what must not be in it), following tensors passed on."""
    origin: dict[str, str] = {}
    for part in _graphs(graph):
        for node in part.node:
            if node.domain not in DEFAULT_DOMAINS or not node.input:
                continue
            if node.op_type in _PASSING_ON:
                origin[node.output[0]] = origin.get(node.input[0], node.input[0])
            bad: Bad | None = None
            if node.op_type in _COMPUTING:
                bad = _infinite_or_nan
            elif node.op_type in _ELEMENTWISE:
                bad = np.isnan
            if bad is not None:
                yield from ((node, origin.get(name, name), bad) for name in node.input if name)


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    waiting = [graph]
    while waiting:
        current = waiting.pop()
        yield current
        waiting += [body for node in current.node for body in subgraphs(node)]
