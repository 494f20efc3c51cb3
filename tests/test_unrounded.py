"""Steps of quantised activations: what differs by a last place is no difference."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import prunecvt
from models import Net
from prunecvt_passes import oracle, runtime
from prunecvt_passes.model import Model
from prunecvt_passes.unrounded import unrounded

KINDS = [np.uint8, np.int8, np.uint16, np.int16, ml_dtypes.int4, ml_dtypes.uint4]


def rounding(kind: type, scale: float = 0.05, **attrs: object) -> Net:
    net = Net(opset=21)
    net.ir = 10
    operands = (np.float32(scale), np.array(3, kind))
    x = net.add("QuantizeLinear", net.first(), *operands, **attrs)
    net.output(net.add("DequantizeLinear", x, *operands), shape=[None] * 4)
    return net


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_it_differs_by_half_a_step_at_most(kind: type) -> None:
    model = Model.from_proto(rounding(kind).proto())
    smooth = unrounded(model)
    assert [n.op_type for n in smooth.proto.graph.node] == ["Conv", "Clip", "Identity"]
    inputs = {"x": 3 * np.random.default_rng(0).standard_normal((4, 3, 6, 6), np.float32)}
    gap = oracle.difference(runtime.run(model, inputs), runtime.run(smooth, inputs))
    assert 0.01 < gap.absolute <= 0.0251


def test_what_anything_else_reads_stays() -> None:
    net = rounding(np.uint8)
    net.output(net.add("Cast", net.nodes[1].output[0], to=1), shape=[None] * 4)
    model = Model.from_proto(net.proto())
    assert unrounded(model) is model


def test_what_is_undone_by_another_scale_stays() -> None:
    net = rounding(np.uint8)
    net.nodes[2].input[1] = net.constant(np.float32(0.1))
    model = Model.from_proto(net.proto())
    assert unrounded(model) is model


def rounded_often() -> Net:
    """A million sums are rounded to coarse steps, so that some of them lie between two."""
    net = Net()
    x = net.add("Relu", net.conv(net.input(4, 3, 64, 64), 3, 64, 3, name="first"))
    x = net.conv(x, 64, 64, 3)
    x = net.add("QuantizeLinear", x, np.float32(0.05), np.uint8(128))
    net.output(net.add("DequantizeLinear", x, np.float32(0.05), np.uint8(128)))
    return net


def test_a_step_more_or_less_is_no_difference() -> None:
    result = prunecvt.slim(rounded_often().proto(), ratio=0.5)
    check = result.report.verify
    assert check and check.masked_dense and check.masked_dense.max_rel < 1e-5
    assert result.report.totals.channels.after < result.report.totals.channels.before


def test_a_wrong_cut_is_found_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    masked = oracle.masked

    def wrong(*facts):  # type: ignore[no-untyped-def]
        model = masked(*facts)
        model.set_weights({"w2": model.weights["w2"] * np.float32(1.01)})
        return model

    monkeypatch.setattr(oracle, "masked", wrong)
    with pytest.raises(prunecvt.VerifyError, match="masked original"):
        prunecvt.slim(rounded_often().proto(), ratio=0.5)
