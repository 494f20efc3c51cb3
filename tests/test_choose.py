"""Allocation: budgets turned into removals, by hand-computed cases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models import Net, check_oracle, grouped
from prunecvt_passes.budget import Budget, Removal, step_of
from prunecvt_passes.choose import choose
from prunecvt_passes.errors import UsageError
from prunecvt_passes.groups import Groups
from prunecvt_passes.score import Scores


def chain(*widths: int, group: int = 1) -> Groups:
    """Convolutions ``c0``, ``c1``, ... of these widths, and a last one that is the output."""
    net = Net()
    x, before = net.input("N", 3, 4, 4), 3
    for number, width in enumerate(widths):
        x = net.conv(x, before, width, name=f"c{number}", group=group if number else 1)
        before = width
    net.output(net.conv(x, before, 2, name="out"))
    return grouped(net.proto())[1]


def attention(heads: int, each: int) -> Groups:
    """Channels of heads that lie in one layer, ``each`` in a head."""
    net = Net()
    x = net.add("MatMul", net.input("N", 5, 6), net.random(6, heads * each))
    x = net.add(
        "Transpose", net.add("Reshape", x, np.array([0, 5, heads, each])), perm=[0, 2, 1, 3]
    )
    x = net.add("MatMul", net.add("MatMul", x, net.add("Transpose", x, perm=[0, 1, 3, 2])), x)
    x = net.add(
        "Reshape", net.add("Transpose", x, perm=[0, 2, 1, 3]), np.array([0, 5, heads * each])
    )
    net.head(x, heads * each)
    return grouped(net.proto())[1]


def scored(groups: Groups, *values: list[float]) -> Scores:
    """Scores of each group's channels, in order."""
    scores = np.zeros(groups.total)
    for group, row in zip(groups.groups, values, strict=True):
        scores[group.classes] = row
    return Scores("by hand", scores)


def flat(groups: Groups) -> Scores:
    return Scores("flat", np.zeros(groups.total))


def kept(groups: Groups, removal: Removal, number: int = 0) -> list[int]:
    return [int(k) for k in np.flatnonzero(~removal.removed[groups.groups[number].classes])]


def cut(groups: Groups, scores: Scores | None = None, **budget: Any) -> Removal:
    return choose(groups, scores or flat(groups), Budget(**{"round_to": 1, **budget}))


def test_the_lowest_scores_go() -> None:
    groups = chain(4)
    removal = cut(groups, scored(groups, [3.0, 1.0, 4.0, 2.0]), ratio=0.5)
    assert kept(groups, removal) == [0, 2]


def test_equal_scores_go_by_index() -> None:
    groups = chain(6)
    assert kept(groups, cut(groups, ratio=0.5)) == [3, 4, 5]


def test_ratio_zero_removes_nothing_and_says_so() -> None:
    groups = chain(6)
    removal = cut(groups, ratio=0)
    assert not removal.removed.any()
    assert removal.reasons == {0: "the ratio takes none of its channels"}


@pytest.mark.parametrize(
    ("width", "ratio", "expected"),
    [(20, 0.4, 16), (32, 0.5, 16), (32, 0.45, 24), (24, 0.9, 8), (10, 0.2, 8), (8, 0.9, 8)],
)
def test_widths_round_up_to_eight(width: int, ratio: float, expected: int) -> None:
    groups = chain(width)
    assert len(kept(groups, cut(groups, ratio=ratio, round_to="auto"))) == expected


@pytest.mark.parametrize(
    ("heads", "each", "expected"), [(3, 8, 2), (4, 16, 2), (4, 2, 4), (8, 2, 8)]
)
def test_the_floor_counts_the_channels_of_heads(heads: int, each: int, expected: int) -> None:
    groups = attention(heads, each)
    assert groups.groups[0].size == heads
    assert len(kept(groups, cut(groups, round_to="auto"))) == expected


@pytest.mark.parametrize(
    ("heads", "ratio", "expected"),
    [(4, 0.4, 2), (3, 0.4, 2), (12, 0.4, 7), (5, 0.5, 3), (2, 0.25, 2), (4, 0.1, 4), (2, 0.9, 1)],
)
def test_a_ratio_takes_the_nearest_number_of_heads(heads: int, ratio: float, expected: int) -> None:
    groups = attention(heads, 8)
    assert len(kept(groups, cut(groups, ratio=ratio, round_to=1))) == expected


def test_a_width_that_rounds_up_to_itself_is_whole_and_says_why() -> None:
    groups = chain(16)
    removal = cut(groups, ratio=0.1, round_to=8)
    assert not removal.removed.any()
    assert removal.reasons[0] == "keeps 15 of 16, which rounds up to all by steps of 8"


