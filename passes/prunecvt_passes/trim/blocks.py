"""Residual blocks: which there are, what each one's loss costs, and what is left without some.

A block is a sum y = x + F(x) of tensors of one shape, where all that only F reads can go. It is
dropped as y = x + E[F(x)], the mean per channel over calibration data, for no constant is nearer.
They go one by one: the next is what adds least to the error of the outputs, over its cost to run.
(Huang & Wang, 2018, "Data-driven sparse structure selection", learn which to take by scaling each;
here they are tried out.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from prunecvt_passes import runtime
from prunecvt_passes.clean import drop_dead
from prunecvt_passes.cost import node_macs
from prunecvt_passes.graph import Graph, Node, every_node, taken_names, unused
from prunecvt_passes.model import Array, Model
from prunecvt_passes.oracle import showing
from prunecvt_passes.recovery.calibration import Calibration, Feed
from prunecvt_passes.recovery.measure import outputs_of
from prunecvt_passes.recovery.recover import judge
from prunecvt_passes.trim.geometry import CONVOLUTIONS, WEIGHTED, Floats
from prunecvt_passes.trim.open_axes import told_apart


@dataclass(frozen=True)
class Block:
    """A residual branch.

    Attributes:
        sum: index of the node that adds it.
        place: its place among that node's inputs.
        tensor: what it makes.
        nodes: indices of the nodes that only it needs.
        macs: multiply-accumulates of these, at the sizes of the graph's shapes.
        axis: the channels' axis of what it makes; None where that has no fixed size, so that one
            mean stands for all of it.
    """

    sum: int
    place: int
    tensor: str
    nodes: frozenset[int]
    macs: int
    axis: int | None


@dataclass(frozen=True)
class Trial:
    """What becomes of the outputs when one block alone is dropped.

    Attributes:
        block: the block.
        mean: of what it makes, one value per channel.
        error: squared error over the variance of the outputs, on held-out data.
        agreement: share of samples with the same class; None where the outputs are no classes.
        cost: what running it costs, in ``unit``.
        unit: ``ms`` or ``MACs``.
        together: of a block that went, the error with those that went before it; else None.
    """

    block: Block
    mean: Floats
    error: float
    agreement: float | None
    cost: float
    unit: str = "MACs"
    together: float | None = None


def find_blocks(graph: Graph) -> list[Block]:
    """Every residual branch of the main graph, in order; outer and inner ones where they nest."""
    found = []
    for node in graph.nodes:
        if node.kind not in ("Add", "Sum") or node.scope:
            continue
        if len(node.inputs) != 2 or len(set(node.inputs)) != 2:
            continue
        shape = graph.shape(node.outputs[0])
        alike = shape is not None and all(graph.shape(name) == shape for name in node.inputs)
        alike = alike and told_apart(graph, node.inputs)
        if not alike or graph.shapes.dtypes.get(node.outputs[0]) != onnx.TensorProto.FLOAT:
            continue
        for place in (1, 0):
            block = _block(graph, node, place)
            if block is not None:
                found.append(block)
                break
    return found


def _block(graph: Graph, node: Node, place: int) -> Block | None:
    """The branch at one place, where the other operand is what it is computed from."""
    branch, shortcut = node.inputs[place], node.inputs[1 - place]
    inside = _only_for(graph, node, branch)
    read = {name for index in inside for name in graph.nodes[index].inputs}
    macs = sum(node_macs(graph, graph.nodes[index]) for index in inside)
    if shortcut not in read or not macs or graph.is_initializer(shortcut):
        return None
    return Block(node.index, place, branch, frozenset(inside), macs, _axis(graph, branch))


def _only_for(graph: Graph, node: Node, tensor: str) -> set[int]:
    """Indices of the nodes that make ``tensor`` and that nothing but ``node`` needs."""
    inside: set[int] = set()
    for maker in reversed(graph.nodes[: node.index]):
        if maker.scope or maker.inner:
            continue
        named = [name for name in maker.outputs if name]
        reads = [reader for name in named for reader, _ in graph.readers.get(name, ())]
        public = any(name in graph.ends | graph.captured | graph.sealed for name in named)
        if public or not reads:
            continue
        ours = (r.index in inside or (r.index == node.index and tensor in named) for r in reads)
        if all(ours):
            inside.add(maker.index)
    return inside


def _axis(graph: Graph, tensor: str) -> int | None:
    """The channels' axis of a branch; None where its size is open."""
    axis = _channels(graph, tensor)
    return None if axis < 0 or graph.dynamic(tensor)[axis] else axis


def _channels(graph: Graph, tensor: str) -> int:
    """Axis 1 of a convolution or a BatchNormalization, the last of a product, else the last.

    It is followed through Transpose, and through what leaves the first two axes as they are.
    """
    rank, name = len(graph.shape(tensor) or ()), tensor
    places = list(range(rank))  # of the axes of ``name`` in ``tensor``
    maker = graph.producer.get(name)
    while maker is not None and maker.inputs and len(places) > 1:
        if maker.op in (*CONVOLUTIONS, "BatchNormalization"):
            return places[1]
        if maker.op in WEIGHTED:
            return places[-2 if graph.is_initializer(maker.inputs[0]) else -1]
        name, made = maker.inputs[0], graph.shape(name) or ()
        given = graph.shape(name) or ()
        if maker.op == "Transpose":
            order = list(maker.attributes.get("perm", range(len(places))[::-1]))
            places = [places[order.index(axis)] for axis in range(len(order))]
        elif given[:2] != made[:2]:
            break
        elif len(given) != len(made):  # the others are merged, or split
            places = places[:2] + places[-1:] * (len(given) - 2)
        maker = graph.producer.get(name)
    return rank - 1


