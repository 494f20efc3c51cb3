"""Inner activations: which are compared, and what is said of the others."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from prunecvt import UsageError  # noqa: E402
from prunecvt.bridge.tuning import hints  # noqa: E402
from prunecvt.bridge.tuning.hints import chosen_hints, common_tensors, kept_channels  # noqa: E402
from prunecvt.report.html import render_html  # noqa: E402
from prunecvt.report.tune_rows import tune_lines  # noqa: E402
from prunecvt_passes.graph import index  # noqa: E402
from prunecvt_passes.model import Model  # noqa: E402
from tune_cases import images, network, row, slimmed, tuned  # noqa: E402


def test_hints_are_what_both_models_have_alike() -> None:
    model = network()
    pair = Model.from_proto(model), Model.from_proto(slimmed(model))
    x = torch.from_numpy(images(16))
    common = common_tensors(*pair, {"x": x})
    assert {"sum0", "sum1"} <= set(common)
    assert {name for name, kept in common.items() if len(kept or ()) == 8} >= {
        "block0_a",
        "block1_a",
    }
    student = index(pair[1])
    assert chosen_hints(student, common, ()) == {"sum0": None, "sum1": None}
    assert chosen_hints(student, common, ("sum1",)) == {"sum1": None}
    with pytest.raises(UsageError, match="E262"):
        chosen_hints(student, common, ("nothing*",))


def test_inner_activations_that_are_not_compared_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They were left out without a word."""
    model = network()
    slim = slimmed(model)
    whole = tuned(model, slim, steps=1, verify=False)
    assert "1 steps on 86 samples, 2 inner activations; " in tune_lines(row(whole))[-1]
    assert not any("not compared" in text for text in whole.report.warnings)
    monkeypatch.setattr(hints, "kept_channels", lambda *_: None)
    with pytest.raises(UsageError, match=r"(?s)E262.*block0_a: not clear which channels stayed"):
        tuned(model, slim, layers=["sum*", "block0_a"])
    result = tuned(model, slim, layers=["sum*", "block0_*", "stem"], steps=1, verify=False)
    assert row(result).hints == ["stem", "block0_b", "sum0", "sum1"]
    assert row(result).hints_left_out == {"block0_a": "not clear which channels stayed"}
    said = "inner activation block0_a is not compared: not clear which channels stayed"
    assert said in result.report.warnings


def test_a_pattern_names_what_the_slimmed_model_has_no_more() -> None:
    model = network(norm=True)
    folded = tuned(model, slimmed(model), layers=["*"], steps=1, verify=False)
    gone = [name for name, why in row(folded).hints_left_out.items() if "no tensor of" in why]
    assert "block0_a" in gone
    (text,) = (text for text in folded.report.warnings if "no tensor of that name" in text)
    assert text.startswith("inner activations block0_a")


def test_default_hints_that_drop_out_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    slim = slimmed(model, only=[], criterion="l2", ratio=0.25)  # the sums are narrower, too
    usual = hints.kept_channels
    calls: list[int] = []

    def second_only(whole: Any, left: Any) -> Any:
        calls.append(1)
        return None if len(calls) == 1 else usual(whole, left)

    monkeypatch.setattr(hints, "kept_channels", second_only)
    result = tuned(model, slim, steps=1, verify=False)
    assert row(result).hints == ["sum1"]
    assert row(result).hints_left_out == {"sum0": "not clear which channels stayed"}
    assert ", 1 of 2 inner activations; " in tune_lines(row(result))[-1]
    said = "inner activation sum0 is not compared: not clear which channels stayed"
    assert said in result.report.warnings
    assert said in render_html(result.report)


def test_channels_that_stayed_are_found() -> None:
    draw = torch.Generator().manual_seed(0)
    whole = torch.randn(16, 8, 4, 4, generator=draw)
    kept = [0, 2, 3, 7]
    noisy = 2 * whole[:, kept] + 1 + 0.2 * torch.randn(16, 4, 4, 4, generator=draw)
    assert kept_channels(whole, noisy) == tuple(kept)
    assert kept_channels(whole, noisy[:, [1, 0, 2, 3]]) is None
    assert kept_channels(whole, torch.randn(16, 4, 4, 4, generator=draw)) is None
    assert kept_channels(whole, noisy[:, :, :2]) is None


def test_a_stream_that_was_cut_is_held_to_the_channels_that_stayed() -> None:
    model = network()
    slim = slimmed(model, only=[], criterion="l2", ratio=0.25)
    result = tuned(model, slim)
    assert row(result).hints == ["sum0", "sum1"]
    assert row(result).after.loss < 0.7 * row(result).before.loss
