"""What distillation makes small, for one output or one inner activation.

Softened divergence: G. Hinton, O. Vinyals, J. Dean, Distilling the Knowledge in a Neural Network
(2015). Hints: A. Romero et al., FitNets (2015), here for tensors of equal shape (where channels
went, those that stayed), so that no regressor stands between, and normalised by the variance of the
original's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from prunecvt_passes.graph import Graph, Node
from prunecvt_passes.samples import dimensions

Kind = Literal["logits", "probabilities", "values"]
_TINY = 1e-12  # of a probability or a variance


@dataclass(frozen=True)
class Target:
    """How one output is learned.

    Attributes:
        name: the output.
        kind: ``logits`` or ``probabilities`` of classes, or other ``values``.
        axis: that of the classes.
    """

    name: str
    kind: Kind
    axis: int = 1


def targets_of(graph: Graph, compared: str = "auto") -> list[Target]:
    """How every floating-point output is learned.

    Args:
        graph: the original's.
        compared: ``auto``: what a Softmax makes and [samples, classes] are classes; ``values``:
            nothing is.
    """
    found = []
    for value in graph.model.proto.graph.output:
        if value.type.tensor_type.elem_type not in (1, 10, 11, 16):
            continue
        shape = dimensions(value) or ()
        node = graph.producer.get(value.name)
        if compared == "values":
            found.append(Target(value.name, "values"))
        elif node is not None and node.op in ("Softmax", "LogSoftmax"):
            kind: Kind = "probabilities" if node.op == "Softmax" else "logits"
            found.append(Target(value.name, kind, _axis(node, graph)))
        else:
            classes = len(shape) >= 2 and shape[1] != 1 and all(dim == 1 for dim in shape[2:])
            found.append(Target(value.name, "logits" if classes else "values"))
    return found


def with_batch(
    targets: Sequence[Target], run: Callable[[int], Mapping[str, Tensor]]
) -> list[Target]:
    """The targets whose first axis is the batch's; others, such as scalars, say nothing of samples.

    Args:
        targets: the outputs.
        run: from a number of samples to all outputs.
    """
    made = [(count, run(count)) for count in (2, 3)]
    return [
        target
        for target in targets
        if all(found[target.name].shape[:1] == (count,) for count, found in made)
    ]


def _axis(node: Node, graph: Graph) -> int:
    return int(node.attributes.get("axis", -1 if graph.opset >= 13 else 1))


def divergence(student: Tensor, teacher: Tensor, temperature: float = 1.0, axis: int = 1) -> Tensor:
    """Kullback-Leibler divergence of softened classes, by sample (Hinton et al., 2015).

    T^2 sum_c p_c log(p_c / q_c), with p and q the softmax of the teacher's and the student's logits
    over T; T^2 keeps gradients of one size. Its mean is taken over all axes but the classes'.

    Args:
        student, teacher: logits of one shape.
        temperature: T.
        axis: of the classes.

    Returns:
        A scalar.
    """
    p, q = (functional.log_softmax(each / temperature, axis) for each in (teacher, student))
    return temperature**2 * (p.exp() * (p - q)).sum(axis).mean()


def normalised_error(student: Tensor, teacher: Tensor, spread: Tensor | None = None) -> Tensor:
    """Mean squared error over the variance of the teacher's values: 1 where nothing was learned.

    Args:
        student, teacher: tensors of one shape.
        spread: a scalar, the variance; None for that of ``teacher``.
    """
    if spread is None:  # as an error as well: a fused kernel, where memory is what takes the time
        spread = functional.mse_loss(teacher, teacher.mean().expand_as(teacher))
    return functional.mse_loss(student, teacher) / spread.clamp_min(_TINY)


def output_loss(target: Target, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """The loss of one output, as its target says."""
    if target.kind == "values":
        return normalised_error(student, teacher)
    if target.kind == "probabilities":
        student, teacher = (each.clamp_min(_TINY).log() for each in (student, teacher))
    return divergence(student, teacher, temperature, target.axis)


def classes_of(target: Target, values: Tensor) -> Tensor:
    """The class of every sample (or place), as its largest score says."""
    return values.argmax(target.axis)


def label_loss(target: Target, student: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of [samples, classes] against classes [samples]."""
    scores = student.flatten(1)
    if target.kind == "probabilities":
        return functional.nll_loss(scores.clamp_min(_TINY).log(), labels)
    return functional.cross_entropy(scores, labels)


@dataclass(frozen=True)
class Objective:
    """What is made small: losses of the outputs, and ``hint`` times the mean of the hints'.

    Attributes:
        targets: the outputs.
        hints: inner activations, and the channels (axis 1) that the student has; None for all.
        temperature: of the divergence.
        hint: weight of the hints.
        label: share of cross-entropy, where there are labels; the rest is distillation.
    """

    targets: tuple[Target, ...]
    hints: Mapping[str, tuple[int, ...] | None] = field(default_factory=dict)
    temperature: float = 4.0
    hint: float = 1.0
    label: float = 0.5

    @property
    def tensors(self) -> list[str]:
        """Names of all that is compared."""
        return [*(target.name for target in self.targets), *self.hints]

    def loss(
        self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], labels: Tensor | None
    ) -> Tensor:
        """The whole loss of a batch."""
        terms = [
            output_loss(each, student[each.name], teacher[each.name], self.temperature)
            for each in self.targets
        ]
        total = torch.stack(terms).mean()
        if labels is not None:
            first = self.targets[0]
            taught = label_loss(first, student[first.name], labels)
            total = (1 - self.label) * total + self.label * taught
        if self.hints and self.hint:
            errors = [
                normalised_error(
                    student[name], teacher[name] if kept is None else teacher[name][:, kept]
                )
                for name, kept in self.hints.items()
            ]
            total = total + self.hint * torch.stack(errors).mean()
        return total
