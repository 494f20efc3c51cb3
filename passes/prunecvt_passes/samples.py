"""Concrete sizes for dynamic inputs, and arrays to feed them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx

from prunecvt_passes.errors import UsageError
from prunecvt_passes.model import Array, Model

InputSizes = Mapping[str, tuple[int, ...]]

# Pairs of sizes for what is dynamic beside the batch. Two differ so that whatever changes with the
# input is told from what does not; nets halve their input up to six times, hence multiples of 64.
PROBES = ((192, 256), (64, 128), (32, 64), (512, 640), (8, 16), (16000, 16320), (1, 2))
BATCHES = (2, 3)


def graph_inputs(model: Model) -> list[onnx.ValueInfoProto]:
    """The inputs that a user feeds: graph inputs that are not initializers."""
    return [value for value in model.proto.graph.input if value.name not in model.weights]


def dimensions(value: onnx.ValueInfoProto) -> tuple[int | str, ...] | None:
    """Declared dimensions: a number, a name, or "" for an unnamed dynamic one; None if no shape."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return tuple(
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else dim.dim_param
        for dim in tensor.shape.dim
    )


def probes(model: Model, stated: InputSizes) -> Iterator[tuple[dict[str, tuple[int, ...]], ...]]:
    """Yields pairs of concrete sizes for every input, the likeliest first.

    The two of a pair are equal where nothing is dynamic or all sizes are stated.

    Args:
        model: the model.
        stated: sizes the user gave; they hold as far as they go.

    Raises:
        UsageError: E203, a stated size names no input or contradicts the model.
    """
    _check_stated(model, stated)
    for pair in PROBES:
        yield tuple(
            {
                value.name: _concrete(value, stated.get(value.name), BATCHES[k], pair[k], k)
                for value in graph_inputs(model)
            }
            for k in (0, 1)
        )


def _concrete(
    value: onnx.ValueInfoProto, stated: tuple[int, ...] | None, batch: int, other: int, k: int
) -> tuple[int, ...]:
    declared = dimensions(value) or ()
    sizes = []
    for axis, dim in enumerate(declared):
        if isinstance(dim, int):
            sizes.append(dim)
        elif stated is not None:
            # the second probe has to differ where the model leaves it open
            sizes.append(stated[axis] if k == 0 else 2 * stated[axis])
        else:
            sizes.append(batch if axis == 0 and len(declared) > 1 else other)
    return tuple(sizes)


def _check_stated(model: Model, stated: InputSizes) -> None:
    names = {value.name: dimensions(value) for value in graph_inputs(model)}
    for name, sizes in stated.items():
        declared = names.get(name)
        fits = declared is not None and len(declared) == len(sizes)
        if not fits or any(
            isinstance(dim, int) and dim != size
            for dim, size in zip(declared or (), sizes, strict=True)
        ):
            known = ", ".join(f"{n}:{d}" for n, d in names.items())
            raise UsageError(
                "E203",
                f"--input-shape {name}:{','.join(map(str, sizes))} does not fit the model",
                where=f"{model.source}: its inputs are {known}",
                help="name an input of the model and state one size per dimension",
            )


def random_inputs(
    model: Model, sizes: Mapping[str, tuple[int, ...]], seed: int = 0
) -> dict[str, Array]:
    """Arrays to feed the model: normal for floats, bytes for uint8, small counts for integers.

    Args:
        model: the model.
        sizes: input -> dimensions.
        seed: of the generator.
    """
    rng = np.random.default_rng(seed)
    arrays: dict[str, Array] = {}
    for value in graph_inputs(model):
        shape = sizes[value.name]
        kind = value.type.tensor_type.elem_type
        if kind == onnx.TensorProto.STRING:
            arrays[value.name] = np.full(shape, "a", dtype=object)
            continue
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
        if dtype == np.bool_:
            arrays[value.name] = rng.integers(0, 2, shape).astype(bool)
        elif dtype == np.uint8:
            arrays[value.name] = rng.integers(0, 256, shape, dtype=np.uint8)
        elif dtype.kind in "iu":
            arrays[value.name] = rng.integers(0, 2, shape).astype(dtype)
        else:
            arrays[value.name] = rng.standard_normal(shape, dtype=np.float32).astype(dtype)
    return arrays
