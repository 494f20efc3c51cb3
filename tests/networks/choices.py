"""Every network is grown from a list of lists of integers, so that a failure can be shrunk.

A *genome* has one section for the set-up, one for the cut, one for the end of the network, and one
per step between. A step reads only its own section: leaving a section out leaves the others what
they were. Numbers are taken modulo what they choose from, a missing one counts as 0, and 0 is
always the simplest choice; so every genome is a network and smaller numbers make simpler ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from hypothesis import strategies

Genome = list[list[int]]
T = TypeVar("T")
FIXED = 3  # sections before those of the steps
STEPS = 12  # at most
LENGTH = 24  # numbers in a section
_LARGEST = 1 << 16


class Choices:
    """Reads one section."""

    def __init__(self, numbers: Sequence[int] = ()) -> None:
        self.numbers = numbers
        self.taken: list[int] = []

    def below(self, end: int) -> int:
        """An integer from 0 to ``end - 1``."""
        place = len(self.taken)
        found = self.numbers[place] % end if place < len(self.numbers) else 0
        self.taken.append(found)
        return found

    def pick(self, *options: T) -> T:
        return options[self.below(len(options))]

    def chance(self, percent: int) -> bool:
        return self.below(100) >= 100 - percent

    def order(self, size: int) -> list[int]:
        """A permutation; all zeros give the identity."""
        left = list(range(size))
        return [left.pop(self.below(len(left))) for _ in range(size)]


def random_genome(seed: int) -> Genome:
    rng = np.random.default_rng(seed)
    sections = FIXED + int(rng.integers(2, STEPS + 1))
    return [[int(v) for v in row] for row in rng.integers(0, _LARGEST, (sections, LENGTH))]


def genomes() -> strategies.SearchStrategy[Genome]:
    """The same for hypothesis, which shrinks what fails."""
    section = strategies.lists(strategies.integers(0, _LARGEST - 1), max_size=LENGTH)
    return strategies.lists(section, min_size=FIXED, max_size=FIXED + STEPS)


def shrink(genome: Genome, fails: Callable[[Genome], Genome | None], tries: int = 400) -> Genome:
    """The smallest genome found that still fails: fewer steps, then shorter and smaller numbers.

    Args:
        genome: one that fails.
        fails: returns None where a genome does not fail, else the genome as far as it was read.
        tries: calls of ``fails`` at most.
    """
    best, improved = fails(genome) or genome, True
    while improved and tries > 0:
        improved = False
        for candidate in _simpler(best):
            tries -= 1
            read = fails(candidate)
            if read is not None and _cost(read) < _cost(best):
                best, improved = read, True
                break
            if tries <= 0:
                break
    return best


def _cost(genome: Genome) -> tuple[int, int, int]:
    flat = [n for section in genome for n in section]
    return len(genome), sum(n > 0 for n in flat), sum(flat)


def _simpler(genome: Genome) -> Iterator[Genome]:
    """Candidates in the order of how much they leave out."""
    steps = len(genome) - FIXED
    size = steps
    while size:
        for start in range(FIXED + steps - size, FIXED - 1, -size):
            yield genome[:start] + genome[start + size :]
        size //= 2
    for place, section in enumerate(genome):
        if any(section):
            yield [*genome[:place], [], *genome[place + 1 :]]
    for place, section in enumerate(genome):
        for k, number in enumerate(section):
            for lower in dict.fromkeys((0, number // 2, number - 1)):
                if 0 <= lower < number:
                    changed = [*section[:k], lower, *section[k + 1 :]]
                    yield [*genome[:place], changed, *genome[place + 1 :]]
