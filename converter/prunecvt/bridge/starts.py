"""How the weights of a graph start, as if it had not been trained.

A graph does not say how its weights were drawn. What reads them says which distribution is usual:
filters and matrices normal, with a variance by their fans (He et al., 2015, "Delving deep into
rectifiers"; Glorot and Bengio, 2010); scales 1, biases 0, slopes of PRelu 0.25; embeddings and
other tables normal of deviation 0.02; matrices of recurrent cells uniform within 1 / root of the
hidden size. It needs no torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from prunecvt.bridge.roles import LINEAR, PASSING_ON
from prunecvt_passes.graph import Graph, Node
from prunecvt_passes.model import Array

Shape = tuple[int, ...]
_TABLE = 0.02  # deviation
_SLOPE = 0.25
_RECURRENT = ("LSTM", "GRU", "RNN")


@dataclass(frozen=True)
class Start:
    """The values that a weight has before training.

    Attributes:
        kind: all the same (``constant``), normal around 0, or uniform around 0.
        size: the value, the deviation (where there are fans that of He et al.), or the bound.
        fans: of filters and matrices: numbers that one output sums up, and outputs that one input
            goes into.
    """

    kind: Literal["constant", "normal", "uniform"]
    size: float
    fans: tuple[int, int] | None = None


def start_of(graph: Graph, values: Mapping[str, Array], name: str) -> Start | None:
    """How a weight starts, by the first reader that says so; None where none does.

    Args:
        graph: the index of the model.
        values: its constants (``Roles.values``).
        name: of the weight, one of them.
    """
    own = values[name].shape
    for node, place, shape in readings(graph, values, name):
        found = _start(node, place, own, shape)
        if found is not None:
            return found
    return None


def statistics_of(graph: Graph) -> dict[str, float]:
    """Where running means (0) and variances (1) of every BatchNormalization start."""
    return {
        name: value
        for node in graph.nodes
        if node.op == "BatchNormalization"
        for name, value in zip(node.inputs[3:5], (0.0, 1.0), strict=True)
    }


def origin_of(graph: Graph, name: str) -> str:
    """The tensor whose values ``name`` holds: what lies in front of Transpose, Reshape and such."""
    while (maker := graph.producer.get(name)) is not None and maker.op in PASSING_ON:
        name = maker.inputs[0]
    return name


def readings(
    graph: Graph, values: Mapping[str, Array], name: str
) -> Iterator[tuple[Node, int, Shape | None]]:
    """What computes with a constant, at which input, and the shape that it has there.

    The shape is None where it does not follow from constants.
    """
    open_ends: list[tuple[str, Shape | None]] = [(name, values[name].shape)]
    while open_ends:
        tensor, shape = open_ends.pop()
        for node, place in graph.readers.get(tensor, ()):
            if node.op in PASSING_ON and place == 0:
                passed = None if shape is None else _passed(node, values, shape)
                open_ends.append((node.outputs[0], passed))
            else:
                yield node, place, shape


def _passed(node: Node, values: Mapping[str, Array], shape: Shape) -> Shape | None:
    """The shape behind a node that passes a constant on."""
    if node.op in ("Cast", "Identity"):
        return shape
    if node.op == "Transpose":
        return tuple(shape[k] for k in node.attributes.get("perm", range(len(shape))[::-1]))
    stated = values.get(node.input(1))
    if node.op == "Reshape" and stated is not None:
        return _reshaped(shape, [int(size) for size in stated])
    return None


def _reshaped(shape: Shape, target: list[int]) -> Shape:
    """The shape of a Reshape: 0 keeps a size, and -1 takes what is left."""
    sizes = [shape[k] if size == 0 else size for k, size in enumerate(target)]
    known = math.prod(size for size in sizes if size > 0)
    return tuple(math.prod(shape) // known if size < 0 else size for size in sizes)


def _start(node: Node, place: int, own: Shape, shape: Shape | None) -> Start | None:
    """How what ``node`` reads at ``place`` starts: of shape ``own`` as stored, ``shape`` there."""
    if node.op in _RECURRENT:
        hidden = node.attributes.get("hidden_size") or own[-1]
        weight = place in (1, 2)
        return Start("uniform", 1 / math.sqrt(hidden)) if weight else Start("constant", 0.0)
    if node.op in LINEAR:
        if shape is None:
            return None
        fans = _fans(node, place, shape)
        return Start("normal", math.sqrt(2 / fans[0]), fans) if fans else Start("constant", 0.0)
    if node.op == "Gather":
        return Start("normal", _TABLE)
    if node.op == "PRelu":
        return Start("constant", _SLOPE)
    norm = node.op.endswith("Normalization")
    if node.op == "Mul" or (norm and place == _scale_of(node)):
        return Start("constant", 1.0)
    if node.op in ("Add", "Concat") and sum(size > 1 for size in own) > 1:
        return Start("normal", _TABLE)
    if norm or node.op in ("Add", "BiasGelu", "Concat", "FastGelu"):
        return Start("constant", 0.0)
    return None


def _scale_of(node: Node) -> int:
    """Which input is the scale of a normalisation."""
    return 2 if node.op == "SkipLayerNormalization" else 1


def _fans(node: Node, place: int, shape: Shape) -> tuple[int, int] | None:
    """How many numbers one output sums up, and how many outputs one input goes into.

    None for a bias.
    """
    if node.op in ("Conv", "ConvTranspose"):
        return _filter_fans(node, shape) if place == 1 else None
    if node.op == "Gemm":
        if place == 2:
            return None
        turned = bool(node.attributes.get("transB" if place else "transA", 0))
        return (shape[1], shape[0]) if (place == 1) == turned else (shape[0], shape[1])
    if node.op == "MatMul":
        if len(shape) < 2:
            return shape[-1], 1
        return (shape[-2], shape[-1]) if place else (shape[-1], shape[-2])
    return _summed(node, place, shape)


def _filter_fans(node: Node, shape: Shape) -> tuple[int, int]:
    """Of [out, in / group, taps], or of [in, out / group, taps] of a ConvTranspose.

    A stride leaves each output of a ConvTranspose a part of the taps only.
    """
    taps, group = math.prod(shape[2:]), int(node.attributes.get("group", 1))
    if node.op == "Conv":
        return shape[1] * taps, shape[0] // group * taps
    strides: int = math.prod(node.attributes.get("strides", (1,)))
    return max(shape[0] // group * taps // strides, 1), shape[1] * taps


def _summed(node: Node, place: int, shape: Shape) -> tuple[int, int] | None:
    """Of an operand of Einsum: its axes that the output has not, and those that only it has."""
    equation: str = node.attributes["equation"]
    terms, _, output = equation.replace(" ", "").partition("->")
    each = terms.split(",")
    letters = each[place].replace(".", "")
    others = "".join(each[:place] + each[place + 1 :])
    sizes = list(zip(letters[::-1], shape[::-1], strict=False))
    made = math.prod(size for letter, size in sizes if letter in output and letter not in others)
    return math.prod(size for letter, size in sizes if letter not in output), made
