"""The pass that gathers what readers see of channels, on unlabelled data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prunecvt_passes import runtime
from prunecvt_passes.criteria.measures import MEASURES, SAMPLES
from prunecvt_passes.criteria.statistics import NO_STATISTICS, Floats, Statistics
from prunecvt_passes.criteria.table import CRITERIA, Criterion
from prunecvt_passes.criteria.zeros import zeroing
from prunecvt_passes.fold import fold_batch_norms
from prunecvt_passes.graph import Graph, index
from prunecvt_passes.groups import Groups
from prunecvt_passes.model import Array
from prunecvt_passes.normalise import Dense
from prunecvt_passes.precision import feed_in_single
from prunecvt_passes.recovery.calibration import Calibration, samples_of, walkable
from prunecvt_passes.recovery.walk import Walk

Spot = tuple[str, int]  # a tensor and the axis of its channels


def gather(
    dense: Dense, groups: Groups, calibration: Calibration, criterion: Criterion
) -> Statistics:
    """Gathers the one measure that the criterion reads; runs nothing where it reads none.

    The folded original runs part by part, batch by batch; a tensor is forgotten once measured.
    """
    entry = CRITERIA.get(criterion.name)
    measure = entry.sees if entry is not None else ""
    if not measure or not calibration or not groups.groups or not walkable(dense.graph):
        return NO_STATISTICS
    folded = fold_batch_norms(dense.graph.model)
    model = runtime.comparable(folded)
    feeds = calibration.fit if model is folded else list(map(feed_in_single, calibration.fit))
    graph = index(model, dense.graph.shapes)
    spots, bounds = _spots(graph, groups), zeroing(graph)
    seen: dict[Spot, Floats] = {}
    with Walk(graph, feeds, [tensor for tensor, _ in spots]) as walk:
        for tensor, axis in spots:
            walk.past(tensor)
            found = _measured(walk, (tensor, axis), measure, bounds.get(tensor, np.inf))
            if found is not None:
                seen[tensor, axis] = found
            walk.release([tensor])
    return Statistics(measure, samples_of(calibration.fit), seen)


def _spots(graph: Graph, groups: Groups) -> Sequence[Spot]:
    """Where channels that can be cut are read, outside of bodies, in the order they are made."""
    found: dict[Spot, int] = {}
    for read in groups.channels.reads:
        tensor, maker = read.node.input(read.place), graph.producer.get(read.node.input(read.place))
        known = maker.scope == 0 if maker is not None else tensor in graph.inputs
        free = (groups.group_of[groups.class_of[read.labels]] >= 0).any()
        if known and free and read.node.scope == 0 and not read.zero:
            found[tensor, read.axis] = -1 if maker is None else maker.index
    return sorted(found, key=lambda spot: (found[spot], spot))


def _measured(walk: Walk, spot: Spot, measure: str, bound: float) -> Floats | None:
    """The measure's mean over the samples; None where the tensor does not hold real numbers."""
    total: Floats | float = 0.0
    count, most = 0, SAMPLES.get(measure)
    for batch in range(walk.batches):
        values = _channelled(walk.get(batch, spot[0]), spot[1])
        if values.dtype.kind != "f" or not values.size:
            return None
        values = values[: None if most is None else most - count]
        if len(values):
            total = total + len(values) * MEASURES[measure](values, bound)
            count += len(values)
    return np.asarray(total) / max(count, 1)


def _channelled(values: Array, axis: int) -> Array:
    """[samples, channels, positions...]; one sample where channels come first."""
    if axis == 0:
        return values[None]
    return np.moveaxis(values, axis, 1)
