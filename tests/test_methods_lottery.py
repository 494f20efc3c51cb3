"""Tickets, and retraining after pruning: what is left each round, and what is put back."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

import prunecvt  # noqa: E402
from mask_nets import equal, lesson, module_of, two_layers  # noqa: E402
from prunecvt import UsageError  # noqa: E402
from prunecvt.bridge.methods.fit import Hook, Schedule  # noqa: E402
from prunecvt.bridge.methods.lottery import (  # noqa: E402
    Pruning,
    find_tickets,
    train_elsewhere,
    train_masked,
    train_reinitialised,
)
from prunecvt.bridge.methods.masks import counts, density, full_masks, magnitude_masks  # noqa: E402
from prunecvt.bridge.methods.rewinding import (  # noqa: E402
    cut_alike,
    low_rate,
    retrain,
    with_state,
)
from prunecvt.bridge.methods.training import Checkpoints, Training, capture, values_of  # noqa: E402


class Rates(Hook):
    """The rates that were used, and the weights before the first step."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.start: dict[str, object] = {}

    def before_step(self, module: object) -> None:
        if not self.rates:
            self.start = capture(module)  # type: ignore[arg-type]

    def after_step(self, module: object, rate: float) -> None:
        self.rates.append(rate)


def test_every_round_leaves_four_fifths_and_starts_from_the_rewound_state() -> None:
    training, k = lesson(steps=12), 3
    module = module_of(two_layers(norm=True))
    early = Checkpoints(module, {k})
    other = module_of(two_layers(norm=True))
    training.run(other, early)
    left = sum(mask.numel() for mask in full_masks(module).values())
    last = None
    for ticket in find_tickets(module, training, Pruning(5, rewind=k)):
        assert density(ticket.masks) == pytest.approx(0.8**ticket.round, abs=0.01)
        if last is not None:
            left -= int(left * 0.2 + 1e-9)
            assert sum(kept for kept, _ in counts(ticket.masks).values()) == left
            assert equal(ticket.start, early.states[k])
            assert ticket.first == k
            sizes = {n: v.abs() for n, v in values_of(module, last.masks, last.trained).items()}
            gone = torch.cat([sizes[n][last.masks[n] & ~ticket.masks[n]] for n in sizes])
            kept = torch.cat([sizes[n][ticket.masks[n]] for n in sizes])
            assert gone.max() <= kept.min()
        for name, mask in ticket.masks.items():
            assert not module.tensor(name).detach()[~mask].any()
        assert equal(capture(module), ticket.trained)
        last = ticket
        torch.nn.init.ones_(module.tensor("last"))  # what is done in between does not matter
    assert last is not None
    again = train_masked(other, training, last.masks, last.start, first=k)
    assert equal(again, last.trained)


def test_one_shot_is_one_round_and_rate_rewinding_keeps_what_is_trained() -> None:
    training = lesson()
    *_, ticket = find_tickets(module_of(two_layers()), training, Pruning(1, 1 - 0.8**6))
    assert density(ticket.masks) == pytest.approx(0.8**6, abs=0.01)
    dense, first, second = find_tickets(
        module_of(two_layers()), training, Pruning(2, rewind=4, trained="kept")
    )
    assert equal(first.start, dense.trained)
    assert equal(second.start, first.trained)
    assert second.first == 4


def test_controls_have_as_many_weights_and_other_ones() -> None:
    training, module = lesson(), module_of(two_layers())
    *_, ticket = find_tickets(module, training, Pruning(3))
    fresh = train_reinitialised(module, training, ticket.masks, seed=5)
    moved = train_elsewhere(module, training, ticket, seed=5)
    for state in (fresh, moved):
        left = {n: int((v != 0).sum()) for n, v in values_of(module, ticket.masks, state).items()}
        assert left == {n: kept for n, (kept, _) in counts(ticket.masks).items()}
    assert not equal(fresh, ticket.trained)
    inside = values_of(module, ticket.masks, moved)
    assert any(not torch.equal(v != 0, ticket.masks[n]) for n, v in inside.items())


@pytest.mark.parametrize("wrong", [{"rounds": -1}, {"rounds": 1, "rewind": -2}])
def test_rounds_and_steps_that_make_no_sense(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError) as caught:
        Pruning(**wrong)  # type: ignore[arg-type]
    assert caught.value.code == "E272"


def test_rewinding_past_the_end_is_refused() -> None:
    module, training = module_of(two_layers()), lesson()
    with pytest.raises(UsageError, match="12"):
        next(find_tickets(module, training, Pruning(1, rewind=12)))
    for steps in (0, 13):
        with pytest.raises(UsageError, match="12"):
            retrain(module, training, capture(module), steps, "rate")


@pytest.mark.parametrize("method", ["weights", "rate", "fine-tuning"])
def test_retraining_takes_equal_steps_at_the_rates_of_its_kind(method: str) -> None:
    training = lesson(steps=12)
    module = module_of(two_layers(norm=True))
    early = Checkpoints(module, {8, 12})
    training.run(module, early)
    masks, seen = magnitude_masks(module, 0.5), Rates()
    start = early.states[8 if method == "weights" else 12]
    watched = Training(training.examples, training.schedule, hooks=[seen])
    retrain(module, watched, start, 4, method, masks=masks)  # type: ignore[arg-type]
    low = pytest.approx([0.001] * 4)
    assert seen.rates == (low if method == "fine-tuning" else pytest.approx([0.01, *[0.001] * 3]))
    for name, value in values_of(module, masks, start).items():
        began = values_of(module, masks, seen.start)[name]  # type: ignore[arg-type]
        assert torch.equal(began, value.masked_fill(~masks[name], 0))
        assert not module.tensor(name).detach()[~masks[name]].any()


def test_the_low_rate_is_the_last_one() -> None:
    assert low_rate(Schedule(100, 0.2, shape="thirds")) == pytest.approx(0.002)
    assert low_rate(Schedule(100, 0.2, shape="cosine")) == pytest.approx(0.002)
    assert math.isclose(low_rate(Schedule(1, 0.2, shape="thirds")), 0.2)


def test_another_checkpoint_is_cut_to_the_channels_that_a_plan_keeps() -> None:
    model = two_layers(norm=True)
    module = module_of(model)
    early = Checkpoints(module, {3})
    training = lesson()
    training.run(module, early)
    late = with_state(model, capture(module)).to_proto()
    plan = prunecvt.plan(late, ratio=0.5, round_to=1, criterion="l2").plan
    kept = list(next(c.kept for c in plan.channels if c.width == 8))
    assert len(kept) == 4
    cut = cut_alike(model, early.states[3], plan)
    whole = values_of(module, module.roles.trainable, early.states[3])
    for name in module.roles.trainable:
        wanted = whole[name][kept]  # channels are the first axis of all
        assert torch.equal(cut.tensor(name).detach(), wanted), name
    assert len(cut.roles.statistics) == 2
    retrain(cut, training, capture(cut), 4, "weights")
    assert bool((cut.tensor("last").detach() != whole["last"][kept]).any())
