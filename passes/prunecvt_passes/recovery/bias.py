"""The mean of what was removed, into the bias of whoever read it.

A channel that always holds the same value is absorbed exactly; of any other its mean is (bias
correction: Nagel et al., 2019, "Data-free quantization through weight equalization and bias
correction", on data).
"""

from __future__ import annotations

import numpy as np

from prunecvt_passes.budget import Removal
from prunecvt_passes.graph import Graph
from prunecvt_passes.groups import Bools, Groups
from prunecvt_passes.model import Array, Model
from prunecvt_passes.recovery.aim import Aim, aim_of, bias_values
from prunecvt_passes.recovery.calibration import Calibration
from prunecvt_passes.recovery.edit import matrix_of, set_bias
from prunecvt_passes.recovery.linear import linear_nodes
from prunecvt_passes.recovery.normal import Floats
from prunecvt_passes.recovery.patches import patches, positions
from prunecvt_passes.recovery.walk import Walk

PLACES = 1 << 16  # rows that the mean is taken over, or more:
PLACES_EACH = 1 << 8  # so many places of each sample's output at least


def absorb(
    dense: Graph,
    slim: Graph,
    groups: Groups,
    removal: Removal,
    calibration: Calibration,
    grow: bool = True,
) -> Model:
    """Adds W_p E[x_p], p the removed columns, to the bias of every reader that can have one.

    Args:
        dense: the original, with BatchNormalization folded as it is in ``slim``.
        slim: the slimmed model; ``slim.model`` is edited and has to be a copy.
        groups, removal: what was cut.
        calibration: the data; its held-out part is not looked at.
        grow: whether readers without a bias may get one.

    Returns:
        ``slim.model``.
    """
    kept = ~removal.removed[groups.class_of]
    own = {linear.weight: linear for linear in linear_nodes(slim)}
    pairs = []
    for linear in linear_nodes(dense):
        gone = _gone(groups, kept, linear.node.inputs[0], 1 if linear.spatial else -1)
        if linear.weight in own and gone is not None and gone.any():
            pairs.append((aim_of(dense, linear), aim_of(slim, own[linear.weight], grow), gone))
    nodes = [aim.linear.node for aim, _, _ in pairs]
    wanted = [name for node in nodes for name in (node.inputs[0], node.outputs[0])]
    chance = np.random.default_rng(0)
    with Walk(dense, calibration.fit, wanted) as walk:
        for aim, slim_aim, gone in pairs:
            walk.to(aim.linear.node.index + 1)
            shift = _shift(walk, aim, gone, chance)
            cut = _gone(groups, kept, aim.linear.node.outputs[0], 1 if aim.linear.spatial else -1)
            if cut is not None:
                shift = shift[~cut]
            old = bias_values(slim, slim_aim)
            set_bias(slim, slim_aim, shift if old is None else old.astype(np.float64) + shift)
            walk.release([aim.linear.node.inputs[0], aim.linear.node.outputs[0]])
    return slim.model


def _gone(groups: Groups, kept: Bools, tensor: str, axis: int) -> Bools | None:
    """Channels of a tensor that were removed; None where its axis carries no labels."""
    axes = groups.channels.axes.get(tensor)
    labels = axes[axis] if axes else None
    return None if labels is None else ~kept[labels]


def _shift(walk: Walk, aim: Aim, gone: Bools, chance: np.random.Generator) -> Floats:
    """W_p E[x_p] for every output channel of the original."""
    linear, total, count = aim.linear, np.zeros(0), 0
    kernel = walk.graph.model.weights[linear.weight].shape
    shapes = [walk.store.shape(batch, linear.node.inputs[0]) for batch in range(walk.batches)]
    samples = sum(shape[0] for shape in shapes)
    each = max(PLACES_EACH, -(-PLACES // max(samples, 1)))
    for batch in range(walk.batches):
        values = walk.get(batch, linear.node.inputs[0])
        shape = walk.get(batch, linear.node.outputs[0]).shape
        places = positions(linear, shape, each if linear.spatial else 1 << 20, chance)
        rows: Array = patches(linear, values, shape, kernel, places)
        sums = rows.sum(1, dtype=np.float64)
        total, count = (total + sums if count else sums), count + rows.shape[1]
    weight = matrix_of(walk.graph, aim)
    columns = np.repeat(gone, weight.shape[0] * weight.shape[2] // gone.size)
    mean = np.where(columns.reshape(weight.shape[0], -1), total / max(count, 1), 0.0)
    found: Floats = np.einsum("god,gd->go", weight, mean).ravel()
    return found
