"""Files that hold a graph, but one that is broken, does not fit together or is not supported."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bad_case import conv_model, model_case, nodes_model, relu, weight

_FLOATS = bytes(16 * 27 * 4)
_GEMM = helper.make_node("MatMul", ["x", "w"], ["y"], name="n_mul")
_NORM = helper.make_node("BatchNormalization", ["x", *"smbv"], ["y"], name="n_norm")


def _tensor(**fields: object) -> TensorProto:
    return TensorProto(name="w", data_type=TensorProto.FLOAT, **fields)


def _with_nan() -> onnx.ModelProto:
    values = np.ones((16, 3, 3, 3), np.float32)
    values[2, 1, 0, 2] = np.nan
    return conv_model(numpy_helper.from_array(values, "w"))


def _sparse_bomb() -> onnx.ModelProto:
    model = nodes_model(helper.make_node("Add", ["x", "s"], ["y"], name="n_add"))
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    index = numpy_helper.from_array(np.array([7], np.int64), "")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, index, [2**60]))
    return model


def _sparse(
    dims: list[int], indices: object, count: int = 2, dtype: type = np.int64
) -> Callable[[], onnx.ModelProto]:
    """A model that adds a sparse tensor of ``dims`` with ``count`` values at ``indices``."""

    def build() -> onnx.ModelProto:
        model = nodes_model(helper.make_node("Add", ["x", "s"], ["y"], name="n_add"))
        values = numpy_helper.from_array(np.ones(count, np.float32), "s")
        places = numpy_helper.from_array(np.array(indices, dtype))
        tensor = onnx.SparseTensorProto(values=values, indices=places, dims=dims)
        model.graph.sparse_initializer.append(tensor)
        return model

    return build


def _sparse_constant() -> onnx.ModelProto:
    tensor = _sparse([8], [1, 8])().graph.sparse_initializer[0]
    constant = helper.make_node("Constant", [], ["s"], name="n_sparse", sparse_value=tensor)
    return nodes_model(constant, helper.make_node("Add", ["x", "s"], ["y"], name="n_add"))


def _sparse_nan() -> onnx.ModelProto:
    model = _sparse([8], [1, 2])()
    values = numpy_helper.from_array(np.array([1, np.nan], np.float32), "s")
    model.graph.sparse_initializer[0].values.CopyFrom(values)
    return model


def _edited(edit: Callable[[onnx.GraphProto], object]) -> Callable[[], onnx.ModelProto]:
    def build() -> onnx.ModelProto:
        model = conv_model()
        edit(model.graph)
        return model

    return build


BROKEN_GRAPHS = [
    model_case("no_outputs", _edited(lambda g: g.ClearField("output")), "E303", "no outputs"),
    model_case(
        "output_undefined",
        _edited(lambda g: g.output.add(name="gone")),
        "E303",
        "'gone'",
    ),
    model_case(
        "tensor_made_twice",
        _edited(lambda g: g.node.append(relu("x", "c", "n_again"))),
        "E303",
        "made twice",
        "'c'",
        node="n_again",
    ),
    model_case(
        "node_name_twice",
        _edited(lambda g: g.node.append(relu("x", "z", "n_relu"))),
        "E303",
        node="n_relu",
    ),
    model_case(
        "initializer_twice",
        lambda: conv_model(weight("w", 16, 3, 3, 3), weight("w", 4)),
        "E303",
        "'w'",
    ),
    model_case("input_twice", _edited(lambda g: g.input.append(g.input[0])), "E303", "'x'"),
    model_case(
        "cycle",
        lambda: nodes_model(
            helper.make_node("Add", ["x", "q"], ["y"], name="n_add"), relu("y", "q", "n_back")
        ),
        "E303",
        "cycle",
        "Relu 'n_back'",
        node="n_add",
    ),
    model_case(
        "undefined_input",
        lambda: nodes_model(relu("nowhere", "y", "n_relu")),
        "E303",
        "'nowhere'",
        node="n_relu",
    ),
]
MISFITS = [
    model_case(
        "conv_channels",
        lambda: conv_model(weight("w", 16, 5, 3, 3)),
        "E304",
        "weights of node 'n_conv' do not fit its input",
        "Conv 'n_conv': weight [16,5,3,3] wants 5 input channels, 'x' has 3",
        node="n_conv",
    ),
    model_case(
        "conv_bias",
        lambda: conv_model(None, weight("b", 15), bias="b"),
        "E304",
        "bias [15]",
        node="n_conv",
    ),
    model_case(
        "conv_kernel", lambda: conv_model(kernel_shape=[5, 5]), "E304", "[5,5]", node="n_conv"
    ),
    model_case("conv_groups", lambda: conv_model(group=2), "E304", "in 2 groups", node="n_conv"),
    model_case(
        "conv_rank", lambda: conv_model(weight("w", 16, 3, 3)), "E304", "[16,3,3]", node="n_conv"
    ),
    model_case("group_zero", lambda: conv_model(group=0), "E309", "group is 0", node="n_conv"),
    model_case(
        "transposed_conv_channels",
        lambda: nodes_model(
            helper.make_node("ConvTranspose", ["x", "w"], ["y"], name="n_up"),
            weights=(weight("w", 5, 4, 3, 3),),
        ),
        "E304",
        "wants 5 input channels",
        node="n_up",
    ),
    model_case(
        "matmul_size",
        lambda: nodes_model(_GEMM, weights=(weight("w", 5, 4),)),
        "E304",
        "'x' has 8",
        node="n_mul",
    ),
    model_case(
        "norm_size",
        lambda: nodes_model(_NORM, weights=tuple(weight(n, 3 + (n == "v")) for n in "smbv")),
        "E304",
        "'v' [4]",
        node="n_norm",
    ),
    model_case(
        "wrong_dtype",
        lambda: conv_model(weight("w", 16, 3, 3, 3, dtype=np.float64)),
        "E308",
        "double",
        node="n_conv",
    ),
    model_case(
        "integer_dtype",
        lambda: conv_model(weight("w", 16, 3, 3, 3, dtype=np.int64)),
        "E308",
        "int64",
        node="n_conv",
    ),
    model_case(
        "unknown_attribute",
        lambda: conv_model(colour=3),
        "E309",
        "Unrecognized attribute: colour",
        node="n_conv",
    ),
]
BAD_VALUES = [
    model_case(
        "raw_too_short",
        lambda: conv_model(_tensor(dims=[16, 3, 3, 3], raw_data=_FLOATS[4:])),
        "E305",
        "1724",
    ),
    model_case(
        "raw_too_long",
        lambda: conv_model(_tensor(dims=[16, 3, 3, 3], raw_data=_FLOATS + b"12")),
        "E305",
        "1730",
    ),
    model_case("no_data", lambda: conv_model(_tensor(dims=[16, 3, 3, 3])), "E305", "'w'"),
    model_case("absurd_dims", lambda: conv_model(_tensor(dims=[2**40, 3, 3, 3])), "E305", "'w'"),
    model_case(
        "negative_dim",
        lambda: conv_model(_tensor(dims=[-16, 3, -3, 3], raw_data=_FLOATS)),
        "E305",
        "negative",
    ),
    model_case(
        "field_too_short",
        lambda: conv_model(_tensor(dims=[16, 3, 3, 3], float_data=[1.0])),
        "E305",
        "float_data",
    ),
    model_case(
        "wrong_field",
        lambda: conv_model(_tensor(dims=[1, 3, 1, 1], int64_data=[1, 2, 3])),
        "E305",
        "int64_data",
    ),
    model_case(
        "two_fields",
        lambda: conv_model(_tensor(dims=[16, 3, 3, 3], raw_data=_FLOATS, float_data=[1.0])),
        "E305",
        "both",
    ),
    model_case(
        "unknown_type",
        lambda: conv_model(TensorProto(name="w", data_type=77, dims=[1])),
        "E305",
        "77",
    ),
    model_case("no_type", lambda: conv_model(TensorProto(name="w", dims=[1])), "E305", "'w'"),
    model_case("sparse_absurd_dims", _sparse_bomb, "E801", "limit"),
    model_case("sparse_no_dims", _sparse([], [1, 2]), "E305", "'s'", "positive"),
    model_case("sparse_negative_dims", _sparse([-8], [1, 2]), "E305", "'s'", "positive"),
    model_case("sparse_index_outside", _sparse([8], [1, 8]), "E305", "'s'", "outside"),
    model_case("sparse_index_negative", _sparse([8], [-1, 2]), "E305", "outside"),
    model_case("sparse_pair_outside", _sparse([2, 4], [[0, 3], [0, 4]]), "E305", "outside"),
    model_case("sparse_pairs_too_wide", _sparse([8], [[0, 3], [0, 4]]), "E305", "indices are"),
    model_case("sparse_too_few_indices", _sparse([8], [1]), "E305", "2 values"),
    model_case("sparse_unsorted", _sparse([8], [2, 1]), "E305", "ascending"),
    model_case("sparse_twice", _sparse([8], [2, 2]), "E305", "ascending"),
    model_case("sparse_short_indices", _sparse([8], [1, 2], dtype=np.int32), "E305", "64-bit"),
    model_case("sparse_constant", _sparse_constant, "E305", "n_sparse", "outside"),
]
UNSUPPORTED = [
    model_case("opset_too_new", lambda: conv_model(opset=999), "E420", "999", "newest"),
    model_case("opset_too_old", lambda: conv_model(opset=1), "E421", "opset 1 "),
    model_case("ir_too_new", lambda: conv_model(ir_version=99), "E422", "99", "ir_version"),
    model_case("nan_weights", _with_nan, "E423", "'w' holds nan at [2,1,0,2]", node="n_conv"),
    model_case("sparse_nan", _sparse_nan, "E423", "'s' holds nan", node="n_add"),
    model_case(
        "unknown_operator",
        lambda: nodes_model(helper.make_node("Frobnicate", ["x"], ["y"], name="n_odd")),
        "E424",
        "Frobnicate",
        node="n_odd",
    ),
]
