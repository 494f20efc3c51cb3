"""Weights drawn anew: an architecture without what was learnt, to be trained from scratch.

Filters and matrices are drawn as in He et al. (2015, "Delving deep into rectifiers"), running means
are 0 and variances 1, and all else starts as ``bridge/starts.py`` says.

Liu et al. (2019, "Rethinking the value of network pruning") train slimmed architectures so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prunecvt.bridge.roles import roles_of
from prunecvt.bridge.starts import Start, start_of, statistics_of
from prunecvt.bridge.weights import replaced, stored_names
from prunecvt.errors import UsageError
from prunecvt_passes.graph import index
from prunecvt_passes.model import Array, Model


@dataclass(frozen=True)
class Reinit:
    """A wish for new weights: drawn with this seed."""

    seed: int = 0


@dataclass(frozen=True)
class Redrawn:
    """A model with new weights.

    Attributes:
        model: it, with the same graph.
        drawn: initializers that hold new values.
        left: weights that hold what they held, since nothing is known of how to draw them.
    """

    model: Model
    drawn: tuple[str, ...]
    left: tuple[str, ...]


def redraw(model: Model, wish: Reinit) -> Redrawn:
    """Draws every weight anew; the same seed gives the same weights.

    Args:
        model: left untouched.
        wish: the seed.

    Raises:
        UsageError: E257, the model has no weight that can be trained.
    """
    graph = index(model)
    stored = stored_names(model)
    roles = roles_of(graph, stored)
    if not roles.trainable:
        raise UsageError(
            "E257",
            "there is nothing to draw anew: no weight of this model can be trained",
            where=model.source,
            help="leave --reinit out, or give the model in floating point",
        )
    generator = np.random.default_rng(wish.seed)
    made, left = dict[str, Array](), []
    for name, value in statistics_of(graph).items():
        if name in stored:
            made[name] = np.full(roles.values[name].shape, value)
    for name in roles.trainable:
        start = start_of(graph, roles.values, name)
        if start is None:
            left.append(name)
        else:
            made[name] = _drawn(start, roles.values[name].shape, generator)
    return Redrawn(replaced(model, made), tuple(made), tuple(left))


def draw_anew(redrawn: Redrawn) -> Model:
    """The pass that takes the new weights."""
    return redrawn.model


def notes_of(redrawn: Redrawn | None) -> list[str]:
    """Says that the weights are those of no training, and which of them are left."""
    if redrawn is None:
        return []
    found = [
        "the weights are drawn anew (--reinit) and not trained: this is an architecture; the "
        "oracle speaks of the cut before that"
    ]
    if redrawn.left:
        more = f" and {len(redrawn.left) - 3} more" if len(redrawn.left) > 3 else ""
        names = ", ".join(redrawn.left[:3])
        found.append(f"--reinit left {names}{more} as they were: how to draw them is not known")
    return found


def skipped_by(redrawn: Redrawn | None) -> list[str]:
    """The checks that say nothing of new weights."""
    if redrawn is None:
        return []
    return ["drift from the original: the weights are drawn anew (--reinit)"]


def _drawn(start: Start, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    """Values of a weight that starts so."""
    if start.kind == "constant":
        return np.full(shape, start.size)
    if start.kind == "uniform":
        return generator.uniform(-start.size, start.size, shape)
    return generator.standard_normal(shape) * start.size
