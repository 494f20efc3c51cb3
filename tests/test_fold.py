"""Folding of BatchNormalization into the layer before it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from onnx import TensorProto, helper

from models import Net
from prunecvt_passes import oracle, runtime
from prunecvt_passes.fold import fold_batch_norms
from prunecvt_passes.model import Model
from prunecvt_passes.normalise import Source, normalise
from prunecvt_passes.samples import random_inputs


def folded(net: Net, left: int = 0) -> Model:
    """Folds, and asserts that the result is the same and how many stay."""
    dense = normalise(Source(Model.from_proto(net.proto())))
    model = dense.graph.model
    result = fold_batch_norms(model)
    inputs = random_inputs(model, dense.sizes)
    gap = oracle.difference(runtime.run(model, inputs), runtime.run(result, inputs))
    assert gap.relative < 1e-5
    assert [n.op_type for n in result.proto.graph.node].count("BatchNormalization") == left
    return result


def conv(net: Net) -> str:
    return net.conv(net.input("N", 4, 6, 6), 4, 8, 3)


def conv_without_bias(net: Net) -> str:
    return net.conv(net.input("N", 4, 6, 6), 4, 8, 3, bias=False)


def grouped(net: Net) -> str:
    return net.conv(net.input("N", 4, 6, 6), 4, 8, 3, group=2)


def depthwise(net: Net) -> str:
    return net.conv(net.input("N", 4, 6, 6), 4, 8, 3, group=4)


def transposed(net: Net) -> str:
    return net.add("ConvTranspose", net.input("N", 4, 6, 6), net.random(4, 8, 2, 2), net.random(8))


def transposed_grouped(net: Net) -> str:
    return net.add("ConvTranspose", net.input("N", 4, 6, 6), net.random(4, 4, 2, 2), group=2)


def gemm(net: Net) -> str:
    return net.add("Gemm", net.input("N", 4), net.random(4, 8), net.random(8))


def gemm_trans_b(net: Net) -> str:
    return net.add("Gemm", net.input("N", 4), net.random(8, 4), transB=1)


def gemm_with_scalar_bias(net: Net) -> str:
    return net.add("Gemm", net.input("N", 4), net.random(4, 8), net.random(1))


MAKERS = [
    conv,
    conv_without_bias,
    grouped,
    depthwise,
    transposed,
    transposed_grouped,
    gemm,
    gemm_trans_b,
    gemm_with_scalar_bias,
]


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_folds_into(make: Callable[[Net], str]) -> None:
    net = Net()
    net.output(net.add("Relu", net.norm(make(net), 8, epsilon=1e-2)))
    folded(net)


def test_folds_a_chain() -> None:
    net = Net()
    x = net.add("Relu", net.norm(conv(net), 8))
    net.output(net.norm(net.conv(x, 8, 4), 4))
    folded(net)


def test_a_shared_bias_is_written_for_the_layer_alone() -> None:
    net = Net()
    bias = net.random(8)
    x = net.norm(net.add("Conv", net.input("N", 8, 6, 6), net.random(8, 8, 1, 1), bias), 8)
    net.output(net.add("Conv", x, net.random(8, 8, 1, 1), bias))
    folded(net)


def test_stays_where_the_input_is_read_elsewhere() -> None:
    net = Net()
    x = conv(net)
    net.output(net.add("Add", net.norm(x, 8), x))
    folded(net, left=1)


def test_stays_where_the_input_is_an_output() -> None:
    net = Net()
    x = conv(net)
    net.output(net.norm(x, 8))
    net.output(x)
    folded(net, left=1)


def test_stays_where_the_filter_is_shared() -> None:
    net = Net()
    x, weight = net.input("N", 8, 6, 6), net.random(8, 8, 1, 1)
    x = net.norm(net.add("Conv", x, weight), 8)
    net.output(net.norm(net.add("Conv", x, weight), 8))
    folded(net, left=2)


def test_stays_without_a_layer_before_it() -> None:
    net = Net()
    net.output(net.norm(net.add("Relu", net.input("N", 8, 6, 6)), 8))
    folded(net, left=1)


def test_stays_behind_a_scaled_gemm() -> None:
    net = Net()
    x = net.add("Gemm", net.input("N", 4), net.random(4, 8), net.random(8), beta=0.5)
    net.output(net.norm(x, 8))
    folded(net, left=1)


def test_stays_where_a_parameter_is_computed() -> None:
    net = Net()
    scale = net.input(8, name="scale")
    x = net.add("BatchNormalization", conv(net), scale, *[net.positive(8) for _ in range(3)])
    net.output(x)
    folded(net, left=1)


def test_names_of_outputs_stay() -> None:
    net = Net()
    net.output(net.norm(conv(net), 8))
    model = folded(net)
    assert model.proto.graph.node[-1].output[0] == net.outputs[0].name


def test_without_batch_norms_the_model_is_given_back() -> None:
    net = Net()
    net.output(conv(net))
    model = Model.from_proto(net.proto())
    assert fold_batch_norms(model) is model


def test_the_input_is_left_as_it_was() -> None:
    net = Net()
    net.output(net.norm(conv(net), 8))
    model = Model.from_proto(net.proto())
    text, values = model.proto.SerializeToString(), {k: v.copy() for k, v in model.weights.items()}
    fold_batch_norms(model)
    assert model.proto.SerializeToString() == text
    assert all(np.array_equal(model.weights[k], v) for k, v in values.items())


def test_a_bias_that_a_body_reads_keeps_its_values() -> None:
    net = Net()
    bias = net.random(8, name="bias")
    x = net.add("Conv", net.input("N", 4, 6, 6), net.random(8, 4, 1, 1), bias)
    net.output(net.norm(x, 8))
    chosen = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [8]) for n in ("p", "q")]
    bodies = [
        helper.make_graph([helper.make_node(op, [bias], [v.name])], op, [], [v])
        for op, v in zip(("Neg", "Abs"), chosen, strict=True)
    ]
    flag = net.input(name="flag", type=TensorProto.BOOL)
    net.output(net.add("If", flag, then_branch=bodies[0], else_branch=bodies[1]), shape=[8])
    folded(net)


def test_batch_norm_of_each_position_stays() -> None:
    net = Net(opset=8)
    x, shape = net.conv(net.input(1, 3, 2, 2), 3, 4), (4, 2, 2)
    parameters = [net.positive(*shape) for _ in range(4)]
    net.output(net.add("BatchNormalization", x, *parameters, spatial=0), shape=[1, 4, 2, 2])
    assert fold_batch_norms(Model.from_proto(net.proto())).weights.keys() == net.weights.keys()
