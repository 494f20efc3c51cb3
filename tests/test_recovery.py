"""Recovery where the exact answer is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from models import Net
from prunecvt_passes import oracle, runtime
from prunecvt_passes.budget import Removal
from prunecvt_passes.errors import UsageError
from prunecvt_passes.graph import Graph, index
from prunecvt_passes.model import Array, Model
from prunecvt_passes.recovery import recover
from prunecvt_passes.recovery.calibration import Calibration, samples_of, split
from prunecvt_passes.recovery.fit import Fit, Sample, Setting
from prunecvt_passes.recovery.measure import output_error, outputs_of
from prunecvt_passes.recovery.moments import matched
from prunecvt_passes.recovery.refit import refit
from recovery_cases import SPARE, Case, case_of, combine, double, weights_of

Change = Callable[..., Array]


def made(net: Net, change: Change) -> str:
    """A convolution with eight channels of which one is not needed."""
    x = net.conv(net.input("N", 3, 6, 6), 3, 8, 3, bias=False, name="first")
    weight = net.nodes[-1].input[1]
    net.weights[weight] = change(net.weights[weight])
    return net.add("Relu", x) if change is double else x


def conv(change: Change) -> Net:
    net = Net()
    net.output(net.conv(made(net, change), 8, 4, 3))
    return net


def strided(change: Change) -> Net:
    net = Net()
    net.output(net.conv(made(net, change), 8, 4, 3, strides=[2, 2], bias=False))
    return net


def depthwise(change: Change) -> Net:
    net = Net()
    x = net.conv(made(net, change), 8, 8, 3, group=8, bias=False)
    weight = net.nodes[-1].input[1]
    net.weights[weight] = np.broadcast_to(net.weights[weight][:1], (8, 1, 3, 3)).copy()
    net.output(net.conv(x, 8, 4))
    return net


def transposed(change: Change) -> Net:
    net = Net()
    x = made(net, change)
    net.output(net.add("ConvTranspose", x, net.random(8, 4, 2, 2), net.random(4), strides=[2, 2]))
    return net


def products(change: Change) -> Net:
    net = Net()
    x = net.add(
        "MatMul",
        net.input("N", 5, 12),
        net.constant(change(net.rng.standard_normal((12, 8)).astype(np.float32), 1)),
    )
    x = net.add("Relu", x) if change is double else x
    x = net.add("Add", net.add("MatMul", x, net.random(8, 4)), net.random(4))
    net.output(x)
    return net


def gemm(change: Change) -> Net:
    net = Net()
    weight = change(net.rng.standard_normal((8, 12)).astype(np.float32))
    x = net.add("Gemm", net.input("N", 12), net.constant(weight), transB=1)
    x = net.add("Relu", x) if change is double else x
    net.output(net.add("Gemm", x, net.random(8, 4), net.random(4)))
    return net


CASES = [conv, strided, depthwise, transposed, products, gemm]


@pytest.mark.parametrize("change", [double, combine], ids=["duplicated", "dependent"])
@pytest.mark.parametrize("build", CASES, ids=lambda f: f.__name__)
def test_a_channel_too_many_goes_first_and_costs_nothing(
    build: Callable[[Change], Net], change: Change
) -> None:
    case = case_of(build(change))
    removal = case.cut(1 / 8)
    (group,) = case.groups.groups
    gone = np.flatnonzero(removal.removed[group.classes])
    assert gone.size == 1
    assert gone[0] in ((2, SPARE) if change is double else (1, 2, SPARE))
    recovery = case.recovered(removal, "refit")
    feed = case.calibration.held_out[0]
    expected = runtime.run(case.dense.graph.model, feed)
    cut = runtime.run(case.recovered(removal, "none").model, feed)
    assert oracle.difference(expected, cut).relative > 1e-2
    assert oracle.difference(expected, runtime.run(recovery.model, feed)).relative < 1e-4
    assert recovery.after is not None and recovery.after.error < 1e-7


def test_a_grouped_reader_loses_what_it_needs_not() -> None:
    net = Net()
    x = made(net, lambda w: np.concatenate([w[:4], w[4:5], w[1:2], w[6:]]))
    net.weights[net.nodes[0].input[1]][4 + 3] = net.weights[net.nodes[0].input[1]][4]
    net.weights[net.nodes[0].input[1]][3] = net.weights[net.nodes[0].input[1]][0]
    net.output(net.conv(x, 8, 6, 3, group=2))
    case = case_of(net)
    removal = case.cut(1 / 4)
    (group,) = case.groups.groups
    assert group.size == 4
    assert np.flatnonzero(removal.removed[group.classes])[0] in (0, 3)
    recovery = case.recovered(removal, "refit")
    assert recovery.before is not None and recovery.before.error > 1e-2
    assert recovery.after is not None and recovery.after.error < 1e-7


def residual() -> Net:
    """A shortcut that loses channels of its own, and a branch that is added to it."""
    net = Net()
    x = net.add("Relu", net.conv(net.input("N", 3, 6, 6), 3, 8, 3, name="stem"))
    inner = net.add("Relu", net.conv(x, 8, 24, 3, name="inner"))
    branch = net.conv(inner, 24, 8, 3, name="branch")
    net.last(net.add("Relu", net.add("Add", branch, x)))
    return net


def test_a_branch_mends_the_drift_of_its_shortcut() -> None:
    case = case_of(residual(), batch=32)
    removed = np.zeros(case.groups.total, bool)
    inner = next(g for g in case.groups.groups if g.size == 24)
    removed[inner.classes[::4]] = True
    removal = Removal(removed, {})
    recovery = case.recovered(removal, "refit")
    assert recovery.before is not None and recovery.after is not None
    assert recovery.after.error < 0.3 * recovery.before.error
    # now the stem drifts: the branch alone sees it, and takes it off
    model = case.dense.graph.model
    stem = model.proto.graph.node[0].input[2]
    drifted = model.copy()
    drifted.set_weight(stem, model.weights[stem] + np.float32(0.3))
    feed = case.calibration.held_out
    expected = outputs_of(model, feed)
    before = output_error(expected, outputs_of(drifted, feed))
    slim = index(drifted.copy(), case.dense.graph.shapes)
    nothing = Removal(np.zeros(case.groups.total, bool), {})
    mended = refit(case.dense.graph, slim, case.groups, nothing, case.calibration)
    assert output_error(expected, outputs_of(mended, feed)) < 0.05 * before


def constant_channel() -> Net:
    """Channel 5 is always 3, whatever comes in."""
    net = Net()
    x = net.conv(net.input("N", 3, 6, 6), 3, 8, 3, name="first")
    weight, bias = net.nodes[-1].input[1:]
    net.weights[weight] = net.weights[weight].copy()
    net.weights[weight][SPARE] = 0
    net.weights[bias][SPARE] = 3
    net.output(net.conv(net.add("Relu", x), 8, 4))
    return net


def without(case: Case, place: int) -> Removal:
    """One channel of the only group goes."""
    (group,) = case.groups.groups
    removed = np.zeros(case.groups.total, bool)
    removed[group.classes[place]] = True
    return Removal(removed, {})


@pytest.mark.parametrize("method", ["bias", "refit", "auto"])
def test_a_dead_channel_is_absorbed_exactly(method: str) -> None:
    case = case_of(constant_channel())
    (group,) = case.groups.groups
    removal = case.cut(1 / 8)
    assert np.flatnonzero(removal.removed[group.classes]).tolist() == [SPARE]
    recovery = case.recovered(removal, method)  # type: ignore[arg-type]
    assert recovery.before is not None and recovery.before.error > 1e-2
    assert recovery.after is not None and recovery.after.error < 1e-9


@pytest.mark.parametrize("useful", [True, False])
def test_auto_looks_at_biases_only_where_a_refit_wins_nothing(
    useful: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refit that gives back what it got wins nothing; a bias then does."""
    tried: list[str] = []

    def recorded(name: str, method: Callable[..., Model]) -> Callable[..., Model]:
        def run(original: Graph, slim: Graph, *rest: object) -> Model:
            tried.append(name)
            return method(original, slim, *rest) if name == "bias" or useful else slim.model

        return run

    methods = {name: recorded(name, method) for name, method in recover.METHODS.items()}
    monkeypatch.setattr(recover, "METHODS", methods)
    case = case_of(constant_channel())
    recovery = case.recovered(case.cut(1 / 8), "auto")
    assert tried == (["refit"] if useful else ["refit", "bias"])
    assert recovery.method == tried[-1]
    assert recovery.after is not None and recovery.after.error < 1e-9


