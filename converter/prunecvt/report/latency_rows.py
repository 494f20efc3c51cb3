"""The parts of the report that hold latencies; in milliseconds where the name says ``_ms``."""

from __future__ import annotations

from typing import Literal

from prunecvt.report.record import Record


class Timing(Record):
    """The distribution of one model's latency; ``*_ms`` of one inference."""

    median_ms: float
    p10: float
    p90: float
    p99: float
    min_ms: float
    cpu_median_ms: float
    n: int
    load_ms: float
    first_ms: float
    samples_ms: list[float]


class Layout(Record):
    """How onnxruntime's optimised graph runs the convolutions."""

    nchwc_convs: int
    plain_convs: int
    reorders: int


class LatencyRow(Record):
    """Two models timed against each other in one runtime, round by round.

    ``ratio`` is after over before (below 1 is faster), of CPU medians for one thread and of wall
    medians for more; ``contended`` says that the machine was busy and wall times cannot be trusted.
    """

    backend: Literal["onnxruntime", "openvino"]
    threads: int
    shape: dict[str, list[int]]
    before: Timing
    after: Timing
    ratio: float
    ratio_ci95: tuple[float, float]
    judged_by: Literal["cpu", "wall"]
    macs_ratio: float | None = None
    contended: bool
    significant: bool


class LayoutCheck(Record):
    """Layout before and after; ``fell_off`` names convolutions that left the blocked path."""

    before: Layout
    after: Layout
    fell_off: list[str]
