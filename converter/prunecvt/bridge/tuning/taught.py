"""Whether labels fit an output."""

from __future__ import annotations

from torch import Tensor

from prunecvt.bridge.tuning.losses import Target
from prunecvt.errors import UsageError


def check_labels(target: Target, made: Tensor, labels: Tensor, source: str) -> None:
    """Holds that an output is one score for each class and sample, and that labels are such.

    Args:
        target: the output.
        made: what it is for some samples.
        labels: [samples] classes, from 0.
        source: the model's name.

    Raises:
        UsageError: E238, it is not.
    """
    axis = target.axis % made.ndim
    others = [size for k, size in enumerate(made.shape) if k not in (0, axis)]
    scores = target.kind != "values" and axis > 0 and all(size == 1 for size in others)
    if not scores or made.shape[axis] < 2:
        raise UsageError(
            "E238",
            f"labelled data: output '{target.name}' is no scores of one class per sample",
            where=f"{source}: {['samples', *made.shape[1:]]}",
            help="leave --labels out: outputs are learned from the original",
        )
    highest, classes = int(labels.max()), made.shape[axis]
    if highest >= classes:
        raise UsageError(
            "E238",
            f"labelled data: class {highest} is out of range, the model has {classes}",
            where=source,
            help="number the classes from 0, in the order of the model's output",
        )