def test_bias_is_the_mean_of_what_went_times_its_weights() -> None:
    net = Net()
    x = net.add("Relu", net.add("Gemm", net.input("N", 12), net.random(12, 8), net.random(8)))
    net.output(net.add("Gemm", x, net.random(8, 4), net.random(4), name="out"))
    case = case_of(net)
    removal = without(case, 3)
    recovery = case.recovered(removal, "bias")
    weights = case.dense.graph.model.weights
    first, reader = case.dense.graph.nodes[0], case.dense.graph.nodes[-1]
    data = np.concatenate([f["x"] for f in case.calibration.fit])
    hidden = np.maximum(data @ weights[first.inputs[1]] + weights[first.inputs[2]], 0)
    expected = weights[reader.inputs[2]] + hidden[:, 3].mean() * weights[reader.inputs[1]][3]
    found = recovery.model.weights[recovery.model.proto.graph.node[-1].input[2]]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_held_out_data_changes_no_fit() -> None:
    case = case_of(constant_channel())
    removal = without(case, 2)
    first = case.recovered(removal, "refit").model
    other = {name: values * 3 for name, values in case.calibration.held_out[0].items()}
    changed = Calibration(case.calibration.fit, (other,))
    again = type(case)(case.dense, case.groups, changed)
    assert weights_of(again.recovered(removal, "bias").model) == weights_of(
        case.recovered(removal, "bias").model
    )
    assert weights_of(first) == weights_of(case.recovered(removal, "refit").model)


