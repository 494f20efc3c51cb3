"""The original as it would be if the noise were its data.

A BatchNormalization says what its input looked like in training: each channel leaves it with mean
beta and deviation gamma. Noise does not look so. With the statistics of every BatchNormalization
replaced by those of the noise, one after the other, each channel does leave it with that mean and
that deviation, whatever comes in: the moments that readers see are then close to those of real
data, and what is fitted on them can be carried back (``carry.py``).

Statistics re-estimated with the weights as they are: adaptive BatchNormalization (Li et al., 2016),
here the other way round, to make synthetic data fit; data-free distillation matches noise to the
same statistics by gradients (Yin et al., 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from prunecvt_passes.errors import UsageError
from prunecvt_passes.graph import DEFAULT_DOMAINS, Graph, Node, index
from prunecvt_passes.groups import Groups
from prunecvt_passes.model import Array
from prunecvt_passes.normalise import Dense
from prunecvt_passes.recovery.calibration import Calibration, Feed, walkable
from prunecvt_passes.recovery.walk import Walk

_LEAST = 1e-6  # least variance of a channel, of the mean variance in its layer


@dataclass(frozen=True)
class Matched:
    """The original with the noise's statistics, and its groups.

    ``left`` holds the titles of BatchNormalizations whose statistics are still the original's: in
    bodies, in training mode, or with statistics that are no constants of their own.
    """

    dense: Dense
    groups: Groups
    left: tuple[str, ...] = ()


def match(dense: Dense, groups: Groups, calibration: Calibration) -> Matched:
    """Re-estimates the statistics of every BatchNormalization on the data.

    Args:
        dense: the original; left as it is.
        groups: its groups.
        calibration: the noise.

    Raises:
        UsageError: E219, there is no BatchNormalization, or the model cannot be run part by part.
    """
    graph = dense.graph
    norms = batch_norms(graph)
    if not norms or not walkable(graph):
        lacks = "holds sequences or optional values" if norms else "has no BatchNormalization"
        raise UsageError(
            "E219",
            "noise tells nothing of this model",
            where=f"{graph.model.source}: it {lacks}",
            help="give data with --calib, or export with BatchNormalization kept",
        )
    matched = index(graph.model.copy(), graph.shapes)
    _estimate(matched, norms, (*calibration.fit, *calibration.held_out))
    channels = replace(groups.channels, graph=matched)
    known = {node.index for node in norms}
    left = [n for n in graph.nodes if n.op == "BatchNormalization" and n.index not in known]
    return Matched(
        replace(dense, graph=matched),
        replace(groups, channels=channels),
        tuple(node.title for node in left),
    )


def batch_norms(graph: Graph) -> list[Node]:
    """Every BatchNormalization whose statistics are constants that nothing else reads."""
    found = []
    for node in graph.nodes:
        known = node.op == "BatchNormalization" and node.domain in DEFAULT_DOMAINS
        if not known or node.scope or node.attributes.get("training_mode"):
            continue
        statistics = node.inputs[3:5]
        if all(graph.constant(n) is not None and graph.only_reader(n) for n in statistics):
            found.append(node)
    return found


def _estimate(graph: Graph, norms: Sequence[Node], feeds: Sequence[Feed]) -> None:
    with Walk(graph, feeds, [node.inputs[0] for node in norms]) as walk:
        for node in norms:
            walk.to(node.index)
            mean, variance = _moments(walk, node.inputs[0])
            walk.release([node.inputs[0]])
            variance = np.maximum(variance, _LEAST * max(float(variance.mean()), 1e-12))
            for name, values in zip(node.inputs[3:5], (mean, variance), strict=True):
                old = graph.model.weights[name]
                graph.model.set_weight(name, values.reshape(old.shape).astype(old.dtype))


def _moments(walk: Walk, tensor: str) -> tuple[Array, Array]:
    """Mean and variance of each channel (axis 1) over all runs."""
    count, total, squares = 0, np.zeros(0), np.zeros(0)
    for batch in range(walk.batches):
        values = walk.get(batch, tensor)
        rows = np.moveaxis(values, 1, -1).reshape(-1, values.shape[1]).astype(np.float64)
        total = rows.sum(0) + (total if count else 0.0)
        squares = np.einsum("nc,nc->c", rows, rows) + (squares if count else 0.0)
        count += len(rows)
    mean = total / max(count, 1)
    return mean, squares / max(count, 1) - mean**2
