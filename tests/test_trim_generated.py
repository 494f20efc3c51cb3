"""Random networks with random structures of zeros: the clean-up changes nothing."""

from __future__ import annotations

import functools

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from models import check_contract, noise, run_sizes
from networks import grow
from networks.choices import random_genome
from prunecvt_passes import oracle, runtime
from prunecvt_passes.budget import Budget
from prunecvt_passes.model import Model
from prunecvt_passes.normalise import Source, normalise
from prunecvt_passes.samples import random_inputs
from prunecvt_passes.trim.exact import Cleaned, clean

SEEDS = 50


def emptied(proto: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """The model with slices of its weights zeroed along random axes, whole ones now and then."""
    draw = np.random.default_rng(seed)
    for tensor in proto.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < 4 or draw.random() < 0.3:
            continue
        values = values.copy()
        axis = 0 if draw.random() < 0.6 else int(draw.integers(values.ndim))
        size = values.shape[axis]
        gone = draw.permutation(size)[: int(draw.integers(0, size))]
        if values.ndim > 2 and axis > 1:
            gone = np.arange(int(draw.integers(0, size)))  # a border
        values[(slice(None),) * axis + (gone,)] = 0
        if draw.random() < 0.08:
            values[:] = 0
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return proto


@functools.cache
def checked(seed: int) -> Cleaned:
    """Cleans a random network and compares the outputs at all sizes."""
    grown = grow(random_genome(seed))
    proto = emptied(grown.proto, seed)
    source = Source(Model.from_proto(proto), grown.stated)
    dense = normalise(source)
    found = clean(dense, source, Budget(round_to=1 + seed % 2))
    onnx.checker.check_model(found.model.to_proto())
    check_contract(proto, found.model.to_proto())
    sessions = [runtime.session(each) for each in (source.model, found.model)]
    for sizes in run_sizes(dense):
        inputs = random_inputs(source.model, sizes)
        gap = oracle.difference(*(runtime.run_session(each, inputs) for each in sessions))
        small = gap.absolute <= 3 * noise(sessions[0], inputs)
        assert gap.relative < 1e-4 or small, f"differs at {sizes}: {gap}"
    return found


@pytest.mark.parametrize("seed", range(SEEDS))
def test_nothing_changes(seed: int) -> None:
    checked(seed)


def test_something_goes_as_a_rule() -> None:
    found = [checked(seed) for seed in range(SEEDS)]
    assert sum(bool(each.removal.removed.any()) for each in found) >= 12
    assert sum(each.constant > 0 for each in found) >= 3
    assert any(each.dropped for each in found)
    assert any(each.kernels for each in found)
