"""The pass: rewrites what a runtime pays for and a weight, or nothing, can do as well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from prunecvt_passes.graph import index
from prunecvt_passes.model import Model
from prunecvt_passes.normalise import Dense
from prunecvt_passes.rewriting.absorb import into_maker, into_readers
from prunecvt_passes.rewriting.changes import Changes, apply
from prunecvt_passes.rewriting.merge import drop_idle, merge
from prunecvt_passes.rewriting.shortcut import convolve_shortcuts
from prunecvt_passes.shapes import infer

Rule = Callable[..., Changes]
Mode = Literal["auto", "none"]

# What each does, in the order in which they are tried; those that add weights come last.
RULES: tuple[tuple[str, Rule], ...] = (
    ("dropped, for it did nothing", drop_idle),
    ("merged into one node", merge),
    ("folded into the weights before it", into_maker),
    ("folded into the weights after it", into_readers),
)
GROWING: tuple[tuple[str, Rule], ...] = (("made a convolution", convolve_shortcuts),)
_PICKING = ("Slice", "Gather", "Pad")


@dataclass(frozen=True)
class Cleaning:
    """What is asked for.

    Attributes:
        mode: ``auto`` all rules, ``none`` no rule.
        grow: whether weights and multiply-accumulates may be added where that is quicker.
    """

    mode: Mode = "auto"
    grow: bool = True


@dataclass(frozen=True)
class Done:
    """What a rule came to: ``nodes`` were rewritten, ``left`` says why others were not."""

    rule: str
    nodes: tuple[str, ...]
    left: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rewritten:
    """The model before and after, and what was done; both are the same where nothing was."""

    before: Model
    model: Model
    done: tuple[Done, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything was."""
        return self.model is not self.before


def rewrite(dense: Dense, model: Model, cleaning: Cleaning) -> Rewritten:
    """Applies every rule once, in order; what it finds is exact but for the order of sums."""
    nodes = model.proto.graph.node
    if cleaning.mode == "none" or not any(node.op_type in _PICKING for node in nodes):
        return Rewritten(model, model)
    found: list[Done] = []
    after = model
    graph = index(after, infer(after, dense.sizes)[0])
    for text, rule in (*RULES, *GROWING):
        changes = rule(graph)
        if not cleaning.grow and (text, rule) in GROWING:
            changes = changes.declined("it would add weights, which the target counts")
        if changes.done or changes.left:
            found.append(Done(text, tuple(changes.done), tuple(changes.left)))
        if changes.done:
            after = apply(graph, changes)
            graph = index(after, infer(after, dense.sizes)[0])
    return Rewritten(model, after, tuple(found))


def take_rewritten(rewritten: Rewritten) -> Model:
    """Takes the rewritten model."""
    return rewritten.model
