"""What the tests of ``trim`` share: cleaning a tiny graph, and holding it against the original."""

from __future__ import annotations

import numpy as np
import onnx

from models import Net, check_contract, run_sizes
from prunecvt_passes import oracle, runtime
from prunecvt_passes.budget import Budget
from prunecvt_passes.model import Array, Model
from prunecvt_passes.normalise import Dense, Source, normalise
from prunecvt_passes.samples import random_inputs
from prunecvt_passes.trim.exact import Cleaned, clean

EVERY = Budget(round_to=1)
EXACT = 1e-5


def dense_of(net: Net) -> Dense:
    return normalise(Source(Model.from_proto(net.proto())))


def gap(before: Model, after: Model, dense: Dense) -> float:
    """The largest relative difference of two models' outputs, at every size."""
    sessions = [runtime.session(each) for each in (before, after)]
    found = []
    for sizes in run_sizes(dense):
        inputs = random_inputs(dense.graph.model, sizes)
        runs = [runtime.run_session(each, inputs) for each in sessions]
        found.append(oracle.difference(*runs).relative)
    return max(found)


def cleaned(net: Net, budget: Budget = EVERY, inexact: bool = False) -> Cleaned:
    """Cleans a graph, and asserts that its outputs, inputs and names are what they were."""
    proto = net.proto()
    source = Source(Model.from_proto(proto))
    dense = normalise(source)
    found = clean(dense, source, budget, inexact)
    written = found.model.to_proto()
    onnx.checker.check_model(written, full_check=True)
    check_contract(proto, written)
    assert inexact or gap(source.model, found.model, dense) < EXACT
    return found


def width(found: Cleaned, tensor: str) -> int:
    """Output channels of the convolution that makes ``tensor``; 0 where it is gone."""
    for node in found.model.proto.graph.node:
        if tensor in node.output:
            return int(found.model.weights[node.input[1]].shape[0])
    return 0


def operators(found: Cleaned | Model) -> list[str]:
    model = found.model if isinstance(found, Cleaned) else found
    return [node.op_type for node in model.proto.graph.node]


def zero(net: Net, name: str, index: Array | list[int] | int, axis: int = 0) -> None:
    """Zeroes slices of a weight."""
    values = net.weights[name].copy()
    values[(slice(None),) * axis + (index,)] = 0
    net.weights[name] = np.ascontiguousarray(values)


def weight_name(net: Net, tensor: str, place: int = 1) -> str:
    """The initializer that makes ``tensor``."""
    return str(next(n for n in net.nodes if tensor in n.output).input[place])
