"""Weights drawn anew: their statistics, that the seed decides them, and what the report says."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import onnx
import pytest

import prunecvt
from bridge_nets import NETS
from command_line import run
from method_nets import reshaped, residual, weight_of
from models import Net
from prunecvt import UsageError
from prunecvt.reinit import Reinit, notes_of, redraw
from prunecvt.report.findings import findings
from prunecvt_passes.model import Model

RESNET = Path(__file__).parent.parent / "sample_models" / "digits_resnet.onnx"


def redrawn(net: Net, seed: int = 0) -> Model:
    return redraw(Model.from_proto(net.proto()), Reinit(seed)).model


def test_filters_have_the_variance_of_he_and_norms_start_plain() -> None:
    model = redraw(residual(channels=64), Reinit(1)).model
    filters = model.weights[weight_of(model, "b0_first")]
    assert float(filters.std()) == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.02)
    assert abs(float(filters.mean())) < 1e-3
    head = model.weights["head"]
    assert float(head.std()) == pytest.approx(math.sqrt(2 / 64), rel=0.15)
    assert not model.weights["head_bias"].any()
    for node in model.proto.graph.node:
        if node.op_type == "BatchNormalization":
            found = [set(model.weights[name].tolist()) for name in node.input[1:5]]
            assert found == [{1.0}, {0.0}, {0.0}, {1.0}]


def test_fan_in_of_every_linear_layer() -> None:
    g = Net()
    x = g.input("N", 64, 8, 8)
    x = g.conv(x, 64, 256, 3, group=4, name="grouped")
    x = g.add("ConvTranspose", x, g.random(256, 32, 2, 2), strides=[2, 2], name="up")
    flat = g.add("ReduceMean", x, axes=[2, 3], keepdims=0)
    flat = g.add("Gemm", flat, g.random(400, 32), transB=1, name="turned")
    flat = g.add("MatMul", flat, g.random(400, 100), name="product")
    flat = g.add("Einsum", flat, g.random(100, 300), equation="ni,io->no", name="summed")
    g.output(flat, shape=["N", 300])
    model = redrawn(g)
    for name, fan in (
        *(("grouped", 16 * 9), ("up", 256), ("turned", 32), ("product", 400), ("summed", 100)),
    ):
        values = model.weights[weight_of(model, name)]
        assert float(values.std()) == pytest.approx(math.sqrt(2 / fan), rel=0.05), name
    assert not model.weights[weight_of(model, "grouped", 2)].any()


def test_matrices_that_a_transpose_brings_are_drawn() -> None:
    """As torch exports a Linear on [N, T, C]."""
    g = Net()
    turned = g.add("Transpose", g.random(400, 32, name="turned"), perm=[1, 0])
    g.output(g.add("MatMul", g.input("N", 5, 32), turned), shape=["N", 5, 400])
    found = redraw(Model.from_proto(g.proto()), Reinit())
    assert (found.drawn, found.left) == (("turned",), ())
    assert float(found.model.weights["turned"].std()) == pytest.approx(math.sqrt(2 / 32), rel=0.05)


def test_other_weights_start_where_training_would() -> None:
    model = redrawn(NETS["normalisations"]())
    for node in model.proto.graph.node:
        if node.op_type in ("LayerNormalization", "InstanceNormalization"):
            assert set(model.weights[node.input[1]].tolist()) == {1.0}
            assert set(model.weights[node.input[2]].tolist()) == {0.0}
    slopes = [n for n in redrawn(NETS["prelu"]()).weights.values() if n.shape == (8, 1, 1)]
    assert set(np.ravel(slopes).tolist()) == {0.25}


def test_the_seed_decides() -> None:
    model = residual()
    first, again, other = (redraw(model, Reinit(seed)).model for seed in (0, 0, 1))
    assert all(np.array_equal(first.weights[n], again.weights[n]) for n in model.weights)
    name = weight_of(model, "stem")
    assert not np.array_equal(first.weights[name], other.weights[name])
    assert not np.array_equal(first.weights[name], model.weights[name])


def test_constants_that_are_no_weights_stay() -> None:
    g = Net()
    x = g.add("Sub", g.input("N", 3, 6, 6), g.constant(np.full((1, 3, 1, 1), 0.4, np.float32), "m"))
    g.output(g.conv(x, 3, 8, 3), shape=["N", 8, 6, 6])
    assert set(redrawn(g).weights["m"].ravel().tolist()) == {np.float32(0.4)}


def test_what_nobody_knows_how_to_draw_stays_and_is_named() -> None:
    g = Net()
    flat = g.add("ReduceMean", g.first(), axes=[2, 3], keepdims=0)
    g.output(g.add("MatMul", flat, reshaped(g, "turned", 8, 4)), shape=["N", 4])
    found = redraw(Model.from_proto(g.proto()), Reinit())
    assert found.left == ("turned",)
    assert np.array_equal(found.model.weights["turned"], g.weights["turned"])
    assert any("turned" in note for note in notes_of(found))
    assert notes_of(None) == []


def test_a_model_without_weights_is_refused() -> None:
    g = Net()
    g.output(g.add("Relu", g.input("N", 3, 6, 6)), shape=["N", 3, 6, 6])
    with pytest.raises(UsageError, match="E257"):
        redrawn(g)


def test_slim_writes_an_architecture_and_says_so(tmp_path: Path) -> None:
    result = prunecvt.slim(
        RESNET, tmp_path / "s.onnx", ratio=0.5, reinit=True, ir=False, bench=False
    )
    plain = prunecvt.slim(RESNET, ratio=0.5, fold_bn=False)
    written = onnx.load(tmp_path / "s.onnx")
    assert [(t.name, list(t.dims)) for t in written.graph.initializer] == [
        (t.name, list(t.dims)) for t in plain.model.graph.initializer
    ]
    assert result.plan == plain.plan
    report = result.report
    assert report.verify is not None
    assert report.verify.masked_dense is not None  # of the cut, before
    assert report.verify.masked_dense.passed
    assert report.verify.fidelity is None
    assert any("drift" in note for note in report.verify.skipped)
    assert any("not trained" in note for note in report.warnings)
    assert not any("kept weights are the original's" in note for note in findings(report))
    again = prunecvt.slim(RESNET, ratio=0.5, reinit=True)
    assert again.model == written
    assert prunecvt.slim(RESNET, ratio=0.5, reinit=True, seed=1).model != written


def test_reinit_is_no_place_for_recovery_or_accuracy() -> None:
    for extra in ({"recover": "refit"}, {"eval": RESNET.with_name("digits_test.npz")}):
        with pytest.raises(UsageError, match="E207"):
            prunecvt.slim(RESNET, reinit=True, **extra)
    with pytest.raises(UsageError, match="E201"):
        prunecvt.slim(RESNET, reinit="yes")


def test_the_command_line_takes_it(tmp_path: Path) -> None:
    out = tmp_path / "s.onnx"
    done = run(
        "slim", RESNET, "-o", out, "--ratio", "0.5", "--reinit", "--no-ir", "--no-bench", "--json"
    )
    assert json.loads(done.stdout)["settings"]["reinit"] is True
    assert run("slim", RESNET, "--reinit", "--dry-run").returncode == 2
    verified = run("verify", RESNET, out, "--plan", out.with_suffix(".plan.json"), "--no-ir")
    assert verified.returncode == 0, verified.stderr
    assert "drawn anew" in verified.stdout
