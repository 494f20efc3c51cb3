"""Criteria of gradients: against closed forms, differences of the loss, and the oracle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from body_models import branch, choice, image
from models import Net, grouped
from prunecvt import inspect, slim
from prunecvt.errors import UsageError
from prunecvt_passes import runtime
from prunecvt_passes.budget import Removal
from prunecvt_passes.criteria.gated import gated
from prunecvt_passes.criteria.gradients import eliminated
from prunecvt_passes.model import Array
from prunecvt_passes.oracle import masked
from prunecvt_passes.recovery.calibration import Calibration, split
from recovery_cases import Case, case_of
from test_bridge_optional import without_torch

SAMPLES = Path(__file__).parent.parent / "sample_models"
RESNET, CALIB = SAMPLES / "digits_resnet.onnx", SAMPLES / "digits_calib.npz"


def pooled(net: Net, x: str, channels: int, scale: float = 1.0) -> Net:
    mean = net.add("ReduceMean", x, axes=[2, 3], keepdims=0)
    net.output(net.add("MatMul", mean, net.random(channels, 4, scale=scale)))
    return net


def residual(dtype: type = np.float32) -> Net:
    net = Net()
    net.dtype = np.dtype(dtype)
    x = net.add("Relu", net.norm(net.first(), 8))
    y = net.add("Relu", net.conv(x, 8, 6, 3))
    return pooled(net, net.add("Add", x, net.conv(y, 6, 8)), 8)


def concat() -> Net:
    net = Net()
    x = net.add("Sigmoid", net.first())
    y = net.add("Tanh", net.conv(x, 8, 4))
    return pooled(net, net.add("Concat", x, y, x, axis=1), 20)


def flattened() -> Net:
    net = Net()
    x = net.add("Reshape", net.add("Relu", net.first()), np.array([0, -1]))
    net.output(net.add("Gemm", x, net.random(8 * 36, 4, scale=0.1)))
    return net


def time_first() -> Net:
    """Channels are read where the samples lie along the second axis."""
    net = Net()
    x = net.add("Transpose", net.add("Relu", net.first()), perm=[2, 0, 3, 1])
    x = net.add("MatMul", x, net.random(8, 5, scale=0.3))
    x = net.add("ReduceMean", net.add("Tanh", x), axes=[0, 2], keepdims=0)
    net.output(net.add("MatMul", x, net.random(5, 4)))
    return net


def segmenting() -> Net:
    """A class for every position, told by ArgMax."""
    net = Net()
    x = net.conv(net.add("Relu", net.first()), 8, 3, 3)
    net.output(net.add("ArgMax", x, axis=1, keepdims=0), type=7)
    return net


def linear(outputs: int, scale: float = 0.3) -> tuple[Case, Array, Array]:
    """Two products, what the second reads, and its weights."""
    net = Net()
    first, second = net.random(3, 5), net.random(5, outputs, scale=scale)
    hidden = net.add("MatMul", net.input("N", 3), first, name="seen")
    net.output(net.add("MatMul", hidden, second))
    case = case_of(net, batch=512)
    x = np.concatenate([feed["x"] for feed in case.calibration.fit])
    return case, (x @ net.weights[first]).astype(float), net.weights[second].astype(float)


def scores(case: Case, name: str) -> Array:
    return case.scores(name).values[case.groups.groups[0].classes]


def chances(logits: Array) -> Array:
    raised = np.exp(logits - logits.max(1, keepdims=True))
    found: Array = raised / raised.sum(1, keepdims=True)
    return found


NETS = [residual, concat, flattened, time_first, segmenting]


@pytest.mark.parametrize("net", NETS)
def test_gates_at_zero_are_the_oracle(net: Callable[[], Net]) -> None:
    dense, groups = grouped(net().proto())
    model, gates = gated(groups)
    feed = {"x": np.random.default_rng(1).standard_normal((2, 3, 6, 6)).astype(np.float32)}
    for group in groups.groups:
        gone = np.zeros(groups.total, bool)
        gone[group.classes[:2]] = True
        factors = {
            gate.name: (~gone[gate.classes]).astype(np.float32).reshape(gate.shape(1))
            for gate in gates
        }
        expected = runtime.run(masked(groups, Removal(gone, {})), feed)
        found = runtime.run(model, {**feed, **factors})
        whole = runtime.run(dense.graph.model, feed)
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-6)
            assert net is segmenting or not np.allclose(whole[name], values)


@pytest.mark.parametrize("net", [residual, concat, flattened, time_first])
def test_gradients_are_differences_of_the_loss(net: Callable[[], Net]) -> None:
    case = case_of(net(), runs=2, batch=6)
    model, gates = gated(case.groups)
    feed = case.calibration.fit[0]
    own = None

    def losses(level: float, group: Array) -> Array:
        nonlocal own
        factors = {
            gate.name: np.where(gate.classes == group, level, 1.0)
            .astype(np.float32)
            .reshape(gate.shape(1))
            for gate in gates
        }
        logits = next(iter(runtime.run(model, {**feed, **factors}).values())).astype(float)
        own = logits.argmax(1) if own is None else own
        return -np.log(chances(logits)[np.arange(len(logits)), own])

    losses(1.0, np.array(-1))
    found = case.scores("taylor").values
    for group in case.groups.groups:
        slopes = np.array([(losses(1.02, c) - losses(0.98, c)) / 0.04 for c in group.classes])
        expected = (slopes**2).mean(1)
        np.testing.assert_allclose(
            found[group.classes], expected, rtol=0.02, atol=1e-3 * expected.max()
        )


def test_taylor_of_a_linear_net() -> None:
    case, hidden, second = linear(4)
    logits = hidden @ second
    rest = chances(logits) - np.eye(4)[logits.argmax(1)]
    expected = ((hidden * (rest @ second.T)) ** 2).mean(0)
    np.testing.assert_allclose(scores(case, "taylor"), expected, rtol=1e-3)


def test_fisher_is_what_a_cut_changes() -> None:
    """Of a linear net all error is of second order, and channels that go together are summed."""
    case, hidden, second = linear(4)
    logits, found = hidden @ second, scores(case, "fisher")
    classes, expected = case.groups.groups[0].classes, np.zeros(5)
    for place in range(5):
        gone = np.zeros(case.groups.total, bool)
        gone[classes[np.argsort(found)[: place + 1]]] = True
        cut = masked(case.groups, Removal(gone, {}))
        runs = [next(iter(runtime.run(cut, feed).values())) for feed in case.calibration.fit]
        errors = ((np.concatenate(runs) - logits) ** 2).sum(1)
        expected[place] = (errors / (logits**2).sum(1)).mean() / 2
    assert expected[0] == min(expected)
    rising = np.maximum.accumulate(expected)
    np.testing.assert_allclose(np.sort(found), rising, rtol=0.15)  # 3,584 directions


def test_a_number_is_judged_by_its_relative_change() -> None:
    """Of one output all directions are the same but for their sign."""
    case, hidden, second = linear(1)
    parts = hidden * second[:, 0] / (hidden @ second)
    np.testing.assert_allclose(scores(case, "taylor"), (parts**2).mean(0), rtol=1e-2)
    found = scores(case, "fisher")
    assert found.min() == pytest.approx((parts**2).mean(0).min() / 2, rel=1e-2)


def test_channels_that_make_up_for_one_another_go_together() -> None:
    """The first two cancel, and so cost nothing together; the third costs less than one of them."""
    rng = np.random.default_rng(0)
    first, third = 2 * rng.standard_normal((500, 1)), rng.standard_normal((500, 2))
    found = eliminated(np.hstack([first, -first, third * [1.0, 3.0]]))
    assert found[2] < min(found[:2]) and max(found[:2]) < found[3]
    assert found[1] == pytest.approx(found[0], rel=0.01)  # an error never falls again
    assert found[3] == pytest.approx(10, rel=0.2)


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("name", ["taylor", "fisher"])
def test_batches_change_nothing(net: Callable[[], Net], name: str) -> None:
    case = case_of(net(), runs=4, batch=12)
    x = np.concatenate([feed["x"] for feed in case.calibration.fit])
    found = []
    for size in (1, 5, 36):
        runs = tuple({"x": x[k : k + size]} for k in range(0, 36, size))
        found.append(replace(case, calibration=Calibration(runs, runs)).scores(name).values)
    assert found[0].any()
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-3, atol=1e-5 * found[0].max())


def test_a_softmax_at_the_end_changes_nothing() -> None:
    plain, squashed = residual(), residual()
    squashed.outputs.clear()
    squashed.output(squashed.add("Softmax", squashed.nodes[-1].output[0], axis=1))
    for name in ("taylor", "fisher"):
        found = [case_of(net).scores(name).values for net in (plain, squashed)]
        np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("name", ["taylor", "fisher"])
def test_half_precision_is_scored_in_single(name: str) -> None:
    found = []
    for dtype in (np.float32, np.float16):
        case = case_of(residual(dtype))
        feeds = [{"x": feed["x"].astype(dtype)} for feed in case.calibration.fit]
        found.append(replace(case, calibration=split(feeds)).scores(name).values)
    np.testing.assert_allclose(found[1], found[0], rtol=0.1, atol=0.01 * found[0].max())


@pytest.mark.parametrize("command", ["inspect", "slim"])
@pytest.mark.parametrize("data", ["calib", "noise"])
def test_the_sample_model(command: str, data: str) -> None:
    """Directions are drawn for fisher, by the seed; taylor draws nothing but noise."""
    pytest.importorskip("torch")
    given = {"calib_count": 64, **({"calib": CALIB} if data == "calib" else {"noise": True})}
    for name in ("taylor", "fisher"):
        if command == "slim":
            more = {"ir": False, "bench": False, "target": "macs=0.6", "recover": "none"}
            report = slim(RESNET, criterion=name, **given, **more).report
            assert report.status == "ok" and report.totals.macs.after < report.totals.macs.before
            continue
        found = [
            [group.score for group in inspect(RESNET, criterion=name, seed=seed, **given).groups]
            for seed in (0, 0, 1)
        ]
        assert found[0] == found[1]
        assert (found[0] == found[2]) == (name == "taylor" and data == "calib")


def test_what_torch_cannot_compute_is_named() -> None:
    net = Net()
    x, flag = image(net)
    y = net.conv(net.add("Relu", net.conv(x, 3, 8, 3, name="first")), 8, 3)
    choice(net, flag, *(branch(net, stem, lambda body: body.pair(y)) for stem in ("then", "else")))
    case = case_of(net)
    feeds = [{**feed, "flag": np.array(True)} for feed in case.calibration.fit]
    with pytest.raises(UsageError) as caught:
        replace(case, calibration=split(feeds)).scores("taylor")
    assert caught.value.code == "E280" and "If" in caught.value.message


@pytest.mark.parametrize("end", ["", "Softmax"])
def test_a_squeeze_that_takes_the_batch_too_changes_nothing(end: str) -> None:
    """Of one sample a Squeeze without axes leaves [classes]."""

    def ended(squeeze: bool) -> Net:
        net = Net()
        x = net.add("GlobalAveragePool", net.conv(net.add("Relu", net.first()), 8, 4, 3))
        x = net.add("Squeeze", x) if squeeze else net.add("Flatten", x)
        net.output(net.add(end, x, axis=-1) if end else x, shape=["N", 4])
        return net

    found = [scores(case_of(ended(squeeze)), "taylor") for squeeze in (True, False)]
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-6)


def test_what_torch_fails_at_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    from prunecvt.bridge import sensitivity

    def fails(*given: object) -> None:
        raise IndexError("dimension out of range")

    monkeypatch.setattr(sensitivity, "_run", fails)
    with pytest.raises(UsageError, match="dimension out of range") as caught:
        slim(residual().proto(), calib=np.ones((64, 3, 6, 6), np.float32), criterion="taylor")
    assert caught.value.code == "E280"


def test_outputs_that_no_gradient_comes_from_are_named() -> None:
    net = Net()
    x = net.conv(net.add("Relu", net.first()), 8, 3, 3)
    net.output(net.add("Cast", net.add("Greater", x, np.float32(0)), to=1))
    with pytest.raises(UsageError) as caught:
        case_of(net).scores("fisher")
    assert caught.value.code == "E281"


@pytest.mark.parametrize("name", ["taylor", "fisher"])
def test_without_torch_it_says_what_to_install(name: str) -> None:
    without_torch(
        "import prunecvt\n"
        f"given = dict(criterion={name!r}, calib={str(CALIB)!r}, calib_count=64)\n"
        f"try: prunecvt.plan({str(RESNET)!r}, **given)\n"
        "except prunecvt.UsageError as error:\n"
        "    assert error.code == 'E250' and 'prunecvt[torch]' in error.help\n"
        "else: raise SystemExit('nothing was raised')\n"
    )
