"""The plan: written down, read back, replayed, and refused where it does not fit."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from models import Net, grouped, random_removal
from prunecvt_passes.errors import UsageError
from prunecvt_passes.groups import Groups
from prunecvt_passes.plan import Plan, PlannedChannels, replay, write_down


def block() -> Groups:
    """A residual block with a split behind it."""
    net = Net()
    x = net.first()
    x = net.add("Add", x, net.conv(net.conv(x, 8, 6, name="inner"), 6, 8, name="outer"))
    a, b = net.many("Split", x, np.array([2, 6]), outputs=2, axis=1)
    net.output(net.add("Add", net.conv(a, 2, 4, name="left"), net.conv(b, 6, 4, name="right")))
    return grouped(net.proto())[1]


def plan_of(groups: Groups) -> Plan:
    return write_down(groups, random_removal(groups, 0.5), "0" * 64)


def with_kept(plan: Plan, tensor: str, kept: tuple[int, ...], width: int | None = None) -> Plan:
    channels = tuple(
        PlannedChannels(tensor, width or c.width, kept) if c.tensor == tensor else c
        for c in plan.channels
    )
    return dataclasses.replace(plan, channels=channels)


def test_a_plan_lists_every_layer_in_order_also_whole_ones() -> None:
    plan = plan_of(block())
    assert [(c.tensor, c.width, len(c.kept)) for c in plan.channels] == [
        ("first", 8, 4),
        ("inner", 6, 3),
        ("outer", 8, 4),
        ("left", 4, 4),
        ("right", 4, 4),
    ]


def test_a_plan_survives_json() -> None:
    plan = plan_of(block())
    assert Plan.from_json(plan.to_json()) == plan
    assert Plan.from_json(plan.to_json()).digest == plan.digest
    json.loads(plan.to_json())


def test_a_replayed_plan_is_the_removal() -> None:
    groups = block()
    removal = random_removal(groups, 0.5)
    again = replay(groups, write_down(groups, removal, ""))
    np.testing.assert_array_equal(again.removed, removal.removed)


def test_a_plan_may_leave_layers_out_that_go_along() -> None:
    groups = block()
    plan = plan_of(groups)
    fewer = tuple(c for c in plan.channels if c.tensor in ("outer", "inner"))
    again = replay(groups, dataclasses.replace(plan, channels=fewer, groups=()))
    np.testing.assert_array_equal(again.removed, random_removal(groups, 0.5).removed)


def test_whole_groups_keep_the_reason_of_the_plan() -> None:
    groups = block()
    removal = random_removal(groups, 0.0)
    reasons = replay(groups, write_down(groups, removal, "")).reasons
    assert reasons == removal.reasons


@pytest.mark.parametrize(
    ("tensor", "kept", "width"),
    [
        ("first", (0, 1, 2, 3), None),  # 'outer' is added to it and keeps others
        ("inner", (0, 1), 5),
        ("inner", (0, 1, 6), None),
        ("inner", (), None),
        ("inner", (1, 0), None),
        ("inner", (-1, 2), None),
        ("inner", (2, 2, 3), None),
        ("left", (0, 1), None),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(
    tensor: str, kept: tuple[int, ...], width: int | None
) -> None:
    groups = block()
    with pytest.raises(UsageError) as caught:
        replay(groups, with_kept(plan_of(groups), tensor, kept, width))
    assert caught.value.code == "E215" and caught.value.where


def test_a_plan_for_another_model_is_refused() -> None:
    plan = plan_of(block())
    other = dataclasses.replace(plan, channels=(PlannedChannels("elsewhere", 4, (0,)),))
    with pytest.raises(UsageError) as caught:
        replay(block(), other)
    assert caught.value.code == "E215"


def test_a_plan_that_empties_a_tensor_on_the_way_is_refused() -> None:
    groups = block()
    plan = plan_of(groups)
    for tensor in ("first", "outer"):  # all that the first part of the split is made of
        plan = with_kept(plan, tensor, (2, 3, 4))
    with pytest.raises(UsageError) as caught:
        replay(groups, plan)
    assert "leaves nothing of" in caught.value.where


def broken(change: Any) -> str:
    document = json.loads(plan_of(block()).to_json())
    change(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{}",
        broken(lambda d: d.update(schema_version=99)),
        broken(lambda d: d.pop("channels")),
        broken(lambda d: d.update(channels=[{"tensor": "first"}])),
        broken(lambda d: d["channels"][0].update(kept="all")),
        broken(lambda d: d["channels"][0].update(width=None)),
    ],
)
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Plan.from_json(text, "some file")
    assert caught.value.code == "E214" and "some file" in caught.value.where
