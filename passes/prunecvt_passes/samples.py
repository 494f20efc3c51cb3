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

    The two of a pair differ wherever the model leaves a size open. In the second, open sizes differ
    from one another too, so that rows are told from columns; then they are alike, for a model that
    wants them so. Stated sizes are doubled in the second, then only the batch, then none, for a
    model that runs at no other size.

    Args:
        model: the model.
        stated: sizes the user gave; they hold as far as they go.

    Raises:
        UsageError: E203, a stated size names no input or contradicts the model.
    """
    _check_stated(model, stated)
    yielded = []
    for doubled in ("all", "batch", "none") if stated else ("all",):
        for pair in PROBES:
            for apart in (True, False):
                sizes = tuple(_probe(model, stated, pair, k, doubled, apart) for k in (0, 1))
                if sizes not in yielded:
                    yielded.append(sizes)
                    yield sizes


def _probe(
    model: Model, stated: InputSizes, pair: tuple[int, int], k: int, doubled: str, apart: bool
) -> dict[str, tuple[int, ...]]:
    """The ``k``-th sizes of a pair; ``doubled`` says which stated sizes the second doubles.

    ``apart`` says whether open sizes of other names or places differ in the second.
    """
    declared = {value.name: dimensions(value) or () for value in graph_inputs(model)}
    batches = {dims[0] for dims in declared.values() if len(dims) > 1}
    named = {
        dim: stated[name][axis]
        for name, dims in declared.items()
        for axis, dim in enumerate(dims)
        if name in stated and dim
    }

    def is_batch(dim: int | str, axis: int, rank: int) -> bool:
        return dim in batches if dim else axis == 0 and rank > 1

    opened = list(
        dict.fromkeys(
            dim or axis  # sizes without a name are told apart by their axis
            for dims in declared.values()
            for axis, dim in enumerate(dims)
            if not isinstance(dim, int) and not is_batch(dim, axis, len(dims))
        )
    )

    def size(name: str, axis: int) -> int:
        dim = declared[name][axis]
        if isinstance(dim, int):
            return dim
        batch = is_batch(dim, axis, len(declared[name]))
        fixed = stated[name][axis] if name in stated else named.get(dim)
        if fixed is None:
            if batch:
                return BATCHES[k]
            place = opened.index(dim or axis) if apart else 0
            return pair[k] + k * place * (pair[1] - pair[0])
        differs = doubled == "all" or (doubled == "batch" and batch)
        return fixed * (k + 1) if differs else fixed

    return {
        name: tuple(size(name, axis) for axis in range(len(dims)))
        for name, dims in declared.items()
    }


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
    return {name: np.asarray(values) for name, values in arrays.items()}  # scalars too