def test_a_width_at_its_floor_says_why() -> None:
    groups = chain(8)
    removal = cut(groups, ratio=0.5, round_to="auto")
    assert removal.reasons[0] == "it has 8 channels, and 8 must stay"


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        ({"min_channels": 7}, 7),
        ({"max_ratio_per_layer": 0.25}, 15),
        ({"max_ratio_per_layer": 1.0, "ratio": 0.99}, 1),
        ({"ratio": 0.99}, 2),
        ({"min_channels": 50}, 20),
    ],
)
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_no_group_goes_below_its_floor(budget: dict[str, Any], expected: int, scope: str) -> None:
    groups = chain(20)
    removal = cut(groups, **{"ratio": 0.8, "scope": scope, **budget})
    assert len(kept(groups, removal)) == expected


def test_one_threshold_over_all_groups_is_a_sort() -> None:
    groups = chain(6, 8)
    values = np.random.default_rng(0).random(14)
    scores = scored(groups, list(values[:6]), list(values[6:]))
    removal = cut(groups, scores, ratio=0.5, scope="global")
    lowest = sorted(range(14), key=lambda k: values[k])[:7]
    assert kept(groups, removal, 0) == [k for k in range(6) if k not in lowest]
    assert kept(groups, removal, 1) == [k - 6 for k in range(6, 14) if k not in lowest]


def test_one_threshold_leaves_every_group_its_floor() -> None:
    groups = chain(6, 8)
    scores = scored(groups, [0.0] * 6, [1.0] * 8)
    removal = cut(groups, scores, ratio=0.5, scope="global", min_channels=2)
    assert len(kept(groups, removal, 0)) == 2
    assert len(kept(groups, removal, 1)) == 5


def test_keep_leaves_matching_groups_whole() -> None:
    groups = chain(6, 8, 8)
    removal = cut(groups, ratio=0.5, keep=("c1", "c[2]"))
    assert [len(kept(groups, removal, k)) for k in range(3)] == [3, 8, 8]
    assert removal.reasons == {
        1: "kept: it matches --keep c1",
        2: "kept: it matches --keep c[2]",
    }


def test_only_leaves_the_others_whole() -> None:
    groups = chain(6, 8, 8)
    removal = cut(groups, ratio=0.5, only=("c1",))
    assert [len(kept(groups, removal, k)) for k in range(3)] == [6, 4, 8]
    assert removal.reasons[0] == "kept: it matches no --only pattern"


def test_keep_wins_over_only() -> None:
    groups = chain(6, 8)
    removal = cut(groups, ratio=0.5, keep=("c0",), only=("c*",))
    assert [len(kept(groups, removal, k)) for k in range(2)] == [6, 4]


def test_patterns_match_fixed_layers_too() -> None:
    groups = chain(6)
    assert len(kept(groups, cut(groups, ratio=0.5, keep=("out",)))) == 3


@pytest.mark.parametrize(
    ("budget", "code"),
    [
        ({"ratio": 1.0}, "E212"),
        ({"ratio": -0.1}, "E212"),
        ({"ratio": float("nan")}, "E212"),
        ({"max_ratio_per_layer": 1.5}, "E212"),
        ({"round_to": 0}, "E212"),
        ({"keep": ("nowhere*",)}, "E213"),
        ({"only": ("c0", "nowhere")}, "E213"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(budget: dict[str, Any], code: str) -> None:
    with pytest.raises(UsageError) as caught:
        cut(chain(6), **budget)
    assert caught.value.code == code


def test_steps_of_plain_multiplied_and_grouped_widths() -> None:
    plain = chain(16).groups[0]
    assert step_of(plain, "auto") == 8 and step_of(plain, 4) == 4
    net = Net()
    x = net.conv(net.input("N", 3, 4, 4), 3, 16, name="first")
    net.last(net.conv(x, 16, 32, group=16), 32)
    multiplied = grouped(net.proto())[1].groups[0]
    assert multiplied.channels == 2 and step_of(multiplied, 8) == 4
    across = chain(32, 32, group=2).groups[0]
    assert across.per_group and across.size == 16 and step_of(across, 8) == 8


def test_grouped_convolutions_keep_a_multiple_in_each_group() -> None:
    groups = chain(48, 48, group=2)
    removal = cut(groups, ratio=0.5, round_to=8)
    assert len(kept(groups, removal)) == 16


def test_an_axis_that_would_lose_everything_keeps_its_best_channel() -> None:
    net = Net()
    x = net.first()
    piece = net.add("Slice", x, np.array([0]), np.array([2]), np.array([1]))
    net.output(net.add("ReduceSum", piece, np.array([1])))
    net.last(x)

    def decide(groups: Groups) -> Removal:
        scores = scored(groups, [1.0, 2.0, *[3.0 + k for k in range(6)]])
        removal = cut(groups, scores, ratio=0.75)
        assert kept(groups, removal) == [1, 6, 7]
        return removal

    check_oracle(net.proto(), decide=decide)
