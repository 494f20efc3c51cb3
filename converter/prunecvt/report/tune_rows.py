"""The part of the report that says what ``tune`` did, and its lines of text."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from prunecvt.percent import percent
from prunecvt.report.record import Record


class HeldOut(Record):
    """How near the original a model is on held-out data.

    ``loss`` is the divergence in nats for classes (``divergence``), else the squared error over the
    variance (``error``); with labels (``labels``) the weighted mean of that and cross-entropy, and
    ``top1`` is the share of right answers. The interval of the agreement is Wilson's. Where
    training augments, ``loss`` is the mean of the samples as they are and augmented.
    """

    loss: float
    top1_agree: float | None = None
    top1_agree_ci95: tuple[float, float] | None = None
    top1: float | None = None


class LookRow(Record):
    """Held-out data in the course of training."""

    step: int
    loss: float
    top1_agree: float | None = None
    top1: float | None = None


class TuneRow(Record):
    """What training did.

    ``samples`` are those learned from, ``minutes`` of CPU time, ``best_step`` the step whose
    weights are written (0: those that came), ``hints`` the inner activations that were compared and
    ``hints_left_out`` why others were not, ``norms_put_back`` the number of layers that had
    BatchNormalization while training and have it folded in the file, ``accuracy`` top-1 before and
    after with the interval of the change, and ``torch_max_rel`` how far onnxruntime is from torch.
    """

    slim: str
    slim_sha256: str
    samples: int
    held_out: int
    compared: Literal["divergence", "error", "labels"]
    before: HeldOut
    after: HeldOut
    accuracy: tuple[float, float] | None = None
    accuracy_change_ci95: tuple[float, float] | None = None
    steps: int
    best_step: int
    minutes: float
    optimiser: str
    rate: float
    augment: list[str] = Field(default_factory=list)
    hints: list[str] = Field(default_factory=list)
    hints_left_out: dict[str, str] = Field(default_factory=dict)
    norms_put_back: int = 0
    history: list[LookRow] = Field(default_factory=list)
    torch_max_rel: float | None = None


_NAMES = {
    "divergence": "divergence from the original",
    "error": "error against the original",
    "labels": "loss against the original and labels",
}


def tune_lines(row: TuneRow | None) -> list[str]:
    """What training did, one line each. None: no lines."""
    if row is None:
        return []
    before, after = row.before, row.after
    text = f"{_NAMES[row.compared]}: {before.loss:.4g} -> {after.loss:.4g}"
    if before.top1_agree is not None and after.top1_agree is not None:
        text += f", top-1 agreement {percent(before.top1_agree)} -> {percent(after.top1_agree)}"
        if after.top1_agree_ci95 is not None:
            low, high = after.top1_agree_ci95
            text += f" (95 % CI {percent(low)} to {percent(high)})"
    if before.top1 is not None and after.top1 is not None:
        text += f", right answers {percent(before.top1)} -> {percent(after.top1)}"
    text += f" on {row.held_out:,} held-out samples"
    if row.augment:
        text += f"; {_NAMES[row.compared].split()[0]}: mean of these and the same augmented"
    lines = [text]
    if row.accuracy is not None and row.accuracy_change_ci95 is not None:
        low, high = (100 * each for each in row.accuracy_change_ci95)
        lines.append(
            f"top-1 by tuning: {percent(row.accuracy[0], 2)} -> {percent(row.accuracy[1], 2)} "
            f"(95 % CI of the change {low:+.2f} to {high:+.2f} points)"
        )
    wanted = len(row.hints) + len(row.hints_left_out)
    taken = f"{len(row.hints)} of {wanted}" if row.hints_left_out else f"{wanted}"
    hints = f", {taken} inner activations" if wanted else ""
    if row.norms_put_back:
        hints += f", BatchNormalization behind {row.norms_put_back} layers"
    lines.append(
        f"{row.steps:,} steps on {row.samples:,} samples{hints}; {row.optimiser} at "
        f"{row.rate:g}; best at step {row.best_step:,} ({row.minutes:.1f} CPU minutes)"
    )
    return lines
