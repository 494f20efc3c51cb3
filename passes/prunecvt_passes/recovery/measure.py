"""The pass that measures error curves, and how far each group's error reaches the outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from prunecvt_passes import runtime
from prunecvt_passes.criteria.table import CRITERIA, Criterion, eliminator, resolved
from prunecvt_passes.fold import fold_batch_norms
from prunecvt_passes.graph import Graph, index
from prunecvt_passes.groups import Groups
from prunecvt_passes.model import Array, Model
from prunecvt_passes.normalise import Dense
from prunecvt_passes.recovery.aim import bias_values
from prunecvt_passes.recovery.calibration import Calibration, Feed, samples_of, walkable
from prunecvt_passes.recovery.curve import NO_CURVES, Curve, Curves
from prunecvt_passes.recovery.edit import matrix_of, set_bias, set_matrix
from prunecvt_passes.recovery.eliminate import Halved
from prunecvt_passes.recovery.observe import observe
from prunecvt_passes.recovery.walk import Walk
from prunecvt_passes.shapes import infer

BY_ERROR = Criterion()
TRIED = 256  # samples that show how far an error reaches


def measure(
    dense: Dense, groups: Groups, calibration: Calibration, criterion: Criterion = BY_ERROR
) -> Curves:
    """Measures a curve for every group whose readers are known; none without data.

    The criterion says in which order channels go and what is done to the readers' weights. A
    curve's weight is the error of the outputs over the readers' own, both with half of the group's
    channels gone and the readers as the criterion leaves them.
    """
    name = resolved(criterion.name, data=True)
    entry = CRITERIA.get(name)
    if entry is None or not entry.cumulative:
        return NO_CURVES
    if not calibration or not groups.groups or not walkable(dense.graph):
        return NO_CURVES
    model = fold_batch_norms(dense.graph.model)
    graph = index(model, infer(model, dense.sizes)[0])
    readers = observe(graph, groups, calibration)
    curves: dict[int, Curve] = {}
    halves: dict[int, list[Halved]] = {}
    eliminate = eliminator(name)
    for group in groups.groups:
        found = eliminate(groups, group, readers)
        if found is not None:
            curves[group.id], halves[group.id] = found
    weights = _weights(graph, curves, halves, _some(calibration.held_out))
    weighted = {g: Curve(c.order, c.errors, weights[g]) for g, c in curves.items()}
    return Curves(weighted, samples_of(calibration.fit))


def output_error(expected: Sequence[Array], found: Sequence[Array]) -> float:
    """Squared error over the variance of what is expected, averaged over the outputs."""
    shares = []
    for before, after in zip(expected, found, strict=True):
        if before.shape != after.shape:  # how much it gives out follows from what it found
            shares.append(1.0)
            continue
        gap = ((before - after) ** 2).sum(dtype=np.float64)
        shares.append(float(gap / (((before - before.mean(0)) ** 2).sum(dtype=np.float64) + 1e-30)))
    return float(np.mean(shares)) if shares else 0.0


def outputs_of(model: Model, feeds: Sequence[Feed]) -> list[Array]:
    """The floating-point outputs over some runs, each [samples, values]."""
    opened = runtime.session(runtime.comparable(model))
    return _numbers([runtime.run_session(opened, feed, source=model.source) for feed in feeds])


def _numbers(runs: Sequence[Mapping[str, Array]]) -> list[Array]:
    names = [name for name, values in runs[0].items() if _numeric(values)] if runs else []
    return [_joined([_rows(run[name]) for run in runs]).astype(np.float64) for name in names]


def _joined(parts: list[Array]) -> Array:
    alike = len({part.shape[1] for part in parts}) == 1
    return np.concatenate(parts if alike else [part.reshape(-1, 1) for part in parts])


def _numeric(values: object) -> bool:
    return isinstance(values, np.ndarray) and values.dtype.kind == "f" and values.size > 0


def _rows(values: Array) -> Array:
    """One row per sample; one value per row where samples are told in no other way."""
    return np.nan_to_num(values.reshape(len(values), -1) if values.ndim > 1 else values[..., None])


def _some(feeds: Sequence[Feed]) -> Sequence[Feed]:
    each = max(samples_of(feeds[:1]), 1)
    return feeds[: max(1, TRIED // each)]


def _weights(
    graph: Graph, curves: dict[int, Curve], halves: dict[int, list[Halved]], feeds: Sequence[Feed]
) -> dict[int, float]:
    """Group id -> how much of its readers' error reaches the outputs.

    What comes before the first reader is as in the original, and is run once for all groups.
    """
    found = dict.fromkeys(curves, 1.0)
    with Walk(graph, feeds) as walk:
        expected = _numbers(walk.rest(graph))
        for group in sorted(curves, key=lambda group: _first(halves[group])) if expected else ():
            walk.to(_first(halves[group]))
            moved = output_error(expected, _numbers(walk.rest(_halved(graph, halves[group]))))
            curve = curves[group]
            found[group] = moved / max(float(curve.errors[len(curve.order) // 2]), 1e-6)
    return found


def _first(halves: Sequence[Halved]) -> int:
    """Index of the first node whose weight is another."""
    return min((half.reader.aim.linear.node.index for half in halves), default=0)


def _halved(graph: Graph, halves: Sequence[Halved]) -> Graph:
    """The original with these weights, and biases such that the readers' means stay."""
    edited = index(graph.model.copy(), graph.shapes)
    for half in halves:
        aim = half.reader.aim
        weight = matrix_of(edited, aim)
        gap = weight[half.block] - half.weight
        weight[half.block] = half.weight
        set_matrix(edited, aim, weight)
        old = bias_values(edited, aim)
        bias = np.zeros(weight.shape[:2]) if old is None else old.astype(np.float64)
        bias = bias.reshape(weight.shape[:2]).copy()
        bias[half.block] += gap @ half.reader.normal.mean()[half.block]
        set_bias(edited, aim, bias)
    return edited
