"""The search of per-layer rates: it mends misleading curves and keeps its budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import prunecvt
from models import Net
from prunecvt.errors import UsageError
from prunecvt.report.html import render_html
from prunecvt_passes.budget import Budget
from prunecvt_passes.recovery import search as search_module
from prunecvt_passes.recovery.calibration import NO_CALIBRATION
from prunecvt_passes.recovery.curve import NO_CURVES
from prunecvt_passes.recovery.measure import measure
from prunecvt_passes.recovery.reach import amount
from prunecvt_passes.recovery.recover import Remedy
from prunecvt_passes.recovery.search import search, take
from prunecvt_passes.slice import remove
from prunecvt_passes.target import parse_target
from recovery_cases import Case, case_of

SAMPLES = Path(__file__).parent.parent / "sample_models"
BUDGET = Budget(round_to=1, scope="search", target=parse_target("macs=0.6"))


def chain() -> Net:
    """Five layers; what the first makes of three channels is easily done with fewer."""
    net = Net()
    x = net.conv(net.input("N", 3, 6, 6), 3, 16, 1, name="first")
    for number in range(2):
        x = net.conv(net.add("Relu", x), 16, 16, 3, name=f"inner{number}")
    net.output(net.conv(net.add("Relu", x), 16, 4, name="last"))
    return net


def misled(case: Case) -> tuple[float, float]:
    """Held-out errors before and after a search that starts from scores that mislead."""
    scores = case.scores()
    values = scores.values.copy()
    values[case.groups.groups[0].classes] *= 0.1  # looks free, and is not
    wrong = replace(scores, values=values)
    found = search(case.dense, case.groups, wrong, NO_CURVES, BUDGET, case.calibration, Remedy())
    return found.before, found.after


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "TRIALS", 12)


def test_rates_that_mislead_are_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    case = case_of(chain(), runs=4)
    before, after = misled(case)
    assert after < 0.5 * before
    monkeypatch.setattr(search_module, "TRIALS", 1)
    assert misled(case) == (before, before)


def test_the_budget_is_kept_and_the_search_repeats_itself() -> None:
    case = case_of(chain(), runs=4)
    curves = measure(case.dense, case.groups, case.calibration)
    given = case.dense, case.groups, case.scores(), curves, BUDGET, case.calibration, Remedy()
    first, again = search(*given), search(*given)
    assert 1 < first.trials <= search_module.TRIALS
    assert first.after <= first.before
    np.testing.assert_array_equal(first.removal.removed, again.removal.removed)
    assert take(first) is first.removal
    whole = amount(case.dense, case.dense.graph.model, "macs", False)
    slimmed = remove(case.groups, first.removal)
    assert 0.5 < amount(case.dense, slimmed, "macs", True) / whole <= 0.6


def test_without_data_there_is_no_search() -> None:
    case = case_of(chain(), runs=4)
    with pytest.raises(UsageError) as caught:
        given = case.dense, case.groups, case.scores("l2"), NO_CURVES, BUDGET
        search(*given, NO_CALIBRATION, Remedy())
    assert caught.value.code == "E224"
    with pytest.raises(UsageError) as caught:
        prunecvt.plan(SAMPLES / "digits_unet.onnx", scope="search", criterion="l2")
    assert caught.value.code == "E224"


def test_a_model_with_nothing_to_cut_needs_no_search() -> None:
    net = Net()
    net.output(net.conv(net.input("N", 3, 6, 6), 3, 8, 3))
    data = np.zeros((64, 3, 6, 6), np.float32)
    report = prunecvt.slim(net.proto(), scope="search", calib=data).report
    assert report.status == "nothing-to-prune"
    assert report.search is not None and report.search.trials == 0


@pytest.mark.parametrize("data", ["images", "noise"])
def test_the_report_tells_of_the_search(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "TRIALS", 3)
    net = Net()
    x = net.norm(net.conv(net.input("N", 3, 6, 6), 3, 16, 3, name="first"), 16)
    x = net.norm(net.conv(net.add("Relu", x), 16, 16, 3, name="second"), 16)
    net.output(net.conv(net.add("Relu", x), 16, 4, name="last"))
    images = np.random.default_rng(0).standard_normal((96, 3, 6, 6)).astype(np.float32)
    given = {"noise": True, "calib_count": 96} if data == "noise" else {"calib": images}
    settings = {"scope": "search", "ratio": 0.3, "criterion": "share", "recover": "bias"}
    report = prunecvt.slim(net.proto(), round_to=1, **settings, **given).report  # type: ignore[arg-type]
    row = report.search
    assert row is not None and row.trials == 3 and row.error.after <= row.error.before
    assert "in 3 trials" in render_html(report)
