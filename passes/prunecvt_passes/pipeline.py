"""A pipeline: a visible list of passes over typed facts.

A pass is a function; the types of its parameters are the facts it reads, the type it returns is the
fact it makes. Before anything runs, the pipeline checks that whatever a pass reads is there or made
by a pass before it. When a pass makes a fact anew (an edited ``Model``), every fact that followed
from the old one is forgotten.
"""

from __future__ import annotations

import gc
import importlib.metadata
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_type_hints

from prunecvt_passes.errors import PassError, PrunecvtError, UsageError

log = logging.getLogger("prunecvt")
ENTRY_POINTS = "prunecvt.passes"
Fact = TypeVar("Fact")
Pass = Callable[..., Any]


@dataclass(frozen=True)
class Timed:
    """How long a pass took, and whether it made a fact anew that was there before."""

    name: str
    seconds: float
    changed: bool


@dataclass
class Facts:
    """Facts by type, with what each follows from.

    ``timings`` are those of the passes that ran.
    """

    values: dict[type, Any] = field(default_factory=dict)
    follows: dict[type, frozenset[type]] = field(default_factory=dict)
    timings: list[Timed] = field(default_factory=list)

    def get(self, kind: type[Fact]) -> Fact:
        """The fact of type ``kind``.

        Raises:
            PassError: E101, there is none.
        """
        if kind not in self.values:
            raise PassError("E101", f"there is no {kind.__name__}: no pass made it, or it is stale")
        value: Fact = self.values[kind]
        return value

    def put(self, value: object, reads: Iterable[type] = ()) -> bool:
        """Adds a fact; says whether it replaced one (what followed from that is forgotten)."""
        kind = type(value)
        replaced = kind in self.values
        if replaced:
            for other in [k for k, sources in self.follows.items() if kind in sources]:
                self.values.pop(other, None)
                self.follows.pop(other, None)
        sources = {source for read in reads for source in (read, *self.follows.get(read, ()))}
        self.values[kind] = value
        self.follows[kind] = frozenset(sources - {kind})
        return replaced


def declaration(step: Pass) -> tuple[list[type], type]:
    """The facts that a pass reads and the one it makes.

    Raises:
        PassError: E102, a parameter or the result has no type.
    """
    hints = get_type_hints(step)
    made = hints.pop("return", None)
    names = step.__code__.co_varnames[: step.__code__.co_argcount]
    if made is None or any(name not in hints for name in names):
        raise PassError(
            "E102", f"pass '{step.__name__}' does not state the types it reads and makes"
        )
    return [hints[name] for name in names], made


def check(passes: Sequence[Pass], given: Iterable[type]) -> None:
    """Checks that every pass finds what it reads.

    Raises:
        PassError: E103, a pass reads a fact that nothing before it makes.
    """
    there: dict[type, frozenset[type]] = {kind: frozenset() for kind in given}
    for step in passes:
        reads, made = declaration(step)
        lacking = [kind.__name__ for kind in reads if kind not in there]
        if lacking:
            raise PassError(
                "E103", f"pass '{step.__name__}' reads {', '.join(lacking)}, made by none before it"
            )
        if made in there:
            there = {kind: follows for kind, follows in there.items() if made not in follows}
        sources = {source for read in reads for source in (read, *there.get(read, ()))}
        there[made] = frozenset(sources - {made})


def run(
    passes: Sequence[Pass], facts: Facts, progress: Callable[[str], None] | None = None
) -> Facts:
    """Runs the passes in order over ``facts``, which it fills and returns.

    Raises:
        PassError: E103 before anything runs; E104, a pass failed with an error of its own.
        PrunecvtError: as the passes raise it.
    """
    check(passes, facts.values)
    collecting = gc.isenabled()
    gc.disable()  # facts are many small arrays without cycles: looking for some costs a quarter
    try:
        _run_each(passes, facts, progress)
    finally:
        if collecting:
            gc.enable()
    return facts


def _run_each(passes: Sequence[Pass], facts: Facts, progress: Callable[[str], None] | None) -> None:
    for step in passes:
        reads, made = declaration(step)
        if progress is not None:
            progress(step.__name__)
        started = time.perf_counter()
        try:
            value = step(*(facts.get(kind) for kind in reads))
        except PrunecvtError:
            raise
        except Exception as error:
            raise PassError(
                "E104",
                f"pass '{step.__name__}' failed: {type(error).__name__}: {error}",
                where=f"it comes from {step.__module__}",
                help="this is a bug in that pass: run again with --debug for the traceback",
            ) from error
        if not isinstance(value, made):
            raise PassError("E104", f"pass '{step.__name__}' made no {made.__name__}")
        before = facts.values.get(made)
        facts.put(value, reads)
        changed = before is not None and value is not before
        seconds = time.perf_counter() - started
        facts.timings.append(Timed(step.__name__, seconds, changed))
        log.info("pass %-18s %7.3f s%s", step.__name__, seconds, "  changed" if changed else "")


def named_passes(names: Sequence[str]) -> list[Pass]:
    """Other people's passes, from the entry-point group ``prunecvt.passes``.

    Raises:
        UsageError: E216, no installed package offers a pass of that name.
    """
    offered = {entry.name: entry for entry in importlib.metadata.entry_points(group=ENTRY_POINTS)}
    for name in names:
        if name not in offered:
            known = ", ".join(sorted(offered)) or "none"
            raise UsageError("E216", f"no pass is called '{name}'", help=f"installed are: {known}")
    return [offered[name].load() for name in names]
