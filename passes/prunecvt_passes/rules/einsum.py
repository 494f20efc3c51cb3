"""Sums of products over named axes: Einsum of any equation, and FusedMatMul, which is one.

Axes with the same letter tie. A letter that the output keeps is elementwise along that axis; one
that it drops is summed, and there one operand multiplied by zero makes the whole product zero.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence

from prunecvt_passes.flow import Axes, Axis, Flow, Producer, Use
from prunecvt_passes.graph import Node
from prunecvt_passes.rules.contraction import is_weight, multiplies

Letters = list[str]


def einsum(flow: Flow, node: Node) -> list[Axes]:
    """Labels of Einsum, explicit or implicit, with or without ellipsis."""
    ranks = [len(flow.shape(name)) for name in node.inputs]
    terms, made = subscripts(node.attributes["equation"], ranks)
    if len(made) != len(flow.shape(node.outputs[0])):
        for name in node.inputs:
            flow.pin_tensor(name, node, "unknown-axes", "has an equation that is not understood")
        return [flow.plain(node.outputs[0])]
    return [sum_of_products(flow, node, terms, made)]


def fused_matmul(flow: Flow, node: Node) -> list[Axes]:
    """Labels of FusedMatMul: a MatMul whose operands come transposed."""
    terms = [_matrix(flow, node, place) for place in (0, 1)]
    ranks = [len(term) for term in terms]
    made = [f"...{k}" for k in reversed(range(max(*ranks, 2) - 2))]
    made += [letter for letter, rank in zip("mn", ranks, strict=True) if rank > 1]
    return [sum_of_products(flow, node, terms, made)]


def _matrix(flow: Flow, node: Node, place: int) -> Letters:
    """Letters of an operand of FusedMatMul as it lies; transBatch moves its rows to the front."""
    rank, suffix = len(flow.shape(node.inputs[place])), "AB"[place]
    if rank < 2:
        return ["k"]
    last = ["m", "k"] if place == 0 else ["k", "n"]
    if node.attributes.get(f"trans{suffix}", 0):
        last.reverse()
    batch = [f"...{k}" for k in reversed(range(rank - 2))]
    if node.attributes.get(f"transBatch{suffix}", 0):
        return [last[0], *batch, last[1]]
    return [*batch, *last]


def subscripts(equation: str, ranks: Sequence[int]) -> tuple[list[Letters], Letters]:
    """Spells an equation out.

    Args:
        equation: as the attribute has it.
        ranks: of the operands.

    Returns:
        For every operand the letter of each axis, and the letters of the output. The axes of an
        ellipsis are called ``...k``, k counting from its right.
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = [_spelled(term, rank) for term, rank in zip(left.split(","), ranks, strict=False)]
    dots = max((sum(s.startswith("...") for s in term) for term in terms), default=0)
    if arrow:
        return terms, _spelled(right, len(right.replace("...", "")) + dots)
    counts = Counter(left.replace("...", "").replace(",", ""))
    once = sorted(letter for letter, count in counts.items() if count == 1)
    return terms, [*_spelled("...", dots), *once]


def _spelled(term: str, rank: int) -> Letters:
    before, dots, after = term.partition("...")
    width = max(rank - len(before) - len(after), 0) if dots else 0
    return [*before, *(f"...{k}" for k in reversed(range(width))), *after]


def sum_of_products(flow: Flow, node: Node, terms: Sequence[Letters], made: Letters) -> Axes:
    """Labels of the output of a sum of products.

    Args:
        flow: the walk.
        node: its inputs are the operands.
        terms: for every operand the letter of each axis.
        made: the letters of the output's axes.
    """
    spots: dict[str, list[tuple[int, int]]] = {}
    for place, (name, term) in enumerate(zip(node.inputs, terms, strict=False)):
        for axis, letter in enumerate(term):
            if flow.shape(name)[axis] > 1:  # an axis of one is broadcast
                spots.setdefault(letter, []).append((place, axis))
    _product(flow, node, spots, made)
    carried = {letter: _met(flow, node, found, letter in made) for letter, found in spots.items()}
    _weights(flow, node, terms, made)
    return [carried.get(letter) for letter in made]


def _product(
    flow: Flow, node: Node, spots: dict[str, list[tuple[int, int]]], made: Letters
) -> None:
    """Records a product of activations: what they share and keep are its batches."""
    given = [not is_weight(flow, name) for name in node.inputs]
    if sum(given) < 2:
        return
    batch: Axes = []
    matrix: Axes = []
    for letter, found in spots.items():
        met = [flow.axes_of(node.inputs[place])[axis] for place, axis in found if given[place]]
        (batch if len(met) > 1 and letter in made else matrix).extend(met)
    multiplies(flow, batch, matrix)


def _met(flow: Flow, node: Node, spots: list[tuple[int, int]], kept: bool) -> Axis:
    """Ties all axes of one letter; where it is summed, one operand is read."""
    labels = [flow.axes_of(node.inputs[place])[axis] for place, axis in spots]
    if len({place for place, _ in spots}) < len(spots):
        for axis in labels:
            flow.pin(axis, node, "diagonal", "takes the diagonal of this axis and another")
        return None
    what = "" if kept else "sums over an axis that is not cut"
    carried = functools.reduce(lambda a, b: flow.tie(a, b, node, what), labels)
    if kept:
        return carried
    data = [spot for spot in spots if not is_weight(flow, node.inputs[spot[0]])]
    flow.reading(node, *(data or spots)[0])
    return None


def _weights(flow: Flow, node: Node, terms: Sequence[Letters], made: Letters) -> None:
    """Records what the operands that are weights do: sum over channels, make channels.

    A weight that alone carries several axes of the output (heads and their channels) makes heads
    where heads are the unit, which come first, else channels, which come last.
    """
    weights = [is_weight(flow, name) for name in node.inputs[: len(terms)]]
    produced = False
    for place, (name, term) in enumerate(zip(node.inputs, terms, strict=False)):
        if not weights[place] or all(weights):
            continue
        shape = flow.shape(name)
        others = {s for k, other in enumerate(terms) if k != place for s in other}
        wide = [axis for axis in range(len(term)) if shape[axis] > 1]
        own = [axis for axis in wide if term[axis] in made and term[axis] not in others]
        for axis in wide:
            if term[axis] not in made and term[axis] in others:
                flow.uses.append(Use(node, name, axis, "weight_in"))
        if own and not produced:
            axis = own[0] if flow.units.attention == "head" else own[-1]
            flow.uses.append(Use(node, name, axis, "weight_out"))
            flow.producers.append(
                Producer(node, node.outputs[0], shape[axis], flow.axes_of(name)[axis])
            )
            produced = True
