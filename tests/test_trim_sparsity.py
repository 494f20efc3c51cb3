"""Masks of small weights, and structures of small weights."""

from __future__ import annotations

import numpy as np
import pytest

from models import WIDTH, Net
from prunecvt_passes.trim.exact import sized
from prunecvt_passes.trim.sparsity import compressed_bytes, mask_weights, nonzero, silence
from trim_cases import dense_of, weight_name


def small() -> Net:
    net = Net()
    x = net.add("Relu", net.norm(net.first(), WIDTH))
    net.last(x)
    name = weight_name(net, "last")
    net.weights[name] = (net.weights[name] * 100).astype(np.float32)
    return net


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_a_share_of_the_weights_is_masked_smallest_first(scope: str) -> None:
    net = small()
    graph = dense_of(net).graph
    model = mask_weights(graph, 0.75, scope)  # type: ignore[arg-type]
    names = [weight_name(net, each) for each in ("first", "last")]
    before, after = ([each.weights[n] for n in names] for each in (graph.model, model))
    for old, new in zip(before, after, strict=True):
        kept = new != 0
        assert (new[kept] == old[kept]).all()
        if scope == "layer":
            assert kept.sum() == old.size - int(0.75 * old.size)
            assert np.abs(old[kept]).min() >= np.abs(old[~kept]).max()
    if scope == "global":  # the second layer's weights are a hundred times as large
        assert (after[1] != 0).mean() > 0.9
        assert sum((values == 0).sum() for values in after) == int(0.75 * (8 * 27 + 8 * 4))
    others = model.weights.keys() - names
    assert all(model.weights[n] is graph.model.weights[n] for n in others)


def test_a_mask_compresses_and_nothing_else() -> None:
    graph = dense_of(small()).graph
    model = mask_weights(graph, 0.9)
    assert compressed_bytes(model) < 0.7 * compressed_bytes(graph.model)
    assert model.nbytes == graph.model.nbytes
    assert mask_weights(graph, 0.0) is graph.model
    left, total = nonzero(graph)
    assert left == total == 8 * 27 + 8 * 4


def test_structures_below_a_tolerance_are_silenced_and_single_weights_are_not() -> None:
    net = small()
    first, gamma = weight_name(net, "first"), net.nodes[1].input[1]
    values = net.weights[first].copy()
    values[2] = 1e-4
    values[:, :, 0] = -1e-4
    values[5, 0, 2, 2] = 1e-5
    net.weights[first] = values
    net.weights[gamma][3] = 1e-4
    graph = dense_of(net).graph
    assert silence(graph, 1e-6) == (graph.model, 0)
    model, count = silence(graph, 1e-3)
    assert count == 3  # a filter, the kernels' first column, a gamma
    assert silence(sized(model, {"x": (2, 3, 6, 6)}, 2).graph, 1e-3)[1] == 0
    found = model.weights[first]
    assert not found[2].any()
    assert not found[:, :, 0].any()
    assert found[5, 0, 2, 2] == np.float32(1e-5)
    assert model.weights[gamma][3] == 0
    assert model.weights[gamma].dtype == np.float32
