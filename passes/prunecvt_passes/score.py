"""Scores: what is lost if a channel goes, one number per class.

Every criterion is a function from groups to one number per class. A class that spans several
weights sums over them, each divided by its mean first, so that no layer drowns the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prunecvt_passes.errors import UsageError
from prunecvt_passes.flow import Use
from prunecvt_passes.graph import Graph, Node
from prunecvt_passes.groups import Groups
from prunecvt_passes.model import Array
from prunecvt_passes.quantization import weight_values
from prunecvt_passes.recovery.curve import NO_CURVES, Curves, complete, scores_of
from prunecvt_passes.share import shares

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Criterion:
    """A name of ``CRITERIA`` or ``auto``; ``seed`` is for ``random``."""

    name: str = "auto"
    seed: int = 0


@dataclass(frozen=True)
class Scores:
    """One number per class; higher is worth more.

    Attributes:
        criterion: what made them, ``auto`` resolved.
        values: class -> score; classes in no group have 0.
    """

    criterion: str
    values: Floats


def score(groups: Groups, criterion: Criterion, curves: Curves = NO_CURVES) -> Scores:
    """Scores every class that can be cut; ``auto`` is ``obs`` where there are error curves.

    Raises:
        UsageError: E210, no such criterion; E211, what the criterion needs is lacking.
    """
    name = criterion.name
    if name == "auto":
        name = OBS if curves else AUTO
    if name == OBS:
        return Scores(name, obs(groups, curves))
    if name not in CRITERIA:
        known = ", ".join(["auto", *sorted([OBS, *CRITERIA])])
        raise UsageError("E210", f"no criterion is called '{name}'", help=f"known are {known}")
    values = CRITERIA[name](groups, criterion.seed)
    return Scores(name, np.where(groups.group_of >= 0, values, 0.0))


def _spread(groups: Groups, use: Use, norms: Floats) -> tuple[npt.NDArray[np.int64], Floats] | None:
    """Classes and norms of the channels along the axis that ``use`` is about."""
    labels = groups.channels.axes[use.tensor][use.axis]
    if labels is None or labels.size != norms.size:
        return None
    return groups.class_of[labels], norms


def summed(groups: Groups, members: list[tuple[Use, Floats]]) -> Floats:
    """Sums the members' norms by class, each divided by its mean over the channels it has."""
    total = np.zeros(groups.total)
    for use, norms in members:
        found = _spread(groups, use, norms)
        if found is not None:
            classes, values = found
            np.add.at(total, classes, values / max(float(values.mean()), np.finfo(float).tiny))
    return total


def folded_scale(graph: Graph, node: Node) -> Floats | None:
    """|gamma| / sqrt(var + epsilon) of a BatchNormalization that alone reads the node's output."""
    reader = graph.only_reader(node.outputs[0])
    if reader is None or reader[0].op != "BatchNormalization" or reader[1] != 0:
        return None
    batch_norm = reader[0]
    gamma, variance = (graph.constant(batch_norm.inputs[k]) for k in (1, 4))
    if gamma is None or variance is None:
        return None
    epsilon = batch_norm.attributes.get("epsilon", 1e-5)
    spread = np.sqrt(np.asarray(variance, np.float64) + epsilon)
    return np.asarray(np.abs(np.asarray(gamma, np.float64)) / spread)


def channel_norms(groups: Groups, use: Use, order: int) -> Floats | None:
    """Norm of each channel's slice of a weight, with the BatchNormalization behind it folded in."""
    graph = groups.channels.graph
    weight = weight_values(graph, use.node, use.tensor)
    if weight is None or weight.ndim < 2:
        return None
    norms = _norms(weight, use.axis, order)
    scale = folded_scale(graph, use.node)
    if use.role == "weight_out" and scale is not None:
        if scale.size != norms.size:  # grouped transposed convolutions make outputs per group
            return (
                None if scale.size % norms.size else norms * scale.reshape(-1, norms.size).mean(0)
            )
        return norms * scale
    return norms