def test_what_is_asked_for_without_data_is_refused() -> None:
    case = case_of(constant_channel(), runs=1)
    removal = without(case, 2)
    assert not case.calibration
    assert case.recovered(removal, "auto").method == "none"
    with pytest.raises(UsageError) as caught:
        case.recovered(removal, "refit")
    assert caught.value.code == "E218"
    with pytest.raises(UsageError) as caught:
        case.scores()
    assert caught.value.code == "E211"


def test_only_weights_and_biases_change() -> None:
    case = case_of(residual())
    removal = case.cut(0.5)
    before, after = (case.recovered(removal, m).model for m in ("none", "refit"))  # type: ignore[arg-type]
    nodes = [
        [(n.op_type, list(n.input)[:2], list(n.output)) for n in m.proto.graph.node]
        for m in (before, after)
    ]
    assert nodes[0] == nodes[1]
    assert {k: v.shape for k, v in before.weights.items()} == {
        k: v.shape for k, v in after.weights.items()
    }


@pytest.mark.parametrize("method", ["moments", "refit"])
def test_what_is_left_of_twins_is_scaled_to_their_sum(method: str) -> None:
    """All channels are the same, all readers' weights positive: scaling the rows is exact."""
    net = Net()
    x = net.conv(net.input("N", 3, 6, 6), 3, 8, 3, name="first")
    for name in net.nodes[-1].input[1:]:
        net.weights[name] = np.repeat(net.weights[name][:1], 8, axis=0)
    x = net.conv(net.add("Relu", x), 8, 4, name="reader")
    name = net.nodes[-1].input[1]
    net.weights[name] = np.abs(net.weights[name]) + 1
    net.output(x)
    case = case_of(net)
    (group,) = case.groups.groups
    removed = np.zeros(case.groups.total, bool)
    removed[group.classes[:2]] = True
    recovery = case.recovered(Removal(removed, {}), method)  # type: ignore[arg-type]
    assert recovery.before is not None and recovery.before.error > 1e-2
    assert recovery.after is not None and recovery.after.error < 1e-8


