"""The report's error curves as small multiples: one little SVG per group, all on one scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from prunecvt.report.schema import GroupRow
from prunecvt.report.svg import frame, number, path
from prunecvt.report.wording import significant

LEAST, MOST = -4.0, 1.0  # powers of ten that the pictures span
WIDTH, HEIGHT = 100.0, 50.0


@dataclass(frozen=True)
class Small:
    """One picture: its group, the drawing, and what is said below it."""

    group: GroupRow
    drawing: Markup
    chosen: str
    drift: str


def smalls(groups: Sequence[GroupRow]) -> list[Small]:
    """Returns a picture for every group that has a curve, in network order."""
    return [Small(g, curve(g), chosen(g), drift(g)) for g in groups if g.curve is not None]


def chosen(group: GroupRow) -> str:
    """How many were kept, and the error there."""
    if group.error is None or group.channels_after == group.channels_before:
        return f"all {group.channels_before} kept"
    kept = f"{group.channels_after} of {group.channels_before} kept"
    return f"{kept}, error {significant(group.error, 2)}"


def drift(group: GroupRow) -> str:
    """How far the group's readers really are off; "" where that was not measured."""
    if group.drift is None:
        return ""
    before, after = (significant(value, 2) for value in (group.drift.before, group.drift.after))
    return f"{before} \N{RIGHTWARDS ARROW} {after}"


def curve(group: GroupRow) -> Markup:
    """Draws a group's error against the channels that went, and where it was cut."""
    points = group.curve
    size = max(group.channels_before, 1)
    steps = []
    for kept, error in zip(points.kept, points.error, strict=True) if points else ():
        steps.append(f"{WIDTH * (size - kept) / size:.3g} {height(error):.3g}")
    title = f"Error of what reads {group.members[0]}: {chosen(group)}"
    if drift(group):
        title += f"; measured {drift(group)}"
    place = WIDTH * (size - group.channels_after) / size
    shapes = [path("curve", f"M{' '.join(steps) or '0 0'}")]
    if group.channels_after < group.channels_before:
        shapes.append(path("chosen", f"M{number(place)} 0v{number(HEIGHT)}"))
        found = height(group.error or 0.0)
        shapes.append(path("point", f"M{number(place)} {number(found - 3)}v6"))
    return frame("small", WIDTH, HEIGHT, title, shapes)


def height(error: float) -> float:
    """Where an error lies in the picture: a logarithm, with all that is smaller at the bottom."""
    power = min(max(math.log10(max(error, 1e-300)), LEAST), MOST)
    return HEIGHT * (MOST - power) / (MOST - LEAST)
