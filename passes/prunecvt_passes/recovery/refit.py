"""Least-squares refit of every linear node of a slimmed model, in the order of the graph.

Inputs come from the slimmed model as it is by then, targets from the original ("asymmetric"; He et
al., 2017, "Channel pruning for accelerating very deep neural networks"; Zhang et al., 2015). Where
the node's output is added to another tensor, the sum is the target and the slimmed model's other
summand is taken off it, so that a branch also mends the drift of its shortcut.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from prunecvt_passes.budget import Removal
from prunecvt_passes.graph import Graph
from prunecvt_passes.groups import Bools, Groups
from prunecvt_passes.model import Array, Model
from prunecvt_passes.recovery.aim import Aim, aim_of, bias_values
from prunecvt_passes.recovery.calibration import Calibration, samples_of
from prunecvt_passes.recovery.couple import Couple, couples
from prunecvt_passes.recovery.drift import without_removed
from prunecvt_passes.recovery.edit import matrix_of, set_bias, set_matrix
from prunecvt_passes.recovery.fit import Fit, Sample, Setting, best, error
from prunecvt_passes.recovery.joint import Block, activations, improve
from prunecvt_passes.recovery.linear import linear_nodes
from prunecvt_passes.recovery.moments import matched
from prunecvt_passes.recovery.patches import blocked, patches, positions, responses
from prunecvt_passes.recovery.walk import Walk

log = logging.getLogger("prunecvt")
ROWS = 1 << 15  # rows that a node is fitted on, and 8 per column at least,
ELEMENTS = 1 << 24  # as long as they hold no more numbers than this;
ENOUGH = 256  # rows per column of a block are enough, 2,048 at least
JOINT_ROUNDS = 2
JOINT_WIDEST = 640  # columns of a couple's weights: fits are many, and dear beyond
JOINT_IMAGES = 256  # that a step of a couple is made on, as long as
JOINT_ELEMENTS = 1 << 24  # the producer's values on them are no more


@dataclass(frozen=True)
class Effort:
    """How often a producer and its one reader are fitted together, and on how many rows at most.

    ``fit`` is what fits a node: by least squares, or its moments alone.
    """

    rounds: int = JOINT_ROUNDS
    rows: int = ROWS
    fit: Callable[[Sample, Sample, Fit, Setting], tuple[Fit, float]] = best


WHOLE = Effort()
TRIAL = Effort(rounds=0, rows=1 << 13)  # for models that are only tried out
MOMENTS = Effort(rounds=0, fit=matched)  # matches moments and fits nothing else


@dataclass(frozen=True)
class _Pair:
    """The original and the slimmed model, and which labels are left."""

    dense: Walk
    slim: Walk
    groups: Groups
    kept: Bools
    calibration: Calibration
    effort: Effort


def refit(
    dense: Graph,
    slim: Graph,
    groups: Groups,
    removal: Removal,
    calibration: Calibration,
    grow: bool = True,
    effort: Effort = WHOLE,
) -> Model:
    """Refits every linear node where that helps on held-out data.

    Args:
        dense: the original in normal form.
        slim: the slimmed model; ``slim.model`` is edited and has to be a copy.
        groups, removal: what was cut.
        calibration: the data.
        grow: whether nodes without a bias may get one.
        effort: how much is done for it.

    Returns:
        ``slim.model``.
    """
    aims = [aim_of(slim, linear, grow) for linear in linear_nodes(slim)]
    aims = [aim for aim in aims if aim.tensor in dense.producer]
    feeds = (*calibration.fit, *calibration.held_out)
    used = [n for a in aims for n in (a.linear.node.inputs[0], a.other) if n]
    joined = couples(slim, aims) if effort.rounds else {}
    used += [couple.producer.linear.node.inputs[0] for couple in joined.values()]
    with (
        Walk(dense, feeds, [aim.tensor for aim in aims]) as original,
        Walk(slim, feeds, used) as own,
    ):
        kept = ~removal.removed[groups.class_of]
        pair = _Pair(original, own, groups, kept, calibration, effort)
        for number, aim in enumerate(aims):
            pair.slim.to(aim.linear.node.index)
            pair.dense.past(aim.tensor)
            alike = _alike(pair, aim)
            found = _fit(pair, aim, number) if alike else 0.0
            couple = joined.get(aim.linear.node.index)
            if couple is not None:
                if alike:
                    _join(pair, couple, number, found)
                pair.slim.release([couple.producer.linear.node.inputs[0]])
            pair.dense.release([aim.tensor])
            pair.slim.release([aim.linear.node.inputs[0], *([aim.other] if aim.other else [])])
    return slim.model


def _join(pair: _Pair, couple: Couple, number: int, error: float) -> None:
    """Improves the producer and fits the reader anew, as long as held-out data agrees."""
    graph, aims = pair.slim.graph, (couple.producer, couple.reader)
    split, batches = len(pair.calibration.fit), range(pair.slim.batches)
    source, between = (aim.linear.node.inputs[0] for aim in aims)
    blocks = [_block(pair, couple, batch) for batch in _few(pair, couple, split)]
    for _ in range(pair.effort.rounds if blocks else 0):
        before = [(matrix_of(graph, aim), bias_values(graph, aim)) for aim in aims]
        if not improve(graph, couple, blocks, number):
            return
        inputs = [pair.slim.get(batch, source) for batch in batches]
        for batch, values in enumerate(activations(graph, couple, inputs)):
            pair.slim.store.put(batch, between, values)
        found = _fit(pair, couple.reader, number)
        if found >= error:
            for aim, (weight, bias) in zip(aims, before, strict=True):
                set_matrix(graph, aim, weight)
                if bias is not None:
                    set_bias(graph, aim, bias.astype(np.float64))
            for batch, values in enumerate(activations(graph, couple, inputs)):
                pair.slim.store.put(batch, between, values)
            return
        log.info("joint %-40s %.5f -> %.5f", couple.reader.linear.node.title, error, found)
        error = found


def _few(pair: _Pair, couple: Couple, split: int) -> range:
    """The runs that steps are made on: none where they take too much memory or time."""
    aims = (couple.producer, couple.reader)
    if max(matrix_of(pair.slim.graph, aim).shape[2] for aim in aims) > JOINT_WIDEST:
        return range(0)
    images = samples_of(pair.calibration.fit)
    shape = pair.slim.graph.shape(couple.producer.tensor) or (1,)
    most = min(JOINT_IMAGES, JOINT_ELEMENTS // max(math.prod(shape[1:]), 1))
    if most * split < images:
        return range(0)
    return range(0, split, -(-images // most))


def _block(pair: _Pair, couple: Couple, batch: int) -> Block:
    aim, slim = couple.reader, pair.slim
    goal = _goal(pair, aim, batch)
    other = slim.get(batch, aim.other) if aim.other else 0.0
    return Block(slim.get(batch, couple.producer.linear.node.inputs[0]), goal, other)


def _alike(pair: _Pair, aim: Aim) -> bool:
    """Whether both models have as many rows here; where these follow from the data they may not."""
    linear = aim.linear
    for batch in range(pair.slim.batches):
        own = pair.slim.store.shape(batch, linear.node.inputs[0])
        goal = pair.dense.store.shape(batch, aim.tensor)
        fits = own[0] == goal[0] if linear.spatial else own[:-1] == goal[:-1]
        if not fits or 0 in own:
            return False
    return True


def _fit(pair: _Pair, aim: Aim, number: int) -> float:
    """Fits one node; returns its held-out error."""
    chance = np.random.default_rng(number)
    fitted, held_out = _samples(pair, aim, chance)
    graph = pair.slim.graph
    weight, values = matrix_of(graph, aim), bias_values(graph, aim)
    bias = np.zeros(weight.shape[:2])
    if values is not None:
        bias = np.broadcast_to(values.astype(np.float64), weight.shape[0] * weight.shape[1])
        bias = bias.reshape(weight.shape[:2])
    elif aim.bias is None and aim.linear.node.input(2):  # shared: stays, and counts
        shared = graph.model.weights[aim.linear.node.inputs[2]].astype(np.float64)
        bias = shared.ravel().reshape(weight.shape[:2])
    before, setting = Fit(weight, bias), Setting(aim.low, aim.high, aim.bias is not None)
    fit, after = pair.effort.fit(fitted, held_out, before, setting)
    if fit is not before:
        set_matrix(graph, aim, fit.weight)
        set_bias(graph, aim, fit.bias)
        was = error(held_out, before, setting)
        log.info("refit %-40s %.5f -> %.5f (%g)", aim.linear.node.title, was, after, fit.ridge)
    return after


def _samples(pair: _Pair, aim: Aim, chance: np.random.Generator) -> tuple[Sample, Sample]:
    """What is fitted on, and what judges, at places that are drawn anew for every batch."""
    split = len(pair.calibration.fit)
    images = samples_of(pair.calibration.fit)
    weight = matrix_of(pair.slim.graph, aim)
    wide = weight.shape[0] * weight.shape[2]
    columns = weight.shape[2]
    wanted = min(max(pair.effort.rows, 8 * columns), max(ELEMENTS // wide, 4 * columns))
    wanted = min(wanted, max(ENOUGH * columns, 1 << 11))
    parts: tuple[list[Sample], list[Sample]] = ([], [])
    for batch in range(pair.slim.batches):
        sample = _sample(pair, aim, batch, -(-wanted // images), chance)
        parts[batch >= split].append(sample)
    return _joined(parts[0]), _joined(parts[1])


def _sample(
    pair: _Pair, aim: Aim, batch: int, per_image: int, chance: np.random.Generator
) -> Sample:
    linear, slim = aim.linear, pair.slim
    values = slim.get(batch, linear.node.inputs[0])
    goal = _goal(pair, aim, batch)
    count = per_image if linear.spatial else per_image * len(values)
    places = positions(linear, goal.shape, count, chance)
    shape = slim.graph.model.weights[linear.weight].shape
    rows = patches(linear, values, goal.shape, shape, places)
    other: Array = np.zeros((1, 1, 1), np.float32)
    if aim.other:
        other = blocked(linear, responses(linear, slim.get(batch, aim.other), places))
    return Sample(rows, blocked(linear, responses(linear, goal, places)), other)


def _joined(samples: list[Sample]) -> Sample:
    rows, goals = (
        np.concatenate([getattr(s, name) for s in samples], axis=1) for name in ("rows", "goal")
    )
    first = samples[0].other
    other = first if first.size == 1 else np.concatenate([s.other for s in samples], axis=1)
    return Sample(rows, goals, other)


def _goal(pair: _Pair, aim: Aim, batch: int) -> Array:
    """What the original has there, without the removed channels."""
    values = pair.dense.get(batch, aim.tensor)
    return without_removed(pair.groups, pair.kept, aim.tensor, values)
