"""The report's outputs: JSON, HTML, Markdown and the tables of the terminal."""

from __future__ import annotations

import io
import random
import re
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
from rich.console import Console, RenderableType

import prunecvt
import report_examples as examples
from prunecvt.report import wording
from prunecvt.report.findings import findings
from prunecvt.report.html import render_html
from prunecvt.report.markdown import render_markdown
from prunecvt.report.schema import Report
from prunecvt.report.tables import bench_table, groups_table, summary_table

EXAMPLES = [examples.report, examples.large, examples.troubled, examples.unpruned]
every_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda make: make.__name__)


def printed(renderable: RenderableType, width: int = 80, encoding: str = "utf-8") -> str:
    """What a console that is no terminal shows."""
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    Console(file=file, width=width, no_color=True).print(renderable)
    file.flush()
    return raw.getvalue().decode(encoding)


@every_example
def test_json_round_trip(example: Callable[[], Report]) -> None:
    report = example()
    text = report.model_dump_json()
    assert Report.model_validate_json(text) == report
    jsonschema.validate(report.model_dump(mode="json"), Report.model_json_schema())


@every_example
def test_html_stands_alone(example: Callable[[], Report]) -> None:
    page = render_html(example())
    assert len(page.encode()) < 200_000
    assert "<script" not in page.lower()
    assert not re.search(r"https?:|url\(|@import|<link|<img|<iframe|\ssrc=|\son\w+=", page)
    assert set(re.findall(r'href="([^"]*)"', page)) <= {"#lock"}


@every_example
def test_html_is_deterministic(example: Callable[[], Report]) -> None:
    assert render_html(example()) == render_html(example())


@every_example
def test_html_pictures_are_described(example: Callable[[], Report]) -> None:
    page = render_html(example())
    pictures = re.findall(r"<svg[^>]*>(?:<title>[^<]+</title>)?", page)
    assert all(
        "aria-hidden" in svg or ('role="img"' in svg and "<title>" in svg) for svg in pictures
    )


def test_html_tags_are_balanced() -> None:
    page = render_html(examples.troubled())
    for tag in (
        "div",
        "section",
        "table",
        "tbody",
        "tr",
        "td",
        "p",
        "details",
        "svg",
        "span",
        "dl",
    ):
        assert len(re.findall(rf"<{tag}[ >]", page)) == page.count(f"</{tag}>"), tag


def test_html_escapes_names() -> None:
    hostile = examples.NASTY
    report = examples.report(
        groups=examples.groups(9, hostile),
        skipped=examples.pinned(9, hostile),
        warnings=[hostile],
        settings={hostile: hostile},
    )
    page = render_html(report)
    assert "alert(&#34;x&#34;)" in page
    assert "<script" not in page


def test_html_gives_every_reason() -> None:
    report = examples.report()
    page = render_html(report)
    reasons = {group.reason for group in report.groups if group.reason}
    reasons |= {cause.text for cause in wording.causes_pinned(report.skipped)}
    assert len(reasons) > 5
    for reason in reasons:
        assert reason.replace("'", "&#39;") in page


def test_html_says_what_it_leaves_out() -> None:
    page = render_html(examples.report(groups=examples.groups(300)))
    assert "260 more groups" in page
    assert "60 further groups not listed here" in page


def test_html_colours_have_contrast() -> None:
    page = render_html(examples.report())
    themes = re.findall(r"(--page: #[^}]+)}", page)
    assert len(themes) == 3
    for theme in themes:
        colours = dict(re.findall(r"--([\w-]+): (#\w+)", theme))
        for name in ("text", "muted", "accent", "good", "bad", "caution"):
            assert contrast(colours[name], colours["card"]) >= 4.5, name
            assert contrast(colours[name], colours["page"]) >= 4.5, name
        assert contrast(colours["text"], colours["caution-page"]) >= 4.5


