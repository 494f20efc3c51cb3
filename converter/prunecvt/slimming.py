"""Slims a model in memory: runs the pipeline, checks the result, and says what came of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prunecvt.calibrating import calibrate
from prunecvt.checks import (
    Contract,
    Outcomes,
    Tolerance,
    check_contract,
    compare_masked,
    compare_original,
    compare_rewritten,
    run_slimmed,
)
from prunecvt.differentiating import differentiate, differentiate_matched
from prunecvt.evaluation.accuracy import EvaluationRequest, measure_accuracy
from prunecvt.loading.load import Loadable, load
from prunecvt.options import Options
from prunecvt.probing import Probing, probe_latency
from prunecvt.reinit import Redrawn, Reinit, draw_anew, redraw
from prunecvt.report.schema import Accuracy, Fidelity, OracleCheck, RewriteCheck
from prunecvt.runtimes.backends import JUDGES
from prunecvt.static_batch import BatchRequest, StaticBatch, fix_batch
from prunecvt.trials import Feed, TrialRequest, Trials, make_trials
from prunecvt_passes import pipeline, runtime
from prunecvt_passes.budget import Removal
from prunecvt_passes.cost import Cost, cost
from prunecvt_passes.criteria.gather import gather
from prunecvt_passes.criteria.statistics import NO_STATISTICS
from prunecvt_passes.criteria.table import CRITERIA, resolved
from prunecvt_passes.graph import index
from prunecvt_passes.groups import Groups
from prunecvt_passes.model import Model
from prunecvt_passes.normalise import Dense, Source
from prunecvt_passes.pipeline import Facts, Pass
from prunecvt_passes.plan import Plan, write_down
from prunecvt_passes.recipes import (
    ALLOCATE,
    ANALYSE,
    CUT,
    DECIDE,
    FOLD,
    RECOVER,
    RECOVER_MATCHED,
    REPLAY,
    REWRITE,
    SEARCH,
    SEARCH_MATCHED,
    SYNTHESISE,
)
from prunecvt_passes.recovery.agree import probe_agreement
from prunecvt_passes.recovery.curve import NO_CURVES, Curves
from prunecvt_passes.recovery.measure import measure
from prunecvt_passes.recovery.recover import Recovery
from prunecvt_passes.recovery.search import Searched
from prunecvt_passes.rewriting.rewrite import Rewritten
from prunecvt_passes.saturation import multiplies_integers
from prunecvt_passes.score import Scores, score
from prunecvt_passes.seek import Probed, take_probed
from prunecvt_passes.shapes import infer
from prunecvt_passes.synthetic.passes import gather_matched, measure_matched

Progress = Callable[[str], None]
CHECK: tuple[Pass, ...] = (check_contract, make_trials, run_slimmed, compare_masked)
COMPARE: tuple[Pass, ...] = (compare_original,)
JUDGE: tuple[Pass, ...] = (measure_accuracy,)


@dataclass(frozen=True)
class Slimmed:
    """A model and its slimmed form, with every fact that the pipeline made.

    Attributes:
        source: the original.
        sha256: of the original's file (or serialized form).
        path: the original's file, None where it came from memory.
        model: the slimmed model.
        plan: what was cut.
        facts: everything else.
        before, after: what both cost.
        oracle: the masked-dense check of the cut; None where checks were left out.
        recovery: what was done for the accuracy.
        rewritten: what was cleaned up before writing.
        rewriting: how it compares then; None where nothing was, or checks were left out.
    """

    source: Model
    sha256: str
    path: Path | None
    model: Model
    plan: Plan
    facts: Facts
    before: Cost
    after: Cost
    oracle: OracleCheck | None
    recovery: Recovery | None = None
    rewritten: Rewritten | None = None
    rewriting: RewriteCheck | None = None

    @property
    def groups(self) -> Groups:
        """Labels, classes and groups of the original."""
        return self.facts.get(Groups)

    @property
    def removal(self) -> Removal:
        """What went."""
        return self.facts.get(Removal)

    @property
    def scores(self) -> Scores | None:
        """What the channels were scored; None where a plan was replayed."""
        return self.facts.values.get(Scores)

    @property
    def curves(self) -> Curves:
        """The groups' error curves; empty where none were measured."""
        return self.facts.get(Curves) if Curves in self.facts.values else NO_CURVES

    @property
    def searched(self) -> Searched | None:
        """What a search of rates found; None where none was made."""
        return self.facts.values.get(Searched)

    @property
    def probed(self) -> Probed | None:
        """The trials for a target that has to be measured; None where there was none."""
        return self.facts.values.get(Probed)

    @property
    def fidelity(self) -> Fidelity | None:
        """What the cut cost; None where checks were left out."""
        return self.facts.values.get(Fidelity)

    @property
    def accuracy(self) -> Accuracy | None:
        """Right answers before and after; None without labelled data."""
        return self.facts.values.get(Accuracy)

    @property
    def contract(self) -> Contract | None:
        """The contract check; None where checks were left out."""
        return self.facts.values.get(Contract)

    @property
    def static_batch(self) -> StaticBatch | None:
        """The batch that the IR is fixed at; None where it stays as it is."""
        return self.facts.values.get(StaticBatch)

    @property
    def reference(self) -> tuple[Feed, Feed] | None:
        """Inputs and outputs of one run of the slimmed model; None where checks were left out."""
        if Outcomes not in self.facts.values:
            return None
        return self.facts.get(Trials).random[0], self.facts.get(Outcomes).random[0]

    @property
    def refusal(self) -> str:
        """Why onnxruntime does not run the slimmed model as it is; "" where it may."""
        outcomes = self.facts.values.get(Outcomes)
        if outcomes is not None:
            return str(outcomes.refusal)
        model = self.model
        copied = runtime.comparable(model) is not model or multiplies_integers(model)
        return runtime.refusal(model) if copied else ""


