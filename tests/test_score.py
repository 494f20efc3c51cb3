"""Criteria, by hand-computed cases."""

from __future__ import annotations

import numpy as np
import pytest

from models import Net, grouped
from prunecvt_passes.criteria.table import DATA_FREE
from prunecvt_passes.errors import UsageError
from prunecvt_passes.groups import Groups
from prunecvt_passes.score import Criterion, Scores, score

WEIGHT = np.array([[[[3.0]], [[4.0]]], [[[0.0]], [[-1.0]]], [[[1.0]], [[1.0]]]], np.float32)


def net_with(norm: bool = False, readers: int = 1) -> Net:
    """Two channels -> three channels by ``WEIGHT`` -> norm -> readers."""
    net = Net()
    x = net.add("Conv", net.input("N", 2, 4, 4), WEIGHT, name="first")
    if norm:
        scale, variance = np.float32([1, -8, 2]), np.float32([1, 4, 4])
        zeros = np.zeros(3, np.float32)
        x = net.add("BatchNormalization", x, scale, zeros, zeros, variance, epsilon=0.0)
    for _ in range(readers):
        net.output(net.add("Conv", x, np.arange(6, dtype=np.float32).reshape(2, 3, 1, 1)))
    return net


def values(net: Net, name: str, seed: int = 0) -> list[float]:
    groups: Groups = grouped(net.proto())[1]
    found = score(groups, Criterion(name, seed)).values[groups.groups[0].classes]
    return [float(v) for v in found]


def test_l1_is_the_sum_of_absolute_weights_over_its_mean() -> None:
    assert values(net_with(), "l1") == pytest.approx([2.1, 0.3, 0.6])


def test_l2_is_the_euclidean_norm_over_its_mean() -> None:
    norms = np.array([5, 1, np.sqrt(2)])
    assert values(net_with(), "l2") == pytest.approx(list(norms / norms.mean()))


def test_a_batch_norm_is_folded_before_weights_are_measured() -> None:
    norms = np.array([5, 1, np.sqrt(2)]) * [1, 4, 1]
    assert values(net_with(norm=True), "l2") == pytest.approx(list(norms / norms.mean()))


def test_auto_is_a_criterion_that_needs_no_data() -> None:
    groups = grouped(net_with().proto())[1]
    assert score(groups, Criterion()).criterion in DATA_FREE


def test_bn_is_the_absolute_scale() -> None:
    assert values(net_with(norm=True), "bn") == pytest.approx([1, 8, 2])


def test_bn_without_batch_norms_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        values(net_with(), "bn")
    assert caught.value.code == "E211" and "first" in caught.value.where


def test_product_multiplies_by_the_weights_that_read() -> None:
    out = np.array([5, 1, np.sqrt(2)])
    read = np.sqrt([0 + 9, 1 + 16, 4 + 25])
    expected = out / out.mean() * read / read.mean()
    assert values(net_with(), "product") == pytest.approx(list(expected))


def test_an_unknown_criterion_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        values(net_with(), "best")
    assert caught.value.code == "E210" and "l2" in caught.value.help


def test_random_depends_on_the_seed_alone() -> None:
    net = net_with()
    assert values(net, "random", 3) == values(net, "random", 3) != values(net, "random", 4)


def test_classes_that_cannot_be_cut_score_zero() -> None:
    groups = grouped(net_with().proto())[1]
    found: Scores = score(groups, Criterion("random"))
    assert not found.values[groups.group_of < 0].any()


@pytest.mark.parametrize("name", DATA_FREE)
def test_members_of_a_class_add_up(name: str) -> None:
    net = Net()
    x = net.norm(net.first(), 8)
    x = net.add("Add", x, net.norm(net.conv(x, 8, 8, name="second"), 8))
    net.last(x)
    found = values(net, name)
    assert len(found) == 8 and np.isfinite(found).all() and len(set(found)) == 8


def test_every_layout_of_weights_has_scores() -> None:
    net = Net()
    x = net.conv(net.first(), 8, 8, group=2)
    x = net.add("ConvTranspose", x, net.random(8, 4, 2, 2), group=2, name="up")
    x = net.norm(x, 8)
    x = net.add("Gemm", net.add("Flatten", net.add("GlobalMaxPool", x)), net.random(8, 6))
    net.head(x, 6)
    groups = grouped(net.proto())[1]
    for name in ("l1", "l2", "product"):
        found = score(groups, Criterion(name)).values
        assert all(found[group.classes].all() for group in groups.groups)
