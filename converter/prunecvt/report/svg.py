"""The report's pictures as inline SVG: shapes only, stretched to the width of the page.

Text beside a picture is HTML, so that it keeps its size on a phone; colours are CSS classes, so
that dark mode and print need no second picture. Each picture has a title that says what it shows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from prunecvt.report.schema import GroupRow, LatencyRow, Timing
from prunecvt.report.wording import milliseconds, runtime

MOST_MARKS = 120
_FRAME = Markup(
    '<svg class="{kind}" viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img">'
    "<title>{title}</title>{shapes}</svg>"
)
_RECTANGLE = Markup('<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}"/>')
_PATH = Markup('<path class="{kind}" d="{steps}"/>')


def number(value: float) -> str:
    """A coordinate, with two decimals at most."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def frame(kind: str, width: float, height: float, title: str, shapes: Sequence[Markup]) -> Markup:
    """A picture of some shapes; ``title`` says what it shows to whoever cannot see it."""
    return _FRAME.format(
        kind=kind,
        width=number(width),
        height=number(height),
        title=title,
        shapes=Markup("").join(shapes),
    )


def path(kind: str, steps: str) -> Markup:
    """A path; ``kind`` is its CSS class."""
    return _PATH.format(kind=kind, steps=steps)


def _rectangle(kind: str, x: float, y: float, width: float, height: float) -> Markup:
    return _RECTANGLE.format(
        kind=kind, x=number(x), y=number(y), width=number(width), height=number(height)
    )


def share_bar(group: GroupRow) -> Markup:
    """Draws the share of a group's channels that was kept."""
    share = group.channels_after / group.channels_before if group.channels_before else 1.0
    kept = "whole" if group.channels_after == group.channels_before else "kept"
    title = f"{group.channels_after} of {group.channels_before} channels kept"
    shapes = [_rectangle(kept, 0, 0, 100 * share, 8)]
    if share < 1:
        shapes.append(_rectangle("gone", 100 * share, 0, 100 * (1 - share), 8))
    return frame("bar", 100, 8, title, shapes)


def profile(groups: Sequence[GroupRow]) -> Markup:
    """Draws the width of every group, in network order, before and after."""
    tallest = max((group.channels_before for group in groups), default=1) or 1
    steps: dict[str, list[str]] = {"gone": [], "kept": [], "whole": []}
    gap = 0.25 if len(groups) < 150 else 0.1
    for place, group in enumerate(groups):
        left = number(place + gap / 2)
        cut = group.channels_after < group.channels_before
        heights = [("kept" if cut else "whole", group.channels_after)]
        if cut:
            heights.insert(0, ("gone", group.channels_before))
        for kind, channels in heights:
            height = number(100 * channels / tallest)
            steps[kind].append(f"M{left} 100v-{height}h{number(1 - gap)}v{height}z")
    shapes = [path(kind, "".join(boxes)) for kind, boxes in steps.items() if boxes]
    title = f"Channels of {len(groups)} groups before and after, highest {tallest}"
    return frame("profile", max(len(groups), 1), 100, title, shapes)


def time_axis(row: LatencyRow) -> list[tuple[float, str]]:
    """Returns the ticks of a latency picture as (percent from the left, label); starts at 0."""
    end = axis_end(row)
    rough = end / 4
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= rough)
    ticks = [index * step for index in range(int(end / step) + 1)]
    return [(round(100 * tick / end, 2), f"{tick:g}") for tick in ticks]


def axis_end(row: LatencyRow) -> float:
    """Where a latency picture ends, in ms: stragglers beyond three medians are not drawn."""
    medians = max(row.before.median_ms, row.after.median_ms)
    tails = max(row.before.p99, row.after.p99)
    return max(min(1.04 * tails, 3 * medians), 1.1 * medians, 1e-6)


def beyond_axis(row: LatencyRow) -> int:
    """How many samples of both models lie beyond the end of the picture."""
    end = axis_end(row)
    return sum(value > end for timing in (row.before, row.after) for value in timing.samples_ms)


def strip(row: LatencyRow, timing: Timing, name: str) -> Markup:
    """Draws one model's latencies: a mark per run, a box from p10 to p90, a line at the median."""
    end = axis_end(row)
    inside = sorted(value for value in timing.samples_ms if value <= end)
    stride = max(1, math.ceil(len(inside) / MOST_MARKS))
    marks = "".join(f"M{number(1000 * value / end)} 9v10" for value in inside[::stride])
    left, right = 1000 * min(timing.p10, end) / end, 1000 * min(timing.p90, end) / end
    middle = number(1000 * timing.median_ms / end)
    title = (
        f"{runtime(row)}, {name}: median {milliseconds(timing.median_ms)}, "
        f"p10 {milliseconds(timing.p10)}, p90 {milliseconds(timing.p90)}"
    )
    shapes = [
        _rectangle("box", left, 3, max(right - left, 1), 22),
        path("marks", marks or "M0 0"),
        path("median", f"M{middle} 0v28"),
    ]
    return frame(f"strip {name}", 1000, 28, title, shapes)


def ratio_scale(row: LatencyRow) -> float:
    """The latency ratio at the right edge of a ratio picture."""
    return max(1.15, min(1.05 * max(row.ratio_ci95[1], row.ratio, row.macs_ratio or 0.0), 3.0))


def ratio_axis(row: LatencyRow) -> list[tuple[float, str]]:
    """Returns the ticks of a ratio picture as (percent from the left, label)."""
    scale = ratio_scale(row)
    return [(round(50 * half / scale, 2), f"{half / 2:g}") for half in range(int(2 * scale) + 1)]


def ratio_interval(row: LatencyRow) -> Markup:
    """Draws a latency ratio and its interval, beside the ratio of MACs and the 1 of no change."""
    scale = ratio_scale(row)

    def place(ratio: float) -> float:
        return 1000 * min(max(ratio / scale, 0.0), 1.0)

    low, high = (place(ratio) for ratio in row.ratio_ci95)
    title = (
        f"{runtime(row)}: latency ratio {row.ratio:.3f}, "
        f"95 % CI {row.ratio_ci95[0]:.3f} to {row.ratio_ci95[1]:.3f}"
    )
    shapes = [
        path("axis", "M0 14h1000"),
        path("one", f"M{number(place(1))} 0v28"),
        _rectangle("interval", low, 9, max(high - low, 2), 10),
        path("point", f"M{number(place(row.ratio))} 4v20"),
    ]
    if row.macs_ratio is not None:
        title += f", MACs ratio {row.macs_ratio:.3f}"
        shapes.append(path("bound", f"M{number(place(row.macs_ratio))} 0v28"))
    return frame("ratio", 1000, 28, title, shapes)
