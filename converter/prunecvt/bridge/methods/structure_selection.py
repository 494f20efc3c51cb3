"""Sparse Structure Selection: factors that learn to be zero (Huang & Wang, 2018).

"Data-driven sparse structure selection for deep neural networks" multiplies each residual branch
F_i(x), each group of a grouped convolution or each neuron by a factor lambda_i, starting at 1, adds
gamma * sum |lambda_i| to the loss, and trains the factors by accelerated proximal gradient:

    z = lambda' - rate * gradient            v = S(z) - lambda' + momentum * v
    lambda' = S(z) + momentum * v            S(z) = sign(z) * max(0, |z| - rate * gamma)

in the form that needs no second look at the loss (equations 10 to 12; lambda' is the point ahead).
A structure whose factor is zero computes nothing: ``prunecvt trim`` takes it out, exactly. What
factors are left go into the weights before them (``fold_factors``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import onnx
from torch import Tensor, nn

from prunecvt.bridge.methods.fit import Hook
from prunecvt.bridge.weights import loaded
from prunecvt.errors import UsageError
from prunecvt.loading.load import Loadable
from prunecvt_passes.clean import drop_dead
from prunecvt_passes.graph import Graph, Node, index, replace_nodes, taken_names, unused
from prunecvt_passes.model import Array, Model
from prunecvt_passes.normalise import Source, normalise
from prunecvt_passes.trim.blocks import find_blocks

Kind = Literal["block", "group", "neuron"]


@dataclass(frozen=True)
class Factor:
    """Factors in a model: a constant [1, C, 1, 1] that one Mul multiplies a tensor with.

    Attributes:
        name: the initializer.
        tensor: what is multiplied.
        number: how many factors there are; each stands for C / number channels in a row.
    """

    name: str
    tensor: str
    number: int


def insert_factors(
    model: Loadable | Model, kind: Kind = "block"
) -> tuple[Model, tuple[Factor, ...]]:
    """Multiplies structures by factors of 1, which changes no output.

    Args:
        model: left untouched; with BatchNormalization where it is to be trained.
        kind: ``block`` for residual branches, ``group`` for the groups of grouped convolutions,
            ``neuron`` for the channels of every convolution that is not the last layer; factors of
            the latter two stand behind the BatchNormalization, where there is one. For several
            kinds, insert one after the other.

    Returns:
        The model in normal form, with the factors, and what they are.

    Raises:
        UsageError: E258, the kind is unknown, or there is nothing of it.
    """
    taken = loaded(model)
    graph = normalise(Source(taken)).graph
    wanted = _places(graph, kind) if kind in get_args(Kind) else []
    if not wanted:
        raise UsageError(
            "E258",
            f"there is nothing to put a factor on: no {kind}",
            where=taken.source,
            help=f"kinds are {', '.join(get_args(Kind))}",
        )
    edited = graph.model.copy()
    names, found, made = taken_names(edited.proto.graph), [], {}
    for tensor, channels, number, reader in wanted:
        factor = Factor(unused(f"{tensor}__factor", names), tensor, number)
        edited.set_weight(factor.name, np.ones((1, channels, 1, 1), np.float32))
        scaled = unused(f"{tensor}__scaled", names)
        made[tensor] = onnx.helper.make_node("Mul", [tensor, factor.name], [scaled], name=scaled)
        _redirect(edited, tensor, scaled, reader)
        found.append(factor)
    replace_nodes(
        edited.proto.graph,
        lambda _, node: (node, *(made[name] for name in node.output if name in made)),
    )
    return edited, tuple(found)


def _places(graph: Graph, kind: Kind) -> list[tuple[str, int, int, str]]:
    """Tensor, its channels, the number of factors, and what reads the product ("" for all)."""
    found = []
    if kind == "block":
        for block in find_blocks(graph):
            shape = graph.shape(block.tensor) or ()
            if block.axis == 1 and len(shape) == 4 and shape[1] > 1:
                reader = graph.nodes[block.sum].outputs[0]
                found.append((block.tensor, shape[1], 1, reader))
    for node in graph.nodes if kind != "block" else ():
        weight = graph.constant(node.inputs[1]) if node.op == "Conv" else None
        if weight is None or weight.ndim != 4 or node.scope or weight.shape[0] < 2:
            continue
        number = int(node.attributes.get("group", 1)) if kind == "group" else weight.shape[0]
        tensor = _behind(graph, node)
        inside = tensor not in graph.ends and tensor in graph.readers
        if inside and (kind == "neuron" or 1 < number < weight.shape[0]):
            found.append((tensor, weight.shape[0], number, ""))
    return found


def _behind(graph: Graph, node: Node) -> str:
    """What a convolution makes, normalised where only a BatchNormalization reads it."""
    reader = graph.only_reader(node.outputs[0])
    normed = reader is not None and reader[0].op == "BatchNormalization"
    return reader[0].outputs[0] if reader is not None and normed else node.outputs[0]


def _redirect(model: Model, tensor: str, scaled: str, reader: str) -> None:
    for node in model.proto.graph.node:
        if not reader or reader in node.output:
            for place, name in enumerate(node.input):
                if name == tensor:
                    node.input[place] = scaled


class Selection(Hook):
    """Trains factors by accelerated proximal gradient, in the place of the optimiser.

    Attributes:
        factors: of ``insert_factors``.
        strength: gamma, of the paper's loss.
        momentum: of the accelerated steps.
    """

    def __init__(self, factors: Sequence[Factor], strength: float, momentum: float = 0.9) -> None:
        """Takes the factors, which the optimiser then leaves alone.

        Raises:
            UsageError: E258, there is no factor, or a strength or momentum is out of range.
        """
        if not factors or strength < 0 or not 0 <= momentum < 1:
            raise UsageError(
                "E258",
                "selection needs a factor or more, a strength from 0 on, a momentum from 0 to 1",
                help="insert_factors() makes the factors",
            )
        self.factors, self.strength, self.momentum = tuple(factors), strength, momentum
        self._gradients: dict[str, Tensor] = {}
        self._speeds: dict[str, Tensor] = {}

    def before_step(self, module: nn.Module) -> None:
        """Takes the gradients away from the optimiser; channels of a structure share theirs."""
        for factor in self.factors:
            values = module.tensor(factor.name)
            self._gradients[factor.name] = values.grad.reshape(factor.number, -1).sum(1)
            values.grad = None

    def after_step(self, module: nn.Module, rate: float) -> None:
        """Moves the factors."""
        for factor in self.factors:
            values = module.tensor(factor.name)
            ahead = values.reshape(factor.number, -1)[:, 0]
            speed = self._speeds.get(factor.name)
            ahead, self._speeds[factor.name] = accelerated_step(
                ahead,
                ahead.new_zeros(()) if speed is None else speed,
                self._gradients[factor.name],
                rate=rate,
                strength=self.strength,
                momentum=self.momentum,
            )
            spread = ahead[:, None].expand(-1, values.numel() // factor.number)
            values.copy_(spread.reshape(values.shape))


def accelerated_step(
    ahead: Tensor, speed: Tensor, gradient: Tensor, *, rate: float, strength: float, momentum: float
) -> tuple[Tensor, Tensor]:
    """One step of accelerated proximal gradient for strength * sum |lambda|.

    Args:
        ahead: lambda', the point ahead, where the gradient was taken.
        speed: v of the step before.
        gradient: of the loss.
        rate, strength, momentum: as the equations at the head of this file name them.

    Returns:
        The next point ahead, and the next speed.
    """
    moved = soft_threshold(ahead - rate * gradient, rate * strength)
    speed = moved - ahead + momentum * speed
    return moved + momentum * speed, speed


def soft_threshold(values: Tensor, threshold: float) -> Tensor:
    """Moves every value towards zero by the threshold, and no further."""
    return values.sign() * (values.abs() - threshold).clamp_min(0)


def factors_of(module: nn.Module, factors: Sequence[Factor]) -> list[list[float]]:
    """The factors' values, one list for each."""
    return [
        module.tensor(each.name).detach().reshape(each.number, -1)[:, 0].tolist()
        for each in factors
    ]


