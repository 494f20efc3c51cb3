"""Operators that work on each element or each channel alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from models import SIDE, WIDTH, Net, Rows, check_row
from prunecvt_passes import runtime
from prunecvt_passes.errors import UnsupportedError
from prunecvt_passes.model import Model
from prunecvt_passes.rules import RULES
from prunecvt_passes.rules.elementwise import elementwise

row = Rows()
ELEMENTWISE = sorted(op for op, rule in RULES.items() if rule is elementwise and ":" not in op)
OPSET = 17
NEWEST = 24  # the newest operator set that every supported onnxruntime knows


def bounded(net: Net, x: str) -> str:
    return net.add("Mul", net.add("Tanh", x), np.float32(0.9))


def positive(net: Net, x: str) -> str:
    return net.add("Add", net.add("Abs", x), np.float32(1.5))


def whole(net: Net, x: str) -> str:
    return net.add("Cast", net.add("Mul", positive(net, x), np.float32(3)), to=TensorProto.INT32)


def unsigned(net: Net, x: str) -> str:
    return net.add("Cast", positive(net, x), to=TensorProto.UINT32)


def condition(net: Net, x: str) -> str:
    return net.add("Greater", x, np.float32(0))


def as_it_is(net: Net, x: str) -> str:
    return x


# what an operator's inputs have to be like, where any float will not do
PREPARED: dict[str, Callable[[Net, str], str]] = {
    **dict.fromkeys(("Acos", "Asin", "Atanh"), bounded),
    **dict.fromkeys(("Acosh", "Log", "Sqrt", "Reciprocal", "Div", "Pow"), positive),
    **dict.fromkeys(("BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor"), whole),
    **dict.fromkeys(("And", "Or", "Xor", "Not"), condition),
    "BitShift": unsigned,
}
ATTRIBUTES: dict[str, dict[str, Any]] = {
    "BitShift": {"direction": "LEFT"},
    "Cast": {"to": TensorProto.DOUBLE},
    "Mod": {"fmod": 1},
}


def operands(op: str) -> int:
    """How many tensors the operator broadcasts."""
    if op in ("CastLike", "Clip", "Dropout"):
        return 1
    schema = onnx.defs.get_schema(op)
    variadic = schema.inputs[-1].option == onnx.defs.OpSchema.FormalParameterOption.Variadic
    return 3 if variadic else int(schema.min_input)


def combined(net: Net, op: str, seconds: Callable[[Net, int], str]) -> None:
    """first -> op (with further operands) -> last."""
    prepare = PREPARED.get(op, as_it_is)
    inputs = [prepare(net, net.first())]
    inputs += [prepare(net, seconds(net, k)) for k in range(1, operands(op))]
    if op == "Where":
        inputs = [condition(net, inputs[0]), *inputs[1:]]
    if op == "CastLike":
        inputs.append(net.constant(np.zeros(3, np.float64)))
    if op == "Clip":
        inputs += [net.constant(np.float32(-1)), net.constant(np.float32(1))]
    made = net.add(op, *inputs, **ATTRIBUTES.get(op, {}))
    net.last(net.add("Cast", made, to=TensorProto.FLOAT))


def runnable(net: Net) -> Net:
    try:
        runtime.session(Model.from_proto(net.proto()))
    except UnsupportedError as error:
        pytest.skip(f"onnxruntime does not run it: {error.where}")
    return net


def opset_of(op: str) -> int:
    return min(max(OPSET, onnx.defs.get_schema(op).since_version), NEWEST)


def second_conv(net: Net, number: int) -> str:
    return net.conv("x", 3, WIDTH, 3, name=f"other{number}")


@pytest.mark.parametrize("op", ELEMENTWISE)
def test_activations_are_tied(op: str) -> None:
    def build(net: Net) -> None:
        combined(net, op, second_conv)

    net = Net(opset_of(op))
    build(net)
    runnable(net)
    lost = {"first": 4, **{f"other{k}": 4 for k in range(1, operands(op))}}
    check_row((build, opset_of(op), lost, {}, {}))


SHAPES = [(), (1,), (SIDE,), (WIDTH, 1, 1), (1, WIDTH, 1, 1), (WIDTH, SIDE, SIDE), (1, 1, SIDE, 1)]


@pytest.mark.parametrize("op", [op for op in ELEMENTWISE if operands(op) > 1])
@pytest.mark.parametrize("shape", [(WIDTH, 1, 1), (1, 1, SIDE, 1)], ids=str)
def test_constant_adopts_the_channels(op: str, shape: tuple[int, ...]) -> None:
    def build(net: Net) -> None:
        combined(net, op, lambda net, k: net.random(*shape))

    net = Net(opset_of(op))
    build(net)
    runnable(net)
    check_row((build, opset_of(op), {"first": 4}, {}, {}))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("swapped", [False, True])
def test_constant_of_shape(shape: tuple[int, ...], swapped: bool) -> None:
    def build(net: Net) -> None:
        pair = (net.first(), net.random(*shape))
        net.last(net.add("Sub", *(pair[::-1] if swapped else pair)))

    check_row((build, OPSET, {"first": 4}, {}, {}))


@row(lost={"first": 4})
def constant_of_higher_rank(net: Net) -> None:
    x = net.add("Add", net.first(), net.random(1, 1, WIDTH, 1, 1))
    net.last(net.add("Squeeze", x, np.array([0])))


@row(lost={"first": 4})
def integer_constant_adopts_the_channels(net: Net) -> None:
    scale = net.constant(np.arange(1, 9).reshape(8, 1, 1))
    x = net.add("Mul", net.add("Cast", net.first(), to=TensorProto.INT64), scale)
    net.last(net.add("Cast", x, to=TensorProto.FLOAT))


@row(lost={"first": 4})
def condition_constant_adopts_the_channels(net: Net) -> None:
    condition = net.constant(np.arange(8).reshape(8, 1, 1) % 3 == 0)
    net.last(net.add("Where", condition, net.first(), net.random(8, 1, 1)))


@row(lost={"gate": 4, "first": 4})
def squeeze_excite_gate(net: Net) -> None:
    x = net.first()
    gate = net.conv(net.add("GlobalAveragePool", x), 8, 2, name="reduce")
    gate = net.add("Sigmoid", net.conv(net.add("Relu", gate), 2, 8, name="gate"))
    net.last(net.add("Mul", x, gate))


@row(lost={"first": 4})
def one_channel_gate_broadcasts(net: Net) -> None:
    x = net.first()
    net.last(net.add("Mul", x, net.conv(x, 8, 1)))


@row(lost={"first": 4})
def added_to_itself(net: Net) -> None:
    x = net.first()
    net.last(net.add("Add", x, x))


@row(pinned={"first": "fixed-partner"})
def added_to_a_graph_input(net: Net) -> None:
    other = net.input("N", 8, 6, 6, name="y")
    net.last(net.add("Add", net.first(), other))


@row(pinned={"first": "fixed-partner"})
def added_to_a_vector_input(net: Net) -> None:
    other = net.input(8, 1, 1, name="y")
    net.last(net.add("Mul", net.first(), other))


@row(lost={"other1": 4}, pinned={"first": "merged-axes"})
def outer_product_through_axes_of_one(net: Net) -> None:
    rows = net.add("Unsqueeze", net.add("GlobalAveragePool", net.first()), np.array([1]))
    columns = net.add("Unsqueeze", net.add("GlobalAveragePool", second_conv(net, 1)), np.array([2]))
    product = net.add("Mul", rows, columns)  # N, 8, 8, 1, 1
    net.head(net.add("Flatten", product), 64)


@row(lost={"first": 4, "other1": 4})
def residual_after_norm(net: Net) -> None:
    x = net.add("Relu", net.norm(net.first(), 8))
    net.last(net.add("Add", x, net.norm(second_conv(net, 1), 8)))


@row(lost={"first": 4}, opsets=(7, 9, 14, 15, 17))
def batch_normalization(net: Net) -> None:
    net.last(net.norm(net.first(), 8))


@row(lost={"first": 4})
def batch_normalization_of_a_matrix(net: Net) -> None:
    x = net.add("Flatten", net.add("GlobalAveragePool", net.first()))
    net.head(net.norm(x, 8), 8)


@row(lost={"first": 4})
def batch_normalization_after_flatten(net: Net) -> None:
    net.head(net.norm(net.add("Flatten", net.first()), 8 * 36), 8 * 36)


@row(lost={}, pinned={})
def batch_normalization_of_the_input(net: Net) -> None:
    net.output(net.conv(net.norm(net.input("N", 3, 6, 6), 3), 3, 4))


@row(lost={"first": 4})
def batch_normalization_with_computed_scale(net: Net) -> None:
    gate = net.add("ReduceMean", net.conv("x", 3, 8, name="scale"), axes=[0, 2, 3], keepdims=0)
    x = net.add(
        "BatchNormalization", net.first(), gate, net.random(8), net.random(8), net.positive(8)
    )
    net.last(x)


@row(lost={"first": 4})
def instance_normalization(net: Net) -> None:
    net.last(net.add("InstanceNormalization", net.first(), net.positive(8), net.random(8)))


@row(lost={"first": 4})
def slope_per_channel(net: Net) -> None:
    net.last(net.add("PRelu", net.first(), net.random(8, 1, 1)))


@row(lost={"first": 4})
def slope_shared(net: Net) -> None:
    net.last(net.add("PRelu", net.first(), net.random(1)))


@row(pinned={"first": "graph-output"}, opsets=(10, 12))
def dropout_whose_mask_is_an_output(net: Net) -> None:
    value, mask = net.many("Dropout", net.first(), outputs=2)
    net.last(value)
    net.output(mask, TensorProto.BOOL)


@row(lost={"first": 4}, opsets=(7, 10, 12))
def dropout_whose_mask_is_read(net: Net) -> None:
    value, mask = net.many("Dropout", net.first(), outputs=2)
    if net.opset >= 10:
        value = net.add("Mul", value, net.add("Cast", mask, to=TensorProto.FLOAT))
    net.last(value)


@row(lost={"first": 4}, opsets=(7, 11, 13))
def clip_in_all_forms(net: Net) -> None:
    x = net.first()
    if net.opset < 11:
        net.last(net.add("Clip", x, min=0.0, max=6.0))
    else:
        net.last(net.add("Clip", x, None, np.float32(6)))


@row(pinned={"first": "mixed-axis"})
def training_batch_normalization_over_a_batch_of_channels(net: Net) -> None:
    x = net.add("Transpose", net.first(batch=2), perm=[1, 0, 2, 3])
    x = net.many(
        *("BatchNormalization", x, net.positive(2), net.random(2), net.random(2), net.positive(2)),
        outputs=3,
        training_mode=1,
    )[0]
    net.last(net.add("Transpose", x, perm=[1, 0, 2, 3]))


@pytest.mark.parametrize("case", row.cases)
def test_oracle(case: Any) -> None:
    check_row(case)
