"""The table of criteria, what each needs, and what it does where it knows nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from body_models import Body, branch, choice, image
from models import Net, grouped
from prunecvt_passes.criteria.gather import gather
from prunecvt_passes.criteria.statistics import NO_STATISTICS
from prunecvt_passes.criteria.table import CRITERIA, DATA_FREE, eliminator, scorer
from prunecvt_passes.errors import UsageError
from prunecvt_passes.recovery.calibration import split
from prunecvt_passes.recovery.curve import NO_CURVES
from prunecvt_passes.recovery.measure import measure
from prunecvt_passes.recovery.walk import Walk
from prunecvt_passes.score import Criterion, score
from recovery_cases import Case, case_of

DOCS = Path(__file__).parent.parent / "docs"
WITH_DATA = tuple(name for name in CRITERIA if name not in DATA_FREE)


def residual() -> Net:
    """Two convolutions behind a shortcut, a pool and a classifier; Relus everywhere."""
    net = Net()
    x = net.add("Relu", net.norm(net.first(), 8))
    y = net.add("Relu", net.norm(net.conv(x, 8, 12, 3), 12))
    x = net.add("Relu", net.add("Add", x, net.norm(net.conv(y, 12, 8), 8)))
    net.head(net.add("Flatten", net.add("GlobalAveragePool", x)), 8)
    return net


@pytest.mark.parametrize("name", CRITERIA)
def test_every_criterion_has_its_function(name: str) -> None:
    found = eliminator(name) if CRITERIA[name].cumulative else scorer(name)
    assert callable(found) and found.__doc__


def test_every_criterion_is_documented() -> None:
    text = (DOCS / "criteria.md").read_text()
    assert all(f"| `{name}` |" in text for name in CRITERIA)


@pytest.mark.parametrize("name", WITH_DATA)
def test_a_criterion_of_data_is_refused_without(name: str) -> None:
    case = case_of(residual(), runs=1)  # of which nothing is left to fit on
    with pytest.raises(UsageError) as caught:
        case.scores(name)
    assert caught.value.code == "E211" and name in caught.value.message
    assert "--calib" in caught.value.help


@pytest.mark.parametrize("name", DATA_FREE)
def test_a_criterion_without_data_runs_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Walk, "__init__", lambda *_: pytest.fail("it ran"))
    case = case_of(residual())
    given = case.dense, case.groups, case.calibration, Criterion(name)
    assert gather(*given) is NO_STATISTICS
    assert measure(*given) is NO_CURVES


@pytest.mark.parametrize("name", CRITERIA)
def test_the_same_data_gives_the_same_scores(name: str) -> None:
    found = [case_of(residual()).scores(name).values.tobytes() for _ in range(2)]
    assert found[0] == found[1]


@pytest.mark.parametrize("name", CRITERIA)
def test_every_channel_of_every_layer_is_scored(name: str) -> None:
    case = case_of(residual())
    scores = case.scores(name)
    assert scores.cumulative == (name in ("fisher", "lasso", "obs", "thinet"))
    for group in case.groups.groups:
        values = scores.values[group.classes]
        assert np.isfinite(values).all() and (values >= 0).all()
        assert np.ptp(values) > 0 and np.count_nonzero(values) > group.size // 2  # some are dead


@pytest.mark.parametrize("name", ["hrank", "mean-activation", "obs", "wanda"])
def test_a_model_with_sequences_is_refused(name: str) -> None:
    net = Net()
    x = net.add("Relu", net.first())
    x = net.add("SequenceAt", net.add("SequenceConstruct", x), np.array(0))
    net.last(net.conv(x, 8, 8))
    with pytest.raises(UsageError) as caught:
        case_of(net).scores(name)
    assert caught.value.code == "E211" and "sequences" in caught.value.where


def beside_a_body() -> Case:
    """A group in front of a body and one inside of each branch, where nothing is measured."""

    def inside(body: Body) -> str:
        return body.pair(outside)

    net = Net()
    x, flag = image(net)
    outside = net.conv(net.add("Relu", net.conv(x, 3, 8, 3, name="first")), 8, 3)
    choice(net, flag, branch(net, "then", inside), branch(net, "else", inside))
    case = case_of(net)
    feeds = [{**feed, "flag": np.array(True)} for feed in case.calibration.fit]
    return replace(case, calibration=split(feeds))


@pytest.mark.parametrize("name", [name for name in WITH_DATA if not CRITERIA[name].loss])
def test_channels_that_nothing_is_known_of_are_on_the_usual_scale(name: str) -> None:
    case = beside_a_body()
    scores, shares = case.scores(name).values, case.scores("share").values
    outer, *inner = case.groups.groups
    assert outer.members == ("first",) and len(inner) == 2
    for group in inner:
        found, share = scores[group.classes], shares[group.classes]
        assert np.argsort(found).tolist() == np.argsort(share).tolist()
        if not CRITERIA[name].cumulative:
            usual = np.median(scores[outer.classes])
            np.testing.assert_allclose(found, share / share.mean() * usual)
        assert (found > 0).all() and found.max() < 10 * scores[outer.classes].max()


@pytest.mark.parametrize("name", WITH_DATA)
def test_a_model_of_which_nothing_can_be_measured_is_refused(name: str) -> None:
    net = Net()
    x, flag = image(net)
    bodies = [branch(net, stem, lambda body: body.pair(x)) for stem in ("then", "else")]
    choice(net, flag, *bodies)
    case = case_of(net)
    feeds = [{**feed, "flag": np.array(True)} for feed in case.calibration.fit]
    with pytest.raises(UsageError) as caught:
        replace(case, calibration=split(feeds)).scores(name)
    assert caught.value.code == "E211" and "bodies" in caught.value.where


def test_auto_goes_by_what_there_is() -> None:
    case = case_of(residual())
    curves = measure(case.dense, case.groups, case.calibration)
    assert curves.samples == 16 * 7
    assert score(case.groups, Criterion(), curves).criterion == "obs"
    assert score(grouped(residual().proto())[1], Criterion()).criterion == "share"
