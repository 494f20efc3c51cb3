"""Refits a producer towards what its one reader is to reach, both at once.

A refit alone makes the producer give what the original gave in the channels that are left. Once the
reader is fitted, something else may serve it better. With e the reader's error, the producer's
values should move along g = f' * W' e (f the activation between, W the reader's weight): a step
along the least-squares fit of g on the producer's patches, with the curvature of the reader's error
in them factored into patches and channels (Gauss-Newton with Kronecker factors; Martens and Grosse,
2015, "Optimizing neural networks with Kronecker-factored approximate curvature"), as long as the
line search finds it. The block-wise target is that of Li et al., 2021, "BRECQ".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from prunecvt_passes.graph import Graph
from prunecvt_passes.model import Array
from prunecvt_passes.recovery.aim import bias_values
from prunecvt_passes.recovery.couple import Couple, Part, backward
from prunecvt_passes.recovery.edit import matrix_of, set_bias, set_matrix
from prunecvt_passes.recovery.linear import Linear, matrix
from prunecvt_passes.recovery.normal import Floats, Normal, Ridge
from prunecvt_passes.recovery.patches import blocked, patches, positions, responses

PLACES = 1 << 14  # rows that a step is fitted on
RIDGE = 1e-3  # of the mean variance of the producer's columns
DAMPING = 1e-2  # of the mean curvature of the channels between
_HALVINGS = 3


@dataclass(frozen=True)
class Block:
    """A run's input of the producer, the goal of the reader, and what is added to its output."""

    inputs: Array
    goal: Array
    other: Array | float


def improve(graph: Graph, couple: Couple, blocks: Sequence[Block], chance: int) -> bool:
    """Takes a step in the producer's weight; says whether one lowers the reader's error.

    Args:
        graph: the slimmed model; its weights are replaced.
        couple: the producer and its reader.
        blocks: the runs to fit on.
        chance: seed of the places that are looked at.
    """
    producer = couple.producer
    if bias_values(graph, producer) is None:
        set_bias(graph, producer, np.zeros(matrix_of(graph, producer).shape[:2]))
    step = _Step(graph, couple)
    before = step.solve(blocks, np.random.default_rng(chance))
    weight = matrix_of(graph, producer)
    start = np.asarray(bias_values(graph, producer), np.float64).reshape(weight.shape[:2])
    length = step.length(blocks)
    for _ in range(_HALVINGS if length > 0 else 0):
        set_matrix(graph, producer, weight + length * step.weight)
        set_bias(graph, producer, start + length * step.bias)
        if _Step(graph, couple).error(blocks) < before:
            return True
        length /= 2
    set_matrix(graph, producer, weight)
    set_bias(graph, producer, start)
    return False


def activations(graph: Graph, couple: Couple, inputs: Sequence[Array]) -> Iterator[Array]:
    """The reader's inputs, with the producer's weight as it is by now."""
    name = couple.reader.linear.node.inputs[0]
    run = Part(graph, couple.path[:-1], [name])
    for values in inputs:
        yield run(couple.producer.linear.node.inputs[0], values)[0]


