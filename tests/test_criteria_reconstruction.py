"""``thinet`` and ``lasso`` against sums written out sample by sample, and what each claims."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, lars_path, lars_path_gram

import prunecvt
from models import Net
from prunecvt_passes import runtime
from prunecvt_passes.budget import Budget
from prunecvt_passes.criteria.lasso_path import entries
from prunecvt_passes.criteria.reconstruction import (
    contributions,
    greedy,
    lasso,
    lasso_order,
    left_over,
    thinet,
)
from prunecvt_passes.model import Array, Model
from prunecvt_passes.recovery.allocate import allocate
from prunecvt_passes.recovery.calibration import Calibration
from prunecvt_passes.recovery.curve import Curve
from prunecvt_passes.recovery.observe import observe
from recovery_cases import SPARE, Case, case_of, combine, double
from test_recovery_run import data, trained_like

WIDTH = 6


def two_readers(group: int = 1) -> Net:
    """A convolution that a convolution, perhaps grouped, and a 1x1 one read."""
    net = Net()
    x = net.add("Relu", net.conv(net.input("N", 3, 4, 4), 3, WIDTH, 3, name="first"), name="seen")
    net.output(net.conv(x, WIDTH, 4, 3, group=group, name="wide"))
    net.output(net.conv(x, WIDTH, 3, name="narrow"))
    return net


def parts(case: Case, net: Net, reader: int, name: str) -> Array:
    """What comes through each channel at a reader's output, over its deviation: [rows, channels].

    Every channel is run alone, the weights that read the others set to zero, and without the bias.
    """
    model, (_, weight, bias) = case.dense.graph.model, net.nodes[reader].input
    found = []
    for c in range(WIDTH):
        alone = np.zeros_like(net.weights[weight])
        inputs = alone.shape[1]  # of a group; a group has as many outputs as the next
        outputs = len(alone) * inputs // WIDTH
        rows = slice(c // inputs * outputs, (c // inputs + 1) * outputs)
        alone[rows, c % inputs] = net.weights[weight][rows, c % inputs]
        edited = model.copy()
        edited.set_weights({weight: alone, bias: np.zeros_like(net.weights[bias])})
        found.append(np.concatenate(batches(case, edited, name)).transpose(0, 2, 3, 1))
    variance = np.mean([v.var((0, 2, 3)).sum() for v in batches(case, model, name)])
    centred = [each - each.mean((0, 1, 2)) for each in found]
    rows_in_all = np.prod(found[0].shape[:3])
    flat = np.stack([each.ravel() for each in centred], axis=1)
    return np.asarray(flat / np.sqrt(rows_in_all * variance))


def batches(case: Case, model: Model, name: str) -> list[Array]:
    runs = [runtime.run(model, feed, [name])[name] for feed in case.calibration.fit]
    return [values.astype(np.float64) for values in runs]


def measured(case: Case, group: int = 0) -> Array:
    readers = observe(case.dense.graph, case.groups, Calibration(case.calibration.fit))
    gram = contributions(case.groups, case.groups.groups[group], readers)
    assert gram is not None
    return gram


def stacked(case: Case, net: Net) -> Array:
    outputs = [node.output[0] for node in net.nodes[2:]]
    return np.concatenate([parts(case, net, k + 2, name) for k, name in enumerate(outputs)])


def test_contributions_are_covariances_of_what_comes_through_each_channel() -> None:
    net = two_readers()
    case = case_of(net)
    rows = stacked(case, net)
    np.testing.assert_allclose(measured(case), rows.T @ rows, rtol=1e-3, atol=1e-5)


def test_a_grouped_reader_keeps_its_groups_apart() -> None:
    net = two_readers(group=2)
    case = case_of(net)
    rows = stacked(case, net)
    half = WIDTH // 2
    tied = rows[:, :half] + rows[:, half:]  # the j-th of each group go together
    np.testing.assert_allclose(measured(case), tied.T @ tied, rtol=1e-3, atol=1e-5)


def test_thinet_takes_what_adds_least_to_what_is_gone() -> None:
    net = two_readers()
    case = case_of(net)
    rows = stacked(case, net)
    gone: list[int] = []
    errors = [0.0]
    for _ in range(WIDTH):
        left = [c for c in range(WIDTH) if c not in gone]
        costs = [float((rows[:, [*gone, c]].sum(1) ** 2).sum()) for c in left]
        gone.append(left[int(np.argmin(costs))])
        errors.append(min(costs))
    curve = greedy(measured(case))
    assert curve.order.tolist() == gone
    np.testing.assert_allclose(curve.errors, errors, rtol=1e-3, atol=1e-6)


def test_thinet_takes_channels_that_cancel_together() -> None:
    net = Net()
    x = net.conv(net.first(), 8, 8, name="made")
    made, read = net.nodes[-1].input[1], net.random(1, 8, 1, 1)
    net.weights[made] = double(net.weights[made])
    net.weights[net.nodes[-1].input[2]] = double(net.weights[net.nodes[-1].input[2]])
    net.weights[read][0, [2, SPARE], 0, 0] = [0.02, -0.02]
    net.output(net.add("Conv", x, read))
    case = case_of(net)
    group = next(g for g in case.groups.groups if "made" in g.members)
    readers = observe(case.dense.graph, case.groups, Calibration(case.calibration.fit))
    found = thinet(case.groups, group, readers)
    assert found is not None
    assert set(found[0].order[:2].tolist()) == {2, SPARE}
    assert found[0].errors[2] < 1e-6 < found[0].errors[1]


def test_lasso_follows_the_path_over_samples() -> None:
    net = two_readers()
    case = case_of(net)
    rows = stacked(case, net)
    total = rows.sum(1)
    _, _, path = lars_path(rows, total, method="lasso")
    first = [int(np.flatnonzero(each)[0]) for each in path]
    gram = measured(case)
    order = lasso_order(gram)
    assert order.tolist() == np.argsort(first)[::-1].tolist()
    for gone in range(WIDTH):
        kept = rows[:, order[gone:]]
        best = LinearRegression(fit_intercept=False).fit(kept, total).predict(kept)
        error = float(((total - best) ** 2).sum())
        assert left_over(gram, order)[gone] == pytest.approx(error, rel=1e-2, abs=1e-6)


def test_the_path_is_that_of_scikit_learn() -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        size = int(rng.integers(2, 40))
        mixing = np.eye(size) + 0.5 * rng.standard_normal((size, size)) / size**0.5
        rows = rng.standard_normal((200, size)) @ mixing * rng.uniform(0.2, 1, size)
        gram = rows.T @ rows / 200
        target = gram.sum(1)
        _, _, path = lars_path_gram(target, gram, n_samples=1, method="lasso")
        first = [np.flatnonzero(each)[0] for each in path]
        assert entries(gram, target).tolist() == np.argsort(first, kind="stable").tolist()


def test_a_factor_may_leave_the_path_and_return() -> None:
    """Then the path has more corners than variables."""
    returned = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        rows = rng.standard_normal((100, 12)) @ rng.standard_normal((12, 12))
        target = rows.T @ rng.standard_normal(100)
        alphas, _, path = lars_path_gram(target, rows.T @ rows, n_samples=1, method="lasso")
        returned += len(alphas) > 13
        first = [np.flatnonzero(each)[0] for each in path]
        assert entries(rows.T @ rows, target).tolist() == np.argsort(first, kind="stable").tolist()
    assert returned > 5


def test_what_others_make_up_never_enters() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((300, 8))
    rows[:, 5] = 0.4 * rows[:, 2]
    rows[:, 6] = 0.0
    gram = rows.T @ rows
    assert set(entries(gram, gram.sum(1)).tolist()) == {0, 1, 2, 3, 4, 7}
    order = lasso_order(gram)
    assert order[:2].tolist() == [6, 5]
    assert left_over(gram, order)[2] < 1e-6 * gram.sum()


@pytest.mark.parametrize("name", ["lasso", "obs"])
def test_a_channel_that_others_make_up_goes_first(name: str) -> None:
    net = Net()
    x = net.add("Gemm", net.input("N", 12), net.random(12, 8), net.random(8), name="made")
    for value in net.nodes[-1].input[1:]:
        net.weights[value] = combine(net.weights[value], axis=net.weights[value].ndim - 1)
    reader = net.random(8, 1)
    net.output(net.add("Gemm", x, reader))
    # a factor for each channel has to do for lasso: it sees that of one output alone
    net.weights[reader][:, 0] = [1, 0.5, -1.5, 1, 1, 0.2, 1, 1]
    case = case_of(net)
    values = case.scores(name).values[case.groups.groups[0].classes]
    assert np.argmin(values) == SPARE
    assert values.min() < 1e-3 * np.sort(values)[1]


def test_halved_readers_are_those_of_the_channels_that_stay() -> None:
    case = case_of(two_readers())
    readers = observe(case.dense.graph, case.groups, Calibration(case.calibration.fit))
    group = case.groups.groups[0]
    gram = measured(case)
    for method in (thinet, lasso):
        found = method(case.groups, group, readers)
        assert found is not None
        curve, halves = found
        gone, kept = curve.order[: WIDTH // 2], curve.order[WIDTH // 2 :]
        left, factors = gram[np.ix_(kept, kept)], np.zeros(WIDTH)
        factors[kept] = 1 if method is thinet else np.linalg.solve(left, gram.sum(1)[kept])
        for half in halves:
            columns = np.repeat(factors, half.reader.taps)
            np.testing.assert_allclose(half.weight, half.reader.weight[0] * columns, rtol=1e-5)
        assert curve.errors[len(gone)] == pytest.approx(
            float((1 - factors) @ gram @ (1 - factors)), rel=1e-5
        )


@pytest.mark.parametrize("name", ["lasso", "thinet"])
def test_allocation_takes_cumulative_scores_as_errors(name: str) -> None:
    case = case_of(two_readers())
    scores = case.scores(name)
    budget = Budget(ratio=0.5, round_to=1, scope="error")
    removal = allocate(case.dense, case.groups, scores, budget)
    classes = case.groups.groups[0].classes
    lowest = np.argsort(scores.values[classes])[: WIDTH // 2]
    assert sorted(np.flatnonzero(removal.removed[classes])) == sorted(lowest.tolist())


@pytest.mark.parametrize("name", ["lasso", "thinet"])
def test_reports_give_the_errors_of_the_criterion(name: str, tmp_path: object) -> None:
    result = prunecvt.slim(
        trained_like(),
        target="macs=0.7",
        criterion=name,
        round_to=1,
        calib=data(tmp_path),  # type: ignore[arg-type]
    )
    assert result.report.criterion == name
    assert all(group.error is not None for group in result.report.groups)
    curves = result.slimmed.curves
    assert isinstance(curves.by_group[0], Curve) and curves.samples == 256 - 32
