"""What a user should know before relying on a result."""

from __future__ import annotations

from collections.abc import Sequence

from prunecvt.options import Options
from prunecvt.percent import percent
from prunecvt.reinit import Redrawn, notes_of
from prunecvt.report.form_notes import form_notes, layout_notes
from prunecvt.report.schema import LatencyRow, LayoutCheck
from prunecvt.slimming import Slimmed
from prunecvt_passes.budget import stated_ratio
from prunecvt_passes.normalise import Dense
from prunecvt_passes.plan import Plan
from prunecvt_passes.samples import dimensions, graph_inputs
from prunecvt_passes.seek import MISSED
from prunecvt_passes.synthetic.match import Matched
from prunecvt_passes.target import Target

FEW = 8  # held-out samples that tell little


def cautions(slimmed: Slimmed, options: Options, layout: LayoutCheck | None = None) -> list[str]:
    """What a user should know before relying on the result."""
    found = []
    if slimmed.contract is None:
        found.append("the checks were left out by --no-verify")
    if options.passes:
        found.append(
            f"the oracle speaks of the cut alone: {', '.join(options.passes)} ran after it, and "
            "'prunecvt verify' does not know what changed"
        )
    found += form_notes(slimmed)
    found += _data_notes(slimmed)
    found += _left_alone(slimmed)
    found += _guessed_sizes(slimmed, options)
    found += _small_cut(slimmed, options)
    if slimmed.probed is not None and slimmed.probed.note:
        found.append(slimmed.probed.note)
    plan = slimmed.facts.values.get(Plan)
    if plan is not None and plan.model_sha256 != slimmed.sha256:
        found.append(
            "the plan was made for another file (its model_sha256 differs): it fits this model, "
            "but other channels may be the weakest"
        )
    if slimmed.before.uncounted:
        found.append(
            f"MACs leave out {slimmed.before.uncounted} convolutions or products: inside bodies "
            "of If, Loop and Scan, or of unknown shape"
        )
    if options.round_to != "auto" and options.round_to < 4:
        found.append(
            f"widths are rounded to multiples of {options.round_to}: onnxruntime's blocked "
            "convolutions want multiples of 4 or 8, and may be slower without"
        )
    return found + layout_notes(slimmed, layout)


def measured_otherwise(
    target: Target | None, judge: Sequence[str], rows: Sequence[LatencyRow]
) -> list[str]:
    """Says so where the race at the end leaves no room for what the trials of a speed found."""
    if target is None or target.currency != "latency" or target.absolute:
        return []
    return [
        f"measured again at the end, the model takes {row.ratio:.3f} of the original's time in "
        f"{row.backend} (95 % interval {row.ratio_ci95[0]:.3f} to {row.ratio_ci95[1]:.3f}), and "
        f"{target.amount:.3f} was aimed at: the machine was busy in one of the two; ask again when "
        "it is quiet"
        for row in rows
        if row.backend in judge
        and abs(row.ratio / target.amount - 1) > MISSED
        and not row.ratio_ci95[0] <= target.amount <= row.ratio_ci95[1]
    ]


def _data_notes(slimmed: Slimmed) -> list[str]:
    """What was assumed of the user's data, and whether the original answers as if it guessed."""
    fidelity, accuracy = slimmed.fidelity, slimmed.accuracy
    found = [*(fidelity.notes if fidelity else ()), *(accuracy.notes if accuracy else ())]
    if accuracy is not None and accuracy.top1.before_ci95[0] <= 1 / accuracy.classes:
        found.append(
            f"the original is right on {percent(accuracy.top1.before)} of the labelled samples, no "
            "more than by guessing: check the preprocessing and the order of the classes"
        )
    return list(dict.fromkeys(found))


def _left_alone(slimmed: Slimmed) -> list[str]:
    """Says what recovery could not judge, left as it was, or could not match noise to."""
    recovery = slimmed.recovery
    layers = recovery.layers if recovery is not None else ()
    found = notes_of(slimmed.facts.values.get(Redrawn))
    if recovery is not None and 0 < recovery.samples < FEW:
        found.append(
            f"what recovery is worth was judged on {recovery.samples} of the samples: its errors "
            "and the choice of what to take say little; give more with --calib-count"
        )
    for reason in dict.fromkeys(layer.reason for layer in layers if layer.reason):
        names = [layer.node for layer in layers if layer.reason == reason]
        found.append(f"recovery left {', '.join(names[:3])}{_more(names)} as it was: {reason}")
    matched = slimmed.facts.values.get(Matched)
    if matched is not None and matched.left:
        names = list(matched.left)
        found.append(
            f"noise was not matched to {', '.join(names[:3])}{_more(names)}: in a body, in "
            "training mode, or with statistics that are no constants of their own"
        )
    return found


def _more(names: list[str]) -> str:
    return f" and {len(names) - 3} more" if len(names) > 3 else ""


def _guessed_sizes(slimmed: Slimmed, options: Options) -> list[str]:
    """Names the sizes that were made up for inputs of open size; a batch is no matter."""
    sizes = slimmed.facts.get(Dense).sizes
    guessed = []
    for value in graph_inputs(slimmed.source):
        dims = dimensions(value) or ()
        batch = len(dims) > 1
        if value.name not in options.input_shape and any(
            not isinstance(dim, int) for dim in dims[1 if batch else 0 :]
        ):
            guessed.append(f"{value.name}:{','.join(map(str, sizes[value.name]))}")
    if not guessed:
        return []
    text = f"input sizes were made up where the model leaves them open ({' '.join(guessed)})"
    return [f"{text}: latency and MACs hold for them; give real ones with --input-shape"]


def _small_cut(slimmed: Slimmed, options: Options) -> list[str]:
    """Says so where rounding left much less cut than was asked for."""
    budget, every = options.budget, slimmed.groups
    groups = [g for g in every.groups if stated_ratio(every, g, budget) is None]
    asked = budget.ratio * sum(group.size for group in groups)
    cut = sum(int(slimmed.removal.removed[group.classes].sum()) for group in groups)
    rounded = sum("rounds up" in reason for reason in slimmed.removal.reasons.values())
    if options.ratio is None or slimmed.scores is None or not rounded or cut > 0.75 * asked:
        return []
    share = cut / sum(group.size for group in groups)
    return [
        f"of the channels {percent(budget.ratio)} were to go and {percent(share)} went: rounding "
        f"widths up left {rounded} groups whole; a larger --ratio or a smaller --round-to cuts more"
    ]
