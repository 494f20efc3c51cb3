"""The batch that OpenVINO IR is fixed at: which inputs it concerns, and whether it is one at all.

A first axis is a batch if its samples do not see each other: a run on two of them gives what two
runs on one give. So it is tried out, and no name or rank is trusted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from prunecvt.errors import UnsupportedError
from prunecvt_passes import oracle, runtime
from prunecvt_passes.carried import Sizes
from prunecvt_passes.model import Array, Model
from prunecvt_passes.normalise import Dense, Source
from prunecvt_passes.samples import dimensions, graph_inputs, random_inputs
from prunecvt_passes.unrounded import unrounded

_TOLERANCE = 1e-3  # of the outputs' peak; samples that see each other are further off


@dataclass(frozen=True)
class BatchRequest:
    """The batch that is asked for."""

    size: int


@dataclass(frozen=True)
class StaticBatch:
    """What is fixed.

    Attributes:
        size: of the batch.
        inputs: whose first axis it is; empty where the model's batch is fixed already.
    """

    size: int
    inputs: tuple[str, ...]

    def sizes(self, sizes: Sizes) -> Sizes:
        """Sizes of all inputs, of those concerned with this batch."""
        return {
            name: (self.size, *dims[1:]) if name in self.inputs else dims
            for name, dims in sizes.items()
        }


def fix_batch(source: Source, dense: Dense, request: BatchRequest) -> StaticBatch:
    """The pass: as ``static_batch``, of the model as it came.

    Raises:
        UnsupportedError: E427, the first axis is no batch; E425, an output is no tensor.
    """
    return static_batch(source.model, dense.sizes, request.size)


def static_batch(model: Model, sizes: Sizes, size: int) -> StaticBatch:
    """Finds the inputs whose first axis is the batch, and tries whether it is one.

    Args:
        model: the model.
        sizes: input -> sizes that it runs at.
        size: the batch.

    Raises:
        UnsupportedError: E427, the first axis is no batch; E425, an output is no tensor.
    """
    found = StaticBatch(size, open_batches(model))
    if found.inputs:
        _try(model, sizes, found.inputs)
    return found


def open_batches(model: Model) -> tuple[str, ...]:
    """Inputs whose first axis is open and bears the name of the first such axis, if it has one."""
    declared = {value.name: dimensions(value) or () for value in graph_inputs(model)}
    opened = {n: dims[0] for n, dims in declared.items() if dims and not isinstance(dims[0], int)}
    first = next(iter(opened.values()), "")
    return tuple(name for name, dim in opened.items() if dim == first)


def _try(model: Model, sizes: Sizes, names: tuple[str, ...]) -> None:
    """Runs two samples together and apart.

    Raises:
        UnsupportedError: E427, this does not give the same; E425, an output is no tensor.
    """
    for value in model.proto.graph.output:
        if value.type.WhichOneof("value") != "tensor_type":
            raise UnsupportedError(
                "E425",
                f"output '{value.name}' is not a tensor, so whether samples are apart in it "
                "cannot be tried",
                where=model.source,
                help="leave --static-batch out, or export without that output",
            )
    plain = unrounded(runtime.comparable(model))
    feed = random_inputs(model, StaticBatch(2, names).sizes(sizes))
    try:
        together = runtime.run(plain, feed)
        apart = [runtime.run(plain, _part(feed, names, place)) for place in (0, 1)]
    except UnsupportedError as error:
        reason = f"it does not run on one sample and on two: {error.where}"
        raise _refusal(model, names, reason) from error
    for name, values in together.items():
        reason = _mixed([run[name] for run in apart], values)
        if reason:
            raise _refusal(model, names, f"output '{name}' {reason}")


def _mixed(apart: list[Array], together: Array) -> str:
    """What shows that samples are not apart in an output; "" where they are, or play no part."""
    if all(np.array_equal(part, together) for part in apart):
        return ""
    if together.ndim == 0 or [len(part) for part in apart] != [len(together) // 2] * 2:
        return "has not as many rows for each sample"
    gap = oracle.difference({"": together}, {"": np.concatenate(apart)})
    if gap.relative <= _TOLERANCE:
        return ""
    return f"of a sample changes by {gap.relative:.1e} with another beside it"


def _part(feed: Mapping[str, Array], names: tuple[str, ...], place: int) -> dict[str, Array]:
    return {
        name: values[place : place + 1] if name in names else values
        for name, values in feed.items()
    }


def _refusal(model: Model, names: tuple[str, ...], reason: str) -> UnsupportedError:
    return UnsupportedError(
        "E427",
        f"the first axis of {' and '.join(map(repr, names))} is no batch",
        where=f"{model.source}: {reason}",
        help="leave --static-batch out",
    )
