"""What was cleaned up before writing, as the report says it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from prunecvt.report.record import Record

if TYPE_CHECKING:
    from prunecvt_passes.rewriting.rewrite import Rewritten


class RewriteCheck(Record):
    """The model as it was cleaned up against the one before; ``at`` as for ``OracleCheck``."""

    at: Literal["outputs", "logits", "unrounded"] = "outputs"
    max_abs: float
    max_rel: float
    tolerance: float
    samples: int
    passed: bool


class RewriteRow(Record):
    """A clean-up: the nodes that it was done to, and why others that it is for were left."""

    rule: str
    nodes: list[str]
    left: list[str] = Field(default_factory=list)


def rewrite_rows(rewritten: Rewritten | None) -> list[RewriteRow]:
    """One row per rule that found something to do, or had a reason to leave it."""
    done = rewritten.done if rewritten is not None else ()
    return [
        RewriteRow(rule=each.rule, nodes=list(each.nodes), left=list(each.left)) for each in done
    ]
