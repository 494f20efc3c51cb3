"""What models are timed on."""

from __future__ import annotations

from collections.abc import Mapping

from prunecvt_passes.carried import Sizes
from prunecvt_passes.model import Array, Model
from prunecvt_passes.samples import dimensions, graph_inputs, random_inputs


def latency_inputs(
    model: Model, sizes: Sizes, stated: Mapping[str, tuple[int, ...]], seed: int
) -> dict[str, Array]:
    """Random inputs to time a model on: the stated sizes, and a batch of one where it is open."""
    declared = {value.name: dimensions(value) or () for value in graph_inputs(model)}
    batches = {
        dims[0] for dims in declared.values() if len(dims) > 1 and not isinstance(dims[0], int)
    }
    single = {
        name: tuple(
            1
            if not isinstance(dim, int) and (dim in batches if dim else axis == 0 and len(dims) > 1)
            else sizes[name][axis]
            for axis, dim in enumerate(dims)
        )
        for name, dims in declared.items()
    }
    return random_inputs(model, {**single, **stated}, seed)
