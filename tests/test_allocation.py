"""How groups share what goes: by density, by layer-adaptive magnitude, by hand, under a target."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from command_line import run
from models import Net, grouped
from prunecvt import plan
from prunecvt.options import Options
from prunecvt_passes.budget import Budget, Removal, Scope
from prunecvt_passes.choose import choose
from prunecvt_passes.errors import UsageError
from prunecvt_passes.groups import Groups
from prunecvt_passes.recovery.allocate import allocate
from prunecvt_passes.recovery.reach import amount
from prunecvt_passes.score import Criterion, Scores, score
from prunecvt_passes.slice import remove
from prunecvt_passes.target import parse_target
from prunecvt_passes.widths import densities

SAMPLES = Path(__file__).parent.parent / "sample_models"
RESNET = SAMPLES / "digits_resnet.onnx"


def two(first: int, second: int, *weights: np.ndarray) -> Groups:
    """Pointwise convolutions ``c0`` (of 3 channels) and ``c1``, and one that is the output."""
    net = Net()
    x = net.conv(net.input("N", 3, 4, 4), 3, first, 1, name="c0")
    x = net.conv(x, first, second, 1, name="c1")
    net.output(net.conv(x, second, 2, 1, name="out"))
    proto = net.proto()
    for node, values in zip(proto.graph.node, weights, strict=False):
        stored = next(t for t in proto.graph.initializer if t.name == node.input[1])
        stored.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), stored.name))
    return grouped(proto)[1]


def flat(groups: Groups) -> Scores:
    return Scores("flat", np.zeros(groups.total))


def cut(groups: Groups, scores: Scores | None = None, **budget: Any) -> Removal:
    return choose(groups, scores or flat(groups), Budget(**{"round_to": 1, **budget}))


def widths(groups: Groups, removal: Removal) -> list[int]:
    return [int((~removal.removed[g.classes]).sum()) for g in groups.groups]


def test_densities_are_dimensions_over_their_product() -> None:
    groups = two(4, 64)
    found = densities(groups, groups.groups)
    np.testing.assert_allclose(found, [(4 + 3 + 1 + 1) / 12, (64 + 4 + 1 + 1) / 256])


def test_erk_keeps_shares_in_proportion_and_none_above_one() -> None:
    groups = two(4, 8)  # densities 0.75 and 14 / 32: f * (3 + 3.5) = 6, so 2.77 and 3.23 stay
    assert widths(groups, cut(groups, ratio=0.5, scope="erk")) == [3, 4]
    groups = two(4, 64)  # c0 would keep 7.5 of 4: it stays whole and c1 keeps 51 - 4
    removal = cut(groups, ratio=0.25, scope="erk")
    assert widths(groups, removal) == [4, 47]
    assert removal.reasons == {0: "the ratio takes none of its channels"}


def test_erk_takes_from_others_what_a_floor_holds_back() -> None:
    groups = two(4, 8)
    assert widths(groups, cut(groups, ratio=0.5, scope="erk", min_channels=4)) == [4, 4]


def test_erk_counts_a_shared_width_once_with_all_its_weights() -> None:
    net = Net()
    x = net.input("N", 3, 4, 4)
    summed = net.add("Add", net.conv(x, 3, 8, 1), net.conv(x, 3, 8, 1))
    net.output(net.conv(summed, 8, 2, 1))
    groups = grouped(net.proto())[1]
    assert densities(groups, groups.groups).tolist() == [(13 + 13) / 48]


def test_lamp_gives_the_counts_and_the_scores_the_channels() -> None:
    """Energies 1, 1, 2 give 1/4, 1/3, 1; energies 1, 4, 16 give 1/21, 1/5, 1: c1 loses two."""
    first = np.zeros((3, 3, 1, 1))
    first[:, 0, 0, 0] = np.sqrt([1, 1, 2])
    second = np.zeros((3, 3, 1, 1))
    second[:, 0, 0, 0] = [1, 2, 4]
    groups = two(3, 3, first, second)
    scores = np.zeros(groups.total)
    scores[groups.groups[1].classes] = [3.0, 1.0, 2.0]  # not in the order of the energies
    removal = cut(groups, Scores("by hand", scores), ratio=0.34, scope="lamp")
    assert widths(groups, removal) == [3, 1]
    assert removal.removed[groups.groups[1].classes].tolist() == [False, True, True]


def test_a_threshold_takes_all_that_score_less() -> None:
    groups = two(4, 8)
    scores = np.zeros(groups.total)
    scores[groups.groups[0].classes] = [0.5, 0.1, 0.3, 0.2]
    scores[groups.groups[1].classes] = np.arange(8) + 0.3
    removal = cut(groups, Scores("by hand", scores), threshold=0.3)
    assert removal.removed[groups.groups[0].classes].tolist() == [False, True, False, True]
    assert removal.reasons == {1: "none of its channels scores below the threshold"}
    most = cut(groups, Scores("by hand", scores), threshold=100.0, min_channels=2)
    assert widths(groups, most) == [2, 2]


@pytest.mark.parametrize("scope", ["layer", "global", "erk", "lamp"])
def test_a_stated_ratio_is_taken_whatever_the_others_lose(scope: Scope) -> None:
    groups = two(16, 16)
    removal = cut(groups, ratio=0.25, scope=scope, ratios=(("c1", 0.5),))
    assert widths(groups, removal) == [12, 8]
    removal = cut(groups, ratio=0.25, scope=scope, ratios=(("c*", 0.5), ("c0", 0.0)))
    assert widths(groups, removal) == [16, 8]
    assert removal.reasons == {0: "the ratio stated for it, 0, takes none of its channels"}
    removal = cut(groups, ratio=0.25, scope=scope, ratios=(("c1", 0.95),))  # above 0.9, by hand
    assert widths(groups, removal) == [12, 1]


@pytest.mark.parametrize("scope", ["layer", "global", "erk", "lamp", "error"])
@pytest.mark.parametrize("round_to", [1, "auto"])
@pytest.mark.parametrize(("stated", "exact", "whole"), [(0.3, 12, 16), (0.95, 1, 8), (0.5, 8, 8)])
def test_floors_of_stated_ratios_are_not_made_up_for_elsewhere(
    scope: Scope, round_to: Any, stated: float, exact: int, whole: int
) -> None:
    """The other group loses a quarter, however much of the stated ratio rounding takes back."""
    net = Net()
    x = net.conv(net.input("N", 3, 4, 4), 3, 16, 1, name="c0")
    net.output(net.conv(net.conv(x, 16, 64, 1, name="c1"), 64, 2, 1, name="out"))
    dense, groups = grouped(net.proto())
    budget = Budget(0.25, scope, round_to, ratios=(("c0", stated),))
    scores = score(groups, Criterion("l2"))
    by_cost = allocate(dense, groups, scores, budget) if scope == "error" else None
    removal = by_cost or choose(groups, scores, budget)
    assert widths(groups, removal) == [exact if round_to == 1 else whole, 48]


@pytest.mark.parametrize("scope", ["layer", "global", "erk", "lamp", "error"])
@pytest.mark.parametrize("text", ["macs=0.6", "params=0.6"])
def test_every_scope_meets_a_target(scope: Scope, text: str) -> None:
    dense, groups = grouped(onnx.load(RESNET))
    scores, target = score(groups, Criterion("share")), parse_target(text)
    budget = Budget(round_to=1, scope=scope, target=target, ratios=(("*first*", 0.25),))
    whole = amount(dense, dense.graph.model, target.currency, False)
    removal = allocate(dense, groups, scores, budget)
    left = amount(dense, remove(groups, removal), target.currency, True) / whole
    assert 0.55 < left <= 0.6
    stated = [g for g in groups.groups if any("first" in m for m in g.members)]
    assert stated
    for group in stated:
        assert removal.removed[group.classes].sum() == group.size // 4


def test_a_target_by_layer_takes_the_same_share_everywhere() -> None:
    dense, groups = grouped(onnx.load(RESNET))
    budget = Budget(round_to=1, scope="layer", target=parse_target("macs=0.6"))
    removal = allocate(dense, groups, score(groups, Criterion("l2")), budget)
    gone = np.array([removal.removed[g.classes].mean() for g in groups.groups])
    sizes = np.array([g.size for g in groups.groups])
    assert np.ptp(gone) < 1 / sizes.min()


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"threshold": 0.1, "ratio": 0.4}, "E207"),
        ({"threshold": 0.1, "target": "macs=0.5"}, "E207"),
        ({"threshold": 0.1, "scope": "erk"}, "E207"),
        ({"threshold": float("nan")}, "E201"),
        ({"threshold": "low"}, "E201"),
        ({"threshold": 0.0}, "E201"),
        ({"threshold": -1.0}, "E201"),
        ({"calib_count": 4}, "E207"),
        ({"resize": 8}, "E207"),
        ({"layout": "NHWC", "noise": True}, "E207"),
        ({"ratio_of": {"c0": "half"}}, "E201"),
        ({"ratio_of": "c0=0.5"}, "E201"),
        ({"ratio_of": {5: 0.2}}, "E201"),
        ({"target": 0.5}, "E201"),
        ({"noise": "no"}, "E201"),
        ({"scope": "widest"}, "E201"),
    ],
)
def test_contradictions_are_refused(options: dict[str, Any], code: str) -> None:
    with pytest.raises(UsageError) as caught:
        Options.of(options)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("ratios", "code"), [((("c0", 1.0),), "E212"), ((("nowhere", 0.5),), "E213")]
)
def test_stated_ratios_that_make_no_sense(ratios: tuple[tuple[str, float], ...], code: str) -> None:
    with pytest.raises(UsageError) as caught:
        cut(two(4, 8), ratios=ratios)
    assert caught.value.code == code


def test_nothing_stated_is_a_ratio_of_0_4() -> None:
    assert Options.of({}).ratio == 0.4
    assert Options.of({"target": "macs=0.5"}).ratio is None
    assert Options.of({"threshold": 0.1}).settings()["ratio"] is None


def test_a_plan_made_for_a_target_applies() -> None:
    from prunecvt import apply

    planned = plan(RESNET, target="params=0.5", criterion="share")
    assert apply(planned).report.totals.params.ratio <= 0.5


def test_the_command_line_takes_them(tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    flags = ["--round-to", "1", "--criterion", "l2", "-o", out, "--json"]
    done = run("plan", RESNET, *flags, "--ratio-of", "*=0.5", "--ratio-of", "*first*=0")
    assert done.returncode == 0, done.stderr
    groups = json.loads(out.read_text())["groups"]
    assert groups
    for group in groups:
        whole = any("first" in name for name in group["members"])
        assert group["channels_after"] == (1 if whole else 0.5) * group["channels_before"]
    other = ["-o", tmp_path / "b.json"]  # beside the model the README's command may have written
    assert run("plan", RESNET, *other, "--ratio-of", "half").returncode == 2
    assert run("plan", RESNET, *other, "--threshold", "1", "--ratio", "0.1").returncode == 2
