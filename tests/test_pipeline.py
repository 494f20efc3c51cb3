"""The pipeline: declarations, checks before the run, stale facts, failures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from models import WIDTH, Net
from prunecvt.options import Options
from prunecvt.slimming import slim_in_memory
from prunecvt_passes import pipeline
from prunecvt_passes.budget import Budget, Removal
from prunecvt_passes.choose import choose
from prunecvt_passes.errors import PassError, UsageError
from prunecvt_passes.pipeline import Facts, check, declaration, named_passes, run


@dataclass(frozen=True)
class Graph:
    size: int


@dataclass(frozen=True)
class Labels:
    count: int


@dataclass(frozen=True)
class Ranking:
    best: int


def label(graph: Graph) -> Labels:
    return Labels(graph.size * 2)


def rank(labels: Labels) -> Ranking:
    return Ranking(labels.count + 1)


def shrink(graph: Graph, ranking: Ranking) -> Graph:
    return Graph(graph.size - 1)


def given(size: int = 5) -> Facts:
    facts = Facts()
    facts.put(Graph(size))
    return facts


def test_a_declaration_is_the_signature() -> None:
    reads, made = declaration(shrink)
    assert (reads, made) == ([Graph, Ranking], Graph)
    assert declaration(choose)[0][2] is Budget and declaration(choose)[1] is Removal


def test_passes_run_in_order_and_are_timed() -> None:
    facts = run([label, rank, shrink], given())
    assert facts.get(Graph) == Graph(4)
    assert [(t.name, t.changed) for t in facts.timings] == [
        ("label", False),
        ("rank", False),
        ("shrink", True),
    ]


def test_progress_names_each_pass() -> None:
    names: list[str] = []
    run([label, rank], given(), names.append)
    assert names == ["label", "rank"]


def test_facts_that_follow_from_an_edited_one_are_forgotten() -> None:
    facts = run([label, rank, shrink], given())
    for kind in (Labels, Ranking):
        with pytest.raises(PassError) as caught:
            facts.get(kind)
        assert caught.value.code == "E101"


def test_stale_facts_are_made_again() -> None:
    facts = run([label, rank, shrink, label, rank], given())
    assert facts.get(Ranking) == Ranking(9)


def test_reading_a_stale_fact_is_refused_before_anything_runs() -> None:
    ran: list[str] = []
    with pytest.raises(PassError) as caught:
        run([label, rank, shrink, rank], given(), ran.append)
    assert caught.value.code == "E103" and "Labels" in caught.value.message and not ran


def test_a_missing_fact_is_refused_before_anything_runs() -> None:
    with pytest.raises(PassError) as caught:
        check([rank], [Graph])
    assert caught.value.code == "E103"
    assert "'rank' reads Labels" in caught.value.message


def test_a_fact_unlike_the_edited_one_survives() -> None:
    facts = given()
    facts.put(Budget())
    assert run([label, rank, shrink], facts).get(Budget) == Budget()


def test_a_pass_that_fails_is_named() -> None:
    def explode(graph: Graph) -> Labels:
        raise ZeroDivisionError("by zero")

    with pytest.raises(PassError) as caught:
        run([explode], given())
    assert caught.value.code == "E104" and "'explode'" in caught.value.message
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_an_error_of_our_own_passes_through() -> None:
    def refuse(graph: Graph) -> Labels:
        raise UsageError("E212", "no")

    with pytest.raises(UsageError) as caught:
        run([refuse], given())
    assert caught.value.code == "E212"


def test_a_pass_that_makes_something_else_is_caught() -> None:
    def liar(graph: Graph) -> Labels:
        return graph  # type: ignore[return-value]

    with pytest.raises(PassError) as caught:
        run([liar], given())
    assert caught.value.code == "E104"


def test_a_pass_without_types_is_refused() -> None:
    def untyped(graph: Graph, other):  # type: ignore[no-untyped-def]
        return graph

    with pytest.raises(PassError) as caught:
        run([untyped], given())
    assert caught.value.code == "E102"


def test_named_passes_come_from_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    class Entry:
        name = "label"

        def load(self) -> Any:
            return label

    def entries(group: str) -> list[Entry]:
        assert group == pipeline.ENTRY_POINTS
        return [Entry()]

    monkeypatch.setattr(pipeline.importlib.metadata, "entry_points", entries)
    assert named_passes(["label"]) == [label]
    with pytest.raises(UsageError) as caught:
        named_passes(["lable"])
    assert caught.value.code == "E216" and "label" in caught.value.help


def test_an_unknown_pass_is_told_before_any_runs() -> None:
    begun: list[str] = []
    net = Net()
    net.output(net.conv(net.first(), WIDTH, 4, name="last"))
    with pytest.raises(UsageError, match="E216"):
        slim_in_memory(net.proto(), Options(passes=("lable",)), progress=begun.append)
    assert not begun
