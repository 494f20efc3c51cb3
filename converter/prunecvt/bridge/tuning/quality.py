"""How good weights are, on held-out data: what the best of a run are chosen by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from prunecvt.bridge.tuning.losses import Objective, Target, classes_of, label_loss, output_loss


@dataclass(frozen=True)
class Quality:
    """What weights are worth on held-out data.

    Attributes:
        loss: mean over the outputs: divergence in nats for classes, else squared error over the
            variance. Where there are labels, ``(1 - label) * that + label * cross-entropy``.
        agreement: share of samples of the original's class; None where the first output is no
            classes.
        correct: share of right answers; None without labels.
    """

    loss: float
    agreement: float | None
    correct: float | None = None


def quality_of(
    objective: Objective,
    made: Mapping[str, Tensor],
    right: Mapping[str, Tensor],
    labels: Tensor | None,
) -> Quality:
    """Judges outputs.

    Args:
        objective: what is compared; its hints and its temperature play no part.
        made, right: all outputs of the student and the teacher, [samples, ...].
        labels: [samples] classes; None where there are none.
    """
    first = objective.targets[0]
    losses = [
        output_loss(each, made[each.name].float(), right[each.name].float(), 1.0)
        for each in objective.targets
    ]
    loss = torch.stack(losses).mean()
    correct = None
    if labels is not None:
        taught = label_loss(first, made[first.name].float(), labels)
        loss = (1 - objective.label) * loss + objective.label * taught
        told = classes_of(first, made[first.name]).flatten()
        correct = float((told == labels).double().mean())
    return Quality(float(loss), agreement(first, made[first.name], right[first.name]), correct)


def mean_quality(found: Sequence[Quality]) -> Quality:
    """The mean loss over sets of one size; agreement and right answers are those of the first."""
    return replace(found[0], loss=sum(each.loss for each in found) / len(found))


def agreement(target: Target, made: Tensor, right: Tensor) -> float | None:
    """Share of samples whose largest score is of the same class; None for other outputs."""
    if target.kind == "values":
        return None
    same = classes_of(target, made) == classes_of(target, right)
    return float(same.double().mean())
