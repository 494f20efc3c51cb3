"""Supermasks: every criterion and every action, against numbers computed by hand."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from mask_nets import lesson, module_of, two_layers  # noqa: E402
from prunecvt import UsageError  # noqa: E402
from prunecvt.bridge.methods.initialise import initialise  # noqa: E402
from prunecvt.bridge.methods.masks import Masked, maskable  # noqa: E402
from prunecvt.bridge.methods.supermask import (  # noqa: E402
    layer_shares,
    scores,
    supermask,
    treated,
)
from prunecvt.bridge.methods.training import values_of  # noqa: E402

FIRST = {"w": torch.tensor([1.0, -2.0, 3.0, -4.0])}
LAST = {"w": torch.tensor([-5.0, -1.0, 4.0, -0.5])}
INFINITE = float("inf")
WANTED = {
    "large_final": [5, 1, 4, 0.5],
    "small_final": [-5, -1, -4, -0.5],
    "large_init": [1, 2, 3, 4],
    "small_init": [-1, -2, -3, -4],
    "large_init_large_final": [0, 1, 2, 0],  # ranks 0 1 2 3 and 3 1 2 0
    "small_init_small_final": [-3, -1, -2, -3],
    "magnitude_increase": [4, -1, 1, -3.5],
    "movement": [6, 1, 1, 3.5],
    "random": [0, 0, 0, 0],
}


@pytest.mark.parametrize("name", WANTED)
def test_scores(name: str) -> None:
    assert scores(name, FIRST, LAST)["w"].tolist() == WANTED[name]  # type: ignore[arg-type]
    same = scores(name, FIRST, LAST, "same")["w"].tolist()  # type: ignore[arg-type]
    assert same == [-INFINITE, *WANTED[name][1:]]
    other = scores(name, FIRST, LAST, "different")["w"].tolist()  # type: ignore[arg-type]
    assert other == [WANTED[name][0], *[-INFINITE] * 3]


def test_masks_take_their_share_of_each_layer_and_break_ties_at_random() -> None:
    mask = supermask("large_final", FIRST, LAST, 0.5)["w"]
    assert mask.tolist() == [True, False, True, False]
    assert supermask("large_final", FIRST, LAST, 0.5, signs="same")["w"].tolist() == [
        *(False, True, True, False)
    ]
    many = {"a": torch.randn(100), "b": torch.randn(400) * 100}
    drawn = [supermask("random", many, many, 0.75, seed=seed) for seed in (0, 0, 1)]
    assert [int(m.sum()) for m in drawn[0].values()] == [25, 100]
    assert torch.equal(drawn[0]["a"], drawn[1]["a"])
    assert not torch.equal(drawn[0]["a"], drawn[2]["a"])


def test_the_last_layer_goes_at_half_the_rate() -> None:
    assert layer_shares(("a", "b", "c"), 0.2, 2) == pytest.approx({"a": 0.36, "b": 0.36, "c": 0.19})


MASKS = {"w": torch.tensor([True, True, False, False])}


@pytest.mark.parametrize(
    ("gone", "wanted"), [("zero", [0, 0]), ("initial", [3, -4]), ("zero_if_shrunk", [3, 0])]
)
def test_what_is_masked(gone: str, wanted: list[float]) -> None:
    found = treated(MASKS, FIRST, LAST, gone=gone)["w"]  # type: ignore[arg-type]
    assert found.tolist() == [1, -2, *wanted]


def test_what_stays() -> None:
    deviation = 7.25**0.5  # of 1, -2, 3, -4 around -0.5
    constant = treated(MASKS, FIRST, LAST, kept="constant")["w"]
    assert constant.tolist() == pytest.approx([deviation, -deviation, 0, 0])
    flipped = treated(MASKS, FIRST, LAST, sign="flipped")["w"]
    assert flipped.tolist() == [-1, 2, 0, 0]


def test_what_is_drawn_has_the_right_signs_and_sizes() -> None:
    draw = torch.Generator().manual_seed(0)
    first = {"w": torch.randn(200, 50, generator=draw) * 0.3}
    masks = {"w": torch.rand(200, 50, generator=draw) < 0.4}
    mask, old = masks["w"], first["w"]
    mixed = treated(masks, first, first, kept="reshuffle", seed=1)["w"]
    assert torch.equal(mixed[mask].abs().sort().values, old[mask].abs().sort().values)
    assert not torch.equal(mixed[mask], old[mask])
    fresh = treated(masks, first, first, kept="reinitialise", seed=1)["w"]
    assert float(fresh[mask].std()) == pytest.approx(0.3, rel=0.05)
    for found in (mixed, fresh):
        assert torch.equal(found.sign(), torch.where(mask, old.sign(), torch.zeros(())))
    anyhow = treated(masks, first, first, kept="reinitialise", sign="random", seed=1)["w"]
    agree = (anyhow[mask].sign() == old[mask].sign()).float().mean()
    assert 0.45 < float(agree) < 0.55
    assert first["w"] is old and torch.equal(treated(masks, first, first)["w"][mask], old[mask])


def test_new_weights_are_not_the_initial_ones_of_the_same_seed() -> None:
    module = module_of(two_layers())
    initialise(module, 7)
    first = values_of(module, maskable(module))
    masks = {name: torch.ones_like(value, dtype=torch.bool) for name, value in first.items()}
    found = treated(masks, first, first, kept="reinitialise", seed=7)
    for name, value in first.items():
        pair = torch.stack([found[name].abs().flatten(), value.abs().flatten()])
        assert abs(float(torch.corrcoef(pair)[0, 1])) < 0.5


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        scores("big", FIRST, LAST)  # type: ignore[arg-type]
    assert (caught.value.code, "large_final" in caught.value.help) == ("E210", True)
    for wrong in ({"kept": "doubled"}, {"gone": "half"}, {"sign": "none"}):
        with pytest.raises(UsageError) as caught:
            treated(MASKS, FIRST, LAST, **wrong)  # type: ignore[arg-type]
        assert (caught.value.code, bool(caught.value.help)) == ("E273", True)


def test_frozen_weights_stay_at_their_initial_value_while_the_others_train() -> None:
    module = module_of(two_layers())
    names = maskable(module)
    first = values_of(module, names)
    lesson().run(module)
    masks = supermask("large_final", first, values_of(module, names), layer_shares(names, 0.5))
    values = treated(masks, first, values_of(module, names), gone="initial")
    lesson().run(module, Masked(module, masks, held=values))
    for name in names:
        now = module.tensor(name).detach()
        assert torch.equal(now[~masks[name]], first[name][~masks[name]])
        assert bool((now[masks[name]] != first[name][masks[name]]).any())