def test_moments_that_hurt_held_out_data_are_left() -> None:
    """What is fitted on is doubled, so the drifted reader's moments are right and do not hold."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((1, 500, 6)).astype(np.float32)
    goal = rows @ rng.standard_normal((1, 6, 4)).astype(np.float32)
    weight = np.linalg.lstsq(rows[0], goal[0], rcond=None)[0].T[None].astype(np.float64)
    zero = np.zeros((1, 1, 1), np.float32)
    before = Fit(weight, np.zeros((1, 4)))
    fitted, held_out = Sample(rows, 2 * goal, zero), Sample(rows, goal, zero)
    assert matched(fitted, held_out, before, Setting())[0] is before
    found, error = matched(fitted, Sample(rows, 2 * goal, zero), before, Setting())
    assert error < 1e-9
    np.testing.assert_allclose(found.weight, 2 * weight, rtol=1e-4)


def test_moments_leave_a_channel_that_data_does_not_stir() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((2, 400, 3)).astype(np.float32)
    rows[1] = 0.0
    weight = rng.standard_normal((2, 1, 3))
    goal = 1.3 * np.einsum("gnd,god->gno", rows, weight).astype(np.float32)
    sample = Sample(rows, goal, np.zeros((1, 1, 1), np.float32))
    found, _ = matched(sample, sample, Fit(weight, np.zeros((2, 1))), Setting())
    np.testing.assert_allclose(
        found.weight, weight * np.array([1.3, 1.0])[:, None, None], rtol=1e-4
    )


@pytest.mark.parametrize("method", ["bias", "moments", "refit"])
def test_rows_that_follow_from_the_data_are_left_alone(method: str) -> None:
    net = Net()
    hidden = net.add("Relu", net.add("Gemm", net.input("N", 8), net.random(8, 32)))
    score = net.add("Gemm", hidden, net.random(32, 1))
    score = net.add("ReduceSum", score, np.array([1]), keepdims=0)
    x = net.add("Relu", net.add("Gemm", hidden, net.random(32, 16)))
    x = net.add("Compress", x, net.add("Greater", score, np.float32(0)), axis=0)
    x = net.add("Gemm", x, net.random(16, 4))
    net.output(net.add("ReduceMean", x, axes=[0], keepdims=1))
    case = case_of(net)
    removed = np.zeros(case.groups.total, bool)
    for group in case.groups.groups:
        removed[group.classes[::2]] = True
    recovery = case.recovered(Removal(removed, {}), method)  # type: ignore[arg-type]
    assert recovery.method == method
    nodes = recovery.model.proto.graph.node
    last = next(node for node in reversed(nodes) if node.op_type == "Gemm")
    cut = case.recovered(Removal(removed, {}), "none").model
    if method != "bias":  # bias is of means, which need no rows to be told apart
        np.testing.assert_array_equal(
            recovery.model.weights[last.input[1]], cut.weights[last.input[1]]
        )
    reasons = {layer.weight: layer.reason for layer in recovery.layers}
    assert reasons[last.input[1]] == "how many rows it has follows from the data"
    assert [reason for reason in reasons.values() if reason] == [reasons[last.input[1]]]


@pytest.mark.parametrize(
    ("sizes", "fitted", "held"),
    [
        ([1] * 4, 2, 2),
        ([1] * 9, 7, 2),
        ([1] * 24, 21, 3),
        ([32, 32], 32, 32),
        ([32, 1], 0, 0),
        ([32], 0, 0),
        ([1] * 3, 0, 0),
        ([], 0, 0),
    ],
)
def test_what_is_held_out_has_a_variance(sizes: list[int], fitted: int, held: int) -> None:
    found = split([{"x": np.zeros((size, 3), np.float32)} for size in sizes])
    assert (samples_of(found.fit), samples_of(found.held_out)) == (fitted, held)
