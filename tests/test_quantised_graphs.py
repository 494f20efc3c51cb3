"""Whole nets as onnxruntime's quantiser writes them: every width is cut, and exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnxruntime.quantization import QuantType

import prunecvt
from body_models import Body, branch, choice, image
from models import Net, check_oracle, grouped
from prunecvt_passes import oracle, runtime
from prunecvt_passes.cost import cost
from prunecvt_passes.criteria.table import DATA_FREE
from prunecvt_passes.model import Model
from prunecvt_passes.samples import random_inputs
from prunecvt_passes.score import Criterion, score
from quantised_models import WIDTHS, convolutional, quantised

STATIC = [
    pytest.param("QDQ", {}, id="qdq"),
    pytest.param("QDQ", {"per_channel": True}, id="qdq_per_channel"),
    pytest.param("QDQ", {"weight_type": QuantType.QInt4}, id="qdq_int4"),
    pytest.param("QDQ", {"activation_type": QuantType.QUInt16}, id="qdq_uint16"),
    pytest.param("QOperator", {}, id="qoperator"),
    pytest.param("QOperator", {"per_channel": True}, id="qoperator_per_channel"),
]
DYNAMIC = [
    pytest.param("dynamic", {}, id="dynamic"),
    pytest.param("dynamic", {"per_channel": True}, id="dynamic_per_channel"),
]


@pytest.mark.parametrize(("fmt", "options"), STATIC + DYNAMIC)
def test_every_width_is_cut_exactly(fmt: str, options: dict[str, object]) -> None:
    outcome = check_oracle(quantised(convolutional(), fmt, **options))
    assert len(outcome.lost) == len(WIDTHS) + 1  # and "project", which is tied to the stem
    assert sum(outcome.lost.values()) == 88
    masked = oracle.masked(outcome.groups, outcome.removal)
    inputs = random_inputs(outcome.slimmed, outcome.dense.sizes)
    gap = oracle.difference(runtime.run(masked, inputs), runtime.run(outcome.slimmed, inputs))
    assert gap.absolute < 1e-6  # integers add up to the same in any order


def test_a_shared_scale_ties_nothing() -> None:
    plain = grouped(convolutional())[1]
    found = grouped(quantised(convolutional(), "QOperator"))[1]
    assert [group.size for group in found.groups] == [group.size for group in plain.groups]


@pytest.mark.parametrize("criterion", sorted(set(DATA_FREE) - {"bn", "random"}))
@pytest.mark.parametrize(("fmt", "options"), STATIC)
def test_scores_are_those_of_the_float_net(
    fmt: str, options: dict[str, object], criterion: str
) -> None:
    plain = grouped(convolutional())[1]
    found = grouped(quantised(convolutional(), fmt, **options))[1]
    expected, scores = (score(g, Criterion(criterion)).values for g in (plain, found))
    least = 0.7 if criterion == "lamp" else 0.8  # of sorted energies: 4 bits change the order
    for a, b in zip(plain.groups, found.groups, strict=True):
        first, second = expected[a.classes], scores[b.classes]
        assert np.corrcoef(first, second)[0, 1] > least


@pytest.mark.parametrize(("fmt", "options"), STATIC + DYNAMIC)
def test_multiply_accumulates_are_those_of_the_float_net(
    fmt: str, options: dict[str, object]
) -> None:
    plain, found = (
        grouped(p)[0] for p in (convolutional(), quantised(convolutional(), fmt, **options))
    )
    assert cost(found.graph, found.batch).macs == cost(plain.graph, plain.batch).macs


def test_the_least_integer_weighs_as_much_as_it_stands_for() -> None:
    net = Net()
    weight = np.ones((8, 8, 1, 1), np.int8)
    weight[3] = -128
    filters = net.add("DequantizeLinear", weight, np.float32(0.01), np.int8(0))
    net.last(net.add("Conv", net.first(), filters, name="second"))
    groups = grouped(net.proto())[1]
    group = next(g for g in groups.groups if "second" in g.members)
    assert score(groups, Criterion("l1")).values[group.classes].argmax() == 3


def test_masking_behind_the_dynamic_quantiser_alone_is_not_exact() -> None:
    """Scale and zero point come from all of the tensor: that is why the quantiser is a reader."""
    outcome = check_oracle(quantised(convolutional(), "dynamic"))
    masked = oracle.masked(outcome.groups, outcome.removal)
    partial = masked.copy()
    names = {
        n.output[0]: n.input[0] for n in partial.proto.graph.node if "__masked_" in n.output[0]
    }
    for node in partial.proto.graph.node:
        if node.op_type == "DynamicQuantizeLinear":
            node.input[0] = names.get(node.input[0], node.input[0])
    inputs = random_inputs(outcome.slimmed, outcome.dense.sizes)
    models: list[Model] = [masked, partial]
    first, second = (runtime.run(model, inputs) for model in models)
    assert oracle.difference(first, second).absolute > 1e-4


@pytest.mark.parametrize(("fmt", "ir"), [("QDQ", True), ("QOperator", False), ("dynamic", True)])
def test_what_is_written_is_what_was_checked(fmt: str, ir: bool, tmp_path: Path) -> None:
    model = quantised(convolutional(), fmt, per_channel=True)
    result = prunecvt.slim(model, tmp_path / "out.onnx", ratio=0.5, round_to=1, ir=ir, bench=False)
    check = result.report.verify
    assert check and check.masked_dense and check.masked_dense.passed
    assert (check.openvino is not None) == ir
    assert (tmp_path / "out.onnx").exists()


def test_what_is_written_of_a_branch_is_what_was_checked(tmp_path: Path) -> None:
    """onnxruntime's optimiser moves quantisation about in bodies too."""
    net = Net()
    x, flag = image(net)

    def build(body: Body) -> str:
        made = rounded(body, x, 0.02)
        for inputs in (3, 16, 16, 16):
            made = body.add("Conv", made, integers(body, 16, inputs), body.random(16), pads=[1] * 4)
            made = rounded(body, body.add("Relu", made), 0.03)
        return rounded(body, body.add("Conv", made, integers(body, 3, 16), pads=[1] * 4), 0.01)

    choice(net, flag, branch(net, "then", build), branch(net, "else", build))
    out = tmp_path / "out.onnx"
    report = prunecvt.slim(net.proto(), out, ratio=0.3, round_to=1, ir=False, bench=False).report
    assert report.verify and report.verify.masked_dense and report.verify.masked_dense.passed


def rounded(body: Body, x: str, step: float) -> str:
    """``x`` in steps, by QuantizeLinear and DequantizeLinear."""
    scale, zero = body.constant(np.float32(step)), body.constant(np.uint8(128))
    return body.add("DequantizeLinear", body.add("QuantizeLinear", x, scale, zero), scale, zero)


def integers(body: Body, outputs: int, inputs: int) -> str:
    """Filters in 8-bit integers with a scale per output."""
    filters = body.rng.integers(-128, 128, (outputs, inputs, 3, 3)).astype(np.int8)
    scales = (body.rng.random(outputs) * 0.001 + 0.001).astype(np.float32)
    return body.add("DequantizeLinear", filters, scales, np.zeros(outputs, np.int8), axis=0)
