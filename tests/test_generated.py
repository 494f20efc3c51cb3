"""Random networks, random cuts, one oracle."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from networks import FAMILIES, grow
from networks.choices import FIXED, Genome, genomes, random_genome, shrink
from networks.trial import Passed, check, features

SEEDS = 200


def passed(seed: int) -> Passed:
    return check(grow(random_genome(seed)))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_slimmed_equals_masked(seed: int) -> None:
    assert passed(seed).undecided == 0


@given(genomes())
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_slimmed_equals_masked_on_what_hypothesis_draws(genome: Genome) -> None:
    check(grow(genome))


def test_networks_are_cut_as_a_rule() -> None:
    assert sum(bool(passed(seed).removal.removed.any()) for seed in range(40)) >= 24


def test_networks_cover_every_step() -> None:
    """Seeds of the suite hold all steps, and channels are cut through nearly all of them."""
    grown = [grow(random_genome(seed)) for seed in range(SEEDS)]
    steps = {step.__name__ for family in FAMILIES for step in family}
    assert set().union(*(g.steps for g in grown)) == steps


def test_features_say_what_was_cut_through() -> None:
    genome: Genome = [[], [], [], [0, 0, 0]]  # two convolutions
    grown = grow(genome)
    found = features(grown, check(grown))
    assert found["Conv"] and found["step conv"] and found["opset 17"]


def test_the_same_genome_gives_the_same_bytes() -> None:
    texts = [grow(random_genome(7)).proto.SerializeToString(deterministic=True) for _ in range(2)]
    assert texts[0] == texts[1]


def test_a_genome_as_it_was_read_grows_the_same_network() -> None:
    for seed in range(20):
        grown = grow(random_genome(seed))
        assert grow(grown.genome).proto == grown.proto


def test_failures_shrink_to_the_steps_that_matter() -> None:
    def fails(genome: Genome) -> Genome | None:
        grown = grow(genome)
        operators = {node.op_type for node in grown.proto.graph.node}
        return grown.genome if {"Softmax", "Concat"} <= operators else None

    first = next(g for g in map(random_genome, range(50)) if fails(g) and len(g) > FIXED + 6)
    small = shrink(first, fails)
    assert fails(small) is not None
    assert len(small) <= FIXED + 2
