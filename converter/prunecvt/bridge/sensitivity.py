"""How a loss answers when channels are turned down, sample by sample: gradients by gates.

One forward and one backward run of the gated model (``criteria/gated.py``) give, for each sample
and each class, dL/dg: what the loss loses to first order if the class goes. Which loss is set by
its gradient at the outputs, so that none needs labels:

- ``own``: the cross-entropy with the model's own answer as the label. Where outputs are no classes,
  the logarithm of the output's norm: how much of it came through the channel.
- ``drawn``: the outputs times a random direction, of signs over the output's norm. E[(dL/dg)^2] is
  then the diagonal of the Gauss-Newton matrix of half the squared relative error of the outputs
  (Hutchinson's estimator, 1989), which is Fisher's for a normal distribution around them (Martens,
  2020). Scores in front of a Softmax are taken as they are: the divergence of its answers, of which
  Fisher's matrix is diag(p) - p p', hardly sees the samples that the model is sure of, and chose
  worse (docs/criteria.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from prunecvt.bridge.module import GraphModule
from prunecvt_passes.criteria.gated import Gate, Head
from prunecvt_passes.model import Array, Model

if TYPE_CHECKING:
    from prunecvt_passes.criteria.table import Loss

Feed = Mapping[str, Array]
_TINY = 1e-30


@dataclass(frozen=True)
class Asked:
    """A model with gates, and what of it is asked.

    Attributes:
        model: whose outputs are the heads.
        gates, heads: of the model.
        classes: number of classes that gates can belong to.
        loss: which.
        most: samples that are run at a time.
        seed: of random directions.
    """

    model: Model
    gates: Sequence[Gate]
    heads: Sequence[Head]
    classes: int
    loss: Loss
    most: int = 32
    seed: int = 0


def sensitivities(asked: Asked, feeds: Sequence[Feed]) -> Iterator[tuple[Array, Array]]:
    """Yields dL/dg for some samples at a time, and which classes a gradient reaches.

    Args:
        asked: what is differentiated.
        feeds: batches of samples; how they are cut into batches changes nothing.

    Returns:
        [samples, classes] and [classes]. Where samples cannot be told apart, because a tensor with
        a gate has no batch along its first axis, they are run one by one; where the model does not
        take one alone, a feed counts as one sample.

    Raises:
        UnsupportedError: E440, an operator has no counterpart in torch.
    """
    module = GraphModule(_showing(asked)).eval().requires_grad_(False)
    draws = [np.random.default_rng((asked.seed, k)) for k in range(len(asked.heads))]
    step = -1
    for feed in feeds:
        size = _samples(feed)
        if step < 0 and size > 1:
            step = _step(module, asked, feed)
        together = max(step, 0) or size
        for start in range(0, size, together):
            part = feed if together >= size else _part(feed, start, start + together)
            yield _run(module, asked, part, draws, 1 if step == 0 else _samples(part))


def _showing(asked: Asked) -> Model:
    """The model with its heads as outputs, and behind them the tensors that have gates."""
    model = asked.model.copy()
    del model.proto.graph.output[:]
    for name in (*(head.tensor for head in asked.heads), *(gate.tensor for gate in asked.gates)):
        model.proto.graph.output.add(name=name)
    return model


def _samples(feed: Feed) -> int:
    """Samples of a feed; 1 where its inputs are of different lengths, or hold one thing only."""
    lengths = {len(values) if values.ndim else 0 for values in feed.values()}
    return max(lengths.pop(), 1) if len(lengths) == 1 else 1


def _part(feed: Feed, start: int, stop: int) -> Feed:
    return {name: values[start:stop] for name, values in feed.items()}


def _step(module: GraphModule, asked: Asked, feed: Feed) -> int:
    """Samples to run at a time; 0 for all of a feed as one.

    They can be run together where every tensor that counts goes from one row to two with them.
    """
    with torch.no_grad():
        try:
            shapes = [_shapes(module, asked, _part(feed, 0, size)) for size in (1, 2)]
        except (IndexError, RuntimeError, ValueError):  # as torch's functions raise them
            return 0
    apart = all(one[:1] == (1,) and two[:1] == (2,) for one, two in zip(*shapes, strict=True))
    return asked.most if apart else 1


def _shapes(module: GraphModule, asked: Asked, feed: Feed) -> list[tuple[int, ...]]:
    ones = {gate.name: torch.ones(gate.shape(1)) for gate in asked.gates}
    return [tuple(value.shape) for value in _outputs(module, feed, ones)]


def _outputs(module: GraphModule, feed: Feed, gates: Mapping[str, Tensor]) -> list[Tensor]:
    given = {name: torch.from_numpy(np.array(values)) for name, values in feed.items()}
    found: Mapping[str, Tensor] = module({**given, **gates})
    return [found[name] for name in module.output_names]


def _run(
    module: GraphModule,
    asked: Asked,
    feed: Feed,
    draws: Sequence[np.random.Generator],
    samples: int,
) -> tuple[Array, Array]:
    """One forward and one backward run."""
    gates = {g.name: torch.ones(g.shape(samples), requires_grad=True) for g in asked.gates}
    outputs = _outputs(module, feed, gates)[: len(asked.heads)]
    reached = [
        (output, _direction(asked.loss, output.detach().double(), head, draw, samples))
        for output, head, draw in zip(outputs, asked.heads, draws, strict=True)
        if output.requires_grad
    ]
    total, known = np.zeros((asked.classes, samples)), np.zeros(asked.classes, bool)
    if reached:
        found = torch.autograd.grad(
            [output for output, _ in reached],
            list(gates.values()),
            [direction.to(output.dtype) for output, direction in reached],
            allow_unused=True,
        )
        for gate, gradient in zip(asked.gates, found, strict=True):
            if gradient is not None:
                values = gradient.double().numpy().reshape(samples, gate.classes.size)
                np.add.at(total, gate.classes, values.T)
                known[gate.classes] = True
    return total.T, known


def _direction(
    loss: Loss, output: Tensor, head: Head, draw: np.random.Generator, samples: int
) -> Tensor:
    """The gradient of the loss at an output, of its shape."""
    if loss == "own" and head.axis is not None:
        axis = max(min(head.axis, output.ndim - 1), -output.ndim)  # a Squeeze may take the batch
        answer = output.argmax(axis, keepdim=True)
        return output.softmax(axis).scatter_add_(
            axis, answer, -torch.ones_like(answer, dtype=output.dtype)
        )
    norms = output.reshape(samples, -1).norm(dim=1).clamp_min(_TINY)
    norms = norms.reshape(-1, *[1] * (output.ndim - 1)) if samples > 1 else norms.squeeze()
    if loss == "own":
        return output / norms**2
    signs = np.where(draw.random(tuple(output.shape)) < 0.5, -1.0, 1.0)
    return torch.from_numpy(signs) / norms
