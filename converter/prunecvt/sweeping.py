"""Slims one model by many amounts, times all of them in one race, and says which are worth having.

Points are slimmed in processes of their own, without latency; one that lies there already, of the
same model with the same settings, is taken as it is, so that a sweep that was interrupted goes on.
Then the original and all points run against each other round by round.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from prunecvt.api import slim
from prunecvt.errors import UsageError
from prunecvt.judging import bench_files
from prunecvt.options import Options
from prunecvt.report.schema import LatencyRow, Report
from prunecvt.report.sweep import SweepPoint, SweepReport, marked
from prunecvt.slimming import file_sha256

Progress = Callable[..., None]
_IDLE = ("bench", "force", "report", "fail_if", "strict_layout", "threads")  # of a point's settings


@dataclass(frozen=True)
class Amount:
    """How much goes at one point: a ratio or a target."""

    name: str
    options: Mapping[str, Any]

    @property
    def stem(self) -> str:
        """What files are called after."""
        return "".join(c if c.isalnum() or c in ".-" else "_" for c in self.name)


def amounts(ratios: Sequence[float], targets: Sequence[str]) -> list[Amount]:
    """The points of a sweep, in the order they were stated, none twice.

    Raises:
        UsageError: E201 or E212, a ratio or a target that is none.
    """
    found = [Amount(f"ratio={ratio:g}", {"ratio": ratio}) for ratio in ratios]
    found += [Amount(target, {"target": target}) for target in targets]
    for amount in found:
        ratio = amount.options.get("ratio")
        if ratio is not None and not 0 < ratio < 1:
            raise UsageError("E212", f"{amount.name} is out of range", help="give ratios like 0.3")
        Options.of(amount.options)
    return list({amount.name: amount for amount in found}.values())


def sweep(
    model: Path,
    folder: Path,
    points: Sequence[Amount],
    options: Mapping[str, Any],
    *,
    jobs: int = 1,
    progress: Progress | None = None,
) -> SweepReport:
    """Slims and times every point; writes models, reports and sweep.json into ``folder``.

    Args:
        model: the ONNX file.
        folder: where everything goes; made where it is not there.
        points: the amounts.
        options: as ``Options`` names them, for all points.
        jobs: processes that slim at a time.
        progress: called with what is being done and the share that is done.

    Raises:
        PrunecvtError: as ``slim`` does for the first point that fails.
    """
    if not points or jobs < 1:
        raise UsageError("E201", "a sweep needs an amount and a job or more", help="give --ratios")
    shared = {**options, "force": True, "bench": False}
    for point in points:
        Options.of({**shared, **point.options})
    folder.mkdir(parents=True, exist_ok=True)
    places = {point.name: folder / f"{model.stem}_{point.stem}.onnx" for point in points}
    sha256, reports = file_sha256(model), dict[str, Report]()
    for point in points:
        found = _there(places[point.name], sha256, Options.of({**shared, **point.options}))
        if found is not None:
            reports[point.name] = found
    missing = [point for point in points if point.name not in reports]
    for name, report in _slimmed(model, places, missing, shared, jobs):
        reports[name] = report
        if progress is not None:
            progress(f"slim {len(reports)} of {len(points)}", len(reports) / len(points))
    files = [model, *(places[point.name] for point in points)]
    backend = "both" if options.get("ir", True) else "onnxruntime"
    timed = {name: options[name] for name in ("threads", "seed", "input_shape") if name in options}
    _, rows = bench_files(files, backend, timed, progress)
    result = marked(model.name, sha256, list(_points(points, places, reports, rows)))
    (folder / "sweep.json").write_text(result.model_dump_json(indent=1) + "\n", "utf-8")
    return result


def _points(
    points: Sequence[Amount],
    places: Mapping[str, Path],
    reports: Mapping[str, Report],
    rows: Sequence[Sequence[LatencyRow]],
) -> Iterator[SweepPoint]:
    for point, latency in zip(points, rows, strict=True):
        report = reports[point.name]
        yield SweepPoint.of(point.name, places[point.name].name, report, list(latency))


def _there(path: Path, sha256: str, options: Options) -> Report | None:
    """The report of a point that was made before with the same settings."""
    try:
        report = Report.model_validate_json(path.with_suffix(".report.json").read_bytes())
    except (OSError, ValidationError):
        return None
    wanted = json.loads(json.dumps(options.settings()))
    alike = {k: v for k, v in wanted.items() if k not in _IDLE} == {
        k: v for k, v in report.settings.items() if k not in _IDLE
    }
    written = report.output.onnx
    whole = path.is_file() and written is not None and file_sha256(path) == written.sha256
    return report if alike and whole and report.input.sha256 == sha256 else None


def _slimmed(
    model: Path,
    places: Mapping[str, Path],
    points: Sequence[Amount],
    options: Mapping[str, Any],
    jobs: int,
) -> Iterator[tuple[str, Report]]:
    """Slims points as processes become free."""
    if not points:
        return
    context = multiprocessing.get_context("spawn")  # no runtime's threads are inherited
    with ProcessPoolExecutor(min(jobs, len(points)), mp_context=context) as pool:
        made = {
            pool.submit(_slim, model, places[point.name], {**options, **point.options}): point
            for point in points
        }
        try:
            for done in as_completed(made):
                yield made[done].name, done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _slim(model: Path, out: Path, options: dict[str, Any]) -> Report:
    return slim(model, out, **options).report