def means(graph: Graph, blocks: Sequence[Block], feeds: Sequence[Feed]) -> list[Floats]:
    """Mean per channel of what each block makes; a single one where no axis is the channels'."""
    names = [block.tensor for block in blocks]
    opened = runtime.session(showing(graph.model, names))
    sums: list[Floats] = [np.zeros(1) for _ in blocks]
    count = [0] * len(blocks)
    for feed in feeds:
        values = runtime.run_session(opened, feed, names)
        for place, block in enumerate(blocks):
            rows: Array = values[block.tensor][..., None]
            if block.axis is not None:
                rows = np.moveaxis(values[block.tensor], block.axis, -1)
            flat = rows.reshape(-1, rows.shape[-1])
            sums[place] = sums[place] + flat.sum(0, dtype=np.float64)
            count[place] += len(flat)
    return [total / max(number, 1) for total, number in zip(sums, count, strict=True)]


def drop_blocks(graph: Graph, dropped: Sequence[tuple[Block, Floats]]) -> tuple[Model, list[str]]:
    """Returns the model with constants in the place of blocks, and the constants' names."""
    model, made = graph.model.copy(), []
    nodes, names = every_node(model.proto.graph), taken_names(model.proto.graph)
    for block, mean in dropped:
        rank = len(graph.shape(block.tensor) or ())
        shape = [-1 if axis == block.axis else 1 for axis in range(rank)]
        own = unused(f"{block.tensor}__mean", names)
        made.append(own)
        model.set_weight(own, mean.reshape(shape).astype(np.float32))
        nodes[block.sum].input[block.place] = own
    drop_dead(model)
    return model, made


Timing = Callable[[Mapping[str, Model]], Mapping[str, float]]
Joint = Callable[[Sequence[Trial], Trial], float]


def try_blocks(
    graph: Graph, batch: int, calibration: Calibration, timing: Timing | None = None
) -> list[Trial]:
    """Drops every block alone and judges it, in the order of the graph.

    Args:
        graph: an index with shapes.
        batch: the batch that the shapes hold for.
        calibration: means are of what is fitted on, errors on what is held out.
        timing: tensor -> model without that block, to tensor -> milliseconds saved; without it
            costs are multiply-accumulates.
    """
    blocks = find_blocks(graph)
    if not blocks:
        return []
    expected = outputs_of(graph.model, calibration.held_out)
    centres = means(graph, blocks, calibration.fit)
    models = {}
    trials = []
    for block, mean in zip(blocks, centres, strict=True):
        model, _ = drop_blocks(graph, [(block, mean)])
        quality = judge(expected, model, calibration)
        models[block.tensor] = model
        macs = block.macs / max(batch, 1)
        trials.append(Trial(block, mean, quality.error, quality.agreement, macs))
    if timing is None:
        return trials
    saved = timing(models)
    return [
        Trial(t.block, t.mean, t.error, t.agreement, saved[t.block.tensor], "ms") for t in trials
    ]


def choose_blocks(
    trials: Sequence[Trial],
    number: int | None,
    macs: float | None,
    whole: int,
    batch: int,
    judged: Joint,
) -> list[Trial]:
    """The blocks that go, in the order of the graph, with the error of those that went until then.

    Greedy: first the one of least error for its cost, then, of what is left, the one that adds the
    least to the error of all that went, for its cost; none inside another.

    Args:
        trials: what each costs alone.
        number: how many, or None.
        macs: the share of the multiply-accumulates that may be left, or None.
        whole: multiply-accumulates of the model, of one sample.
        batch: the batch that those of the blocks are counted for.
        judged: as ``joint_error`` makes it.
    """
    taken: list[Trial] = []
    left, error = float(whole), 0.0
    while True:
        enough = number is not None and len(taken) >= number
        gone = frozenset[int]().union(*(each.block.nodes for each in taken))
        rest = [each for each in trials if not each.block.nodes & gone]
        if enough or not rest or (macs is not None and left <= macs * whole + 1e-9):
            break
        tried = [(judged(taken, each), each) for each in rest]
        together, best = min(
            tried, key=lambda t: (_per_cost(t[0] - error, t[1].cost), t[1].block.sum)
        )
        taken.append(replace(best, together=together))
        error = together
        left -= best.block.macs / max(batch, 1)
    return sorted(taken, key=lambda t: t.block.sum)


def _per_cost(added: float, cost: float) -> float:
    """What a block adds to an error, per unit of its cost."""
    return added / cost if cost > 0 and np.isfinite(added) else np.inf


def joint_error(graph: Graph, calibration: Calibration) -> Joint:
    """What gives the outputs' error without some blocks and one more, on held-out data."""
    expected = outputs_of(graph.model, calibration.held_out)

    def judged(taken: Sequence[Trial], another: Trial) -> float:
        if not taken:
            return another.error
        gone = [(each.block, each.mean) for each in (*taken, another)]
        return judge(expected, drop_blocks(graph, gone)[0], calibration).error

    return judged
