"""Second moments of what every reader of channels multiplies, on the original's activations."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from prunecvt_passes.graph import Graph
from prunecvt_passes.groups import Groups, Ints
from prunecvt_passes.recovery.aim import Aim, aim_of
from prunecvt_passes.recovery.calibration import Calibration, samples_of
from prunecvt_passes.recovery.linear import linear, matrix
from prunecvt_passes.recovery.normal import Floats, Normal
from prunecvt_passes.recovery.patches import patches, positions
from prunecvt_passes.recovery.walk import Walk

ROWS = 1 << 15
WIDEST = 6144  # columns of a matrix that is inverted: 300 MB


@dataclass
class Reader:
    """A linear node that sums over channels, and what it multiplies.

    Attributes:
        aim: the node and what it feeds.
        classes: class of each input channel.
        taps: entries of the kernel.
        weight: [g, o, d].
        normal: moments of the rows that are fitted on.
        check: moments of held-out rows, which say what a fit is worth.
        variance: that of what its output feeds, summed over channels.
    """

    aim: Aim
    classes: Ints
    taps: int
    weight: Floats
    normal: Normal = field(default_factory=Normal)
    check: Normal = field(default_factory=Normal)
    variance: float = 0.0


def readers_of(graph: Graph, groups: Groups) -> list[Reader]:
    """The readers of channels that can be cut, in the order of the graph.

    Args:
        graph: the model the groups are of, its BatchNormalization folded.
        groups: the groups.
    """
    by_weight = {node.inputs[1]: node for node in graph.nodes if len(node.inputs) > 1}
    found = {}
    for read in groups.channels.reads:
        node = by_weight.get(read.node.input(1))
        classes = groups.class_of[read.labels]
        if read.place != 0 or node is None or (groups.group_of[classes] < 0).all():
            continue
        known = linear(graph, node)
        if known is None:
            continue
        weight = matrix(known, graph.model.weights[known.weight]).astype(np.float64)
        taps, rest = divmod(weight.shape[0] * weight.shape[2], classes.size)
        if not rest and weight.shape[2] <= WIDEST:
            found[node.index] = Reader(aim_of(graph, known), classes, taps, weight)
    return [found[index] for index in sorted(found)]


def observe(graph: Graph, groups: Groups, calibration: Calibration) -> list[Reader]:
    """Runs the original and fills every reader's moments.

    Args:
        graph: the model the groups are of, its BatchNormalization folded, with shapes.
        groups: the groups.
        calibration: the data.
    """
    feeds = (*calibration.fit, *calibration.held_out)
    readers = readers_of(graph, groups)
    wanted = [name for r in readers for name in (r.aim.linear.node.inputs[0], r.aim.tensor)]
    images = samples_of(calibration.fit), len(calibration.fit)
    with Walk(graph, feeds, wanted) as walk:
        for number, reader in enumerate(readers):
            node = reader.aim.linear.node
            walk.to(node.index)
            walk.past(reader.aim.tensor)
            chance = np.random.default_rng(number)
            for batch in range(walk.batches):
                _add(walk, reader, batch, images, chance)
            walk.release([node.inputs[0], reader.aim.tensor])
    return readers


def _add(
    walk: Walk, reader: Reader, batch: int, fitted: tuple[int, int], chance: np.random.Generator
) -> None:
    """Adds a run's rows; the first runs are fitted on, ``fitted`` counts their images and them."""
    node, (images, split) = reader.aim.linear, fitted
    values = walk.get(batch, node.node.inputs[0])
    goal = walk.get(batch, reader.aim.tensor)
    per_image = -(-max(ROWS, 4 * reader.weight.shape[2]) // images)
    places = positions(
        node, goal.shape, per_image if node.spatial else per_image * len(values), chance
    )
    kernel = walk.graph.model.weights[node.weight].shape
    rows = patches(node, values, goal.shape, kernel, places)
    (reader.normal if batch < split else reader.check).add(rows)
    flat = np.moveaxis(goal, 1 if node.spatial else -1, -1)
    flat = flat.reshape(-1, flat.shape[-1])
    reader.variance += float(flat.var(0, dtype=np.float64).sum()) / walk.batches
