"""How tensors are wired: sharing, outputs, subgraphs, unknown operators, forms of constants."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from models import FLOAT, INT64, Net, Rows, check_oracle, check_row, grouped

row = Rows()


@row(lost={"first": 4, "second": 4})
def filter_shared_by_two_convolutions(net: Net) -> None:
    net.input("N", 8, 6, 6)
    weight = net.random(8, 8, 3, 3)
    x = net.conv("x", 8, 8, name="first")
    x = net.add("Conv", x, weight, pads=[1] * 4, name="second")
    net.last(net.add("Conv", net.add("Relu", x), weight, pads=[1] * 4, name="third"))


@row(lost={"first": 4})
def head_shared_by_two_levels(net: Net) -> None:
    weight = net.random(4, 8, 1, 1)
    x = net.first()
    y = net.conv(x, 8, 8, 3, strides=[2, 2], name="second")
    net.output(net.add("Conv", x, weight))
    net.output(net.add("Conv", y, weight))


@row(lost={"first": 4, "second": 4})
def bias_vector_shared_by_two_layers(net: Net) -> None:
    bias, x = net.random(8), net.input("N", 3, 6, 6)
    x = net.add("Conv", x, net.random(8, 3, 1, 1), bias, name="first")
    net.last(net.add("Conv", x, net.random(8, 8, 1, 1), bias, name="second"))


@row(lost={"first": 4})
def matrix_read_by_gemm_and_its_transpose(net: Net) -> None:
    matrix = net.random(3, 8)
    x = net.add("Gemm", net.input("N", 3), matrix, name="first")
    net.output(net.add("Gemm", net.add("Relu", x), matrix, transB=1))


@row(lost={"first": 4, "second": 4})
def square_matrix_read_along_both_axes(net: Net) -> None:
    matrix = net.random(8, 8)
    x = net.add("MatMul", net.input("N", 3), net.random(3, 8), name="first")
    y = net.add("MatMul", x, matrix, name="second")
    net.head(net.add("Gemm", y, matrix, transB=1), 8)


@row(lost={"first": 4, "second": 4})
def matrix_read_as_data_too(net: Net) -> None:
    matrix = net.random(8, 8)
    x = net.add("Flatten", net.add("GlobalMaxPool", net.first()))
    y = net.add("Unsqueeze", net.add("MatMul", x, matrix, name="second"), np.array([1]))
    y = net.add("ReduceSum", net.add("Mul", y, matrix), np.array([2]), keepdims=0)
    net.head(net.add("Add", x, y), 8)


@row(pinned={"first": "mixed-axis"})
def kernel_axis_that_multiplies_channels(net: Net) -> None:
    weight = net.random(4, 3, 1, 6)
    x = net.add("Flatten", net.add("GlobalMaxPool", net.first(6)))
    y = net.add("Mul", net.add("Unsqueeze", x, np.array([1, 2, 3])), weight)
    net.head(net.add("ReduceSum", y, np.array([1, 2, 3]), keepdims=0), 6)
    net.output(net.add("Conv", "x", weight))


@row(lost={"first": 4})
def tensor_read_along_two_axes(net: Net) -> None:
    x = net.add("MatMul", net.input(8, 3), net.random(3, 8), name="first")
    x = net.add("MatMul", net.add("Transpose", x), x)  # 8 x 8, both axes of the same labels
    left = net.add("MatMul", net.random(4, 8), x)
    right = net.add("MatMul", x, net.random(8, 4))
    net.output(net.add("MatMul", left, net.random(8, 4)))
    net.output(net.add("MatMul", net.random(4, 8), right))


@row(pinned={"first": "graph-output"})
def output_of_the_graph(net: Net) -> None:
    x = net.first()
    net.last(net.add("Relu", x))
    net.output(x)


@row(pinned={"first": "graph-output"})
def size_that_is_an_output(net: Net) -> None:
    x = net.first()
    net.last(x)
    net.output(net.add("Shape", x), INT64)


@row(pinned={"first": "graph-output"})
def size_of_a_piece_that_is_an_output(net: Net) -> None:
    x = net.first()
    net.last(x)
    size = net.add("Gather", net.add("Shape", x), np.array([1, 2]))
    net.output(size, INT64)


@row(pinned={"first": "graph-output"})
def weight_that_is_an_output(net: Net) -> None:
    net.last(net.first())
    weight = net.nodes[0].input[1]
    net.output(weight, shape=net.weights[weight].shape)


@row(pinned={"first": "unknown-shape"})
def sequence_of_tensors(net: Net) -> None:
    parts = net.add("SplitToSequence", net.first(), np.array([4, 4]), axis=1)
    a, b = (net.add("SequenceAt", parts, np.array(k)) for k in range(2))
    net.last(net.add("Add", a, b), 4)


@row(pinned={"first": "no-rule"})
def unknown_operator(net: Net) -> None:
    x = net.add("DFT", net.add("Unsqueeze", net.first(), np.array([4])), axis=2)
    net.last(net.add("ReduceSum", x, np.array([4]), keepdims=0))


@row(pinned={"first": "no-rule"})
def operator_of_another_domain(net: Net) -> None:
    x = net.add("Inverse", net.first(), domain="com.microsoft")
    net.output(net.conv(x, 8, 4), shape=["N", 4, 6, 6])


@row(lost={"third": 4}, pinned={"first": "no-rule"})
def layers_behind_another_domain_are_cut(net: Net) -> None:
    x = net.add("Inverse", net.first(), domain="com.microsoft")
    x = net.conv(x, 8, 8, name="third")
    net.output(net.conv(x, 8, 4), shape=["N", 4, 6, 6])


def body(name: str, nodes: list[onnx.NodeProto], outputs: list[str], inputs: Any = ()) -> Any:
    made = [helper.make_tensor_value_info(output, FLOAT, None) for output in outputs]
    return helper.make_graph(nodes, name, list(inputs), made)


@row(pinned={"first": "subgraph"})
def branch_that_captures(net: Net) -> None:
    x, flag = net.first(), net.input(name="flag", type=TensorProto.BOOL)
    then = body("then", [helper.make_node("Relu", [x], ["a"])], ["a"])
    other = body("other", [helper.make_node("Abs", [x], ["b"])], ["b"])
    net.last(net.add("If", flag, then_branch=then, else_branch=other))


@row(pinned={"first": "subgraph"})
def branch_that_captures_a_size(net: Net) -> None:
    x, flag = net.first(), net.input(name="flag", type=TensorProto.BOOL)
    size = net.add("Gather", net.add("Shape", x), np.array([0, 1]))
    cast = helper.make_node("Cast", [size], ["a"], to=FLOAT)
    then, other = (
        body("then", [cast], ["a"]),
        body("other", [helper.make_node("Identity", ["a0"], ["b"])], ["b"]),
    )
    other.initializer.append(onnx.numpy_helper.from_array(np.zeros(2, np.float32), "a0"))
    net.output(net.add("If", flag, then_branch=then, else_branch=other), shape=[2])
    net.last(x)


@row(lost={"first": 4})
def branch_that_captures_a_weight(net: Net) -> None:
    x, flag, weight = (
        net.first(),
        net.input(name="flag", type=TensorProto.BOOL),
        net.random(8, 1, 1),
    )
    then = body("then", [helper.make_node("Relu", [weight], ["a"])], ["a"])
    other = body("other", [helper.make_node("Abs", [weight], ["b"])], ["b"])
    net.output(net.add("If", flag, then_branch=then, else_branch=other))
    net.last(net.add("Add", x, net.random(8, 1, 1)))


@row(pinned={"first": "subgraph"})
def branch_that_captures_a_weight_of_the_channels(net: Net) -> None:
    x, flag, weight = (
        net.first(),
        net.input(name="flag", type=TensorProto.BOOL),
        net.random(8, 6, 6),
    )
    then = body("then", [helper.make_node("Relu", [weight], ["a"])], ["a"])
    other = body("other", [helper.make_node("Abs", [weight], ["b"])], ["b"])
    net.output(net.add("If", flag, then_branch=then, else_branch=other))
    net.last(net.add("Mul", x, weight))


@row(pinned={"first": "subgraph"})
def loop_that_carries(net: Net) -> None:
    inputs = [
        helper.make_tensor_value_info("i", INT64, []),
        helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        helper.make_tensor_value_info("state", FLOAT, None),
    ]
    nodes = [
        helper.make_node("Identity", ["go"], ["on"]),
        helper.make_node("Sin", ["state"], ["next"]),
    ]
    loop = body("loop", nodes, ["on", "next"], inputs)
    loop.output[0].type.tensor_type.elem_type = TensorProto.BOOL
    made = net.add("Loop", np.array(3), np.array(True), net.first(), body=loop)
    net.last(made)


@row(pinned={"first": "subgraph"})
def scan_over_channels(net: Net) -> None:
    inputs = [helper.make_tensor_value_info(n, FLOAT, None) for n in ("sum", "row")]
    nodes = [
        helper.make_node("Add", ["sum", "row"], ["next"]),
        helper.make_node("Identity", ["next"], ["out"]),
    ]
    scan = body("scan", nodes, ["next", "out"], inputs)
    x = net.add("Transpose", net.first(batch=2), perm=[1, 0, 2, 3])
    start = np.zeros((2, 6, 6), np.float32)
    net.output(net.many("Scan", start, x, outputs=2, body=scan, num_scan_inputs=1)[1])


@row(lost={"first": 4})
def weights_in_constant_nodes(net: Net) -> None:
    values = onnx.numpy_helper.from_array(net.rng.standard_normal((8, 8, 1, 1)).astype(np.float32))
    weight = net.add("Identity", net.add("Constant", value=values))
    net.last(net.add("Conv", net.first(), weight, name="second"))


@row(lost={"first": 4})
def weights_behind_cast_and_transpose(net: Net) -> None:
    weight = net.constant(net.rng.standard_normal((8, 4)).astype(np.float16))
    weight = net.add("Transpose", net.add("Cast", weight, to=FLOAT))
    x = net.add("Flatten", net.add("GlobalMaxPool", net.first()))
    net.output(net.add("Gemm", x, weight, transB=1))


@row(lost={"first": 4})
def weights_listed_as_graph_inputs(net: Net) -> None:
    net.ir, net.opset = 3, 8
    net.last(net.norm(net.first(), 8))
    for name, values in net.weights.items():
        net.inputs.append(helper.make_tensor_value_info(name, FLOAT, values.shape))


@row(lost={"first": 4})
def local_function(net: Net) -> None:
    nodes = [helper.make_node("Relu", ["a"], ["r"]), helper.make_node("Conv", ["r", "w"], ["b"])]
    opset = [helper.make_opsetid("", net.opset)]
    net.functions.append(helper.make_function("local", "Block", ["a", "w"], ["b"], nodes, opset))
    x = net.add("Block", net.first(), net.random(8, 8, 1, 1), domain="local")
    net.output(net.conv(x, 8, 4), shape=["N", 4, 6, 6])


@row(lost={"first": 4}, opsets=tuple(range(7, 24)))
def residual_block_at_every_opset(net: Net) -> None:
    x = net.add("Relu", net.norm(net.first(), 8))
    y = net.norm(net.conv(x, 8, 8, 3, name="second"), 8)
    x = net.add("MaxPool", net.add("Add", x, y), kernel_shape=[2, 2])
    net.output(net.add("Gemm", net.add("Flatten", x), net.random(200, 4), net.random(4)))


@row(lost={"first": 4}, tolerance=1e-9)
def model_of_double_precision(net: Net) -> None:
    net.dtype = np.dtype(np.float64)
    x = net.add("Flatten", net.input("N", 3, 2))
    x = net.add("Gemm", x, net.random(6, 8), net.random(8), name="first")
    net.head(net.add("Tanh", x), 8)


@row(lost={"first": 4}, tolerance=2e-2)
def model_of_half_precision(net: Net) -> None:
    net.dtype = np.dtype(np.float16)
    net.last(net.add("Relu", net.norm(net.first(), 8)))


@row()
def names_that_ask_for_trouble(net: Net) -> None:
    x = net.conv(net.input("N", 3, 6, 6, name="x y/é"), 3, 8, name="first__masked_0")
    net.last(net.add("Relu", x, name="first__masked_0__mask"))


@pytest.mark.parametrize("case", row.cases)
def test_oracle(case: Any) -> None:
    check_row(case)


def test_a_model_without_weights_has_no_groups() -> None:
    net = Net()
    net.output(net.add("Relu", net.input("N", 3)))
    outcome = check_oracle(net.proto())
    assert outcome.groups.groups == () and not outcome.removal.removed.any()


def test_the_reason_names_the_operator_and_the_node() -> None:
    net = Net()
    net.last(net.add("LRN", net.first(), size=3, name="normalised"))
    fixed = next(f for f in grouped(net.proto())[1].fixed if f.producer.tensor == "first")
    assert fixed.reason.startswith("LRN 'normalised' works across this axis")
    assert fixed.channels == 8