def fold_factors(model: Model, factors: Sequence[Factor]) -> tuple[Model, tuple[Factor, ...]]:
    """Multiplies factors into the weights that make what they multiply, and takes them out.

    This computes the same, but for rounding. A factor stays where its tensor is made by anything
    but a convolution or a BatchNormalization with constants of its own that only it reads.

    Args:
        model: left untouched; what ``with_weights`` gave, or a trimmed model.
        factors: those that are no longer there are passed over.

    Returns:
        The model, and the factors that stayed.
    """
    edited, stayed = model.copy(), []
    for factor in factors:
        graph = index(edited)
        readers = graph.readers.get(factor.name, [])
        if not readers:
            continue
        node = readers[0][0]
        tensor = next((name for name in node.inputs if name != factor.name), "")
        maker = graph.producer.get(tensor)
        parts = _parts(graph, maker) if maker is not None else ()
        if not parts or graph.only_reader(tensor) is None or len(readers) != 1:
            stayed.append(factor)
            continue
        scale = model.weights[factor.name].reshape(-1)
        for name in parts:
            edited.set_weight(name, _times(edited.weights[name], scale))
        _bypass(edited, node.outputs[0], tensor)
    drop_dead(edited)
    return edited, tuple(stayed)


def _parts(graph: Graph, maker: Node) -> tuple[str, ...]:
    """The constants that a layer's outputs are proportional to together; () where they are not."""
    if maker.op not in ("Conv", "BatchNormalization"):
        return ()
    parts = tuple(filter(None, maker.inputs[1:3]))
    own = all(graph.is_initializer(name) and graph.only_reader(name) for name in parts)
    return parts if own else ()


def _times(weight: Array, scale: Array) -> Array:
    shape = (-1, *(1,) * (weight.ndim - 1))
    product = weight.astype(np.float64) * scale.reshape(shape).astype(np.float64)
    return product.astype(weight.dtype)


def _bypass(model: Model, product: str, tensor: str) -> None:
    """Leaves a Mul out: its readers read what it multiplied."""
    _redirect(model, product, tensor, "")
    replace_nodes(model.proto.graph, lambda _, node: () if product in node.output else (node,))