class _Step:
    """A direction for the producer's weight [g, o, d] and bias [g, o]."""

    def __init__(self, graph: Graph, couple: Couple) -> None:
        self.couple, self.graph = couple, graph
        self.low, self.high = couple.producer.low, couple.producer.high
        outputs = [couple.producer.tensor, couple.reader.linear.node.outputs[0]]
        self.forward = Part(graph, couple.path, outputs)
        self.weight, self.bias = np.zeros(0), np.zeros(0)

    def solve(self, blocks: Sequence[Block], chance: np.random.Generator) -> float:
        """Finds the direction; returns the error as it is."""
        linear, normal = self.couple.producer.linear, Normal()
        each, error, open_ = -(-PLACES // max(_images(blocks), 1)), 0.0, np.zeros(0)
        shape = self.graph.model.weights[linear.weight].shape
        for block in blocks:
            values, gap = self._gap(block)
            error += _squares(gap)
            slope = self._slope(values)
            aim = slope * backward(self.graph, self.couple.reader.linear, gap, values.shape)
            places = positions(
                linear, aim.shape, each if linear.spatial else each * len(aim), chance
            )
            rows = patches(linear, block.inputs, aim.shape, shape, places)
            normal.add(rows, blocked(linear, responses(linear, aim, places)))
            some = responses(linear, slope, places)
            open_ = (open_ if open_.size else 0.0) + some.T.astype(np.float64) @ some
        prior = np.zeros((linear.blocks, normal.y.shape[1], normal.x.shape[1]))
        curve = _curvature(self.graph, self.couple.reader.linear, open_ / normal.count)
        self.weight = _across(curve, Ridge(normal, RIDGE, True).solve(prior))
        mean = np.einsum("god,gd->go", self.weight, normal.mean())
        self.bias = _across(curve, (normal.y / normal.count)[..., None])[..., 0] - mean
        return error

    def length(self, blocks: Sequence[Block]) -> float:
        """How far to go, from the reader's error as it is to first order."""
        moved = _Moved(self.graph, self.couple, self.weight, self.bias)
        above = below = 0.0
        for block in blocks:
            values, gap = self._gap(block)
            shift = moved(block.inputs, self._slope(values))
            above += float(np.einsum("i,i->", gap.ravel(), shift.ravel(), dtype=np.float64))
            below += _squares(shift)
        return above / (below + 1e-30)

    def error(self, blocks: Sequence[Block]) -> float:
        """Squared error of the reader within the range that tells."""
        return sum(_squares(self._gap(block)[1]) for block in blocks)

    def _gap(self, block: Block) -> tuple[Array, Array]:
        """The producer's values, and what the reader lacks within the range that tells."""
        name = self.couple.producer.linear.node.inputs[0]
        values, found = self.forward(name, block.inputs)
        found = found + block.other
        low, high = self.couple.reader.low, self.couple.reader.high
        goal = np.where(block.goal <= low, np.minimum(found, low), block.goal)
        goal = np.where(block.goal >= high, np.maximum(found, high), goal)
        return values, (goal - found).astype(np.float32)

    def _slope(self, values: Array) -> Array:
        return ((values > self.low) & (values < self.high)).astype(np.float32)


class _Moved:
    """What the reader's output moves by, to first order, as the producer's weight does."""

    def __init__(self, graph: Graph, couple: Couple, weight: Floats, bias: Floats) -> None:
        model = graph.model.copy()
        edited = replace(graph, model=model)
        set_matrix(edited, couple.producer, weight)
        set_bias(edited, couple.producer, bias)
        last = couple.reader.linear.node
        self.names = couple.producer.linear.node.inputs[0], last.inputs[0]
        self.first = Part(edited, couple.path[:1], [couple.producer.tensor])
        plain = onnx.NodeProto()
        plain.CopyFrom(last.proto)
        del plain.input[2:]
        self.second = Part(edited, [replace(last, proto=plain)], [last.outputs[0]])

    def __call__(self, inputs: Array, slope: Array) -> Array:
        """The move for a run's input of the producer, and where the activation lets through."""
        moved = self.first(self.names[0], inputs)[0] * slope
        return self.second(self.names[1], moved)[0]


def _images(blocks: Sequence[Block]) -> int:
    return sum(len(block.inputs) for block in blocks)


def _squares(values: Array) -> float:
    return float(np.einsum("i,i->", values.ravel(), values.ravel(), dtype=np.float64))


def _curvature(graph: Graph, reader: Linear, both: Floats) -> Floats:
    """W'W over the reader's outputs and taps, where both channels pass the activation, damped."""
    weight = matrix(reader, graph.model.weights[reader.weight])[0].astype(np.float64)
    taps = weight.reshape(len(weight), len(both), -1)
    found = np.einsum("oct,odt->cd", taps, taps, optimize=True) * both
    size = len(found)
    damped: Floats = found + (DAMPING * np.trace(found) / size + 1e-30) * np.eye(size)
    return damped


def _across(curvature: Floats, values: Floats) -> Floats:
    """The inverse of the curvature over all channels [g * o] of values [g, o, d]."""
    flat = values.reshape(-1, values.shape[-1])
    return np.asarray(np.linalg.solve(curvature, flat)).reshape(values.shape)
