"""The pass that finds the cut of a stated latency, by timing whole models.

Sums of measured layers, or a count of multiply-accumulates, say what a model takes only to within
ten per cent or more; timing the model itself costs less than a table of its layers would. Every
trial runs against the original, round by round, so that what slows the machine down slows both.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from prunecvt.runtimes.inputs import latency_inputs
from prunecvt.runtimes.latency import Contender, Race, race, ratio_interval
from prunecvt.runtimes.runners import Array, Backend
from prunecvt.writing.staged_model import staged
from prunecvt_passes.budget import Budget
from prunecvt_passes.errors import UnsupportedError, UsageError
from prunecvt_passes.fold import fold_batch_norms
from prunecvt_passes.groups import Groups
from prunecvt_passes.normalise import Dense, Source
from prunecvt_passes.recovery.cuts import Cut, Cuts
from prunecvt_passes.score import Scores
from prunecvt_passes.seek import Probe, Probed, nearest, seek
from prunecvt_passes.target import Target

PATIENCE_S = 4.0  # that a trial is timed for, in each runtime


@dataclass(frozen=True)
class Probing:
    """How trials are timed.

    Attributes:
        judge: the runtimes; where there are two, the one that gains less decides.
        threads: of an inference.
        seed: of the inputs.
        shapes: input -> sizes, where they are stated.
        path: the original's file; None where it came from memory.
    """

    judge: tuple[Backend, ...] = ("onnxruntime",)
    threads: int = 1
    seed: int = 0
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    path: Path | None = None


def probe_latency(
    source: Source, dense: Dense, groups: Groups, scores: Scores, budget: Budget, probing: Probing
) -> Probed:
    """Tries cuts until one is as fast as the target says.

    Raises:
        UsageError: E212, E213 as ``allocate``; E217, nothing can go.
        UnsupportedError: E412 or E430, a runtime cannot load or run a model.
    """
    if budget.target is None:
        raise UsageError("E201", "there is no target to probe for")
    inputs = latency_inputs(source.model, dense.sizes, probing.shapes, probing.seed)
    with tempfile.TemporaryDirectory(prefix="prunecvt-") as name:
        folder = Path(name)
        original = probing.path or staged(source.model, folder / "original" / "model.onnx")
        cuts = Cuts(dense, groups, scores, budget)
        trials = _Trials(probing, budget.target, budget.fold, inputs, folder, original)
        start = 0.5 if budget.target.absolute else budget.target.amount
        probes = seek(cuts.trying(trials.timed), start, lambda: trials.dense)
    if not probes:
        raise cuts.unreachable()
    return nearest(probes)


@dataclass
class _Trials:
    """Writes and times cuts; ``dense`` is the level of the original when it was timed last."""

    probing: Probing
    target: Target
    fold: bool
    inputs: Mapping[str, Array]
    folder: Path
    original: Path
    dense: float = 0.0

    def timed(self, cut: Cut) -> Probe:
        """A cut against the original, in the runtime that gains least by it."""
        model = fold_batch_norms(cut.model) if self.fold else cut.model
        path = staged(model, self.folder / "trial" / "model.onnx")
        contenders = [Contender("before", self.original), Contender("after", path)]
        worst = Probe(cut.removal, cut.macs, 0.0, 0.0)
        for backend in self.probing.judge:
            run = self._race(contenders, backend)
            before, after = run.judged_ms(0), run.judged_ms(1)
            ratio, _ = ratio_interval(before, after)
            whole = float(np.median(before)) if self.target.absolute else 1.0
            level = ratio * whole / self.target.amount
            if level > worst.level:
                value = ratio * whole
                worst = Probe(cut.removal, cut.macs, level, value)
                self.dense = whole / self.target.amount
        return worst

    def _race(self, contenders: list[Contender], backend: Backend) -> Race:
        threads, patience = self.probing.threads, PATIENCE_S
        try:
            return race(
                contenders, self.inputs, backend=backend, threads=threads, patience=patience
            )
        except UnsupportedError as error:
            other = "openvino" if backend == "onnxruntime" else "onnxruntime"
            raise UnsupportedError(
                error.code,
                error.message,
                where=error.where.replace(str(self.folder), "").lstrip("/"),
                help=f"take another runtime with --judge {other}, or a target of macs",
            ) from error
