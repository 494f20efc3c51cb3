"""Mean and variance of every channel, guessed without data.

Behind a BatchNormalization they are beta and gamma squared, whatever the data. From there they are
carried through activations (by quadrature over a normal distribution), sums and poolings; channels
count as independent. A convolution without BatchNormalization carries them through its weights,
beginning with inputs of mean 0 and variance 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prunecvt_passes.graph import Graph, Node

Floats = npt.NDArray[np.float64]
_POINTS, _WEIGHTS = np.polynomial.hermite_e.hermegauss(33)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


@dataclass(frozen=True)
class Moments:
    """Mean and variance by channel."""

    mean: Floats
    variance: Floats

    @property
    def energy(self) -> Floats:
        """Mean square by channel."""
        return self.mean**2 + self.variance


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)), np.float64)


ACTIVATIONS: dict[str, Callable[[Floats], Floats]] = {
    "Relu": lambda x: np.maximum(x, 0),
    "LeakyRelu": lambda x: np.where(x > 0, x, 0.01 * x),
    "Clip": lambda x: np.clip(x, 0, 6),
    "Sigmoid": _sigmoid,
    "HardSigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "HardSwish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "Tanh": np.tanh,
}
_SAME = frozenset(("GlobalAveragePool", "AveragePool", "MaxPool", "Slice", "Identity", "Resize"))


def moments(graph: Graph, gain: float = 1.0) -> dict[str, Moments]:
    """Tensor -> moments along axis 1, for the tensors they can be guessed of.

    Args:
        graph: the model.
        gain: factor on the variance that a convolution makes: its inputs are correlated in truth,
            so the sum of their variances is too low.
    """
    found: dict[str, Moments] = {}
    for name in graph.inputs:
        shape = graph.shape(name)
        if shape is not None and len(shape) > 1:
            found[name] = Moments(np.zeros(shape[1]), np.ones(shape[1]))
    for node in graph.nodes:
        made = _step(graph, node, found, gain)
        shape = graph.shape(node.output(0)) if node.outputs else None
        if made is not None and shape is not None and (made.mean.size,) == shape[1:2]:
            found[node.outputs[0]] = made
    return found


def _step(graph: Graph, node: Node, found: dict[str, Moments], gain: float) -> Moments | None:
    if node.op == "BatchNormalization":
        gamma, beta = (graph.constant(node.inputs[k]) for k in (1, 2))
        if gamma is None or beta is None:
            return None
        return Moments(np.asarray(beta, np.float64), np.asarray(gamma, np.float64) ** 2)
    known = [found.get(name) for name in node.inputs]
    first = known[0] if known else None
    if node.op == "Concat" and all(k is not None for k in known):
        parts = [k for k in known if k is not None]
        return Moments(
            np.concatenate([p.mean for p in parts]), np.concatenate([p.variance for p in parts])
        )
    if first is None:
        return None
    if node.op in _SAME:
        return first
    if node.op in ACTIVATIONS:
        return activated(first, ACTIVATIONS[node.op])
    if node.op in ("Conv", "Gemm"):
        made = _contracted(graph, node, first)
        return None if made is None else Moments(made.mean, gain * made.variance)
    if node.op in ("Add", "Mul"):
        return _combined(node, first, known[1])
    return _reshaped(graph, node, first)


def activated(given: Moments, function: Callable[[Floats], Floats]) -> Moments:
    """Moments behind an activation, for normally distributed inputs."""
    values = function(given.mean[:, None] + np.sqrt(given.variance)[:, None] * _POINTS)
    mean = values @ _WEIGHTS
    return Moments(mean, np.maximum(values**2 @ _WEIGHTS - mean**2, 0))


def _combined(node: Node, first: Moments, second: Moments | None) -> Moments | None:
    if second is None or second.mean.size != first.mean.size:
        return None
    if node.op == "Add":
        return Moments(first.mean + second.mean, first.variance + second.variance)
    mean = first.mean * second.mean
    return Moments(mean, first.energy * second.energy - mean**2)


def _contracted(graph: Graph, node: Node, given: Moments) -> Moments | None:
    weight, bias = graph.constant(node.inputs[1]), graph.constant(node.input(2))
    if weight is None:
        return None
    rows = np.asarray(weight, np.float64)
    if node.op == "Gemm" and not node.attributes.get("transB", 0):
        rows = rows.T
    rows = rows.reshape(*rows.shape[:2], -1)
    groups = node.attributes.get("group", 1)
    if groups > 1 and rows.shape[1] == 1 and groups == rows.shape[0]:
        mean = rows.sum(axis=(1, 2)) * given.mean
        variance = (rows**2).sum(axis=(1, 2)) * given.variance
    elif groups == 1 and rows.shape[1] == given.mean.size:
        mean, variance = rows.sum(axis=2) @ given.mean, (rows**2).sum(axis=2) @ given.variance
    else:
        return None
    return Moments(mean + (0 if bias is None else bias), variance)


def _reshaped(graph: Graph, node: Node, given: Moments) -> Moments | None:
    """Pad with zeros, and Flatten, of an axis of channels."""
    shape = graph.shape(node.outputs[0])
    if shape is None or len(shape) < 2:
        return None
    extra = shape[1] - given.mean.size
    if node.op == "Pad" and extra >= 0:
        pads = graph.constant(node.input(1))
        before = int(pads[1]) if pads is not None and extra else 0
        ends = (before, extra - before)
        return Moments(np.pad(given.mean, ends), np.pad(given.variance, ends))
    if node.op in ("Flatten", "Reshape") and shape[1] % given.mean.size == 0:
        times = shape[1] // given.mean.size
        return Moments(np.repeat(given.mean, times), np.repeat(given.variance, times))
    return None