def analyse(
    model: Loadable, options: Options, progress: Progress | None = None
) -> tuple[Facts, str, Path | None]:
    """Loads a model, labels its channels, scores them and decides what goes.

    Returns:
        The facts, the SHA-256 of the model's file, and its path (None from memory).
    """
    facts, sha256, path = load_facts(model, options)
    passes = (*ANALYSE, *_reading(options), *_deciding(options, facts))
    pipeline.run(passes, facts, progress)
    return facts, sha256, path


def slim_in_memory(
    model: Loadable, options: Options, plan: Plan | None = None, progress: Progress | None = None
) -> Slimmed:
    """Slims a model.

    Args:
        model: a path, bytes, a ``ModelProto`` or a graphsurgeon graph; left as it is.
        options: how.
        plan: what to cut, instead of what ``options`` would choose.
        progress: called with the name of each pass as it starts.

    Raises:
        PrunecvtError: as ``prunecvt.errors`` lists them.
    """
    facts, sha256, path = load_facts(model, options, plan)
    deciding = _deciding(options, facts) if plan is None else REPLAY
    fixing = (fix_batch,) if options.static_batch is not None else ()
    passes = [*ANALYSE, *fixing, *_reading(options), *deciding, *CUT]
    if options.fold_bn:
        passes += FOLD
    if options.verify:
        passes += CHECK
    foreign = pipeline.named_passes(options.passes)  # a name that is none is told at once
    pipeline.run(passes, facts, progress)
    oracle = facts.values.get(OracleCheck)  # of the cut alone: what edits afterwards outdates it
    cut = facts.get(Model)
    trying, taking = RECOVER if options.synthetic is None else RECOVER_MATCHED
    pipeline.run((trying,), facts, progress)
    recovery = facts.get(Recovery)  # what it gives outdates what it was made from
    if recovery.model is not cut:
        pipeline.run((taking,), facts, progress)
    cleaned = _cleaned(facts, options, progress)
    edited = bool(foreign) or facts.get(Model) is not cut
    _edit_and_judge(facts, foreign, edited, options, progress)
    return replace(finished(facts, sha256, path, oracle), recovery=recovery, **cleaned)


def _edit_and_judge(
    facts: Facts,
    passes: Sequence[Pass],
    edited: bool,
    options: Options,
    progress: Progress | None,
) -> None:
    """Runs the passes that were named, draws weights anew, checks what came of it and judges it."""
    if options.reinit:
        _draw_anew(facts, passes, options.seed, progress)
        passes = (check_contract, run_slimmed) if options.verify else ()
    elif options.verify:
        passes = (*passes, *((check_contract, run_slimmed) if edited else ()), *COMPARE)
    if options.evaluation is not None:
        passes = (*passes, *JUDGE)
    pipeline.run(passes, facts, progress)


def _cleaned(facts: Facts, options: Options, progress: Progress | None) -> dict[str, Any]:
    """Rewrites what is written, and holds it against what it was; both facts for ``Slimmed``."""
    rewriting, taking = REWRITE
    pipeline.run((rewriting,), facts, progress)
    found: dict[str, Any] = {"rewritten": facts.get(Rewritten)}  # taking it outdates it
    if found["rewritten"].changed:
        if options.verify:
            pipeline.run((compare_rewritten,), facts, progress)
            found["rewriting"] = facts.get(RewriteCheck)
        pipeline.run((taking,), facts, progress)
    return found


