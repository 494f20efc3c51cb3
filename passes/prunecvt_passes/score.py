"""The pass that scores: what is lost if a channel goes, one number per class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prunecvt_passes.criteria.evidence import Evidence
from prunecvt_passes.criteria.share import share
from prunecvt_passes.criteria.statistics import NO_STATISTICS, Statistics
from prunecvt_passes.criteria.table import CRITERIA, Criterion, check_name, resolved, scorer
from prunecvt_passes.criteria.unknown import filled
from prunecvt_passes.errors import UsageError
from prunecvt_passes.groups import Groups
from prunecvt_passes.recovery.calibration import ENOUGH, walkable
from prunecvt_passes.recovery.curve import NO_CURVES, Curves, complete, scores_of

Floats = npt.NDArray[np.float64]

__all__ = ["Criterion", "Scores", "score"]


@dataclass(frozen=True)
class Scores:
    """One number per class; higher is worth more.

    Attributes:
        criterion: what made them, ``auto`` resolved.
        values: class -> score; classes in no group have 0.
        cumulative: a score is the error with all lower ones of the group gone too; else what the
            channel costs by itself.
    """

    criterion: str
    values: Floats
    cumulative: bool = False


def score(
    groups: Groups,
    criterion: Criterion,
    curves: Curves = NO_CURVES,
    statistics: Statistics = NO_STATISTICS,
) -> Scores:
    """Scores every class that can be cut; ``auto`` is ``obs`` where there are error curves.

    Args:
        groups: the classes.
        criterion: how.
        curves: the order and the errors of a cumulative criterion.
        statistics: what a criterion of activations reads.

    Raises:
        UsageError: E210, no such criterion; E211, what the criterion needs is lacking.
    """
    check_name(criterion.name)
    name = resolved(criterion.name, bool(curves))
    entry = CRITERIA[name]
    told = bool(curves if entry.cumulative else statistics)
    if entry.needs_data and groups.groups and not told:
        raise _lacking(groups, name, max(curves.samples, statistics.samples))
    given = Evidence(groups, criterion.seed, statistics)
    if entry.cumulative:
        values = scores_of(groups, complete(groups, curves, share(given)))
    else:
        values = filled(given, scorer(name)(given))
    return Scores(
        name, np.where(groups.group_of >= 0, values, 0.0), entry.cumulative or entry.joint
    )


def _lacking(groups: Groups, name: str, samples: int) -> UsageError:
    """Says what a criterion of data lacks."""
    graph = groups.channels.graph
    if samples:
        return UsageError(
            "E211",
            f"criterion '{name}' finds no channel that it can measure",
            where=f"{graph.model.source}: what reads the channels works on integers, or in bodies",
            help="use --criterion share",
        )
    if not walkable(graph):
        return UsageError(
            "E211",
            f"criterion '{name}' runs the model part by part",
            where=f"{graph.model.source}: it holds sequences or optional values",
            help="use --criterion share",
        )
    return UsageError(
        "E211",
        f"criterion '{name}' needs calibration data, {ENOUGH}",
        where=graph.model.source,
        help="give some with --calib, or --noise, or use --criterion share",
    )
