"""The normal form: what is folded, what is left, and that it computes the same."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from models import FLOAT, INT64, Net, check_oracle, grouped
from prunecvt_passes import oracle, runtime
from prunecvt_passes.errors import UnsupportedError, UsageError
from prunecvt_passes.model import Model
from prunecvt_passes.normalise import Dense, Source, normalise
from prunecvt_passes.samples import random_inputs


def normal(net: Net, **sizes: tuple[int, ...]) -> Dense:
    return normalise(Source(Model.from_proto(net.proto()), sizes))


def operators(dense: Dense) -> list[str]:
    return [node.op for node in dense.graph.nodes]


def test_constant_nodes_become_initializers() -> None:
    net = Net()
    x = net.input("N", 3)
    for value in (
        {"value": onnx.numpy_helper.from_array(np.ones(3, np.float32))},
        {"value_float": 2.0},
        {"value_floats": [1.0, 2.0, 3.0]},
    ):
        x = net.add("Add", x, net.add("Identity", net.add("Constant", **value)))
    net.output(x)
    assert operators(normal(net)) == ["Add"] * 3


def test_a_constant_that_is_an_output_stays() -> None:
    net = Net()
    net.output(net.add("Relu", net.input("N", 3)))
    net.output(net.add("Constant", value_float=2.0))
    dense = normal(net)
    assert sorted(operators(dense)) == ["Constant", "Relu"]


def test_what_follows_from_constants_is_computed() -> None:
    net = Net()
    weight = net.add("Transpose", net.add("Mul", net.random(8, 3), np.float32(2)))
    net.output(net.add("MatMul", net.input("N", 3), weight))
    assert operators(normal(net)) == ["MatMul"]


def test_weights_stored_small_are_not_unpacked() -> None:
    net = Net()
    weight = net.add("DequantizeLinear", np.ones((3, 8), np.int8), np.float32(2))
    net.output(net.add("MatMul", net.input("N", 3), weight))
    assert operators(normal(net)) == ["DequantizeLinear", "MatMul"]


def test_constants_do_not_grow_without_bound() -> None:
    net = Net()
    table = net.add("Expand", net.random(1), np.array([2000, 2000]))
    net.output(net.add("MatMul", net.input("N", 2000), table))
    assert operators(normal(net)) == ["Expand", "MatMul"]


def test_random_numbers_are_not_frozen() -> None:
    net = Net()
    noise = net.add("RandomNormalLike", net.random(3))
    net.output(net.add("Add", net.input("N", 3), noise))
    assert operators(normal(net)) == ["RandomNormalLike", "Add"]


def test_initializers_are_no_inputs() -> None:
    net = Net(opset=8)
    net.ir = 3
    net.last(net.first())
    for name, values in net.weights.items():
        net.inputs.append(helper.make_tensor_value_info(name, FLOAT, values.shape))
    model = normal(net).graph.model
    assert [value.name for value in model.proto.graph.input] == ["x"]
    assert model.proto.ir_version >= 4


def test_vectors_are_unshared_and_matrices_are_not() -> None:
    net = Net()
    bias, matrix = net.random(8), net.random(8, 8)
    x = net.input("N", 8)
    for _ in range(3):
        x = net.add("Gemm", x, matrix, bias)
    net.output(x)
    graph = normal(net).graph
    assert len({node.inputs[1] for node in graph.nodes}) == 1
    assert len({node.inputs[2] for node in graph.nodes}) == 3


def test_fixed_shape_arithmetic_is_computed() -> None:
    net = Net()
    x = net.first(batch=2)
    shape = net.add("Shape", x)
    target = net.add("Concat", net.add("Gather", shape, np.array([0, 1])), np.array([-1]), axis=0)
    net.output(net.add("Reshape", x, target))
    assert operators(normal(net)) == ["Conv", "Reshape"]


def test_a_target_of_a_dynamic_batch_stays_dynamic() -> None:
    net = Net()
    x = net.first()
    batch = net.add("Gather", net.add("Shape", x), np.array([0]))
    net.output(net.add("Reshape", x, net.add("Concat", batch, np.array([8, 36]), axis=0)))
    dense = normal(net)
    target = dense.graph.nodes[-1].inputs[1]
    assert operators(dense) == ["Conv", "Reshape"]
    assert list(dense.graph.model.weights[target]) == [0, 8, 36]


def test_a_target_that_moves_the_batch_is_inferred() -> None:
    net = Net()
    x = net.first()
    batch = net.add("Gather", net.add("Shape", x), np.array([0]))
    rows = net.add("Mul", batch, np.array([4]))
    net.output(net.add("Reshape", x, net.add("Concat", rows, np.array([72]), axis=0)))
    dense = normal(net)
    assert list(dense.graph.model.weights[dense.graph.nodes[-1].inputs[1]]) == [-1, 72]


@pytest.mark.parametrize("value", ["input", "data"])
def test_a_target_that_depends_on_data_is_left(value: str) -> None:
    net = Net()
    x = net.input(2, 6)
    if value == "input":
        target = net.add("Max", net.input(2, name="target", type=INT64), np.array([3, 4]))
    else:
        rows = net.add("Cast", net.add("ReduceMax", x, keepdims=0), to=INT64)
        rows = net.add("Mul", rows, np.array([0]))
        target = net.add("Add", rows, np.array([3, 4]))
    net.output(net.add("Reshape", x, target), shape=[None, None])
    assert operators(normal(net))[-2:] == [operators(normal(net))[-2], "Reshape"]
    assert not normal(net).graph.is_initializer(normal(net).graph.nodes[-1].inputs[1])


def test_sizes_that_depend_on_data_are_not_frozen() -> None:
    net = Net()
    x = net.input(4, 4)
    found = net.add("NonZero", net.add("Relu", x))
    count = net.add("Gather", net.add("Shape", found), np.array([1]))
    net.output(net.add("Add", net.add("Cast", count, to=FLOAT), np.float32(0)))
    proto = net.proto()
    model, dense = Model.from_proto(proto), normal(net)
    for fill in (-1.0, 0.0, 1.0):
        inputs = {"x": np.full((4, 4), fill, np.float32)}
        expected, got = runtime.run(model, inputs), runtime.run(dense.graph.model, inputs)
        assert oracle.difference(expected, got).absolute == 0


def test_sizes_behind_data_dependent_ones_are_not_frozen() -> None:
    net = Net()
    x = net.input(6, 4)
    keep = net.add("Greater", net.add("ReduceMax", x, axes=[1], keepdims=0), np.float32(0))
    rows = net.add("Relu", net.add("Compress", x, keep, axis=0))
    size = net.add("Shape", net.add("MatMul", rows, net.random(4, 3)))
    net.output(net.add("Mul", size, np.array([1, 1])), INT64)
    model, dense = Model.from_proto(net.proto()), normal(net)
    for rows_kept in (1, 4):
        values = np.full((6, 4), -1, np.float32)
        values[:rows_kept] = 1
        expected = runtime.run(model, {"x": values})
        got = runtime.run(dense.graph.model, {"x": values})
        assert oracle.difference(expected, got).absolute == 0


def test_rows_are_told_from_columns() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, "H", "W"), 3, 4, 3)
    sizes = [net.add("Gather", net.add("Shape", x), np.array([axis])) for axis in range(4)]
    target = net.add("Concat", sizes[0], np.array([4]), sizes[3], sizes[2], axis=0)
    net.output(net.add("Reshape", x, target), shape=[None] * 4)
    dense = normal(net)
    inputs = {"x": np.ones((1, 3, 5, 7), np.float32)}
    assert runtime.run(dense.graph.model, inputs)[dense.graph.outputs[0]].shape == (1, 4, 7, 5)


def test_a_model_that_wants_equal_rows_and_columns_is_probed_so() -> None:
    net = Net()
    x = net.conv(net.input("N", 3, "H", "W"), 3, 4, 3)
    net.output(net.add("Add", x, net.add("Transpose", x, perm=[0, 1, 3, 2])), shape=[None] * 4)
    dense = normal(net)
    assert dense.sizes == {"x": (2, 3, 192, 192)}
    assert dense.graph.dynamic(dense.graph.outputs[0]) == (True, False, True, True)


def test_sequences_of_constants_stay() -> None:
    net = Net()
    parts = net.add("SequenceConstruct", net.random(8), net.random(8))
    chosen = net.add("SequenceAt", parts, net.input(name="place", type=INT64))
    net.output(net.add("Mul", net.input("N", 8), chosen))
    assert operators(normal(net)) == ["SequenceConstruct", "SequenceAt", "Mul"]


def test_new_names_are_new() -> None:
    net = Net()
    shared, lone = net.random(8, name="b"), net.random(8, name="b__2")
    x = net.first()
    for vector in (shared, shared, lone):
        x = net.add("Conv", x, net.random(8, 8, 1, 1), vector)
    batch = net.add("Gather", net.add("Shape", x), np.array([0]))
    y = net.add("Reshape", x, net.add("Concat", batch, np.array([8, 36]), axis=0), name="y")
    net.head(net.add("Mul", y, net.random(8, 1, name="y__target")), 36)
    check_oracle(net.proto())


def test_a_tensor_may_be_called_like_the_shape_of_another() -> None:
    net = Net()
    x = net.first()
    start = net.add("Cast", net.add("ReduceMin", net.add("Abs", x), keepdims=0), to=INT64)
    start = net.add("Reshape", net.add("Min", start, np.array(0)), np.array([1]))
    part = net.add("Slice", x, start, np.array([4]), np.array([2]), name="part")
    net.last(net.add("Add", part, net.add("Relu", part, name="part__shape")))
    check_oracle(net.proto())


def test_functions_are_inlined() -> None:
    net = Net()
    opset = [helper.make_opsetid("", net.opset)]
    body = [helper.make_node("Relu", ["a"], ["b"])]
    net.functions.append(helper.make_function("local", "Block", ["a"], ["b"], body, opset))
    net.output(net.add("Block", net.input("N", 3), domain="local"), shape=["N", 3])
    dense = normal(net)
    assert operators(dense) == ["Relu"] and not dense.graph.model.proto.functions


def test_dynamic_dimensions_stay_dynamic() -> None:
    net = Net()
    net.output(net.conv(net.input("N", 3, "H", "W"), 3, 4, 3))
    proto = net.proto()
    dense = normal(net)
    assert dense.graph.model.proto.graph.input == proto.graph.input
    assert dense.graph.dynamic(dense.graph.outputs[0]) == (True, False, True, True)
    assert dense.batch == dense.sizes["x"][0]


def test_stated_sizes_are_used() -> None:
    net = Net()
    net.output(net.conv(net.input("N", 3, "H", "W"), 3, 4, 3))
    dense = normal(net, x=(4, 3, 20, 24))
    assert dense.sizes == {"x": (4, 3, 20, 24)} and dense.batch == 4
    assert dense.graph.dynamic(dense.graph.outputs[0]) == (True, False, True, True)


def test_stated_sizes_that_do_not_fit_are_refused() -> None:
    net = Net()
    net.last(net.first())
    for sizes in ({"y": (1, 3, 6, 6)}, {"x": (1, 3, 6, 7)}, {"x": (1, 3, 6)}):
        with pytest.raises(UsageError) as caught:
            normal(net, **sizes)
        assert caught.value.code == "E203"


def test_a_model_that_runs_at_no_size_is_refused() -> None:
    net = Net()
    net.output(net.add("Add", net.input("N", "S"), net.random(5)), shape=["N", 5])
    with pytest.raises(UnsupportedError) as caught:
        normal(net)
    assert caught.value.code == "E402" and "--input-shape" in caught.value.help
    assert normal(net, x=(2, 5)).sizes == {"x": (2, 5)}


def test_stated_sizes_that_cannot_be_doubled_are_kept() -> None:
    net = Net()
    x = net.add("Add", net.input("N", "S", name="x"), net.random(5))
    net.output(net.add("MatMul", x, net.random(5, 4)))
    dense = normal(net, x=(2, 5))
    assert dense.sizes == {"x": (2, 5)}
    assert dense.graph.dynamic(dense.graph.outputs[0]) == (True, False)


def test_an_identity_is_skipped_unless_it_is_public() -> None:
    net = Net()
    x = net.add("Identity", net.add("Identity", net.input("N", 3)))
    x = net.add("Relu", x)
    net.output(net.add("Identity", x))
    net.output(net.add("Abs", net.add("Identity", x)))
    dense = normal(net)
    assert operators(dense) == ["Relu", "Identity", "Abs"]
    assert {node.inputs for node in dense.graph.nodes} == {("x",), (x,)}


def test_it_is_idempotent() -> None:
    net = Net()
    x = net.first()
    net.last(net.add("Reshape", net.add("Reshape", x, np.array([0, 8, -1])), net.add("Shape", x)))
    once = normal(net).graph.model
    again = normalise(Source(once)).graph.model
    assert again.proto == once.proto and again.weights.keys() == once.weights.keys()


ARITHMETIC = {
    "Mul": lambda n, s: n.add("Mul", s, np.array([2])),
    "Div": lambda n, s: n.add("Mul", n.add("Div", s, np.array([2])), np.array([2])),
    "Mod": lambda n, s: n.add("Add", n.add("Mod", s, np.array([5])), np.array([1])),
    "Cast": lambda n, s: n.add("Cast", n.add("Floor", n.add("Cast", s, to=FLOAT)), to=INT64),
    "Where": lambda n, s: n.add("Where", n.add("Equal", s, np.array([8])), s, np.array([3])),
    "Min": lambda n, s: n.add("Min", s, np.array([7])),
    "ReduceProd": lambda n, s: n.add("ReduceProd", s, keepdims=1),
    "Range": lambda n, s: n.add(
        "Range", np.array(1), n.add("Squeeze", s, np.array([0])), np.array(3)
    ),
    "ConstantOfShape": lambda n, s: n.add("Cast", n.add("ConstantOfShape", s), to=INT64),
    "Expand": lambda n, s: n.add("Expand", np.array([[2]]), n.add("Concat", s, s, axis=0)),
    "Size": lambda n, s: n.add("Size", n.add("Expand", np.float32(1), s)),
}


@pytest.mark.parametrize("op", sorted(ARITHMETIC))
@pytest.mark.parametrize("axis", [0, 1])
def test_arithmetic_on_sizes_gives_what_the_runtime_gives(op: str, axis: int) -> None:
    net = Net()
    x = net.first()
    size = net.add("Slice", net.add("Shape", x), np.array([axis]), np.array([axis + 1]))
    value = ARITHMETIC[op](net, size)
    value = net.add("ReduceSum", net.add("Cast", value, to=TensorProto.FLOAT), keepdims=0)
    net.last(net.add("Add", x, value))
    outcome = check_oracle(net.proto())
    assert outcome.lost == {"first": 4}


def test_shape_with_bounds() -> None:
    net = Net()
    x = net.first()
    target = net.add("Concat", net.add("Shape", x, start=0, end=-2), np.array([-1]), axis=0)
    y = net.add("Relu", net.add("Reshape", x, target))
    net.last(net.add("Reshape", y, net.add("Shape", x, start=-99)))
    assert check_oracle(net.proto()).lost == {"first": 4}


def test_inputs_of_every_type_can_be_made() -> None:
    net = Net()
    kinds = [TensorProto.UINT8, TensorProto.INT64, TensorProto.BOOL, TensorProto.DOUBLE]
    for number, kind in enumerate(kinds):
        net.input(2, 3, name=f"x{number}", type=kind)
    net.output(net.add("Identity", "x0"), kinds[0])
    dense, _ = grouped(net.proto())
    arrays = random_inputs(dense.graph.model, dense.sizes)
    types = [helper.np_dtype_to_tensor_dtype(a.dtype) for a in arrays.values()]
    assert types == kinds


def test_a_weight_of_another_type_gets_another_header() -> None:
    tensor = onnx.numpy_helper.from_array(np.ones(3, np.float32), "w")
    graph = onnx.helper.make_graph([], "g", [], [], [tensor])
    model = Model.from_proto(onnx.helper.make_model(graph)).copy()
    model.set_weights({"w": np.ones((2, 2), np.float16), "v": np.zeros(1, np.int64)})
    written = {t.name: onnx.numpy_helper.to_array(t) for t in model.to_proto().graph.initializer}
    assert {name: (v.dtype.name, v.shape) for name, v in written.items()} == {
        "w": ("float16", (2, 2)),
        "v": ("int64", (1,)),
    }


@pytest.mark.parametrize("kind", ["bfloat16", "int4", "float8_e4m3fn"])
def test_types_beyond_numpys_do_not_keep_others_from_being_computed(kind: str) -> None:
    net = Net(opset=21)
    net.ir = 10
    odd = net.constant(np.ones((8, 8, 1, 1)).astype(getattr(ml_dtypes, kind)))
    odd = net.add("Transpose", odd, perm=[1, 0, 2, 3])
    scale = net.add("DequantizeLinear", odd, np.float32(1)) if kind != "bfloat16" else odd
    weight = net.add("Cast", scale, to=FLOAT)
    sums = net.add("Cast", net.add("Mul", net.random(8), np.float32(2)), to=TensorProto.BFLOAT16)
    bias = net.add("Cast", sums, to=FLOAT)
    net.last(net.add("Conv", net.first(), weight, bias, name="second"))
    outcome = check_oracle(net.proto())
    assert outcome.lost == {"first": 4, "second": 4}
    assert "Mul" not in {node.op for node in outcome.dense.graph.nodes}


@pytest.mark.parametrize("opset", [13, 18])
def test_constants_given_by_attributes_and_empty_ones(opset: int) -> None:
    net = Net(opset=opset)
    x = net.add("Mul", net.first(batch=2), net.add("Constant", value_float=0.5))
    added = net.add("Constant", value_floats=[float(k) for k in range(8)])
    x = net.add("Add", x, net.add("Reshape", added, net.add("Constant", value_ints=[8, 1, 1])))
    x = net.add("Gather", x, net.add("Constant", value_int=1), axis=2)
    x = net.add("Unsqueeze", x, net.add("Constant", value_ints=[2]))
    x = net.add("Concat", x, np.zeros((2, 0, 1, 6), np.float32), axis=1)
    x = net.add("Resize", x, np.zeros(0, np.float32), np.array([1, 1, 2, 2], np.float32))
    text = net.add("Identity", net.add("Constant", value_strings=[b"a", b"b"]))
    net.output(text, type=TensorProto.STRING, shape=[2])
    net.last(net.add("Clip", x, None, None))
    assert check_oracle(net.proto()).lost == {"first": 4}
