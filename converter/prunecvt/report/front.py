"""Pareto fronts: of pairs of a cost and a gain, those that no other beats (Pareto, 1896)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

Pair = tuple[float, float]


def undominated(pairs: Sequence[Pair]) -> list[bool]:
    """Whether no other pair costs at most as much, gains at least as much, and is not the same."""
    return [
        not any(c <= cost and g >= gain and (c, g) != (cost, gain) for c, g in pairs)
        for cost, gain in pairs
    ]


def corners(pairs: Sequence[Pair]) -> list[Pair]:
    """The corners of the line below which everything is beaten, from the cheapest pair on.

    The line is the most that can be gained at a cost: it stays until the next pair is affordable.
    """
    front = sorted({p for p, best in zip(pairs, undominated(pairs), strict=True) if best})
    found: list[Pair] = front[:1]
    for (_, before), pair in itertools.pairwise(front):
        found += [(pair[0], before), pair]
    return found
