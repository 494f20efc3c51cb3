"""Makes a report that of a trimmed model: what went and why, and the checks that mean it."""

from __future__ import annotations

from prunecvt.options import Options
from prunecvt.report.schema import Report
from prunecvt.report.trim_rows import (
    BlockRow,
    BranchRow,
    KernelRow,
    MaskRow,
    StayedRow,
    TrimRow,
)
from prunecvt.runtimes.openvino_ir import bounded
from prunecvt.slimming import Slimmed
from prunecvt.trimming import Trimmed
from prunecvt_passes.budget import STEP


def as_trimmed(report: Report, slimmed: Slimmed, options: Options) -> Report:
    """The report of a trimmed model; that of any other as it is."""
    trimmed = slimmed.facts.values.get(Trimmed)
    if trimmed is None:
        return report
    verify = report.verify
    if verify is not None:
        verify = verify.model_copy(update={"masked_dense": None, "exact": slimmed.oracle})
    warnings = list(report.warnings)
    if trimmed.lossy.taken or trimmed.options.tolerance or trimmed.options.sparsity:
        warnings.append(
            "what was dropped, masked or below --tolerance changes the outputs: the exact check "
            "speaks of the clean-up after it, the drift of all of it"
        )
    settings = trimmed.options.settings(options)
    resolved = {"round_to": str(STEP)} if settings["round_to"] == "auto" else {}
    return report.model_copy(
        update={
            "status": "ok" if trimmed.changed else "nothing-to-prune",
            "criterion": "zeros",
            "settings": settings,
            "resolved": resolved,
            "verify": verify,
            "trim": trim_row(trimmed),
            "warnings": warnings,
        }
    )


def trim_row(trimmed: Trimmed) -> TrimRow:
    """What went, and what stayed and why."""
    cleaned = trimmed.cleaned
    return TrimRow(
        tolerance=trimmed.options.tolerance,
        silenced=trimmed.lossy.silenced,
        constants=cleaned.constant,
        inexact=cleaned.inexact,
        carried=cleaned.carried,
        branches=[
            BranchRow(tensor=each.tensor, reader=each.reader, zero=each.zero)
            for each in cleaned.dropped
        ],
        kernels=[
            KernelRow(
                tensor=each.tensor,
                before=list(each.before),
                after=list(each.after),
                reason=each.reason,
            )
            for each in cleaned.kernels
        ],
        stayed=[
            StayedRow(tensor=each.tensor, channels=each.channels, reason=each.reason)
            for each in cleaned.stayed
        ],
        blocks=_blocks(trimmed),
        mask=_mask(trimmed),
    )


def _blocks(trimmed: Trimmed) -> list[BlockRow]:
    gone = {each.block.tensor: each.together for each in trimmed.lossy.taken}
    return [
        BlockRow(
            tensor=each.block.tensor,
            error=bounded(each.error),
            top1_agree=each.agreement,
            together=None if (error := gone.get(each.block.tensor)) is None else bounded(error),
            cost=each.cost,
            unit="ms" if each.unit == "ms" else "MACs",
            dropped=each.block.tensor in gone,
        )
        for each in trimmed.lossy.trials
    ]


def _mask(trimmed: Trimmed) -> MaskRow | None:
    if trimmed.masked is None:
        return None
    left, weights = trimmed.masked.weights
    before, after = trimmed.masked.compressed
    return MaskRow(
        sparsity=trimmed.options.sparsity,
        scope=trimmed.options.sparsity_scope,
        weights=weights,
        nonzero=left,
        compressed_before=before,
        compressed_after=after,
    )
