"""Sweeps built in code."""

from __future__ import annotations

import random
from typing import Any

import report_examples as examples
from prunecvt.report.schema import Tool
from prunecvt.report.sweep import SweepPoint, SweepReport, marked


def point(name: str, ratio: float, quality: float | None, **changes: Any) -> SweepPoint:
    """A point timed in onnxruntime; ``changes`` replace fields."""
    spread = (0.97 * ratio, 1.03 * ratio)
    fields: dict[str, Any] = {
        "onnx": "m.onnx",
        "macs": 0.5,
        "params": 0.5,
        "measure": None if quality is None else "agreement",
        "latency": [examples.latency(ratio=ratio, ratio_ci95=spread)],
    }
    return SweepPoint(name=name, quality=quality, **{**fields, **changes})


def sweep_of(points: list[SweepPoint], original: float | None = 1.0, **changes: Any) -> SweepReport:
    """A sweep of these points, with the best marked."""
    fields: dict[str, Any] = {
        "tool": Tool(version="0.1.0"),
        "run": examples.report().run,
        "env": examples.environment(),
        "model": "models/resnet56.onnx",
        "sha256": examples.SHA,
        "settings": {"scope": "auto", "criterion": "auto", "round_to": "auto", "seed": 0},
        "original": original,
        "judged_on": "256 calibration samples",
    }
    return SweepReport(points=marked(points, original), **{**fields, **changes})


def many(number: int = 30, name: str = "ratio") -> SweepReport:
    """As many points, half of them beaten, in two runtimes."""
    source, points = random.Random(2), []
    for index in range(number):
        ratio = 1.05 - 0.9 * index / number
        quality = 1 - 0.25 * (1 - ratio) ** 2 - source.choice((0.0, 0.0, 0.02, 0.05))
        latency = [
            examples.latency(ratio=r, ratio_ci95=(0.96 * r, 1.04 * r), backend=backend)
            for backend, r in (("onnxruntime", ratio), ("openvino", ratio + 0.05))
        ]
        stated = f"{name}={index / number:.2f}"
        points.append(
            point(stated, ratio, min(quality, 1.0), latency=latency, onnx=f"m_{index}.onnx")
        )
    return sweep_of(points)
