"""Scatter pictures of what costs and what it gains, as inline SVG that needs no script.

Text is inside the picture and scales with it: 400 units are a phone's width, and CSS keeps the
picture from growing much wider. Colours are CSS classes; kinds of dots differ in shape too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from markupsafe import Markup

from prunecvt.report.front import Pair
from prunecvt.report.svg import number, path
from prunecvt.report.wording import shorten

WIDTH, HEIGHT = 400.0, 280.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 390.0, 26.0, 238.0
LABEL_LENGTH = 24
_LETTER, _LINE = 7.0, 13.0  # of a label, in units: a generous width, and the height
_LARGEST = 1e9  # of what is drawn to scale; larger values lie at the edge
_SIZES = {"front": 4.5, "beaten": 3.5, "whole": 5.0}
_FRAME = Markup(
    '<svg class="pareto" viewBox="0 0 400 280" role="img" aria-labelledby="{key}-title {key}-desc">'
    '<title id="{key}-title">{title}</title><desc id="{key}-desc">{told}</desc>{shapes}</svg>'
)
_TEXT = Markup('<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>')
_SAID = Markup("<title>{said}</title>")
_DOT = Markup('<circle class="dot {kind}" cx="{x}" cy="{y}" r="{r}">{said}</circle>')
_RING = Markup('<circle class="ring" cx="{x}" cy="{y}" r="8.5"/>')
_WHOLE = Markup('<path class="dot whole" d="M{x} {y}m-6 0l6-6 6 6-6 6z">{said}</path>')


@dataclass(frozen=True)
class Dot:
    """One point.

    Attributes:
        label: a short name, written beside it where it is ringed or the original.
        said: what it is, in words.
        x, y: cost and gain.
        kind: on the front, beaten, or the original.
        ringed: whether it is pointed out.
        spread: the 95 % interval of x.
    """

    label: str
    said: str
    x: float
    y: float
    kind: Literal["front", "beaten", "whole"] = "front"
    ringed: bool = False
    spread: Pair | None = None


@dataclass(frozen=True)
class Axis:
    """What an axis says.

    Attributes:
        label: its name.
        share: whether values are written in per cent.
        span: the least that it spans, so that next to nothing is not drawn large.
    """

    label: str
    share: bool = True
    span: float = 0.0


@dataclass(frozen=True)
class Picture:
    """What is drawn.

    Attributes:
        key: names the picture within its page.
        title: says what it shows to whoever cannot see it.
        across, up: the axes.
        dots: the points.
        line: corners of a line.
        goal: where on the upward axis a line marks what is wanted.
    """

    key: str
    title: str
    across: Axis
    up: Axis
    dots: Sequence[Dot]
    line: Sequence[Pair] = ()
    goal: float | None = None


@dataclass(frozen=True)
class _Scale:
    """From values to places along an axis."""

    low: float
    high: float
    start: float
    end: float

    @staticmethod
    def of(values: Sequence[float], axis: Axis, start: float, end: float) -> _Scale:
        low, high = (min(max(f(values), -_LARGEST), _LARGEST) for f in (min, max))
        low = min(low, high - axis.span)
        room = 0.09 * (high - low) or 0.05 * abs(high) or 1.0
        return _Scale(low - room, high + room, start, end)

    def __call__(self, value: float) -> float:
        inside = min(max(value, self.low), self.high)
        return self.start + (self.end - self.start) * (inside - self.low) / (self.high - self.low)


Box = tuple[float, float, float, float]  # left, top, right, bottom


def draw(picture: Picture) -> Markup:
    """Returns the picture; the same one gives the same text."""
    ups = [dot.y for dot in picture.dots] + ([picture.goal] if picture.goal is not None else [])
    across = _Scale.of([dot.x for dot in picture.dots], picture.across, LEFT, RIGHT)
    up = _Scale.of(ups, picture.up, BOTTOM, TOP)
    shapes = [*_grid(picture, across, up)]
    if picture.goal is not None:
        shapes.append(path("goal", f"M{number(LEFT)} {number(up(picture.goal))}H{number(RIGHT)}"))
    if picture.line:
        steps = " ".join(f"{number(across(x))} {number(up(y))}" for x, y in picture.line)
        shapes.append(path("step", f"M{steps}"))
    order = {"beaten": 0, "whole": 1, "front": 2}
    placed = [(dot, across(dot.x), up(dot.y)) for dot in picture.dots]
    placed.sort(key=lambda each: (order[each[0].kind], each[0].ringed))
    shapes += [_spread(dot.spread, across, y) for dot, _, y in placed if dot.spread]
    for dot, x, y in placed:
        shapes += _dot(dot, number(x), number(y))
    shapes += _labels(placed)
    told = "; ".join(dot.said for dot in picture.dots)
    return _FRAME.format(
        key=picture.key, title=picture.title, told=told, shapes=Markup("").join(shapes)
    )


def _dot(dot: Dot, x: str, y: str) -> list[Markup]:
    ring, said = [_RING.format(x=x, y=y)] if dot.ringed else [], _SAID.format(said=dot.said)
    if dot.kind == "whole":
        return [*ring, _WHOLE.format(x=x, y=y, said=said)]
    return [*ring, _DOT.format(kind=dot.kind, x=x, y=y, r=_SIZES[dot.kind], said=said)]


def _spread(interval: Pair, across: _Scale, y: float) -> Markup:
    low, high = (number(across(value)) for value in interval)
    return path("spread", f"M{low} {number(y)}H{high}")


def _text(kind: str, place: Pair, text: str, anchor: str = "start") -> Markup:
    return _TEXT.format(kind=kind, x=number(place[0]), y=number(place[1]), text=text, anchor=anchor)


def _grid(picture: Picture, across: _Scale, up: _Scale) -> list[Markup]:
    found = []
    for value, said in ticks(up.low, up.high, 5, picture.up.share):
        found.append(path("rule", f"M{number(LEFT)} {number(up(value))}H{number(RIGHT)}"))
        found.append(_text("tick", (LEFT - 6, up(value) + 4), said, "end"))
    for value, said in ticks(across.low, across.high, 6, picture.across.share):
        found.append(path("rule", f"M{number(across(value))} {number(TOP)}V{number(BOTTOM)}"))
        found.append(_text("tick", (across(value), BOTTOM + 16), said, "middle"))
    found.append(_text("name", (2, 13), picture.up.label))
    found.append(_text("name", (RIGHT, HEIGHT - 8), picture.across.label, "end"))
    return found


def ticks(low: float, high: float, most: int, share: bool) -> list[tuple[float, str]]:
    """Round values between two, at most so many, and how they are written."""
    factor = 100 if share else 1
    rough = factor * (high - low) / most
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= rough * (1 - 1e-9))
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(factor * low / step), math.floor(factor * high / step)
    found = []
    for index in range(first, last + 1):
        said = f"{index * step:.{decimals}f}"
        found.append((index * step / factor, f"{said} %" if share else said))
    return found


@dataclass
class _Room:
    """Where labels may go: within the frame, over no dot and no other label."""

    taken: list[Box] = field(default_factory=list)

    def take(self, box: Box) -> bool:
        """Takes a place if it is free."""
        left, top, right, bottom = box
        inside = left >= LEFT and right <= WIDTH and top >= TOP - 8 and bottom <= BOTTOM + 2
        free = inside and not any(
            left < r and right > le and top < b and bottom > t for le, t, r, b in self.taken
        )
        if free:
            self.taken.append(box)
        return free


def _labels(placed: Sequence[tuple[Dot, float, float]]) -> list[Markup]:
    """Labels of the ringed dots and the original, both ends first, each where there is room."""
    found, room = [], _Room()
    for dot, x, y in placed:
        size = 8.5 if dot.ringed else _SIZES[dot.kind]
        room.taken.append((x - size, y - size, x + size, y + size))
    named = [each for each in placed if each[0].ringed or each[0].kind == "whole"]
    named.sort(key=lambda each: each[1])
    for dot, x, y in sorted(named, key=lambda each: each not in (named[0], named[-1])):
        text = shorten(dot.label, LABEL_LENGTH)
        width = _LETTER * len(text)
        for anchor, at, low in _sides(x, y):
            left = at - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
            if room.take((left, low - _LINE + 3, left + width, low + 3)):
                found.append(_text("label", (at, low), text, anchor))
                break
    return found


def _sides(x: float, y: float) -> list[tuple[str, float, float]]:
    """Where a label beside a dot may be held, the best place first."""
    return [  # a front comes from below and goes on to the right
        *(("end", x - 6, y - 12), ("end", x - 12, y + 4), ("middle", x, y - 13)),
        *(("start", x + 6, y + 19), ("start", x + 12, y + 4), ("middle", x, y + 21)),
        *(("start", x + 6, y - 12), ("end", x - 6, y + 19)),
        *(("start", x - 8, y - 13), ("end", x + 8, y - 13)),
    ]
