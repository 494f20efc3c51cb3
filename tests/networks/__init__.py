"""Random networks: what every step is, and how a genome becomes a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx

from networks import convolutions, mixing, movements, operators, rarities, tokens
from networks.choices import FIXED, Choices, Genome, random_genome
from networks.forms import Forms, rewritten
from networks.growing import LARGEST, MOST, Network, Tensor

Step = Callable[[Network, Choices, Tensor], Tensor]
FAMILIES: tuple[tuple[Step, ...], ...] = (
    convolutions.STEPS,
    convolutions.STEPS,
    movements.STEPS,
    movements.STEPS,
    mixing.STEPS,
    tokens.STEPS,
    rarities.STEPS,
    operators.STEPS,
)


@dataclass(frozen=True)
class Grown:
    """What a genome became.

    Attributes:
        proto: the model.
        stated: graph input -> dimensions to analyse it at; empty where only the batch is open.
        steps: name of a step -> tensors that it made.
        genome: the genome as far as it was read.
        plan: the section that says what is cut.
    """

    proto: onnx.ModelProto
    stated: dict[str, tuple[int, ...]]
    steps: dict[str, list[str]]
    genome: Genome
    plan: Choices


def grow(genome: Genome) -> Grown:
    """The network of a genome; the same genome always gives the same bytes."""
    sections = [Choices(numbers) for numbers in genome]
    sections += [Choices() for _ in range(FIXED - len(sections))]
    header, plan, end, *steps = sections
    network = Network(header)
    forms = Forms.drawn(header)
    _begin(network, header)
    for choices in steps:
        _grow_step(network, choices)
    _finish(network, end)
    proto, names = rewritten(network.net.proto(), forms)
    made = {step: [names.get(n, n) for n in found] for step, found in network.steps.items()}
    return Grown(proto, network.stated, made, [s.taken for s in sections], plan)


def generate(seed: int) -> onnx.ModelProto:
    """The network of a seed."""
    return grow(random_genome(seed)).proto


def _begin(g: Network, c: Choices) -> None:
    """A layer on every input, so that there are channels to cut; inputs are seldom read again."""
    inputs = list(g.tensors)
    made = [convolutions.conv(g, c, x) for x in inputs]
    g.tensors = made if c.chance(85) else [*inputs, *made]


def _grow_step(g: Network, c: Choices) -> None:
    x = g.choose(c)
    step = c.pick(*c.pick(*FAMILIES))
    start = len(g.net.nodes)
    y = step(g, c, x)
    if y.channels > MOST or y.channels * y.positions > LARGEST:
        y = _narrowed(g, y)
    g.tensors.append(y)
    made = [name for node in g.net.nodes[start:] for name in node.output]
    g.steps.setdefault(step.__name__, []).extend(made)


def _narrowed(g: Network, x: Tensor) -> Tensor:
    """Brings a tensor that grew too large down to a few channels and positions."""
    y = g.first(x)
    if y.positions * 6 > LARGEST:
        rank = len(y.space)
        name = g.op("MaxPool", y.name, kernel_shape=[2] * rank, strides=[2] * rank)
        y = Tensor(name, y.channels, tuple((a // 2, b // 2) for a, b in y.space))
    return convolutions.conv(g, Choices(), y, 6)


def _finish(g: Network, c: Choices) -> None:
    """Adds the outputs: a head or two; the second may be any tensor itself."""
    heads = [g.tensors[-1]]
    if c.chance(30):
        heads.append(g.choose(c))
    for x in heads:
        kind = c.pick("layer", "flat", "pooled", "layer", "flat", "pooled", "bare")
        if kind == "flat" and (not x.fixed or x.channels * x.positions > 600):
            kind = "pooled"
        if kind == "flat":
            x = convolutions.dense(g, c, Tensor(g.op("Flatten", x.name), x.channels * x.positions))
        if kind == "pooled":
            x = tokens.pooled_token(g, c, x) if x.space else x
        if kind == "bare":
            x = g.tanh(x)
        else:
            x = convolutions.conv(g, c, x, 3)
        name = x.name
        if any(name == output.name for output in g.net.outputs):
            name = g.op("Identity", name)
        g.net.output(name, shape=[None] * (len(x.space) + 2))


__all__ = ["FAMILIES", "Grown", "generate", "grow"]
