"""A trained classifier with its data, scored, cut and recovered as the command line would."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from prunecvt.differentiating import differentiate
from prunecvt_passes.budget import Budget, Removal
from prunecvt_passes.criteria.gather import gather
from prunecvt_passes.criteria.table import CRITERIA
from prunecvt_passes.flow import trace
from prunecvt_passes.fold import fold_batch_norms
from prunecvt_passes.groups import Groups, solve
from prunecvt_passes.normalise import Dense, Source
from prunecvt_passes.recovery.allocate import allocate
from prunecvt_passes.recovery.calibration import Calibration, split
from prunecvt_passes.recovery.curve import Curves
from prunecvt_passes.recovery.measure import measure
from prunecvt_passes.recovery.reach import amount
from prunecvt_passes.recovery.recover import Method, Recovery, Remedy, try_recovery
from prunecvt_passes.recovery.search import search
from prunecvt_passes.rules import RULES
from prunecvt_passes.score import Criterion, Scores, score
from prunecvt_passes.slice import remove
from prunecvt_passes.synthetic.match import Matched, match
from prunecvt_passes.synthetic.noise import Noise, make_noise
from prunecvt_passes.synthetic.passes import try_recovery_matched
from prunecvt_passes.target import Target
from trained import Examples, calibration_for, examples_for, opened

BATCH = 32


@dataclass(frozen=True)
class Case:
    """A model, its unlabelled data or noise, and its test images.

    ``matched`` is the original itself where there is data.
    """

    name: str
    dense: Dense
    groups: Groups
    calibration: Calibration
    examples: Examples
    matched: Matched
    noise: bool

    def scores(self, criterion: str) -> tuple[Scores, Curves]:
        """The channels' scores by a criterion, and its error curves."""
        asked, (dense, groups) = Criterion(criterion), (self.matched.dense, self.matched.groups)
        curves = measure(dense, groups, self.calibration, asked)
        entry = CRITERIA.get(criterion)
        gathering = differentiate if entry is not None and entry.loss else gather
        statistics = gathering(dense, groups, self.calibration, asked)
        return score(self.groups, asked, curves, statistics), curves

    def removal(
        self, scored: tuple[Scores, Curves], scope: str, share: float, round_to: str
    ) -> Removal:
        """What goes so that at most ``share`` of the MACs is left."""
        step = "auto" if round_to == "auto" else int(round_to)
        budget = Budget(scope=scope, round_to=step, target=Target("macs", share))  # type: ignore[arg-type]
        if scope == "search":
            dense, groups = self.matched.dense, self.matched.groups
            return search(dense, groups, *scored, budget, self.calibration, Remedy()).removal
        return allocate(self.dense, self.groups, scored[0], budget)

    def recovered(self, removal: Removal, method: Method) -> Recovery:
        """The cut model with that recovery."""
        model = fold_batch_norms(remove(self.groups, removal))
        given, remedy = (removal, model, self.calibration), Remedy(method)
        if self.noise:
            return try_recovery_matched(self.dense, self.matched, *given, remedy)
        return try_recovery(self.dense, self.groups, *given, remedy)

    def left(self, removal: Removal) -> float:
        """Share of the MACs that a removal leaves."""
        whole = amount(self.dense, self.dense.graph.model, "macs", False)
        return amount(self.dense, remove(self.groups, removal), "macs", True) / whole


def case_of(shared: Path, name: str, options: argparse.Namespace) -> Case | None:
    """Opens a model with its data; None where it has no test images."""
    path = shared / "models" / f"{name}.onnx"
    dense = opened(path)
    examples = examples_for(path, shared, options.tests)
    if examples is None:
        return None
    groups = solve(trace(dense.graph, RULES))
    if options.noise:
        calibration = make_noise(dense, Source(dense.graph.model), Noise(options.images))
        matched = match(dense, groups, calibration)
        return Case(name, dense, groups, calibration, examples, matched, True)
    images = calibration_for(path, shared, options.images or 1024)
    name_in = dense.graph.inputs[0]
    runs = [{name_in: images[k : k + BATCH]} for k in range(0, len(images), BATCH)]
    return Case(name, dense, groups, split(runs), examples, Matched(dense, groups), False)
