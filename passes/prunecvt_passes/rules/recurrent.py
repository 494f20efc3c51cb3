"""Recurrent operators: LSTM, GRU and RNN, whose hidden width is cut exactly.

Hidden unit j makes row j of every gate in W [directions, gates * hidden, inputs], in R [directions,
gates * hidden, hidden] and in the biases B, and is read back, step by step, by column j of R. Gates
and states are computed unit by unit, so without that column and without those who read the outputs
nothing depends on the unit. Both directions share the axis of hidden units, so they go together.
"""

from __future__ import annotations

import numpy as np

from prunecvt_passes.flow import Axes, Axis, Count, Flow, Producer, Use, unknown
from prunecvt_passes.graph import Node
from prunecvt_passes.rules.contraction import contract

_GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}
_ACTIVATIONS = (
    "affine elu hardsigmoid leakyrelu relu scaledtanh sigmoid softplus softsign tanh "
    "thresholdedrelu"
)


def recurrent(flow: Flow, node: Node) -> list[Axes]:
    """Labels of LSTM, GRU and RNN; hidden units are the last axis of states and of outputs."""
    weight, recurrence = node.inputs[1:3]
    named = [n.decode() if isinstance(n, bytes) else n for n in _activations(node)]
    foreign = [name for name in named if name.lower() not in _ACTIVATIONS.split()]
    if foreign:
        unknown(flow, node, f"has an activation '{foreign[0]}' that is not known", "activation")
        return [flow.plain(name) for name in node.outputs]
    contract(flow, node, 0, len(flow.shape(node.inputs[0])) - 1, flow.axes_of(weight)[2])
    hidden = flow.axes_of(recurrence)[2]
    flow.reading(node, 2, 2)
    gates = _GATES[node.op]
    for place, axis, times in ((1, 1, gates), (2, 1, gates), (3, 1, 2 * gates), (7, 1, 3)):
        _tie_units(flow, node, place, axis, None if hidden is None else np.tile(hidden, times))
    for place in (5, 6):
        _tie_units(flow, node, place, 2, hidden)
    if hidden is not None and "hidden_size" in node.attributes:
        flow.counts.append(Count(node, "hidden_size", (hidden.size,), 0, hidden))
    for name, axis, role in (
        (weight, 1, "weight_out"),
        (recurrence, 1, "weight_out"),
        (weight, 2, "weight_in"),
        (recurrence, 2, "weight_in"),
    ):
        flow.uses.append(Use(node, name, axis, role))
    made = next(filter(None, node.outputs))
    flow.producers.append(Producer(node, made, flow.shape(recurrence)[2], hidden))
    return [[*flow.plain(name)[1:], hidden] for name in node.outputs]


def _activations(node: Node) -> list[str | bytes]:
    return list(node.attributes.get("activations", ()))


def _tie_units(flow: Flow, node: Node, place: int, axis: int, labels: Axis) -> None:
    """Ties an axis of an input, where it is given, to the hidden units."""
    if not node.input(place):
        return
    own = flow.axes_of(node.inputs[place])[axis]
    if own is not None or labels is not None:
        flow.tie(own, labels, node)
