"""The choices of ``trim`` that ``slim`` has not, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from prunecvt.errors import UsageError
from prunecvt.option_checks import check_names, check_number, check_one_of
from prunecvt.options import Options
from prunecvt_passes.trim.lossy import TrimRequest
from prunecvt_passes.trim.sparsity import MaskScope

Price = Literal["macs", "latency"]
# of ``Options``: what trim looks at
TAKEN = (
    *("round_to", "min_channels", "keep", "only", "allow_inexact", "fold_bn", "input_shape"),
    *("calib", "calib_count", "eval", "resize", "crop", "scale", "mean", "std", "layout", "color"),
    *("verify", "rtol", "atol", "ir", "fp16", "bench", "threads", "seed", "allow_nonfinite"),
    *("max_memory", "timeout", "fail_if", "strict_layout", "report", "force"),
)


@dataclass(frozen=True)
class TrimOptions:
    """What to trim beside what is dead.

    Attributes:
        tolerance: filters, input channels, kernel borders, gammas and factors count as zero that
            hold nothing larger in absolute value, BatchNormalization folded; 0 is exact.
        blocks: so many residual blocks go, one by one, by what dropping it adds to the error, over
            its price; needs ``calib``.
        macs: instead, blocks go until this share of the multiply-accumulates is left.
        price: what a block costs: ``macs`` counted, or ``latency`` measured in onnxruntime.
        sparsity: this share of the weights is masked, the smallest; no kernel gets faster by it.
        sparsity_scope: ``layer`` the same share of every layer, ``global`` one threshold.
    """

    tolerance: float = 0.0
    blocks: int | None = None
    macs: float | None = None
    price: Price = "macs"
    sparsity: float = 0.0
    sparsity_scope: MaskScope = "layer"

    @staticmethod
    def of(values: Mapping[str, Any]) -> tuple[TrimOptions, Options]:
        """Splits keyword arguments into those of ``trim`` alone and those it shares with ``slim``.

        Raises:
            UsageError: E201, a name or a value that is not known; E207, two that contradict each
                other; E212, one that is out of range.
        """
        own = {each.name for each in fields(TrimOptions)}
        check_names(values, {*own, *TAKEN}, "trim")
        chosen = TrimOptions(**{name: values[name] for name in own & values.keys()})
        _check(chosen)
        return chosen, Options.of({name: values[name] for name in TAKEN if name in values})

    def request(self, options: Options) -> TrimRequest:
        """The part that the passes read."""
        return TrimRequest(
            self.tolerance,
            self.blocks,
            self.macs,
            self.sparsity,
            self.sparsity_scope,
            options.fold_bn,
            options.allow_inexact,
        )

    def settings(self, options: Options) -> dict[str, Any]:
        """What the report says of both."""
        shared = {name: value for name, value in options.settings().items() if name in TAKEN}
        return {**shared, **{each.name: getattr(self, each.name) for each in fields(self)}}


def _check(options: TrimOptions) -> None:
    check_number("tolerance", options.tolerance, int, float)
    check_number("sparsity", options.sparsity, int, float)
    if options.blocks is not None:
        check_number("blocks", options.blocks, int)
    if options.macs is not None:
        check_number("macs", options.macs, int, float)
    if not 0 <= options.tolerance < math.inf:
        raise _range("tolerance", options.tolerance, "give a number from 0 on, such as 1e-6")
    if not 0 <= options.sparsity < 1:
        raise _range("sparsity", options.sparsity, "give a share from 0 to below 1, such as 0.8")
    if options.blocks is not None and options.blocks < 1:
        raise _range("blocks", options.blocks, "give a number of blocks, 1 or more")
    if options.macs is not None and not 0 < options.macs <= 1:
        raise _range("macs", options.macs, "give the share that may be left, such as 0.8")
    check_one_of("price", options.price, get_args(Price))
    check_one_of("sparsity_scope", options.sparsity_scope, get_args(MaskScope))
    _check_conflicts(options)


def _check_conflicts(options: TrimOptions) -> None:
    """Refuses what contradicts, and what says nothing by itself."""
    if options.blocks is not None and options.macs is not None:
        raise UsageError(
            "E207", "--blocks and --macs each say how much goes", help="leave one of them out"
        )
    if options.price != "macs" and options.blocks is None and options.macs is None:
        raise UsageError(
            "E207", "--price says nothing without --blocks or --macs", help="leave it out"
        )
    if options.sparsity_scope != "layer" and not options.sparsity:
        raise UsageError(
            "E207", "--sparsity-scope says nothing without --sparsity", help="leave it out"
        )


def _range(name: str, value: object, help: str) -> UsageError:
    return UsageError("E212", f"--{name} {value} is out of range", help=help)