def contrast(first: str, second: str) -> float:
    """The WCAG contrast of two colours."""

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        parts = [int(digits[k : k + 2], 16) / 255 for k in (0, 2, 4)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_findings_name_every_caveat() -> None:
    text = " ".join(findings(examples.troubled()))
    for caveat in (
        "machine was busy",
        "no clear change",
        "slower",
        "No recovery",
        "random input",
        "41 convolutions",
        "Gate missed",
        "left out",
    ):
        assert caveat in text
    assert findings(examples.report()) == []
    assert "Latency was not measured." in findings(examples.unpruned())


def test_headline_claims_nothing_that_is_not_clear() -> None:
    page = render_html(examples.report(latency=[examples.contended()]))
    head = page[page.index("<header>") : page.index("<h2>Widths")]
    assert "no clear change in speed" in head
    assert "times as fast" not in head
    assert "Machine was busy" in head


@every_example
@pytest.mark.parametrize("width", [80, 120])
def test_summary_fits(example: Callable[[], Report], width: int) -> None:
    report = example()
    lines = printed(summary_table(report), width).splitlines()
    assert all(len(line) <= width for line in lines)
    totals = next(line for line in lines if line.startswith("parameters"))
    change = wording.changed(report.totals.params)
    assert [wording.count(report.totals.params.after), change] == re.split(r"\s{2,}", totals)[2:4]
    for row in report.latency:
        line = next(line for line in lines if line.startswith(wording.runtime(row)))
        assert wording.milliseconds(wording.judged(row)[1]) in line
        assert wording.change_interval(row) in line


def test_summary_groups_reasons() -> None:
    text = printed(summary_table(examples.large()))
    assert "not prunable: 300" in text
    assert "left whole: 30" in text
    assert re.search(r"^ +60  its channels are an output of the model$", text, re.MULTILINE)


def test_summary_bounds_the_reasons() -> None:
    rows = [
        row.model_copy(update={"reason": f"reason {'x' * index}"})
        for index, row in enumerate(examples.pinned(40))
    ]
    text = printed(summary_table(examples.report(skipped=rows)))
    block = text[text.index("not prunable") : text.index("left whole")]
    assert len(block.splitlines()) == 9
    assert "33  for 33 other reasons" in block


def test_inspect_lists_everything() -> None:
    report = examples.report()
    text = printed(groups_table(report.groups, report.skipped))
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "22 of 27 groups prunable, 14 producers not." in text
    score = examples.report().groups[12].score
    assert score is not None
    scores = rf"0\.027 {score.median:.2g} 2\.8"
    assert re.search(rf"^ +12  /.*onv_output_0 \+2 +64 -> 40 +{scores}  yes", text, re.MULTILINE)
    for row in report.skipped:
        assert row.node in text


def test_bench_holds_all_against_the_first() -> None:
    names = ["dense.onnx", "models/" + "long" * 30 + ".onnx"]
    text = printed(bench_table(names, [[examples.latency(), examples.contended()]]))
    lines = text.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert sum(line.startswith("dense.onnx") for line in lines) == 2
    assert any(line.rstrip().endswith("0.574  0.551..0.598") for line in lines)
    assert any(line.rstrip().endswith("0.908  0.731..1.162 !~") for line in lines)
    assert "machine was busy" in text


def test_bench_of_one_model_has_no_ratio() -> None:
    text = printed(bench_table(["dense.onnx"], [[examples.latency()]]))
    assert "16.7" in text
    assert "faster" not in text


def test_tables_survive_a_plain_console() -> None:
    report = examples.report(groups=examples.groups(9, "\u5c42/\x1b[31mred"))
    for table in (summary_table(report), groups_table(report.groups, report.skipped)):
        text = printed(table, encoding="ascii")
        assert "----" in text
        assert "\x1b" not in printed(table)


def test_tables_do_not_read_names_as_markup() -> None:
    row = examples.group(1, random.Random(0), "[red]name[/red]")
    text = printed(groups_table([row], []), width=160)
    assert "[red]name[/red]/conv1/Conv" in text


@every_example
def test_markdown_is_small_and_inert(example: Callable[[], Report]) -> None:
    text = render_markdown(example())
    assert len(text) < 20_000
    assert "<script" not in text
    assert set(re.findall(r"</?(\w+)", text)) <= {"code", "details", "summary"}
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (wording.count(999), "999"),
        (wording.count(2032), "2,032"),
        (wording.count(999_999), "1.00 M"),
        (wording.count(11_689_512), "11.7 M"),
        (wording.size(3_451_234), "3.45 MB"),
        (wording.milliseconds(9.996), "10.0 ms"),
        (wording.milliseconds(0.04213), "0.0421 ms"),
        (wording.significant(float("nan")), "-"),
        (wording.significant(0.0), "0"),
        (wording.significant(8.4e-7), "8.40e-07"),
        (wording.change(0.577), "-42.3 %"),
        (wording.change(0.99999), "0.0 %"),
        (wording.change(1.083), "+8.3 %"),
        (wording.shorten("a" * 60 + "tail", 20), "aaaa...aaaaaaaaatail"),
    ],
)
def test_numbers_for_people(written: str, expected: str) -> None:
    assert written == expected


def test_agreement_interval_is_wilsons() -> None:
    low, high = wording.agreement_interval(1.0, 100)
    assert high == 1.0
    assert low == pytest.approx(0.963, abs=1e-3)
    low, high = wording.agreement_interval(0.5, 100)
    assert (low, high) == pytest.approx((0.4038, 0.5962), abs=1e-3)


def test_shares_are_written_in_one_way() -> None:
    """A number, a blank, a percent sign; and by one function, which no format of Python's is."""
    shown = [printed(summary_table(each())) + render_markdown(each()) for each in EXAMPLES]
    assert any(" %" in text for text in shown)
    assert not [text for text in shown if re.search(r"\d%", text)]
    for path in Path(prunecvt.__file__).parent.rglob("*.py"):
        assert not re.search(r":[+]?\.\d%\}", path.read_text("utf-8")), path


def test_only_numbers_get_true_minus_signs() -> None:
    page = render_html(examples.report(accuracy=examples.accuracy()))
    assert "-&gt;" in page
    assert "\u2212&gt;" not in page
    assert re.search("\u2212\\d", page)
