"""Makes a report that of a tuned model: what training won, and the checks that mean it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from prunecvt.evaluation.intervals import wilson
from prunecvt.options import Options
from prunecvt.report.schema import Change, Report
from prunecvt.report.tune_rows import HeldOut, LookRow, TuneRow
from prunecvt.runtimes.openvino_ir import bounded
from prunecvt.slimming import Slimmed
from prunecvt.tuning import Tuned

if TYPE_CHECKING:
    from prunecvt.bridge.tuning.distil import Distilled

FEW = 100  # held-out samples that tell little


def as_tuned(report: Report, slimmed: Slimmed, options: Options) -> Report:
    """The report of a tuned model; that of any other as it is."""
    tuned = slimmed.facts.values.get(Tuned)
    if tuned is None:
        return report
    before, after = tuned.channels
    channels = Change(before=before, after=after)
    verify = report.verify
    if verify is not None:
        left_out = [*verify.skipped, "oracle: it speaks of the cut alone; trained since"]
        verify = verify.model_copy(update={"skipped": left_out})
    return report.model_copy(
        update={
            "status": "ok",
            "criterion": "distillation",
            "groups": [],
            "skipped": [],
            "settings": tuned.options.settings(options),
            "resolved": {},
            "totals": report.totals.model_copy(update={"channels": channels}),
            "verify": verify,
            "tune": tune_row(tuned),
            "warnings": [*report.warnings, *_warnings(tuned)],
        }
    )


def tune_row(tuned: Tuned) -> TuneRow:
    """What training did."""
    made = tuned.distilled
    learned, held = made.samples
    scored = tuned.accuracy.top1 if tuned.accuracy is not None else None
    qualities = []
    for each in (made.before, made.after):
        agree = each.agreement
        interval = None if agree is None else wilson(agree, held)
        loss = bounded(each.loss)
        qualities.append(
            HeldOut(loss=loss, top1_agree=agree, top1_agree_ci95=interval, top1=each.correct)
        )
    return TuneRow(
        slim=tuned.slim,
        slim_sha256=tuned.sha256,
        samples=learned,
        held_out=held,
        compared=made.compared,
        before=qualities[0],
        after=qualities[1],
        accuracy=None if scored is None else (scored.before, scored.after),
        accuracy_change_ci95=None if scored is None else scored.change_ci95,
        steps=made.steps,
        best_step=made.best_step,
        minutes=round(made.minutes, 3),
        optimiser=made.recipe.optimiser,
        rate=made.recipe.rate,
        augment=list(made.recipe.augment),
        hints=list(made.hints),
        hints_left_out=dict(made.unhinted),
        norms_put_back=made.norms,
        history=_looks(made),
        torch_max_rel=tuned.torch_gap,
    )


def _looks(made: Distilled) -> list[LookRow]:
    return [
        LookRow(
            step=step,
            loss=bounded(each.loss),
            top1_agree=each.agreement,
            top1=each.correct,
        )
        for step, each in made.history
    ]


def _warnings(tuned: Tuned) -> list[str]:
    made = tuned.distilled
    found = []
    if not made.best_step:
        found.append("no weights did better on held-out data than those that came: they are kept")
    if made.ended:
        found.append(f"training ended before its time: {made.ended}; try a smaller --rate")
    if made.samples[1] < FEW:
        found.append(
            f"the best weights were chosen on {made.samples[1]} held-out samples: few to tell by"
        )
    for reason, names in _by_reason(made.unhinted):
        noun, verb = ("activation", "is") if len(names) == 1 else ("activations", "are")
        found.append(f"inner {noun} {_some(names)} {verb} not compared: {reason}")
    for reason, names in _by_reason(made.unnormed):
        noun = "layer" if len(names) == 1 else f"{len(names)} layers"
        found.append(f"no BatchNormalization is put back behind {noun} {_some(names)}: {reason}")
    if tuned.options.norms == "all" and not (made.norms or made.unnormed):
        found.append("--norms all: there is no inner convolution without a normalisation behind it")
    return found


def _by_reason(left_out: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    return [
        (reason, [name for name, why in left_out.items() if why == reason])
        for reason in dict.fromkeys(left_out.values())
    ]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"
