"""Error curves, prices and allocation, by hand-computed cases and by real cuts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from models import Net, grouped, random_removal
from prunecvt.options import Options
from prunecvt_passes.budget import Budget
from prunecvt_passes.errors import UsageError
from prunecvt_passes.groups import Groups, Ints
from prunecvt_passes.normalise import Dense
from prunecvt_passes.recovery.aim import aim_of
from prunecvt_passes.recovery.allocate import allocate
from prunecvt_passes.recovery.calibration import Feed
from prunecvt_passes.recovery.curve import Curve
from prunecvt_passes.recovery.eliminate import eliminate
from prunecvt_passes.recovery.linear import linear_nodes
from prunecvt_passes.recovery.normal import Floats
from prunecvt_passes.recovery.observe import Reader, observe
from prunecvt_passes.recovery.prices import prices
from prunecvt_passes.recovery.reach import amount
from prunecvt_passes.recovery.spend import Offer, hull, spend
from prunecvt_passes.score import Criterion, Scores, score
from prunecvt_passes.slice import remove
from prunecvt_passes.target import Target, parse_target
from recovery_cases import case_of

SAMPLES = Path(__file__).parent.parent / "sample_models"
MODELS = ("digits_resnet", "digits_mobilenet", "digits_unet", "digits_resnet_folded")


def sample(name: str) -> tuple[Dense, Groups]:
    return grouped(onnx.load(SAMPLES / f"{name}.onnx"))


def test_elimination_follows_a_hand_computed_case() -> None:
    """Columns 0 and 1 correlate by 0.8, column 2 stands alone; weights 1, 1, 0.5; variances 1.

    At first each loses w^2 / [H^-1]_kk: 0 and 1 lose 1 - 0.64 = 0.36, 2 loses 0.25 and goes. Then
    0 goes for 0.36, and 1 takes its weight up: 1.8, lost at last for 1.8^2 = 3.24.
    """
    net = Net()
    x = net.add("Gemm", net.input("N", 4), net.random(4, 3))
    net.output(net.add("Gemm", x, net.random(3, 1)))
    dense, groups = grouped(net.proto())
    reader = linear_nodes(dense.graph)[1]
    classes = groups.groups[0].classes
    found = Reader(aim_of(dense.graph, reader), classes, 1, np.array([[[1.0, 1.0, 0.5]]]))
    covariance = np.array([[1.0, 0.8, 0.0], [0.8, 1.0, 0.0], [0.0, 0.0, 1.0]])
    found.normal.count, found.normal.x, found.normal.xx = 1, np.zeros((1, 3)), covariance[None]
    found.variance = 1.0
    made = eliminate(groups, groups.groups[0], [found])
    assert made is not None
    curve, halved = made
    assert curve.order.tolist() == [2, 0, 1]
    np.testing.assert_allclose(curve.errors, [0, 0.25, 0.61, 3.85], rtol=1e-3)
    np.testing.assert_allclose(halved[0].weight, [[1.0, 1.0, 0.0]], atol=1e-3)


def test_elimination_is_a_refit_of_what_is_left_at_every_step() -> None:
    """Two readers of 24 channels, one of patches of two; the plain way: every refit from scratch.

    Of one reader's channels half belong to another group and stay.
    """
    rng, size = np.random.default_rng(0), 24
    groups = SimpleNamespace(total=2 * size)
    group = SimpleNamespace(classes=np.arange(size), size=size)
    readers = [_reader(rng, np.arange(size), 2, 5), _reader(rng, np.arange(2 * size), 1, 3)]
    made = eliminate(groups, group, readers)  # type: ignore[arg-type]
    assert made is not None
    curve, halved = made

    def weights_without(gone: list[int], reader: Reader) -> Floats:
        covariance, whole = reader.normal.covariance()[0], reader.weight[0].T
        damped = covariance + 1e-4 * np.trace(covariance) / len(covariance) * np.eye(
            len(covariance)
        )
        taken = np.isin(np.repeat(reader.classes, reader.taps), gone)
        left, found = np.flatnonzero(~taken), np.zeros_like(whole)
        across = damped[np.ix_(left, np.flatnonzero(taken))] @ whole[taken]
        found[left] = whole[left] + np.linalg.solve(damped[np.ix_(left, left)], across)
        return found

    def error(gone: list[int], damping: float = 0.0) -> float:
        total = 0.0
        for reader in readers:
            covariance = reader.normal.covariance()[0]
            covariance += _ridge(covariance, damping)
            gap = weights_without(gone, reader) - reader.weight[0].T
            total += float(np.trace(gap.T @ covariance @ gap)) / reader.variance
        return total

    gone: list[int] = []
    for number, channel in enumerate(curve.order.tolist()):
        best = min(set(range(size)) - set(gone), key=lambda k: error([*gone, k], 1e-4))
        assert best == channel
        gone.append(channel)
        np.testing.assert_allclose(curve.errors[number + 1], error(gone), rtol=1e-6)
        if len(gone) == size // 2:
            for half, reader in zip(halved, readers, strict=True):
                np.testing.assert_allclose(half.weight.T, weights_without(gone, reader), atol=1e-8)


def _ridge(covariance: Floats, damping: float) -> Floats:
    found: Floats = damping * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    return found


def _reader(rng: np.random.Generator, classes: Ints, taps: int, outputs: int) -> Reader:
    columns = len(classes) * taps
    rows = rng.standard_normal((1, 400, columns)) @ rng.standard_normal((columns, columns))
    weight = rng.standard_normal((1, outputs, columns))
    found = Reader(SimpleNamespace(), classes, taps, weight)  # type: ignore[arg-type]
    found.normal.add(rows)
    found.variance = float(rng.uniform(1, 2))
    return found


def test_errors_are_those_of_held_out_rows() -> None:
    """Twelve rows tell nothing of 32 columns: what fits them all the same is no small error."""
    net = Net()
    x = net.add("Relu", net.add("Gemm", net.input("N", 8), net.random(8, 32), net.random(32)))
    net.output(net.add("Gemm", x, net.random(32, 4)))
    case = case_of(net, runs=4, batch=4)
    readers = observe(case.dense.graph, case.groups, case.calibration)
    made = eliminate(case.groups, case.groups.groups[0], readers)
    assert made is not None
    curve, halved = made
    first, second = (case.dense.graph.nodes[k] for k in (0, 2))
    weights = case.dense.graph.model.weights
    gap = weights[second.inputs[1]] - halved[0].weight.T

    def error(feeds: Sequence[Feed]) -> float:
        data = np.concatenate([feed["x"] for feed in feeds])
        hidden = np.maximum(data @ weights[first.inputs[1]] + weights[first.inputs[2]], 0)
        squared = ((hidden - readers[0].normal.mean()[0]) @ gap) ** 2
        return float(squared.sum() / len(data) / readers[0].variance)

    fitted, held_out = error(case.calibration.fit), error(case.calibration.held_out)
    assert curve.errors[16] >= held_out * (1 - 1e-4) > 2 * fitted


@pytest.mark.parametrize("name", MODELS)
def test_prices_are_what_cut_models_cost(name: str) -> None:
    dense, groups = sample(name)
    for seed in range(3):
        removal = random_removal(groups, 0.3 + 0.2 * seed, seed)
        slimmed = remove(groups, removal)
        kept = np.array([(~removal.removed[g.classes]).sum() for g in groups.groups], float)
        for currency in ("macs", "params"):
            found = prices(groups, currency).total(kept)  # type: ignore[arg-type]
            batch = dense.batch if currency == "macs" else 1
            real = amount(dense, slimmed, currency, False)
            assert found / batch == pytest.approx(real, rel=1e-9, abs=1)


def test_hull_leaves_out_what_is_no_corner() -> None:
    errors = np.array([0.0, 1.0, 1.5, 4.0, 4.5])
    assert hull(errors, np.arange(5)).tolist() == [0, 2, 4]


def two(first: list[float], second: list[float]) -> dict[int, Offer]:
    return {
        k: Offer(Curve(np.arange(len(v) - 1), np.array(v)), np.arange(len(v)))
        for k, v in enumerate((first, second))
    }


def chain() -> Groups:
    net = Net()
    x = net.conv(net.input("N", 3, 4, 4), 3, 4, name="c0")
    net.output(net.conv(net.conv(x, 4, 4, name="c1"), 4, 2, name="out"))
    return grouped(net.proto())[1]


def test_the_cheapest_errors_go() -> None:
    offers = two([0, 1, 3, 7, 20], [0, 2, 4, 6, 30])
    cost = prices(chain(), "channels")
    assert spend(offers, cost, 7) == {0: 1, 1: 0}
    assert spend(offers, cost, 4) in ({0: 2, 1: 2}, {0: 1, 1: 3})
    assert spend(offers, cost, 3) == {0: 2, 1: 3}
    assert spend(offers, cost, 0) == {0: 4, 1: 4}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("round_to", [1, 8])
@pytest.mark.parametrize("text", ["macs=0.7", "macs=0.45", "params=0.5", "bytes=0.6"])
def test_a_target_is_met_and_no_step_would_fit_any_more(
    name: str, round_to: int, text: str
) -> None:
    dense, groups = sample(name)
    target = parse_target(text)
    scores = score(groups, Criterion("share"))
    budget = Budget(round_to=round_to, target=target)
    removal = allocate(dense, groups, scores, budget)
    goal = target.goal(amount(dense, dense.graph.model, target.currency, False))
    slimmed = remove(groups, removal)
    left = amount(dense, slimmed, target.currency, True)
    assert left <= goal
    if target.currency != "macs" or round_to != 1:
        assert left > 0.8 * goal
        return
    cost = prices(groups, "macs")
    kept = np.array([(~removal.removed[g.classes]).sum() for g in groups.groups], float)
    for group in groups.groups:
        if kept[group.id] < group.size:
            more = kept.copy()
            more[group.id] += 1
            assert cost.total(more) > goal


def test_a_target_out_of_reach_is_refused() -> None:
    dense, groups = sample("digits_resnet")
    scores = score(groups, Criterion("share"))
    with pytest.raises(UsageError) as caught:
        allocate(dense, groups, scores, Budget(target=Target("macs", 1e-4)))
    assert caught.value.code == "E217"


def test_a_ratio_by_error_is_a_share_of_all_channels() -> None:
    dense, groups = sample("digits_resnet")
    scores = score(groups, Criterion("share"))
    removal = allocate(dense, groups, scores, Budget(ratio=0.3, round_to=1, scope="error"))
    assert removal.removed.sum() == int(0.3 * sum(g.size for g in groups.groups))


def test_the_cheaper_of_two_groups_is_not_all_that_is_cut() -> None:
    """Sums of scores would take the first group to its floor before they touched the second."""
    net = Net()
    x = net.conv(net.input("N", 4, 4, 4), 4, 16, 1)
    net.output(net.conv(net.conv(x, 16, 16, 1), 16, 4, 1))
    dense, groups = grouped(net.proto())
    values = np.where(groups.group_of == 0, 1.0, 1.1)
    budget = Budget(ratio=0.5, round_to=1, scope="error")
    removal = allocate(dense, groups, Scores("given", values), budget)
    assert [removal.removed[g.classes].sum() for g in groups.groups] == [8, 8]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({}, "auto"),
        ({"recover": "none"}, "share"),
        ({"recover": "none", "criterion": "obs"}, "obs"),
        ({"recover": "none", "scope": "search"}, "auto"),
        ({"reinit": True}, "auto"),
        ({"recover": "bias"}, "auto"),
    ],
)
def test_errors_after_a_refit_are_for_those_who_refit(given: dict[str, Any], name: str) -> None:
    assert Options.of(given).scoring == Criterion(name)


def test_the_same_data_gives_the_same_bytes() -> None:
    net = Net()
    x = net.add("Relu", net.conv(net.first(), 8, 16, 3))
    net.last(net.add("Relu", net.conv(x, 16, 8, 3)))
    found = []
    for _ in range(2):
        case = case_of(net)
        budget = Budget(round_to=1, target=parse_target("macs=0.6"))
        removal = allocate(case.dense, case.groups, case.scores(), budget)
        model = case.recovered(removal, "refit").model
        found.append(model.to_proto().SerializeToString(deterministic=True))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("macs=0.5", Target("macs", 0.5)),
        ("params=1", Target("params", 1.0)),
        ("bytes=4MB", Target("bytes", 4e6, True)),
        ("bytes=1.5MiB", Target("bytes", 1.5 * 2**20, True)),
        ("bytes=0.25", Target("bytes", 0.25)),
    ],
)
def test_targets_are_read(text: str, expected: Target) -> None:
    assert parse_target(text) == expected


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"target": "macs"}, "E201"),
        ({"target": "macs=4MB"}, "E201"),
        ({"target": "time=0.5"}, "E201"),
        ({"target": "macs=1.5"}, "E212"),
        ({"target": "params=0"}, "E212"),
        ({"target": "macs=nan"}, "E201"),
        ({"target": "macs=0.5", "ratio": 0.4}, "E207"),
        ({"recover": "magic"}, "E201"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], code: str) -> None:
    with pytest.raises(UsageError) as caught:
        Options.of(options)
    assert caught.value.code == code