def _draw_anew(facts: Facts, edits: Sequence[Pass], seed: int, progress: Progress | None) -> None:
    """Draws the weights anew, after the edits that were asked for."""
    facts.put(Reinit(seed))
    pipeline.run((*edits, redraw), facts, progress)
    redrawn = facts.get(Redrawn)
    pipeline.run((draw_anew,), facts, progress)
    facts.put(redrawn)  # the report tells of it


def costs(facts: Facts, options: Options) -> tuple[Cost, Cost]:
    """What the model of ``analyse`` costs, as it is and cut as was decided."""
    pipeline.run((*CUT, *(FOLD if options.fold_bn else ())), facts)
    return costs_of(facts)


def costs_of(facts: Facts) -> tuple[Cost, Cost]:
    """What the normal form and the model that is left of it cost."""
    dense, model = facts.get(Dense), facts.get(Model)
    shapes, _ = infer(model, dense.sizes)
    return cost(dense.graph, dense.batch), cost(index(model, shapes), dense.batch)


def _reading(options: Options) -> tuple[Pass, ...]:
    """The passes that read the data, or make noise for want of it."""
    return (calibrate,) if options.synthetic is None else SYNTHESISE


def _deciding(options: Options, facts: Facts) -> tuple[Pass, ...]:
    """The passes that score and choose; data is gathered only as far as the scores need it."""
    entry = CRITERIA.get(resolved(options.scoring.name, data=True))
    gathering: tuple[Pass, ...] = ()
    if entry is not None and entry.cumulative:
        gathering = (measure if options.synthetic is None else measure_matched,)
    else:
        facts.put(NO_CURVES)
    if entry is not None and entry.sees:
        gathering = (gather if options.synthetic is None else gather_matched,)
    elif entry is not None and entry.loss:
        gathering = (differentiate if options.synthetic is None else differentiate_matched,)
    else:
        facts.put(NO_STATISTICS)
    target = options.budget.target
    if target is not None and target.probed:
        probing: Pass = probe_latency if target.currency == "latency" else probe_agreement
        return (*gathering, score, probing, take_probed)
    if options.scope == "search":
        return (*gathering, *(SEARCH if options.synthetic is None else SEARCH_MATCHED))
    return (*gathering, *(ALLOCATE if options.budget.by_cost else DECIDE))


def finished(
    facts: Facts, sha256: str, path: Path | None, oracle: OracleCheck | None = None
) -> Slimmed:
    """What a run made, once every fact of it is there."""
    return Slimmed(
        facts.get(Source).model,
        sha256,
        path,
        facts.get(Model),
        write_down(facts.get(Groups), facts.get(Removal), sha256),
        facts,
        *costs_of(facts),
        oracle,
    )


def load_facts(
    model: Loadable, options: Options, plan: Plan | None = None
) -> tuple[Facts, str, Path | None]:
    """Loads the model and lays out what the first passes read."""
    loaded = load(model, max_memory=options.max_memory, allow_nonfinite=options.allow_nonfinite)
    facts = Facts()
    facts.put(Source(loaded, dict(options.input_shape)))
    facts.put(options.units if plan is None else plan.units)
    if plan is not None:
        facts.put(plan)
    facts.put(options.scoring)
    facts.put(options.budget)
    facts.put(options.remedy)
    facts.put(options.cleaning)
    if options.static_batch is not None:
        facts.put(BatchRequest(options.static_batch))
    if options.synthetic is not None:
        facts.put(options.synthetic)
    path = Path(model) if isinstance(model, (str, os.PathLike)) else None
    judge = JUDGES[options.judge]
    how = options.threads, options.seed, options.input_shape, path, options.cleaning
    facts.put(Probing(judge, *how))
    facts.put(TrialRequest(options.seed, options.calibration))
    if options.evaluation is not None:
        facts.put(EvaluationRequest(options.evaluation))
    facts.put(Tolerance(options.rtol, options.atol))
    return facts, _sha256(path, loaded, model), path


def _sha256(path: Path | None, loaded: Model, model: Loadable) -> str:
    if path is not None:
        return file_sha256(path)
    if isinstance(model, bytes):
        return hashlib.sha256(model).hexdigest()
    digest = hashlib.sha256(loaded.proto.SerializeToString(deterministic=True))
    for name, values in loaded.weights.items():
        digest.update(name.encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, read piece by piece."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            digest.update(piece)
    return digest.hexdigest()
