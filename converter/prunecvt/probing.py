"""The pass that finds the cut of a stated latency, by timing whole models.

Sums of measured layers, or a count of multiply-accumulates, say what a model takes only to within
ten per cent or more; timing the model itself costs less than a table of its layers would. Every
trial runs against the original, round by round, so that what slows the machine down slows both.
The first trial is cut by multiply-accumulates; profiled, it says what they take in which layer, so
that the next ones go where least error buys most time.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from prunecvt.runtimes.inputs import latency_inputs
from prunecvt.runtimes.latency import Contender, Race, race, ratio_interval
from prunecvt.runtimes.profile import profile
from prunecvt.runtimes.runners import Array, Backend
from prunecvt.writing.staged_model import staged
from prunecvt_passes.budget import Budget
from prunecvt_passes.errors import UnsupportedError, UsageError
from prunecvt_passes.fold import fold_batch_norms
from prunecvt_passes.graph import every_node
from prunecvt_passes.groups import Groups
from prunecvt_passes.normalise import Dense, Source
from prunecvt_passes.recovery.cuts import Cut, Cuts
from prunecvt_passes.recovery.latency_prices import Profile, latency_prices
from prunecvt_passes.rewriting.rewrite import Cleaning, rewrite
from prunecvt_passes.score import Scores
from prunecvt_passes.seek import MISSED, MOST, Probe, Probed, nearest, seek
from prunecvt_passes.target import Target

log = logging.getLogger("prunecvt")
NO_MODEL = (
    "the trials for the target were cut by multiply-accumulates: {runtime}'s profile could not be "
    "led back to the model's layers"
)
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
        cleaning: what is done to a cut before it is written.
    """

    judge: tuple[Backend, ...] = ("onnxruntime",)
    threads: int = 1
    seed: int = 0
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    path: Path | None = None
    cleaning: Cleaning = field(default_factory=Cleaning)


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
        trials = _Trials(probing, budget.target, cuts, inputs, folder, original)
        return _found(trials)


def _found(trials: _Trials) -> Probed:
    """Tries one cut by multiply-accumulates, and then such as cost least error for the time."""
    cuts = trials.cuts
    start = 0.5 if trials.target.absolute else trials.target.amount
    first = cuts.at(start)
    if first is None:
        probes = seek(cuts.trying(trials.timed), start, lambda: trials.unpruned)
        if not probes:
            raise cuts.unreachable()
        return nearest(probes)
    probe = trials.timed(first)
    priced, predicted = trials.priced(first)
    start = min(predicted / max(probe.level, 1e-9), 1.0)
    tried = priced.trying(trials.timed, [probe])
    probes = seek(tried, start, lambda: trials.unpruned, MOST - 1)
    if not probes:
        return nearest([probe])
    made = probes if probe in probes else [probe, *probes]
    best = nearest(probes)
    near = abs(best.best.level - 1) <= MISSED
    note = "" if priced.cost_of is not None else NO_MODEL.format(runtime=trials.slower)
    return replace(best if near else nearest(made), probes=tuple(made), note=note)


@dataclass
class _Trials:
    """Writes, times and profiles cuts.

    ``unpruned`` is the level of the original when it was timed last, ``slower`` the runtime that
    gained least by the cut then.
    """

    probing: Probing
    target: Target
    cuts: Cuts
    inputs: Mapping[str, Array]
    folder: Path
    original: Path
    unpruned: float = 0.0
    slower: Backend = "onnxruntime"

    def timed(self, cut: Cut) -> Probe:
        """A cut against the original, in the runtime that gains least by it."""
        contenders = [Contender("before", self.original), Contender("after", self._written(cut))]
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
                self.unpruned = whole / self.target.amount
                self.slower = backend
        return worst

    def priced(self, cut: Cut) -> tuple[Cuts, float]:
        """Cuts by a cost model of the latency, and what that predicts of one, as a share.

        The model is fitted on profiles of the whole model and of that cut, in the runtime that
        gained less by it. Where a runtime's kernels cannot be led back to nodes, cuts stay by
        multiply-accumulates.
        """
        cuts = self.cuts
        profiles = self._profile(cuts.whole()), self._profile(cut)
        prices = latency_prices(cuts.groups, *profiles)
        if prices is None:
            return cuts, cut.macs
        left = prices.total(cuts.kept(cut)) / prices.total(prices.sizes)
        log.info("cost model: %.3f of the latency left at %.3f of the MACs", left, cut.macs)
        return replace(cuts, cost_of=prices), left

    def _profile(self, cut: Cut) -> Profile:
        threads = self.probing.threads
        path = self._written(cut, named=True)
        kernels = profile(path, self.inputs, backend=self.slower, threads=threads)
        return Profile(self.cuts.kept(cut), kernels)

    def _written(self, cut: Cut, named: bool = False) -> Path:
        """The file of a cut as it will be; ``named``: with a name for every node."""
        model = fold_batch_norms(cut.model) if self.cuts.budget.fold else cut.model
        model = rewrite(self.cuts.dense, model, self.probing.cleaning).model
        if named:
            model = model.copy()
            for node in every_node(model.proto.graph):
                node.name = node.name or next(filter(None, node.output), "")
        return staged(model, self.folder / "trial" / "model.onnx")

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
