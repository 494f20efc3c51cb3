"""Random networks, random removals, one oracle."""

from __future__ import annotations

import pytest

from generator import generate, random_classes
from generator_tokens import generate_tokens
from models import Outcome, check_oracle

SEEDS = 100
TOKEN_SEEDS = 60


def cut_images(seed: int) -> Outcome:
    return check_oracle(generate(seed), decide=lambda groups: random_classes(groups, seed))


def cut_tokens(seed: int) -> Outcome:
    return check_oracle(generate_tokens(seed), decide=lambda groups: random_classes(groups, seed))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_slimmed_equals_masked_on_images(seed: int) -> None:
    cut_images(seed)


@pytest.mark.parametrize("seed", range(TOKEN_SEEDS))
def test_slimmed_equals_masked_on_tokens(seed: int) -> None:
    cut_tokens(seed)


def test_networks_are_cut_as_a_rule() -> None:
    outcomes = [cut(seed) for seed in range(12) for cut in (cut_images, cut_tokens)]
    assert sum(bool(outcome.lost) for outcome in outcomes) >= 20
