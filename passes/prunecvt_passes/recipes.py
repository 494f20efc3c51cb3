"""The pipelines, as lists one can read aloud."""

from __future__ import annotations

from prunecvt_passes.choose import choose
from prunecvt_passes.flow import Channels, trace
from prunecvt_passes.fold import fold_batch_norms
from prunecvt_passes.groups import solve
from prunecvt_passes.model import Model
from prunecvt_passes.normalise import Dense, normalise
from prunecvt_passes.pipeline import Pass
from prunecvt_passes.plan import replay
from prunecvt_passes.recovery.allocate import allocate
from prunecvt_passes.recovery.recover import recover, try_recovery
from prunecvt_passes.recovery.search import search, take
from prunecvt_passes.rewriting.rewrite import rewrite, take_rewritten
from prunecvt_passes.rules import RULES
from prunecvt_passes.score import score
from prunecvt_passes.slice import remove
from prunecvt_passes.synthetic.match import match
from prunecvt_passes.synthetic.noise import make_noise
from prunecvt_passes.synthetic.passes import search_matched, try_recovery_matched
from prunecvt_passes.units import Units


def label(dense: Dense, units: Units) -> Channels:
    """Gives every axis of every tensor its labels."""
    return trace(dense.graph, RULES, units)


def draft(dense: Dense) -> Model:
    """The model that surgery starts from."""
    return dense.graph.model


ANALYSE: tuple[Pass, ...] = (normalise, label, solve)
DECIDE: tuple[Pass, ...] = (score, choose)
REPLAY: tuple[Pass, ...] = (replay,)
ALLOCATE: tuple[Pass, ...] = (score, allocate)
SEARCH: tuple[Pass, ...] = (score, search, take)
SEARCH_MATCHED: tuple[Pass, ...] = (score, search_matched, take)
CUT: tuple[Pass, ...] = (draft, remove)
FOLD: tuple[Pass, ...] = (fold_batch_norms,)
RECOVER: tuple[Pass, Pass] = (try_recovery, recover)
REWRITE: tuple[Pass, Pass] = (rewrite, take_rewritten)
SYNTHESISE: tuple[Pass, ...] = (make_noise, match)
RECOVER_MATCHED: tuple[Pass, Pass] = (try_recovery_matched, recover)

__all__ = [
    "ALLOCATE",
    "ANALYSE",
    "CUT",
    "DECIDE",
    "FOLD",
    "RECOVER",
    "RECOVER_MATCHED",
    "REPLAY",
    "REWRITE",
    "SEARCH",
    "SEARCH_MATCHED",
    "SYNTHESISE",
    "draft",
    "label",
]
