"""What a user should know of the form that the files have, whatever was cut."""

from __future__ import annotations

from prunecvt.report.latency_rows import LayoutCheck
from prunecvt.slimming import Slimmed
from prunecvt_passes.rewriting.rewrite import GROWING


def form_notes(slimmed: Slimmed) -> list[str]:
    """Says where weights are no inputs any more, and what a fixed batch does to the figures."""
    source = slimmed.source
    listed = [value.name for value in source.proto.graph.input if value.name in source.weights]
    found = []
    if listed:
        found.append(
            f"{len(listed)} weights were listed as graph inputs, which keeps onnxruntime from "
            "optimising: they are constants now, and part of its gain may come from that"
        )
    batch = slimmed.static_batch
    if batch is not None and not batch.inputs:
        found.append("--static-batch: the model's batch is fixed already, and the IR's with it")
    elif batch is not None:
        found.append(
            f"the IR takes batches of {batch.size} and no other: part of OpenVINO's gain "
            "may come from that; the ONNX file takes any"
        )
    return found


def layout_notes(slimmed: Slimmed, layout: LayoutCheck | None) -> list[str]:
    """Says which convolutions entered or left onnxruntime's blocked layout."""
    if layout is None:
        return []
    found, gained = [], _newly_blocked(slimmed, layout)
    if gained > 0:
        found.append(
            f"{gained} more convolutions run in onnxruntime's blocked layout than in the original: "
            "that part of the gain comes from the file's form or its widths, not from fewer MACs"
        )
    if layout.fell_off:
        names = ", ".join(layout.fell_off[:5])
        found.append(
            f"{len(layout.fell_off)} convolutions left onnxruntime's blocked layout: {names}"
        )
    return found


def _newly_blocked(slimmed: Slimmed, layout: LayoutCheck) -> int:
    """How many more of the original's convolutions onnxruntime runs in its blocked layout."""
    growing = {rule for rule, _ in GROWING}
    done = slimmed.rewritten.done if slimmed.rewritten is not None else ()
    made = sum(len(each.nodes) for each in done if each.rule in growing)
    return layout.after.nchwc_convs - layout.before.nchwc_convs - made
