"""The path of a LASSO on normal equations, by least angle regression (Efron et al., 2004).

For the penalty p falling from where all factors are zero, the factors b that minimise
b' G b / 2 - b' g + p |b|_1 move along straight lines: all that are nonzero stay as correlated with
what is left, g - G b, as each other. At a corner one becomes nonzero, or falls back to zero. Every
corner takes one step on vectors and matrices, none over single channels.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
_DEPENDENT = 1e-9  # of a variable's variance: what is left of it beside those that are in
_PARALLEL = 1e-12  # of the penalty's fall: slower than that, a correlation is not caught up with
_END = 1e-12  # of the penalty at the start: what is left is rounding
_CORNERS = 8  # per variable, at most


@dataclass
class _Active:
    """The variables that are in, in the order they came; ``inverse`` is that of their Gram."""

    gram: Floats
    places: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    signs: Floats = field(default_factory=lambda: np.zeros(0))
    inverse: Floats = field(default_factory=lambda: np.zeros((0, 0)))

    def add(self, place: int, sign: float) -> bool:
        """Takes a variable in; False where it depends on those that are in."""
        across = self.gram[self.places, place]
        solved = self.inverse @ across
        own = float(self.gram[place, place])
        left = own - float(across @ solved)
        if left <= _DEPENDENT * own:
            return False
        size = len(self.places)
        inverse = np.empty((size + 1, size + 1))
        inverse[:size, :size] = self.inverse + np.outer(solved, solved) / left
        inverse[:size, size] = inverse[size, :size] = -solved / left
        inverse[size, size] = 1 / left
        self.inverse = inverse
        self.places = np.append(self.places, place)
        self.signs = np.append(self.signs, sign)
        return True

    def drop(self, position: int) -> None:
        """Takes a variable out again."""
        rest = np.delete(np.arange(len(self.places)), position)
        across = self.inverse[rest, position]
        inverse = self.inverse[np.ix_(rest, rest)]
        self.inverse = inverse - np.outer(across, across) / self.inverse[position, position]
        self.places, self.signs = self.places[rest], self.signs[rest]


@dataclass
class _Path:
    """Where the path is.

    Attributes:
        penalty: p.
        factors: b.
        active: the variables whose factor is not zero.
        barred: those that never join, or not before one leaves that they depend on.
        returned: the variable that was dropped at the last corner, and the row of ``_joins`` that
            says when it would join with the sign that it had; None where none was.
    """

    gram: Floats
    target: Floats
    penalty: float
    factors: Floats
    active: _Active
    barred: Bools
    returned: tuple[int, int] | None = None

    def take_in(self, place: int, sign: float) -> bool:
        """Takes a variable in, or bars it where it depends on those that are in."""
        taken = self.active.add(place, sign)
        self.barred[place] |= not taken
        return taken

    def fall(self) -> tuple[int, float] | None:
        """Goes on to the next corner; returns who joins there and with which sign, if one does."""
        direction = np.zeros(len(self.target))
        direction[self.active.places] = self.active.inverse @ self.active.signs
        steps = self._joins(direction)
        row, place = np.unravel_index(int(np.argmin(steps)), steps.shape)
        joining = float(steps[row, place])
        leaving, position = self._leaves(direction)
        step = min(joining, leaving, self.penalty)
        self.factors += step * direction
        self.penalty -= step
        self.returned = None
        if leaving < min(joining, self.penalty + step):
            self._drop(position)
            return None
        return (int(place), (1.0, -1.0)[row]) if joining == step else None

    def _drop(self, position: int) -> None:
        place = int(self.active.places[position])
        self.returned = place, int(self.active.signs[position] < 0)
        self.factors[place] = 0.0
        self.active.drop(position)
        self.barred = np.diag(self.gram) <= 0

    def _joins(self, direction: Floats) -> Floats:
        """How far the penalty falls until each variable joins, [positive or negative, n]."""
        left, slope = self.target - self.gram @ self.factors, self.gram @ direction
        out = ~self.barred
        out[self.active.places] = False
        found = np.full((2, len(left)), np.inf)
        for row, sign in enumerate((1.0, -1.0)):
            rate = 1 - sign * slope
            may = out & (rate > _PARALLEL)
            found[row, may] = np.maximum((self.penalty - sign * left[may]) / rate[may], 0.0)
        if self.returned is not None:
            found[self.returned[1], self.returned[0]] = np.inf
        return found

    def _leaves(self, direction: Floats) -> tuple[float, int]:
        """How far the penalty falls until a factor is zero again, and which of those active."""
        values, moves = self.factors[self.active.places], direction[self.active.places]
        falling = values * moves < 0
        steps = np.full(len(values), np.inf)
        steps[falling] = -values[falling] / moves[falling]
        position = int(np.argmin(steps))
        return float(steps[position]), position


def entries(gram: Floats, target: Floats) -> Ints:
    """Variables in the order in which their factors first become nonzero.

    Args:
        gram: G, [n, n].
        target: g, [n].

    Returns:
        places of the variables; left out are those that never do, because others make them up.
    """
    size = len(target)
    barred = np.diag(gram) <= 0
    strength = np.where(barred, 0.0, np.abs(target))
    first = int(np.argmax(strength)) if size else 0
    highest = float(strength.max(initial=0.0))
    path = _Path(gram, target, highest, np.zeros(size), _Active(gram), barred)
    order: dict[int, None] = {}
    joins: tuple[int, float] | None = (first, float(np.sign(target[first]))) if highest else None
    for _ in range(_CORNERS * size):
        if path.penalty <= _END * highest:
            break
        if joins is not None and path.take_in(*joins):
            order[joins[0]] = None
        joins = path.fall()
    return np.array(list(order), np.int64)
