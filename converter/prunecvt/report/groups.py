"""The rows of the report about groups: widths, scores, error curves, and what recovery gained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from prunecvt.report.schema import Change, ErrorCurve, GroupRow, LayerRow, ScoreRange
from prunecvt.runtimes.openvino_ir import UNBOUNDED
from prunecvt_passes.budget import Removal
from prunecvt_passes.groups import Group, Groups
from prunecvt_passes.inexact import inexact_nodes
from prunecvt_passes.recovery.curve import NO_CURVES, Curve, Curves
from prunecvt_passes.recovery.drift import Drift
from prunecvt_passes.score import Scores

POINTS = 33  # of a curve in the report


def group_rows(
    groups: Groups,
    removal: Removal,
    scores: Scores | None,
    curves: Curves = NO_CURVES,
    layers: Sequence[Drift] = (),
) -> list[GroupRow]:
    """One row per group that can be cut.

    Args:
        groups: the groups.
        removal: what went.
        scores: what channels were scored; None where a plan was replayed.
        curves: the groups' error curves, which only those scores follow that are cumulative.
        layers: how far each layer is off, before and after recovery.
    """
    inexact = inexact_nodes(groups)
    measured = curves if scores is not None and scores.cumulative else NO_CURVES
    read = _read(groups, layers)
    rows = []
    for group in groups.groups:
        kept = np.flatnonzero(~removal.removed[group.classes])
        curve = measured.by_group.get(group.id)
        row = GroupRow(
            id=group.id,
            members=list(group.members),
            channels_before=group.size,
            channels_after=kept.size,
            kept=kept.tolist(),
            score=_spread(group, scores),
            reason=removal.reasons.get(group.id, ""),
            inexact=list(inexact.get(group.id, ())),
            error=measured.error(group.id, group.size, kept.size),
            curve=None if curve is None else _points(group, curve),
            drift=read.get(group.id),
        )
        rows.append(row)
    return rows


def layer_rows(layers: Sequence[Drift]) -> list[LayerRow]:
    """One row per layer: how far it is off, or why it was left as it was."""
    return [
        LayerRow(
            node=layer.node,
            error=None if layer.reason else _bounded(layer.before, layer.after),
            reason=layer.reason,
        )
        for layer in layers
    ]


def _bounded(before: float, after: float) -> Change:
    return Change(before=min(before, UNBOUNDED), after=min(after, UNBOUNDED))


def _spread(group: Group, scores: Scores | None) -> ScoreRange | None:
    if scores is None:
        return None
    values = scores.values[group.classes]
    return ScoreRange(
        min=float(values.min()), median=float(np.median(values)), max=float(values.max())
    )


def _points(group: Group, curve: Curve) -> ErrorCurve:
    gone = np.unique(np.linspace(0, group.size, min(group.size + 1, POINTS)).round().astype(int))
    return ErrorCurve(
        kept=(group.size - gone).tolist(),
        error=[float(f"{min(error, UNBOUNDED):.6g}") for error in curve.errors[gone]],
        weight=float(f"{curve.weight:.6g}"),
    )


def _read(groups: Groups, layers: Sequence[Drift]) -> Mapping[int, Change]:
    """Group id -> how far its readers are off, summed over them."""
    by_weight: dict[str, list[Drift]] = {}
    for layer in (each for each in layers if not each.reason):
        by_weight.setdefault(layer.weight, []).append(layer)
    readers: dict[int, set[str]] = {}
    for read in groups.channels.reads:
        weight = read.node.input(1)
        if read.place != 0 or weight not in by_weight:
            continue
        for group in np.unique(groups.group_of[groups.class_of[read.labels]]):
            if group >= 0:
                readers.setdefault(int(group), set()).add(weight)
    found = {}
    for owner, weights in readers.items():
        drifts = [drift for weight in sorted(weights) for drift in by_weight[weight]]
        found[owner] = _bounded(sum(d.before for d in drifts), sum(d.after for d in drifts))
    return found
