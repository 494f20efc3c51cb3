"""Noise in the place of data: its spectrum, the matched statistics, and the way back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import prunecvt
from body_models import branch, choice, image
from models import Net, grouped
from prunecvt.errors import UsageError
from prunecvt.report.findings import findings
from prunecvt.report.html import render_html
from prunecvt_passes import runtime
from prunecvt_passes.fold import fold_batch_norms
from prunecvt_passes.graph import index
from prunecvt_passes.model import Model
from prunecvt_passes.normalise import Source, normalise
from prunecvt_passes.recovery.calibration import samples_of
from prunecvt_passes.shapes import infer
from prunecvt_passes.synthetic import noise as noise_module
from prunecvt_passes.synthetic.carry import carry_back
from prunecvt_passes.synthetic.leaves import dead_leaves
from prunecvt_passes.synthetic.match import batch_norms, match
from prunecvt_passes.synthetic.noise import Noise, make_noise
from recovery_cases import combine, double

SAMPLES = Path(__file__).parent.parent / "sample_models"
RESNET = SAMPLES / "digits_resnet.onnx"
SOURCE = Source(Model(onnx.ModelProto(), {}))


def normed(channels: int = 3) -> Net:
    """Two convolutions and a Gemm, each with BatchNormalization behind it."""
    net = Net()
    x = net.norm(net.conv(net.input("N", channels, 8, 8), channels, 8, 3, name="first"), 8)
    x = net.norm(net.conv(net.add("Relu", x), 8, 8, 3, group=2, name="grouped"), 8)
    x = net.add("GlobalAveragePool", net.add("Relu", x))
    x = net.add("Gemm", net.add("Flatten", x), net.random(8, 6), name="dense")
    net.output(net.norm(x, 6))
    return net


def test_made_up_images_have_the_statistics_of_photographs() -> None:
    """Power falls about as 1 / frequency^2, and differences are heavy-tailed: flats and edges."""
    found = dead_leaves((48, 1, 64, 64), np.random.default_rng(0))
    assert found.std() == pytest.approx(1.0, rel=1e-3)
    power = (np.abs(np.fft.rfft2(found)) ** 2).mean((0, 1))
    frequency = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.rfftfreq(64)[None])
    inside = (frequency > 0.03) & (frequency < 0.4)
    slope = np.polyfit(np.log(frequency[inside]), np.log(power[inside]), 1)[0]
    assert -3.2 < slope < -1.8
    steps = np.diff(found, axis=-1)
    assert (steps**4).mean() / (steps**2).mean() ** 2 > 10  # 3 for what is normal
    assert found.mean((1, 2, 3)).std() > 0.2  # one image is lighter than another


def test_colours_go_together_and_many_channels_do_not() -> None:
    few = dead_leaves((16, 3, 16, 16), np.random.default_rng(0)).swapaxes(0, 1).reshape(3, -1)
    many = dead_leaves((16, 8, 16, 16), np.random.default_rng(0)).swapaxes(0, 1).reshape(8, -1)
    assert np.corrcoef(few)[0, 1] > 0.7
    assert abs(np.corrcoef(many)[0, 1]) < 0.3


def noise_of(proto: onnx.ModelProto, *, stated: Any = None, **amount: int) -> list[Any]:
    source = Source(Model.from_proto(proto), stated or {})
    made = make_noise(normalise(source), source, Noise(**amount))
    return [*made.fit, *made.held_out]


def test_the_same_seed_gives_the_same_noise() -> None:
    first, again = (noise_of(normed().proto(), samples=96) for _ in range(2))
    assert samples_of(first) == 96 and first[0]["x"].shape == (12, 3, 8, 8)
    other = noise_of(normed().proto(), samples=96, seed=1)
    for one, two, three in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(one["x"], two["x"])
        assert not np.array_equal(one["x"], three["x"])
    assert len(noise_of(normed().proto())) == 16


def two_inputs(first: Any, second: Any) -> onnx.ModelProto:
    net = Net()
    one, two = net.input(*first, name="one"), net.input(*second, name="two")
    x = net.norm(net.conv(one, 3, 8, 3), 8)
    y = net.norm(net.conv(two, 3, 8, 3), 8)
    tops = [net.add("ReduceMean", each, axes=[0, 2, 3], keepdims=1) for each in (x, y)]
    net.output(net.add("Add", *tops), shape=[None] * 4)
    return net.proto()


def test_inputs_of_one_shape_get_noise_of_their_own() -> None:
    (run, *_) = noise_of(two_inputs(("N", 3, 8, 8), ("N", 3, 8, 8)), samples=64)
    assert abs(np.corrcoef(run["one"].ravel(), run["two"].ravel())[0, 1]) < 0.2


def test_fixed_and_stated_batches_are_kept() -> None:
    run = noise_of(two_inputs((2, 3, 8, 8), (5, 3, 8, 8)), samples=64)[0]
    assert run["one"].shape[0] == 2 and run["two"].shape[0] == 5
    run = noise_of(two_inputs(("N", 3, 8, 8), (5, 3, 8, 8)), samples=64)[0]
    assert run["one"].shape[0] == 8 and run["two"].shape[0] == 5
    stated = {"one": (2, 3, 8, 8)}
    runs = noise_of(two_inputs(("N", 3, 8, 8), (5, 3, 8, 8)), stated=stated, samples=64)
    assert runs[0]["one"].shape[0] == 2 and len(runs) == 32


def test_large_inputs_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise_module, "NUMBERS", 1 << 20)
    net = Net()
    net.output(net.norm(net.conv(net.input("N", 1, 96, 96), 1, 4), 4))
    runs = noise_of(net.proto())  # 2^20 / 96^2 is 113, in runs of an eighth
    assert samples_of(runs) == 126 and runs[0]["x"].shape[0] == 14


def test_channels_leave_their_norms_as_they_state() -> None:
    dense, groups = grouped(normed().proto())
    noise = make_noise(dense, SOURCE, Noise(samples=128))
    matched = match(dense, groups, noise)
    assert matched.groups.channels.graph.model is matched.dense.graph.model
    model = matched.dense.graph.model.copy()
    norms = batch_norms(matched.dense.graph)
    assert len(norms) == 3
    for node in norms:
        model.proto.graph.output.add(name=node.outputs[0])
    runs = [runtime.run(model, feed) for feed in (*noise.fit, *noise.held_out)]
    for node in norms:
        values = np.concatenate([run[node.outputs[0]] for run in runs])
        rows = np.moveaxis(values, 1, -1).reshape(-1, values.shape[1])
        gamma, beta = (model.weights[name] for name in node.inputs[1:3])
        np.testing.assert_allclose(rows.mean(0), beta, atol=1e-3)
        np.testing.assert_allclose(rows.std(0), np.abs(gamma), rtol=2e-2)


def edited(model: Model) -> Model:
    """The same change to every convolution and product, and a bias more."""
    made, rng = model.copy(), np.random.default_rng(5)
    for node in made.proto.graph.node:
        if node.op_type in ("Conv", "Gemm", "ConvTranspose"):
            for name in node.input[1:]:
                old = made.weights[name]
                made.set_weight(name, (old + rng.standard_normal(old.shape)).astype(np.float32))
    return made


@pytest.mark.parametrize("kind", ["plain", "transposed", "depthwise"])
def test_an_edit_of_the_matched_model_is_carried_back_exactly(kind: str) -> None:
    if kind == "plain":
        net = normed()
    else:
        net = Net()
        x = net.conv(net.input("N", 3, 8, 8), 3, 8, 3)
        if kind == "depthwise":
            x = net.norm(net.conv(x, 8, 8, 3, group=8), 8)
        else:
            x = net.norm(net.add("ConvTranspose", x, net.random(8, 3, 2, 2), group=2), 6)
        net.output(net.add("Relu", x))
    dense, groups = grouped(net.proto())
    matched = match(dense, groups, make_noise(dense, SOURCE, Noise(samples=64))).dense.graph.model
    real = dense.graph.model
    folded = [fold_batch_norms(m) for m in (real, matched, edited(matched), edited(real))]
    shapes = infer(folded[0], dense.sizes)[0]
    found = carry_back(*(index(m, shapes) for m in folded[:3]))
    assert found.weights.keys() == folded[3].weights.keys()
    for name, values in folded[3].weights.items():
        np.testing.assert_allclose(found.weights[name], values, rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("change", [double, combine])
@pytest.mark.parametrize("fold", [True, False])
def test_a_channel_that_follows_from_others_goes_without_loss_and_without_data(
    change: Any, fold: bool
) -> None:
    net = Net()
    x = net.conv(net.input("N", 3, 8, 8), 3, 8, 3, name="first")
    weight, bias = net.nodes[-1].input[1:]
    net.weights[weight], net.weights[bias] = change(net.weights[weight]), change(net.weights[bias])
    net.output(net.norm(net.conv(x, 8, 4, 3, name="second"), 4))
    proto = net.proto()
    result = prunecvt.slim(proto, ratio=1 / 8, round_to=1, noise=True, fold_bn=fold)
    (group,) = [g for g in result.report.groups if g.channels_before == 8]
    assert len(group.kept) == 7
    data = np.random.default_rng(3).standard_normal((4, 3, 8, 8)).astype(np.float32)
    expected, found = (runtime.run(Model.from_proto(m), {"x": data}) for m in (proto, result.model))
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-3, atol=1e-3 * values.std())


def test_noise_wins_back_what_the_cut_cost_on_real_data() -> None:
    common = {"ratio": 0.4, "round_to": 1, "eval": SAMPLES / "digits_test.npz"}
    bare = prunecvt.slim(RESNET, recover="none", **common).report
    report = prunecvt.slim(RESNET, noise=True, calib_count=64, recover="refit", **common).report
    assert bare.accuracy is not None and report.accuracy is not None
    assert report.accuracy.top1.after > 0.95 > bare.accuracy.top1.after
    assert report.criterion == "obs"
    assert report.recovery is not None and report.recovery.data == "noise"
    assert "say little about real data" in render_html(report)
    assert {"make_noise", "match", "try_recovery_matched"} <= {row.name for row in report.passes}


def test_noise_is_told_of_without_recovery_too() -> None:
    report = prunecvt.slim(
        RESNET, noise=True, calib_count=64, criterion="share", recover="none"
    ).report
    notes = " ".join(findings(report))
    assert report.recovery is None
    assert "Scored and recovered on noise" in notes and "take --recover auto" in notes


def test_few_samples_to_judge_by_are_told_of() -> None:
    given = {"noise": True, "calib_count": 4, "criterion": "share", "recover": "bias"}
    report = prunecvt.slim(normed().proto(), round_to=1, **given).report  # type: ignore[arg-type]
    assert report.recovery is not None and report.recovery.samples == 2
    assert report.recovery.before.error < 100  # one sample has no variance to hold it against
    assert any("was judged on 2 of the samples" in warning for warning in report.warnings)
    assert "on 2 samples of noise" in render_html(report)


def test_a_criterion_of_activations_takes_noise_too() -> None:
    found = prunecvt.inspect(RESNET, criterion="wanda", noise=True, calib_count=64)
    assert found.criterion == "wanda" and found.groups[0].score is not None


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"noise": True, "calib": SAMPLES / "digits_calib.npz"}, "E207"),
        ({"noise": True, "calib_count": 3}, "E201"),
    ],
)
def test_noise_beside_data_and_too_little_is_refused(options: dict[str, Any], code: str) -> None:
    with pytest.raises(UsageError) as caught:
        prunecvt.slim(RESNET, **options)
    assert caught.value.code == code


def test_a_model_without_statistics_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        prunecvt.slim(SAMPLES / "digits_resnet_folded.onnx", noise=True)
    assert caught.value.code == "E219"
    net = Net()
    x = net.add("Cast", net.input("N", 8, 4, 4, type=onnx.TensorProto.INT64), to=1)
    net.output(net.norm(net.conv(x, 8, 8), 8))
    with pytest.raises(UsageError) as caught:
        prunecvt.slim(net.proto(), noise=True)
    assert caught.value.code == "E219"


def test_what_is_left_alone_is_named() -> None:
    """Bodies: their BatchNormalization is not matched, their convolutions are not refitted."""
    net = Net()
    x, flag = image(net)
    x = net.norm(net.conv(net.add("Relu", net.conv(x, 3, 16, 3)), 16, 3, 3), 3)
    build = [branch(net, stem, lambda b: b.norm(b.conv(x, 3, 3, 3), 3)) for stem in ("yes", "no")]
    choice(net, flag, *build)
    given = {"noise": True, "calib_count": 64, "recover": "refit", "round_to": 1}
    report = prunecvt.slim(net.proto(), **given).report  # type: ignore[arg-type]
    assert report.recovery is not None
    left = [layer for layer in report.recovery.layers if layer.reason]
    assert len(left) == 2 and all(layer.error is None for layer in left)
    assert any("it lies in a body" in warning for warning in report.warnings)
    assert any("noise was not matched to" in warning for warning in report.warnings)
    assert "it lies in a body" in render_html(report)


def test_a_quantised_or_shared_weight_is_named() -> None:
    net = Net()
    x = net.add("Relu", net.conv(net.input("N", 3, 6, 6), 3, 16, 3, name="first"))
    shared = net.random(8, 16, 1, 1)
    made = [net.add("Conv", x, shared, name=name) for name in ("one", "two")]
    weight = net.constant(np.ones((4, 8, 1, 1), np.int8))
    weight = net.add("DequantizeLinear", weight, np.float32(0.1), np.int8(0))
    net.output(net.add("Conv", net.add("Add", *made), weight, name="quantised"))
    data = np.random.default_rng(0).standard_normal((96, 3, 6, 6)).astype(np.float32)
    report = prunecvt.slim(net.proto(), calib=data, round_to=1, recover="refit").report
    assert report.recovery is not None
    reasons = {layer.node: layer.reason for layer in report.recovery.layers if layer.reason}
    assert reasons == {
        "Conv 'one'": "its weight is read elsewhere too",
        "Conv 'two'": "its weight is read elsewhere too",
        "Conv 'quantised'": "its weight is quantised",
    }
