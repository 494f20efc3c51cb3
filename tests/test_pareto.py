"""Pareto fronts, their pictures, and the pages that hold them."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from markupsafe import Markup
from rich.console import Console

import report_examples as examples
from command_line import run
from prunecvt.report.front import corners, undominated
from prunecvt.report.html import render_html
from prunecvt.report.pareto import LEFT, RIGHT, Axis, Dot, Picture, draw, ticks
from prunecvt.report.schema import Change, ProbeRow, Report, TargetRow
from prunecvt.report.sweep import SweepPoint, SweepReport
from prunecvt.report.sweep_page import (
    headline,
    link,
    panel,
    render_sweep_html,
    sweep_markdown,
)
from prunecvt.report.tables import sweep_table
from sweep_examples import many, point, sweep_of

SVG = re.compile(r'<svg class="pareto".*?</svg>', re.DOTALL)


def parsed(drawing: Markup | None) -> ElementTree.Element:
    assert drawing is not None
    return ElementTree.fromstring(str(drawing).replace("&nbsp;", " "))


def dots(drawing: Markup | None) -> list[tuple[str, str]]:
    """Class and title of every dot."""
    return [
        (each.get("class", ""), each.findtext("title") or "")
        for each in parsed(drawing).iter()
        if each.get("class", "").startswith("dot ")
    ]


def test_equal_pairs_do_not_beat_each_other_and_ties_in_one_do() -> None:
    pairs = [(0.5, 0.9), (0.5, 0.9), (0.5, 0.8), (0.6, 0.9), (0.3, 0.7), (0.9, 0.95)]
    assert undominated(pairs) == [True, True, False, False, True, True]
    assert undominated([]) == []


def test_the_line_stays_until_the_next_pair_is_affordable() -> None:
    pairs = [(0.9, 0.95), (0.5, 0.9), (0.5, 0.9), (0.6, 0.7), (0.3, 0.7)]
    assert corners(pairs) == [(0.3, 0.7), (0.5, 0.7), (0.5, 0.9), (0.9, 0.9), (0.9, 0.95)]
    assert corners([(1.0, 1.0)]) == [(1.0, 1.0)]


@pytest.mark.parametrize(
    ("low", "high", "share", "expected"),
    [
        (0.18, 1.07, True, ["20 %", "40 %", "60 %", "80 %", "100 %"]),
        (0.9788, 1.0012, True, ["98.0 %", "98.5 %", "99.0 %", "99.5 %", "100.0 %"]),
        (0.9, 2.1, False, ["1.0", "1.5", "2.0"]),
        (0.0, 1000.0, False, ["0", "200", "400", "600", "800", "1000"]),
    ],
)
def test_ticks_are_round(low: float, high: float, share: bool, expected: list[str]) -> None:
    found = ticks(low, high, 5, share)
    assert [said for _, said in found] == expected
    assert all(low - 1e-9 <= value <= high + 1e-9 for value, _ in found)


def test_one_dot_per_point_and_one_for_the_original() -> None:
    report = many(30)
    for place in (0, 1):
        found = dots(panel(report, place))
        assert len(found) == 31
        names = sorted(title.split(":")[0] for _, title in found)
        assert names == sorted(["the original", *(p.name for p in report.points)])


def test_what_is_beaten_is_grey_and_what_is_best_is_ringed() -> None:
    report = sweep_of(
        [
            point("fast", 0.3, 0.8),
            point("good", 0.7, 0.99),
            point("twin", 0.3, 0.8),
            point("worse", 0.5, 0.75),
            point("slow", 1.2, 0.9),
        ]
    )
    drawing = panel(report, 0)
    kinds = {title.split(":")[0]: kind for kind, title in dots(drawing)}
    assert kinds == {
        "fast": "dot front",
        "good": "dot front",
        "twin": "dot front",
        "worse": "dot beaten",
        "slow": "dot beaten",
        "the original": "dot whole",
    }
    root = parsed(drawing)
    assert sum(each.get("class") == "ring" for each in root.iter()) == 3
    labels = [each.text for each in root.iter("{*}text") if each.get("class") == "label"]
    labels += [each.text for each in root.iter("text") if each.get("class") == "label"]
    assert {"good", "original"} <= set(labels) and "worse" not in labels
    css = render_sweep_html(report)
    assert ".dot.beaten { fill: var(--still); }" in css


def test_each_runtime_has_a_front_of_its_own_and_the_slower_says_what_is_best() -> None:
    def both(first: float, second: float) -> list[Any]:
        return [
            examples.latency(ratio=first, ratio_ci95=(first, first)),
            examples.latency(ratio=second, ratio_ci95=(second, second), backend="openvino"),
        ]

    report = sweep_of(
        [
            point("a", 0.5, 0.9, latency=both(0.3, 0.8)),
            point("b", 0.5, 0.9, latency=both(0.5, 0.5)),
        ]
    )
    kinds = [
        {title.split(":")[0]: kind for kind, title in dots(panel(report, place))}
        for place in (0, 1)
    ]
    assert (kinds[0]["a"], kinds[0]["b"]) == ("dot front", "dot beaten")
    assert (kinds[1]["a"], kinds[1]["b"]) == ("dot beaten", "dot front")
    assert [p.name for p in report.points if p.best] == ["b"]


def test_the_original_beats_what_is_slower_and_worse() -> None:
    report = sweep_of([point("slow", 1.1, 0.9), point("better", 1.1, 0.99)], original=0.95)
    assert [p.best for p in report.points] == [False, True]
    assert sweep_of([point("slow", 1.1, 0.9)], original=None).points[0].best
    assert "none is faster" in headline(sweep_of([point("slow", 1.1, 0.9)], original=0.95))


def test_pictures_say_what_they_show() -> None:
    for drawing in SVG.findall(render_sweep_html(many(5))):
        root = ElementTree.fromstring(drawing)
        assert root.get("role") == "img"
        named = (root.get("aria-labelledby") or "").split()
        texts = [each.text or "" for key in named for each in root.iter() if each.get("id") == key]
        assert "5 points" in texts[0]
        assert texts[1].count("latency") == 5 and "on the front" in texts[1]
    keys = re.findall(r' id="([^"]*)"', render_sweep_html(many(5)))
    assert len(keys) == len(set(keys)) == 4


def test_labels_stay_within_the_picture_and_off_each_other() -> None:
    places = [Dot(f"ratio={k}", "", k / 100, k / 100, ringed=True) for k in range(0, 60, 3)]
    drawing = draw(Picture("k", "t", Axis("x"), Axis("y"), places))
    boxes = []
    for each in parsed(drawing).iter("text"):
        if each.get("class") == "label":
            x, y = (float(each.get(axis) or "nan") for axis in "xy")
            width = 6.0 * len(each.text or "")
            x -= {"start": 0.0, "middle": width / 2, "end": width}[each.get("text-anchor") or ""]
            boxes.append((x, y - 9, x + width, y))
    assert len(boxes) > 3
    assert all(box[0] >= LEFT - 1 and box[2] <= RIGHT + 12 for box in boxes)
    for k, one in enumerate(boxes):
        for two in boxes[k + 1 :]:
            assert one[2] <= two[0] or two[2] <= one[0] or one[3] <= two[1] or two[3] <= one[1]


def test_a_page_of_thirty_points_is_small_and_stands_alone() -> None:
    page = render_sweep_html(many(30))
    assert len(page.encode()) < 200_000
    assert "<script" not in page.lower() and "javascript" not in page.lower()
    assert not re.search(r'(src|href)="(?!\./)', page)
    assert page == render_sweep_html(many(30))
    assert page.count('<a href="./m_') == 30 and 'href="./m_7.report.html"' in page


def test_hostile_names_are_escaped() -> None:
    bad = examples.NASTY
    named = [point(bad, 0.5, 0.9, onnx=f'javascript:"{bad}/../x y.onnx')]
    report = sweep_of(named, model=bad, settings={bad: bad}, judged_on=bad)
    page, text = render_sweep_html(report), sweep_markdown(report)
    assert "<script" not in page and "<script" not in text
    assert "'y'" not in "".join(re.findall(r'href="[^"]*"', page))
    assert re.findall(r'href="([^"]*)"', page) == [link(report.points[0])]
    assert link(report.points[0]) == "./x%20y.report.html"
    for drawing in SVG.findall(page):
        ElementTree.fromstring(drawing)


def test_what_was_not_measured_is_said() -> None:
    report = sweep_of([point("a", 0.5, None)], original=None, judged_on="")
    page = render_sweep_html(report)
    assert 'class="pareto"' not in page
    assert "was not measured: give --calib" in page and "NaN" not in page
    random = sweep_of([point("a", 0.5, 0.9, measure="cosine")], judged_on="8 random samples")
    assert "says little of data" in render_sweep_html(random) and "0.90000" in headline(random)


def test_a_busy_machine_is_said() -> None:
    busy = [examples.latency(contended=True, judged_by=by) for by in ("cpu", "wall")]
    pages = [render_sweep_html(sweep_of([point("a", 0.5, 0.9, latency=[row])])) for row in busy]
    assert all("The machine was busy" in page for page in pages)
    assert ["are of CPU time" in page for page in pages] == [True, False]


def test_next_to_nothing_is_not_drawn_large() -> None:
    drawing = panel(sweep_of([point("a", 0.5, 0.999), point("b", 0.3, 0.9985)]), 0)
    ups = [float(e.get("cy") or 0) for e in parsed(drawing).iter() if e.get("class") == "dot front"]
    assert len(ups) == 2 and 0 < abs(ups[0] - ups[1]) < 15


@pytest.mark.parametrize(
    "rows",
    [
        [point("a", 0.5, 0.9), point("b", 0.6, 0.9, latency=[])],
        [point("a", 0.5, 0.9), point("b", float("inf"), 0.9)],
        [point("a", 1.0, 1.0), point("b", 1.0, 1.0)],
        [point("a", 0.5, 0.9), point("b", 0.6, 0.8, measure="cosine")],
    ],
)
def test_odd_points_do_not_stop_the_page(rows: list[Any]) -> None:
    assert "<h2>All points</h2>" in render_sweep_html(sweep_of(rows))


def test_a_report_of_an_older_version_is_drawn_too(tmp_path: Path) -> None:
    old = many(3).model_dump(mode="json", exclude={"tool", "run", "env", "settings", "original"})
    old.pop("judged_on")
    report = SweepReport.model_validate(old)
    assert "3 points" in render_sweep_html(report)


@pytest.mark.parametrize("name", ["html", "md", "json", "text"])
def test_the_command_renders_a_sweep_again(name: str, tmp_path: Path) -> None:
    file = tmp_path / "sweep.json"
    file.write_text(many(4).model_dump_json())
    done = run("report", file, "--format", name)
    assert done.returncode == 0, done.stderr
    if name == "html":
        assert done.stdout == render_sweep_html(many(4))
    elif name == "json":
        assert SweepReport.model_validate_json(done.stdout) == many(4)
    else:
        assert done.stdout.count("ratio") == 4


def test_what_is_no_sweep_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "sweep.json"
    file.write_text(many(4).model_dump_json())
    done = run("report", file, "--format", "github")
    assert (done.returncode, "text, json, html, md" in done.stderr) == (2, True)
    file.write_text('{"schema_version": 1, "model": "m", "sha256": "0", "points": []}')
    done = run("report", file)
    assert (done.returncode, "E310" in done.stderr) == (3, True)


def tried(text: str, probes: list[tuple[float, float]], left: float, value: float) -> Report:
    target = TargetRow(
        text=text,
        judge=["onnxruntime"],
        value=value,
        met=True,
        probes=[ProbeRow(macs=macs, value=found) for macs, found in probes],
    )
    report = examples.report(target=target)
    macs = Change(before=100.0, after=100 * left)
    return report.model_copy(update={"totals": report.totals.model_copy(update={"macs": macs})})


@pytest.mark.parametrize(
    ("text", "probes", "kinds", "original"),
    [
        ("speedup=2.0", [(0.5, 1.8), (0.4, 2.2), (0.45, 1.99)], "beaten front front", True),
        ("latency=0.5", [(0.5, 0.55), (0.4, 0.4), (0.45, 0.5)], "beaten front front", True),
        ("latency=3.5ms", [(0.5, 4.0), (0.4, 3.0), (0.45, 3.5)], "beaten front front", False),
        ("agreement=0.99", [(0.5, 0.98), (0.4, 0.97), (0.45, 0.99)], "beaten beaten front", True),
        ("of=another", [(0.5, 0.98), (0.4, 0.97), (0.45, 0.99)], "beaten beaten beaten", True),
    ],
)
def test_trials_for_a_target_are_drawn(
    text: str, probes: list[tuple[float, float]], kinds: str, original: bool
) -> None:
    page = render_html(tried(text, probes, left=0.45, value=probes[2][1]))
    (drawing,) = SVG.findall(page)
    root = ElementTree.fromstring(drawing)
    found = {title.split(":")[0]: kind for kind, title in dots(Markup(drawing))}
    assert [found[f"trial {k + 1}"] for k in range(3)] == [f"dot {kind}" for kind in kinds.split()]
    assert ("the original" in found) is original
    (ring,) = (each for each in root.iter() if each.get("class") == "ring")
    (taken,) = (each for each in root.iter("circle") if "taken" in (each.findtext("title") or ""))
    assert (ring.get("cx"), ring.get("cy")) == (taken.get("cx"), taken.get("cy"))
    assert (taken.findtext("title") or "").startswith("trial 3:")
    assert (root.find(".//*[@class='goal']") is not None) is (text != "of=another")
    assert "<td>taken</td>" in page and f"target {text}" in (root.findtext("title") or "")


def test_a_value_after_recovery_in_full_is_told_apart() -> None:
    page = render_html(tried("agreement=0.99", [(0.5, 0.98), (0.45, 0.991)], 0.45, 0.9935))
    assert "the model that was written has 99.35 %" in page
    page = render_html(tried("agreement=0.99", [(0.5, 0.98), (0.45, 0.991)], 0.45, 0.991))
    assert "the model that was written" not in page
    assert 'class="pareto"' not in render_html(examples.report())


@pytest.mark.parametrize("value", [1e308, -1e308])
def test_a_quality_beyond_all_measure_is_drawn_at_the_edge(value: float) -> None:
    drawing = parsed(panel(sweep_of([point("a", 0.5, 0.9), point("b", value, 0.8)], value), 0))
    for each in drawing.iter():
        for name in ("x", "y", "cx", "cy"):
            assert abs(float(each.get(name, "0"))) < 1000


def test_only_formats_of_a_sweep_are_named(tmp_path: Path) -> None:
    file = tmp_path / "sweep.json"
    file.write_text(many(4).model_dump_json())
    done = run("report", file, "-o", tmp_path / "x.pdf")
    assert (done.returncode, "text, json, html, md" in done.stderr) == (2, True)
    assert "github" not in done.stderr and "benchmark" not in done.stderr


def test_what_is_to_be_known_of_points_is_said_once() -> None:
    one, two, three = "judged on 4 samples", "a <b> was left", "nothing was pruned"
    report = sweep_of(
        [
            point("a", 0.5, 0.9, warnings=[one, two]),
            point("b", 0.6, 0.95, warnings=[two, one]),
            point("c", 0.7, 0.99, warnings=[one, three]),
        ]
    )
    stream = io.StringIO()
    Console(file=stream, width=100).print(sweep_table(report))
    texts = [stream.getvalue(), sweep_markdown(report), render_sweep_html(report)]
    for text in texts:
        assert [text.count(note) for note in (one, three)] == [1, 1]
    assert "note: judged on 4 samples" in texts[0]
    assert "note: a, b: a <b> was left" in texts[0] and "note: c: nothing was pruned" in texts[0]
    assert "- <code>a, b</code>: a &#60;b&#62; was left" in texts[1]
    assert "<li><b>a, b</b>: a &lt;b&gt; was left</li>" in texts[2]
    assert texts[2].index(one) < texts[2].index("All points") < texts[2].index(three)


def test_a_point_carries_what_its_report_warns_of() -> None:
    found = SweepPoint.of("a", "m.onnx", examples.report(warnings=["w", "w"]), [])
    assert found.warnings[-1] == "w" and found.warnings.count("w") == 1
    assert not found.guesses and not any("atency" in text for text in found.warnings)


def test_a_point_that_guesses_is_not_best() -> None:
    whole = examples.accuracy()
    low = whole.top1.model_copy(update={"after": 0.11, "after_ci95": (0.09, 0.13)})
    report = examples.report(accuracy=whole.model_copy(update={"top1": low}))
    found = SweepPoint.of("a", "m.onnx", report, [examples.latency(ratio=0.1)])
    assert found.guesses and any("by guessing" in text for text in found.warnings)
    assert "by guessing" in render_html(report)
    swept = sweep_of([found, point("b", 0.5, 0.9)])
    assert [each.best for each in swept.points] == [False, True]
    assert "guesses</span>" in render_sweep_html(swept)
    assert "better than guessing" in headline(sweep_of([found]))
    bad = low.model_copy(update={"before_ci95": (0.08, 0.12)})  # then the data is not right
    report = examples.report(accuracy=whole.model_copy(update={"top1": bad}))
    assert not SweepPoint.of("a", "m.onnx", report, []).guesses


def test_settings_that_were_chosen_come_first() -> None:
    report = sweep_of([point("a", 0.5, 0.9)], settings={"scope": "layer", "seed": 0, "odd": 1})
    page = render_sweep_html(report)
    place = page.index("1 setting as it is by default")
    assert page.index(">scope<") < place and page.index(">odd<") < place < page.index(">seed<")
