"""Sparse initializers and constants: made dense in the normal form, cut like any other."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import prunecvt
from models import Net, Rows, check_row
from prunecvt.loading.load import load
from prunecvt_passes.model import Array
from prunecvt_passes.normalise import Source, normalise
from prunecvt_passes.sparse import dense_values

KINDS = [np.float32, np.float64, np.float16, np.int8, np.uint8, np.int32, np.int64]


def sparse(values: Array, name: str = "", pairs: bool = False) -> onnx.SparseTensorProto:
    """The nonzero entries of an array, with one index each or one per axis."""
    places = np.argwhere(values) if pairs else np.flatnonzero(values)
    entries = numpy_helper.from_array(values[values != 0], name)
    indices = numpy_helper.from_array(places.astype(np.int64))
    return helper.make_sparse_tensor(entries, indices, values.shape)


def thinned(net: Net, *shape: int) -> Array:
    return (net.rng.standard_normal(shape) * (net.rng.random(shape) < 0.3)).astype(np.float32)


class SparseNet(Net):
    """Writes some of its weights as sparse initializers."""

    def __init__(self) -> None:
        super().__init__()
        self.thin: list[onnx.SparseTensorProto] = []

    def sparse(self, values: Array, pairs: bool = False) -> str:
        self.thin.append(sparse(values, name := self.fresh("s"), pairs))
        return name

    def proto(self) -> onnx.ModelProto:
        model = super().proto()
        model.graph.sparse_initializer.extend(self.thin)
        return model


OPSET = [helper.make_opsetid("", 17)]
row = Rows()


@row(lost={"first": 4, "second": 4})
def constants_with_sparse_values(net: Net) -> None:
    weight = net.add("Constant", sparse_value=sparse(thinned(net, 8, 8, 1, 1), pairs=True))
    bias = net.add("Constant", sparse_value=sparse(thinned(net, 8)))
    net.last(net.add("Conv", net.first(), weight, bias, name="second"))


@row(lost={"first": 4})
def a_constant_without_any_value(net: Net) -> None:
    empty = sparse(np.zeros((8, 1, 1), np.float32))
    net.last(net.add("Add", net.first(), net.add("Constant", sparse_value=empty)))


@pytest.mark.parametrize("case", row.cases)
def test_oracle(case: Any) -> None:
    check_row(case)


@pytest.mark.parametrize("pairs", [False, True])
def test_sparse_initializers_are_cut(pairs: bool) -> None:
    net = SparseNet()
    x = net.add("Conv", net.first(), net.sparse(thinned(net, 8, 8, 1, 1), pairs), name="second")
    net.last(net.add("Add", x, net.sparse(thinned(net, 8, 1, 1), pairs)))
    result = prunecvt.slim(net.proto(), ratio=0.5, round_to=1)
    check = result.report.verify
    assert check and check.masked_dense and check.masked_dense.max_rel < 1e-5
    shapes = {t.name: list(t.dims) for t in result.model.graph.initializer}
    assert [shapes[thin.values.name] for thin in net.thin] == [[4, 4, 1, 1], [4, 1, 1]]
    assert not result.model.graph.sparse_initializer


def test_ratio_zero_makes_them_dense_and_nothing_else() -> None:
    net = SparseNet()
    values = thinned(net, 8, 8, 1, 1)
    net.last(net.add("Conv", net.first(), net.sparse(values), name="second"))
    dense = normalise(Source(load(net.proto())))
    np.testing.assert_array_equal(dense.graph.model.weights[net.thin[0].values.name], values)


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_type_is_made_dense(kind: type, pairs: bool) -> None:
    values = (np.arange(24).reshape(2, 3, 4) % 5 // 3).astype(kind)
    found = dense_values(sparse(values, pairs=pairs))
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values)


def test_the_memory_limit_counts_what_a_sparse_constant_takes_when_dense() -> None:
    big = helper.make_sparse_tensor(
        numpy_helper.from_array(np.ones(1, np.float32)),
        numpy_helper.from_array(np.zeros(1, np.int64)),
        [2**20],
    )
    constant = helper.make_node("Constant", [], ["y"], sparse_value=big)
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2**20])
    model = helper.make_model(helper.make_graph([constant], "g", [], [output]), opset_imports=OPSET)
    model.ir_version = 8
    with pytest.raises(prunecvt.errors.ResourceError, match="limit"):
        load(model, max_memory=2**20)