def _norms(weight: Array, axis: int, order: int) -> Floats:
    others = tuple(k for k in range(weight.ndim) if k != axis)
    if order == 1:
        return np.asarray(np.abs(weight).sum(axis=others, dtype=np.float64))
    letters = "abcdefgh"[: weight.ndim]
    squares = np.einsum(f"{letters},{letters}->{letters[axis]}", weight, weight, dtype=np.float64)
    return np.asarray(np.sqrt(squares), np.float64)


def _weight_norm(groups: Groups, order: int, role: str) -> Floats:
    members = []
    for use in groups.channels.uses:
        if use.role == role:
            norms = channel_norms(groups, use, order)
            if norms is not None:
                members.append((use, norms))
    return summed(groups, members)


def l1(groups: Groups, seed: int) -> Floats:
    """Sum of the absolute folded weights of each filter (Li et al., 2017)."""
    return _weight_norm(groups, 1, "weight_out")


def l2(groups: Groups, seed: int) -> Floats:
    """Euclidean norm of the folded weights of each filter (Li et al., 2017)."""
    return _weight_norm(groups, 2, "weight_out")


def bn(groups: Groups, seed: int) -> Floats:
    """Mean |gamma| of every BatchNormalization that scales the channel (Liu et al., 2017)."""
    graph = groups.channels.graph
    total, count = np.zeros(groups.total), np.zeros(groups.total)
    for use in groups.channels.uses:
        gamma = graph.constant(use.tensor)
        if use.role == "scale" and use.node.op == "BatchNormalization" and gamma is not None:
            found = _spread(groups, use, np.abs(np.asarray(gamma, np.float64)))
            if found is not None:
                np.add.at(total, found[0], found[1])
                np.add.at(count, found[0], 1)
    lacking = [g for g in groups.groups if not count[g.classes].all()]
    if lacking:
        group = lacking[0]
        raise UsageError(
            "E211",
            "criterion 'bn' needs a BatchNormalization behind every channel that can be cut",
            where=f"{graph.model.source}: no BatchNormalization scales {group.titles[0]}",
            help="use --criterion l2, export with BatchNormalization kept, or --keep such layers",
        )
    return np.asarray(total / np.maximum(count, 1))


def product(groups: Groups, seed: int) -> Floats:
    """Norm of the filters that make a channel times the norm of the weights that read it."""
    return l2(groups, seed) * _weight_norm(groups, 2, "weight_in")


def share(groups: Groups, seed: int) -> Floats:
    """Share of what the readers sum up that comes from the channel; see ``share.py``."""
    norms: dict[int, list[tuple[Use, Floats]]] = {}
    for use in groups.channels.uses:
        if use.role == "weight_in":
            found = channel_norms(groups, use, 2)
            if found is not None:
                norms.setdefault(use.node.index, []).append((use, found))
    return shares(groups, norms, l2(groups, seed) ** 2)


def random(groups: Groups, seed: int) -> Floats:
    """Uniform noise: the baseline that a criterion has to beat."""
    return np.random.default_rng(seed).random(groups.total)


def obs(groups: Groups, curves: Curves) -> Floats:
    """The error, as far as it reaches the outputs, at which second-order elimination takes it."""
    if not curves and groups.groups:
        raise UsageError(
            "E211",
            "criterion 'obs' needs calibration data, two batches or more",
            where=groups.channels.graph.model.source,
            help="give some with --calib, or use --criterion share",
        )
    return scores_of(groups, complete(groups, curves, share(groups, 0)))


OBS = "obs"
# Measured best of these without data, BatchNormalization kept or folded, in both scopes: see
# benchmarks/README.md. It needs nothing that a model could lack.
AUTO = "share"
CRITERIA: dict[str, Callable[[Groups, int], Floats]] = {
    "bn": bn,
    "l1": l1,
    "l2": l2,
    "product": product,
    "random": random,
    "share": share,
}
