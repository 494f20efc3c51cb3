"""Every choice a user has, with its default: shared by the command line and the Python API."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from prunecvt.calibration.preprocessing import Preprocessing
from prunecvt.calibration.source import Calibration, Data, data_name, data_of
from prunecvt.errors import UsageError
from prunecvt.gates import check_gate
from prunecvt.option_checks import check_names, check_number, check_one_of
from prunecvt.runtimes.backends import JUDGES
from prunecvt_passes.budget import SCOPES, Budget, Scope, check_ranges
from prunecvt_passes.criteria.table import Criterion, check_name, resolved
from prunecvt_passes.recovery.recover import Method, Remedy
from prunecvt_passes.rewriting.rewrite import Cleaning, Mode
from prunecvt_passes.synthetic.noise import FEWEST, Noise
from prunecvt_passes.target import parse_target
from prunecvt_passes.units import AttentionUnit, GroupedUnit, Units

RTOL = 1e-4
RATIO = 0.4  # where nothing else says how much goes
_STEPS = ("resize", "crop", "scale", "mean", "std", "layout", "color")  # of ``Preprocessing``


@dataclass(frozen=True)
class Options:
    """How to slim a model.

    Attributes:
        ratio: share of the channels that can be cut; 0.4 without ``target`` and ``threshold``.
        criterion: how channels are scored (docs/criteria.md); ``auto`` is ``obs`` where data or
            noise wins accuracy back, ``share`` elsewhere.
        scope: how layers share the cut (docs/allocation.md): ``layer`` the same ratio everywhere,
            ``global`` one threshold over all scores, ``erk`` and ``lamp`` by the weights, ``error``
            where it costs least, ``search`` by trying out; ``auto`` is ``error`` under a
            target, else ``layer``.
        target: instead of the ratio, what may be left: ``macs=0.5``, ``params=0.5`` or
            ``bytes=4MB``; or what is to be reached: ``speedup=2.0``, ``latency=0.5`` (of the
            original's), ``latency=3.5ms``, ``agreement=0.99`` (docs/targets.md).
        judge: of a target of speed: ``onnxruntime``, ``openvino``, or ``both`` of them.
        threshold: instead of the ratio, the score (above 0) below which channels go.
        ratio_of: pattern of node or tensor names -> ratio of the groups it matches, whatever the
            others lose; the last that matches counts.
        round_to: ``auto`` (multiples of 8) or the multiple that widths are rounded up to.
        min_channels: no group goes below it, unless it is smaller.
        max_ratio_per_layer: no group loses a larger share, unless ``ratio_of`` says so.
        keep: patterns of node or tensor names that stay whole.
        only: where given, only what matches is cut.
        attention_unit: ``head`` removes whole heads, ``channel`` the same channels of every head.
        grouped_unit: ``channel`` removes as many channels of every group of a grouped convolution,
            ``group`` whole groups.
        allow_inexact: also cut what a normalisation works across; such groups are marked.
        recover: how accuracy is won back: ``none``; ``bias`` puts the mean of what was removed into
            biases; ``moments`` matches each layer's means and deviations; ``refit`` fits the kept
            weights to the original's activations; ``auto`` is a refit where it
            agrees better on held-out calibration data, else a bias where that does, else none.
        passes: names of installed passes (entry points ``prunecvt.passes``) to run after the cut.
        fold_bn: fold BatchNormalization into the written model.
        clean: ``auto`` rewrites what is dear in the runtimes and can be done by weights, before
            writing (docs/latency.md); ``none`` leaves the graph as it was cut.
        reinit: draw all weights anew by ``seed`` (He et al., 2015), BatchNormalization kept: an
            architecture to train from scratch; nothing is recovered then.
        input_shape: input -> sizes, for dynamic inputs.
        calib: data to score, recover, check and compare on: .npz or .npy, a folder of images, a
            calib.toml; in Python also arrays, a dictionary of them, or what yields samples.
        calib_count: samples of it, evenly spread; None for what calib.toml says, or 1,024.
        noise: where there is no data, score and recover on noise, through the model as its
            BatchNormalizations would be on noise (docs/recovery.md); ``calib_count`` says on how
            much, None for 512 or fewer large images.
        eval: labelled data that accuracy is measured on, before and after.
        resize, crop, scale, mean, std, layout, color: what is done to images (``Preprocessing``).
        verify: run the checks (a run without them says so in the report).
        rtol: largest relative difference that the checks allow.
        atol: absolute difference below which the relative one does not count.
        ir: write OpenVINO IR.
        fp16: store the IR's weights in half precision.
        static_batch: the batch that the IR is fixed at; None leaves it open. ONNX keeps it open.
        bench: measure latency.
        threads: of the latency measurement.
        seed: of random inputs, of noise and of the ``random`` criterion.
        allow_nonfinite: take NaN and infinity among the weights.
        max_memory: bytes that file and weights may take.
        timeout: seconds that OpenVINO's conversion may take.
        fail_if: comparisons over the report that must not hold (docs/gates.md); one that does is a
            missed gate in the report, and exit code 6 of the command line.
        strict_layout: whether a convolution that leaves onnxruntime's blocked path is one too.
        report: more files to write the report to: .json, .html or .md.
        force: replace existing outputs.
    """

    ratio: float | None = None
    criterion: str = "auto"
    scope: Scope = "auto"
    target: str = ""
    judge: str = "onnxruntime"
    threshold: float | None = None
    ratio_of: Mapping[str, float] = field(default_factory=dict)
    round_to: Literal["auto"] | int = "auto"
    min_channels: int = 1
    max_ratio_per_layer: float = 0.9
    keep: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    attention_unit: AttentionUnit = "head"
    grouped_unit: GroupedUnit = "channel"
    allow_inexact: bool = False
    recover: Method = "auto"
    passes: tuple[str, ...] = ()
    fold_bn: bool = True
    clean: Mode = "auto"
    reinit: bool = False
    input_shape: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    calib: Data | None = None
    calib_count: int | None = None
    noise: bool = False
    eval: Data | None = None
    resize: str | int | tuple[int, int] | None = None
    crop: str | int | tuple[int, int] | None = None
    scale: float | None = None
    mean: str | float | tuple[float, ...] | None = None
    std: str | float | tuple[float, ...] | None = None
    layout: str = "auto"
    color: str = "auto"
    verify: bool = True
    rtol: float = RTOL
    atol: float = 0.0
    ir: bool = True
    fp16: bool = False
    static_batch: int | None = None
    bench: bool = True
    threads: int = 1
    seed: int = 0
    allow_nonfinite: bool = False
    max_memory: int | None = None
    timeout: float = 600.0
    fail_if: tuple[str, ...] = ()
    strict_layout: bool = False
    report: tuple[Path, ...] = ()
    force: bool = False

    @staticmethod
    def of(values: Mapping[str, Any]) -> Options:
        """Builds options from keyword arguments.

        Raises:
            UsageError: E201, a name or a value that is not known.
        """
        known = {each.name for each in fields(Options)}
        check_names(values, known)
        options = Options(**{name: _plain(name, value) for name, value in values.items()})
        _check_amounts(options)
        _check_conflicts(options)
        options = _for_training(options)
        if options.ratio is None and options.threshold is None and not options.target:
            options = replace(options, ratio=RATIO)
        for name in ("max_ratio_per_layer", "rtol", "atol", "timeout"):
            check_number(name, getattr(options, name), int, float)
        for name in ("min_channels", "threads", "seed"):
            check_number(name, getattr(options, name), int)
        _ = options.preprocessing  # refuses what cannot be read
        _check_choices(options)
        check_ranges(options.budget)
        _check_idle(options)
        if options.threads < 1 or options.min_channels < 1:
            raise UsageError("E201", "threads and min_channels are 1 or more")
        if options.seed < 0:
            raise UsageError("E201", "seed is 0 or more")
        if not (0 < options.rtol < math.inf and 0 < options.timeout < math.inf):
            raise UsageError("E201", "rtol and timeout are numbers above 0")
        if not 0 <= options.atol < math.inf:
            raise UsageError("E201", "atol is a number from 0 on")
        return options

    @property
    def budget(self) -> Budget:
        """The part that allocation reads."""
        return Budget(
            RATIO if self.ratio is None else self.ratio,
            self.scope,
            self.round_to,
            self.min_channels,
            self.max_ratio_per_layer,
            tuple(self.keep),
            tuple(self.only),
            parse_target(self.target) if self.target else None,
            self.fold_bn,
            self.threshold,
            tuple(self.ratio_of.items()),
        )

    @property
    def scoring(self) -> Criterion:
        """The part that scoring reads; errors of ``obs`` are those after a refit."""
        kept = self.recover == "none" and not self.reinit and self.scope != "search"
        name = resolved(self.criterion, data=False) if kept else self.criterion
        return Criterion(name, self.seed)

    @property
    def remedy(self) -> Remedy:
        """The part that recovery reads; a target that counts weights leaves no room for more."""
        target = self.budget.target
        weighed = target is not None and target.currency in ("params", "bytes")
        return Remedy(self.recover, self.fold_bn, not weighed)

    @property
    def cleaning(self) -> Cleaning:
        """The part that clean-ups read; a target that counts leaves no room for more.

        What is drawn anew stays as it was cut: a selection made a weight would be drawn too.
        """
        target = self.budget.target
        mode: Mode = "none" if self.reinit else self.clean
        return Cleaning(mode, target is None or target.probed)

    @property
    def units(self) -> Units:
        """The part that labelling reads."""
        return Units(self.attention_unit, self.grouped_unit, self.allow_inexact)

    @property
    def preprocessing(self) -> Preprocessing:
        """What is done to images, as far as it is stated.

        Raises:
            UsageError: E236, a step cannot be read.
        """
        return Preprocessing.of({name: getattr(self, name) for name in _STEPS})

    @property
    def calibration(self) -> Calibration | None:
        """The calibration data and what is done to it; None where there is none."""
        if self.calib is None:
            return None
        return Calibration(self.calib, self.preprocessing, self.calib_count)

    @property
    def synthetic(self) -> Noise | None:
        """The noise to run on instead of data; None where that is not asked for."""
        return Noise(self.calib_count, self.seed) if self.noise else None

    @property
    def evaluation(self) -> Calibration | None:
        """The labelled data and what is done to it; None where there is none."""
        return None if self.eval is None else Calibration(self.eval, self.preprocessing)

    def settings(self) -> dict[str, Any]:
        """What the report says of them: plain values, by name."""
        found: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name in ("calib", "eval"):
                value = data_name(value)
            elif isinstance(value, Path):
                value = value.name
            elif isinstance(value, tuple):
                value = [each.name if isinstance(each, Path) else each for each in value]
            elif isinstance(value, Mapping):
                value = {
                    name: list(each) if isinstance(each, tuple) else each
                    for name, each in value.items()
                }
            found[each.name] = value
        return found


def _plain(name: str, value: Any) -> Any:
    """An option as ``Options`` holds it; a single text where several may be given is one of them.

    Without this, ``keep="conv*"`` would be five patterns, one of them ``*``.
    """
    if name in ("keep", "only", "passes", "report", "fail_if"):
        several = (value,) if isinstance(value, (str, os.PathLike)) else tuple(value or ())
        return tuple(map(Path, several)) if name == "report" else several
    return data_of(value) if name in ("calib", "eval") else value


def _check_amounts(options: Options) -> None:
    """Refuses amounts that are none."""
    least = (FEWEST, " with noise") if options.noise else (1, "")
    for name, (fewest, beside) in (("calib_count", least), ("static_batch", (1, ""))):
        if getattr(options, name) is not None:
            check_number(name, getattr(options, name), int)
            if getattr(options, name) < fewest:
                raise UsageError("E201", f"{name} is {fewest} or more{beside}")
    for name in ("ratio", "threshold"):
        if getattr(options, name) is not None:
            check_number(name, getattr(options, name), int, float)
    if options.threshold is not None and not 0 < options.threshold < math.inf:
        raise UsageError("E201", f"threshold is {options.threshold}", help="give one above 0")
    if not isinstance(options.ratio_of, Mapping):
        raise UsageError("E201", f"ratio_of is {options.ratio_of!r}", help="give {pattern: ratio}")
    for pattern, ratio in options.ratio_of.items():
        if not isinstance(pattern, str):
            raise UsageError("E201", f"ratio_of holds {pattern!r}", help="give {pattern: ratio}")
        check_number(f"ratio_of {pattern}", ratio, int, float)
    for name, kind in (("target", str), ("noise", bool)):
        if not isinstance(getattr(options, name), kind):
            what = getattr(options, name)
            raise UsageError("E201", f"{name} is {what!r}", help=f"give a {kind.__name__}")


def _check_conflicts(options: Options) -> None:
    """Refuses more than one amount, and noise beside data."""
    if options.noise and options.calib is not None:
        raise UsageError("E207", "--noise is for want of --calib", help="leave one of them out")
    amounts = {
        "--ratio": options.ratio,
        "--target": options.target or None,
        "--threshold": options.threshold,
    }
    given = [name for name, amount in amounts.items() if amount is not None]
    if len(given) > 1:
        raise UsageError(
            "E207",
            f"{' and '.join(given)} each say how much goes",
            help="leave all but one of them out",
        )
    target = parse_target(options.target) if options.target else None
    if target is not None and target.probed and options.scope == "search":
        raise UsageError(
            "E207",
            f"--target {options.target} and --scope search both try models out",
            help="leave the scope out",
        )
    if target is not None and target.currency == "agreement" and options.noise:
        raise UsageError(
            "E207",
            "agreement on noise says little: --target agreement is not for --noise",
            help="give data with --calib, or use another target",
        )
    if options.threshold is not None and options.scope not in ("auto", "global"):
        raise UsageError(
            "E207",
            f"--threshold and --scope {options.scope} both say where it goes",
            help="leave the scope out",
        )


def _for_training(options: Options) -> Options:
    """Leaves out what would recover or fold weights that are drawn anew."""
    if not isinstance(options.reinit, bool):
        raise UsageError("E201", f"reinit is {options.reinit!r}", help="give a bool")
    if options.reinit and options.recover not in ("auto", "none"):
        message = f"--recover {options.recover} says nothing beside --reinit"
        raise UsageError("E207", message, help="leave one of them out")
    return replace(options, fold_bn=False, recover="none") if options.reinit else options


def _check_idle(options: Options) -> None:
    """Refuses what nothing would look at."""
    if options.reinit and options.eval is not None:
        message = "--eval says nothing of weights that are drawn anew (--reinit)"
        raise UsageError("E207", message, help="leave one of them out")
    target = options.budget.target
    if options.judge != "onnxruntime" and (target is None or target.currency != "latency"):
        raise _idle("--judge", "a --target of speedup or latency")
    if options.static_batch is not None and not options.ir:
        raise _idle("--static-batch", "IR: --no-ir leaves it out, and ONNX keeps its batch open")
    if options.calib_count is not None and options.calib is None and not options.noise:
        raise _idle("--calib-count", "--calib or --noise")
    if options.calib is None and options.eval is None:
        for name in _STEPS:
            if getattr(options, name) not in (None, "auto"):
                raise _idle(f"--{name}", "--calib or --eval")


def _idle(name: str, lacking: str) -> UsageError:
    return UsageError("E207", f"{name} says nothing without {lacking}", help="leave it out")


def _check_choices(options: Options) -> None:
    check_name(options.criterion)
    check_one_of("scope", options.scope, SCOPES)
    check_one_of("attention_unit", options.attention_unit, get_args(AttentionUnit))
    check_one_of("grouped_unit", options.grouped_unit, get_args(GroupedUnit))
    check_one_of("recover", options.recover, get_args(Method))
    check_one_of("clean", options.clean, get_args(Mode))
    for gate in options.fail_if:
        check_gate(gate)
    check_one_of("judge", options.judge, tuple(JUDGES))
    if not isinstance(options.round_to, int):
        check_one_of("round_to", options.round_to, ("auto",))
