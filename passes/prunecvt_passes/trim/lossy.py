"""What changes the outputs: blocks that go, weights that are masked, structures that are silenced.

All of it happens before the exact clean-up, which is then held against the model that this leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prunecvt_passes.cost import cost
from prunecvt_passes.errors import UsageError
from prunecvt_passes.fold import fold_batch_norms
from prunecvt_passes.model import Model
from prunecvt_passes.normalise import Dense
from prunecvt_passes.recovery.calibration import ENOUGH, Calibration
from prunecvt_passes.trim.blocks import (
    Timing,
    Trial,
    choose_blocks,
    drop_blocks,
    joint_error,
    try_blocks,
)
from prunecvt_passes.trim.exact import sized
from prunecvt_passes.trim.sparsity import MaskScope, mask_weights, silence


@dataclass(frozen=True)
class TrimRequest:
    """What is asked for beside the exact clean-up.

    Attributes:
        tolerance: structures go that hold nothing larger than this, in folded weights.
        blocks: how many residual blocks go.
        macs: instead, the share of the multiply-accumulates that may be left.
        sparsity: share of the weights that is masked.
        mask_scope: whether of each layer, or of all together.
        fold: whether BatchNormalization is folded first.
        inexact: whether constants may go that are read with zero padding.
    """

    tolerance: float = 0.0
    blocks: int | None = None
    macs: float | None = None
    sparsity: float = 0.0
    mask_scope: MaskScope = "layer"
    fold: bool = True
    inexact: bool = False

    @property
    def drops_blocks(self) -> bool:
        """Whether blocks are to go."""
        return self.blocks is not None or self.macs is not None

    @property
    def exact(self) -> bool:
        """Whether nothing is asked for that changes the outputs."""
        return not (self.drops_blocks or self.sparsity or self.tolerance or self.inexact)


@dataclass(frozen=True)
class Lossy:
    """The model without what was asked for.

    Attributes:
        dense: in normal form, folded where that was asked for.
        made: names of the constants that stand for blocks.
        trials: every block with what its loss alone costs; empty where none were to go.
        taken: those that went.
        silenced: structures that were not zero and are, by the tolerance.
    """

    dense: Dense
    made: frozenset[str] = frozenset()
    trials: tuple[Trial, ...] = ()
    taken: tuple[Trial, ...] = ()
    silenced: int = 0


def lose(
    dense: Dense, request: TrimRequest, calibration: Calibration, timing: Timing | None = None
) -> Lossy:
    """Folds, drops blocks, masks weights and silences small structures, in this order.

    Raises:
        UsageError: E240, blocks are to go and there is too little data; E241, there are not so
            many; E217, their multiply-accumulates do not make up what is to go.
    """
    if request.fold:
        dense = _with(dense, fold_batch_norms(dense.graph.model))
    trials: Sequence[Trial] = ()
    taken: Sequence[Trial] = ()
    made: list[str] = []
    if request.drops_blocks:
        trials, taken = _chosen(dense, request, calibration, timing)
        model, made = drop_blocks(dense.graph, [(each.block, each.mean) for each in taken])
        dense = _with(dense, model)
    dense = _with(dense, mask_weights(dense.graph, request.sparsity, request.mask_scope))
    model, silenced = silence(dense.graph, request.tolerance)
    dense = _with(dense, model)
    return Lossy(dense, frozenset(made), tuple(trials), tuple(taken), silenced)


def _with(dense: Dense, model: Model) -> Dense:
    return dense if model is dense.graph.model else sized(model, dense.sizes, dense.batch)


def _chosen(
    dense: Dense, request: TrimRequest, calibration: Calibration, timing: Timing | None
) -> tuple[list[Trial], list[Trial]]:
    where = dense.graph.model.source
    if not calibration:
        raise UsageError(
            "E240",
            f"--blocks and --macs judge blocks on calibration data, {ENOUGH}",
            where=where,
            help="give some with --calib",
        )
    trials = try_blocks(dense.graph, dense.batch, calibration, timing)
    whole = cost(dense.graph, dense.batch).macs
    judged = joint_error(dense.graph, calibration)
    taken = choose_blocks(trials, request.blocks, request.macs, whole, dense.batch, judged)
    if request.blocks is not None and len(taken) < request.blocks:
        raise UsageError(
            "E241",
            f"{request.blocks} residual blocks are to go, and {len(taken)} can",
            where=where,
            help="a block is a sum y = x + F(x) of tensors of one shape; ask for fewer",
        )
    left = whole - sum(each.block.macs for each in taken) / max(dense.batch, 1)
    if request.macs is not None and left > request.macs * whole + 1e-9:
        raise UsageError(
            "E217",
            f"--macs {request.macs:g} cannot be reached: without any block "
            f"{left / max(whole, 1):.3f} are left",
            where=where,
            help="ask for less, or cut channels with 'prunecvt slim'",
        )
    return trials, taken
