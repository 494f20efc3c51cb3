"""Weights drawn anew: an architecture without what was learnt, to be trained from scratch.

Filters and matrices are drawn as in He et al. (2015, "Delving deep into rectifiers"): normal, of
variance 2 / fan-in, where the fan-in is how many numbers one output sums up. Scales of
normalisations are 1, running means 0 and variances 1, biases 0, slopes of PRelu 0.25, embeddings
and other tables normal of deviation 0.02; matrices of recurrent cells uniform within 1 / root of
the hidden size.

Liu et al. (2019, "Rethinking the value of network pruning") train slimmed architectures so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from prunecvt.bridge.roles import roles_of
from prunecvt.bridge.weights import replaced, stored_names
from prunecvt.errors import UsageError
from prunecvt_passes.graph import Graph, Node, index
from prunecvt_passes.model import Array, Model

_TABLE = 0.02  # deviation
_SLOPE = 0.25
_RECURRENT = ("LSTM", "GRU", "RNN")
_LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum")


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
    roles = roles_of(graph, stored_names(model))
    if not roles.trainable:
        raise UsageError(
            "E257",
            "there is nothing to draw anew: no weight of this model can be trained",
            where=model.source,
            help="leave --reinit out, or give the model in floating point",
        )
    generator = np.random.default_rng(wish.seed)
    made, left = _statistics(graph, roles.values, stored_names(model)), []
    for name in roles.trainable:
        readers = graph.readers.get(name, ())
        drawn = None
        for node, place in readers:
            drawn = _drawn(node, place, roles.values[name], generator)
            if drawn is not None:
                break
        if drawn is None:
            left.append(name)
        else:
            made[name] = drawn
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


def _statistics(graph: Graph, values: dict[str, Array], stored: frozenset[str]) -> dict[str, Array]:
    """Means of 0 and variances of 1 of every BatchNormalization."""
    found: dict[str, Array] = {}
    for node in graph.nodes:
        if node.op == "BatchNormalization":
            for name, value in zip(node.inputs[3:5], (0.0, 1.0), strict=True):
                if name in stored:
                    found[name] = np.full(values[name].shape, value, np.float32)
    return found


def _drawn(node: Node, place: int, old: Array, generator: np.random.Generator) -> Array | None:
    """New values of what ``node`` reads at ``place``; None where it only passes them on."""
    shape = old.shape
    if node.op in _RECURRENT:
        hidden = node.attributes.get("hidden_size") or shape[-1]
        bound = 1 / math.sqrt(hidden)
        return generator.uniform(-bound, bound, shape) if place in (1, 2) else np.zeros(shape)
    if node.op in _LINEAR:
        fan = _fan_in(node, place, shape)
        if fan:
            return generator.standard_normal(shape) * math.sqrt(2 / fan)
        return np.zeros(shape)
    if node.op == "Gather":
        return generator.standard_normal(shape) * _TABLE
    if node.op == "PRelu":
        return np.full(shape, _SLOPE)
    if node.op == "Mul" or (node.op.endswith("Normalization") and place == _scale_of(node)):
        return np.ones(shape)
    if node.op in ("Add", "Concat") and sum(size > 1 for size in shape) > 1:
        return generator.standard_normal(shape) * _TABLE
    biases = node.op.endswith("Normalization") or node.op in ("Add", "BiasGelu", "FastGelu")
    if biases or node.op == "Concat":
        return np.zeros(shape)
    return None


def _scale_of(node: Node) -> int:
    """Which input is the scale of a normalisation."""
    return 2 if node.op == "SkipLayerNormalization" else 1


def _fan_in(node: Node, place: int, shape: tuple[int, ...]) -> int:
    """How many numbers one output sums up; 0 for a bias."""
    if node.op in ("Conv", "ConvTranspose"):
        if place != 1:
            return 0
        taps = math.prod(shape[2:])
        if node.op == "Conv":
            return shape[1] * taps
        strides: int = math.prod(node.attributes.get("strides", (1,)))
        return max(shape[0] // int(node.attributes.get("group", 1)) * taps // strides, 1)
    if node.op == "Gemm":
        if place == 2:
            return 0
        turned = bool(node.attributes.get("transB" if place else "transA", 0))
        return shape[1] if (place == 1) == turned else shape[0]
    if node.op == "MatMul":
        return shape[-2] if place and len(shape) > 1 else shape[-1]
    return _summed(node, place, shape)


def _summed(node: Node, place: int, shape: tuple[int, ...]) -> int:
    """The fan-in of an operand of Einsum: its axes that the output has not."""
    equation: str = node.attributes["equation"]
    terms, _, output = equation.replace(" ", "").partition("->")
    letters = terms.split(",")[place].replace(".", "")
    sizes = zip(letters[::-1], shape[::-1], strict=False)
    return math.prod(size for letter, size in sizes if letter not in output)
