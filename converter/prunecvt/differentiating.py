"""The pass that differentiates, for criteria of gradients: it needs torch."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING

import numpy as np

from prunecvt.errors import UnsupportedError, UsageError
from prunecvt.loading.refusal import one_line
from prunecvt_passes import runtime
from prunecvt_passes.criteria.gated import gated, heads
from prunecvt_passes.criteria.statistics import NO_STATISTICS, Singles, Statistics
from prunecvt_passes.criteria.table import CRITERIA, Criterion
from prunecvt_passes.groups import Groups
from prunecvt_passes.normalise import Dense
from prunecvt_passes.precision import feed_in_single
from prunecvt_passes.recovery.calibration import Calibration, Feed, samples_of
from prunecvt_passes.synthetic.match import Matched

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prunecvt.bridge.sensitivity import Asked

_BYTES = 1 << 28  # that the activations of the samples run at a time may take
_MOST = 32  # samples at a time


def differentiate(
    dense: Dense, groups: Groups, calibration: Calibration, criterion: Criterion
) -> Statistics:
    """The gradients that the criterion reads; nothing where it reads none.

    Raises:
        UsageError: E250, torch is not installed; E280, torch cannot compute the model; E281, no
            gradient comes from its outputs.
    """
    entry = CRITERIA.get(criterion.name)
    if entry is None or not entry.loss or not calibration or not groups.groups:
        return NO_STATISTICS
    from prunecvt.bridge import require_torch

    require_torch()
    from prunecvt.bridge.sensitivity import Asked

    model, gates = gated(groups)
    ends, source = heads(dense.graph), dense.graph.model.source
    samples = samples_of(calibration.fit)
    if not gates:
        return Statistics(entry.loss, samples)
    single = runtime.comparable(model)
    feeds = calibration.fit if single is model else list(map(feed_in_single, calibration.fit))
    most = max(1, min(_MOST, _BYTES // _bytes(dense)))
    asked = Asked(single, gates, ends, groups.total, entry.loss, most, criterion.seed)
    with _refused(criterion, source):
        gradients = _gathered(asked, feeds)
    if np.isnan(gradients[:1]).all():
        raise UsageError(
            "E281",
            f"criterion '{criterion.name}' needs gradients, and none comes from the outputs",
            where=f"{source}: they hold whole numbers, or indices were made on the way",
            help="use --criterion obs",
        )
    return Statistics(entry.loss, samples, gradients=gradients)


@contextlib.contextmanager
def _refused(criterion: Criterion, source: str) -> Iterator[None]:
    """Turns what torch cannot compute, or fails at, into E280."""
    wish, way_out = f"criterion '{criterion.name}' needs gradients", "use --criterion obs"
    try:
        yield
    except UnsupportedError as error:
        raise UsageError(
            "E280",
            f"{wish}: {error.message}",
            where=error.where or source,
            node=error.node,
            help=way_out,
        ) from error
    except (IndexError, RuntimeError, ValueError) as error:  # as torch's functions raise them
        raise UsageError(
            "E280",
            f"{wish}, and torch fails to compute them",
            where=one_line(f"{source}: {type(error).__name__}: {error}"),
            help=way_out,
        ) from error


def differentiate_matched(
    matched: Matched, calibration: Calibration, criterion: Criterion
) -> Statistics:
    """Gradients of the matched model, on noise."""
    return differentiate(matched.dense, matched.groups, calibration, criterion)


def _gathered(asked: Asked, feeds: Sequence[Feed]) -> Singles:
    """[samples, classes]; NaN where no gradient reaches."""
    from prunecvt.bridge.sensitivity import sensitivities

    found, known = list[Singles](), np.zeros(asked.classes, bool)
    for gradients, reached in sensitivities(asked, feeds):
        found.append(gradients.astype(np.float32))
        known |= reached
    return np.where(known, np.concatenate(found), np.float32(np.nan))


def _bytes(dense: Dense) -> int:
    """What the tensors of one sample take."""
    made = (dense.graph.shape(name) or () for node in dense.graph.nodes for name in node.outputs)
    return max(1, 4 * sum(map(math.prod, made)) // max(dense.batch, 1))
