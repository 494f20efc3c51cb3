"""Slims one model by many amounts, times all of them in one race, and says which are worth having.

Points are slimmed in processes of their own, without latency; one that lies there already, of the
same model with the same settings, is taken as it is, so that a sweep that was interrupted goes on.
Then the original and all points run against each other round by round.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunecvt.api import slim
from prunecvt.errors import UsageError
from prunecvt.judging import bench_files
from prunecvt.loading.refusal import place
from prunecvt.loading.regular_file import open_regular
from prunecvt.options import Options
from prunecvt.pace import Pace, Progress, Stages, silent
from prunecvt.report.assemble import Stopwatch, run_row
from prunecvt.report.schema import LatencyRow, Report, Tool
from prunecvt.report.sweep import SweepPoint, SweepReport, marked, original_of
from prunecvt.report.sweep_page import render_sweep_html
from prunecvt.runtimes.environment import describe
from prunecvt.slimming import file_sha256
from prunecvt.sweep_folder import made_before, prepare, shared_settings
from prunecvt.version import VERSION
from prunecvt.writing.write import from_bytes, write_set


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
    """Slims and times every point; writes models, reports, sweep.json and sweep.html.

    Args:
        model: the ONNX file.
        folder: where everything goes; made where it is not there.
        points: the amounts.
        options: as ``Options`` names them, for all points; ``force`` replaces what lies there of
            another model or other settings, and takes up what is the same.
        jobs: processes that slim at a time.
        progress: called with what is being done, the share that is done, and by name with ``left``,
            the seconds that it still takes, and ``lasting`` where it is worth a line in a log.

    Raises:
        PrunecvtError: as ``slim`` does for the first point that fails.
        OutputError: E701, the folder holds other results; E703 to E706, it cannot be made or
            written to.
    """
    if not points or jobs < 1:
        raise UsageError("E201", "a sweep needs an amount and a job or more", help="give --ratios")
    watch, tell = Stopwatch(), progress or silent
    series = _Series.of(model, folder, points, {**options, "force": True, "bench": False})
    documents = series.prepared(folder, force=bool(options.get("force")))
    reports = _made(series, jobs, tell)
    files = [model, *(series.places[point.name] for point in points)]
    tell(f"timing {len(files)} models in one race", lasting=True)
    backend = "both" if options.get("ir", True) else "onnxruntime"
    timed = {name: options[name] for name in ("threads", "seed", "input_shape") if name in options}
    _, rows = bench_files(files, backend, timed, _racing(tell))
    result = _result(series, reports, rows, watch)
    texts = result.model_dump_json(indent=1) + "\n", render_sweep_html(result)
    encoded = [text.encode("utf-8", "replace") for text in texts]
    write_set([from_bytes(*part) for part in zip(documents, encoded, strict=True)], force=True)
    return result


@dataclass(frozen=True)
class _Series:
    """One model, the amounts, where each goes, and the options that all share."""

    model: Path
    sha256: str
    points: Sequence[Amount]
    places: Mapping[str, Path]
    shared: Mapping[str, Any]

    @staticmethod
    def of(
        model: Path, folder: Path, points: Sequence[Amount], shared: Mapping[str, Any]
    ) -> _Series:
        """The series, every point's options checked.

        Raises:
            UsageError: options that contradict each other or are none.
            InputError: E301, the model cannot be read.
        """
        for point in points:
            Options.of({**shared, **point.options})
        places = {point.name: folder / f"{model.stem}_{point.stem}.onnx" for point in points}
        with open_regular(str(model), "E301", place(str(model))):
            return _Series(model, file_sha256(model), points, places, shared)

    def options(self, point: Amount) -> dict[str, Any]:
        """Everything that is asked for at a point."""
        return {**self.shared, **point.options}

    def prepared(self, folder: Path, force: bool) -> list[Path]:
        """The documents of the sweep, once the folder is there and free for it."""
        asked = {self.places[each.name]: Options.of(self.options(each)) for each in self.points}
        return prepare(folder, self.sha256, Options.of(self.shared), asked, force=force)


def _made(series: _Series, jobs: int, tell: Progress) -> dict[str, Report]:
    """The reports of all points: of those that lie there, and of the others once they are made."""
    number, reports = len(series.points), dict[str, Report]()
    for point in series.points:
        found = made_before(
            series.places[point.name], series.sha256, Options.of(series.options(point))
        )
        if found is not None:
            reports[point.name] = found
    if reports:
        tell(f"taken up again: {len(reports)} of {number}", len(reports) / number, lasting=True)
    missing = [point for point in series.points if point.name not in reports]
    pace = Pace(len(missing), jobs)
    for name, report in _slimmed(series, missing, jobs):
        reports[name] = report
        what, share = f"slimmed {len(reports)} of {number}: {name}", len(reports) / number
        tell(what, share, left=pace.finished(report.run.seconds), lasting=True)
    return reports


def _racing(tell: Progress) -> Progress:
    """Adds to the progress of the race how long its runtime still takes."""
    stages = Stages()

    def advance(what: str, share: float) -> None:
        tell(what, share, left=stages.left(what, share))

    return advance


def _result(
    series: _Series,
    reports: Mapping[str, Report],
    rows: Sequence[Sequence[LatencyRow]],
    watch: Stopwatch,
) -> SweepReport:
    found = []
    for point, latency in zip(series.points, rows, strict=True):
        onnx = series.places[point.name].name
        found.append(SweepPoint.of(point.name, onnx, reports[point.name], list(latency)))
    original, judged_on = original_of(list(reports.values()))
    chosen = Options.of(series.shared)
    return SweepReport(
        tool=Tool(version=VERSION),
        run=run_row(watch),
        env=describe(chosen.threads),
        model=series.model.name,
        sha256=series.sha256,
        settings=shared_settings(chosen),
        original=original,
        judged_on=judged_on,
        points=marked(found, original),
    )


def _slimmed(series: _Series, points: Sequence[Amount], jobs: int) -> Iterator[tuple[str, Report]]:
    """Slims points as processes become free."""
    if not points:
        return
    context = multiprocessing.get_context("spawn")  # no runtime's threads are inherited
    with ProcessPoolExecutor(min(jobs, len(points)), mp_context=context) as pool:
        made = {
            pool.submit(_slim, series.model, series.places[p.name], series.options(p)): p.name
            for p in points
        }
        try:
            for done in as_completed(made):
                yield made[done], done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _slim(model: Path, out: Path, options: dict[str, Any]) -> Report:
    return slim(model, out, **options).report
