"""Error curves and what recovery gained, layer by layer, in the report."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

import prunecvt
from command_line import SAMPLES
from models import Net
from prunecvt.report.curves import chosen, curve, drift, height, smalls
from prunecvt.report.html import environment, render_html
from prunecvt.report.schema import Change, ErrorCurve, GroupRow
from prunecvt_passes.budget import Removal
from prunecvt_passes.graph import index
from prunecvt_passes.recovery.drift import drifts
from prunecvt_passes.shapes import infer
from prunecvt_passes.slice import remove
from recovery_cases import SPARE, case_of
from report_examples import report as example


def row(before: int = 4, after: int = 2, **fields: object) -> GroupRow:
    points = ErrorCurve(kept=[4, 3, 2, 1, 0], error=[0.0, 1e-3, 1e-2, 0.1, 10.0], weight=0.5)
    given = {"id": 0, "members": ["a<b"], "kept": list(range(after)), "curve": points, **fields}
    return GroupRow.model_validate({"channels_before": before, "channels_after": after, **given})


def test_names_break_behind_their_separators_and_stay_escaped() -> None:
    found = environment().from_string("{{ name|breakable }}").render(name="/a.<b>/Conv_output_0")
    assert found == "/<wbr>a.&lt;b&gt;/<wbr>Conv_<wbr>output_<wbr>0"


def test_what_auto_came_to_is_shown() -> None:
    report = example().model_copy(
        update={"settings": {"scope": "auto"}, "resolved": {"scope": "error"}}
    )
    row = re.search(r'<th scope="row">scope</th><td>(.*?)</td>', render_html(report))
    assert row is not None
    assert row[1].endswith(", here <code>error</code>")


def test_heights_are_logarithms_within_the_picture() -> None:
    assert [height(e) for e in (10.0, 1.0, 0.1, 1e-4)] == [0, 10, 20, 50]
    assert height(0.0) == height(1e-9) == 50 and height(1e9) == 0


def test_a_curve_falls_into_its_picture_with_the_cut_marked() -> None:
    drawing = curve(row(error=1e-2))
    assert "M0 50 25 40 50 30 75 20 100 0" in drawing
    assert 'class="chosen" d="M50 0v50"' in drawing and 'class="point" d="M50 27v6"' in drawing
    assert "a&lt;b: 2 of 4 kept, error 0.010" in drawing
    assert 'class="chosen"' not in curve(row(after=4, error=0.0))


def test_what_is_said_below() -> None:
    assert chosen(row(after=4, error=0.0)) == "all 4 kept"
    assert drift(row()) == ""
    assert drift(row(drift=Change(before=1.5, after=0.012))) == "1.5 \N{RIGHTWARDS ARROW} 0.012"
    assert [small.group.id for small in smalls([row(), row(id=1, curve=None)])] == [0]


def test_many_curves_stay_a_small_page() -> None:
    points = ErrorCurve(kept=list(range(33)), error=[0.1234567] * 33, weight=1.0)
    report = example()
    many = [
        each.model_copy(update={"curve": points, "error": 0.1, "id": number})
        for number, each in enumerate(report.groups * 300)
    ][:300]
    page = render_html(report.model_copy(update={"groups": many}))
    assert len(page.encode()) < 200_000
    assert "in the JSON report" in page and "<script" not in page
    HTMLParser().feed(page)


def two_layers() -> Net:
    net = Net()
    x = net.add("Relu", net.conv(net.input("N", 3, 6, 6), 3, 8, 3, name="first"))
    net.output(net.conv(x, 8, 4, name="second"))
    return net


def test_drift_is_error_over_variance_on_the_data() -> None:
    case = case_of(two_layers())
    (group,) = case.groups.groups
    removed = np.zeros(case.groups.total, bool)
    removed[group.classes[SPARE]] = True
    removal = Removal(removed, {})
    slimmed = remove(case.groups, removal)
    cut = index(slimmed, infer(slimmed, case.dense.sizes)[0])
    feeds = case.calibration.held_out
    found = drifts(case.dense.graph, cut, cut, case.groups, removal, feeds)
    first, second = found
    assert first.before == first.after == pytest.approx(0.0, abs=1e-12)
    assert second.before == second.after

    from prunecvt_passes.recovery.measure import outputs_of

    def output(model: object) -> np.ndarray:
        values = outputs_of(model, feeds)[0]  # type: ignore[arg-type]
        return values.reshape(len(values), 4, -1).swapaxes(1, 2).reshape(-1, 4)

    expected, got = output(case.dense.graph.model), output(cut.model)
    share = ((got - expected) ** 2).sum() / ((expected - expected.mean(0)) ** 2).sum()
    assert second.before == pytest.approx(share, rel=1e-4)


def test_the_report_holds_curves_and_both_errors() -> None:
    net = Net()
    x = net.add("Relu", net.conv(net.input("N", 3, 6, 6), 3, 40, 3, name="first"))
    x = net.add("Relu", net.conv(x, 40, 16, 3, name="second"))
    net.output(net.conv(x, 16, 4, name="last"))
    data = np.random.default_rng(0).standard_normal((128, 3, 6, 6)).astype(np.float32)
    given = {"calib": data, "round_to": 1}
    report = prunecvt.slim(net.proto(), target="macs=0.6", recover="refit", **given).report  # type: ignore[arg-type]
    assert report.recovery is not None and len(report.recovery.layers) == 3
    cut = [g for g in report.groups if g.channels_after < g.channels_before]
    assert len(cut) == 2
    for group in cut:
        assert group.curve is not None and group.error is not None and group.drift is not None
        assert group.curve.kept[0] == group.channels_before and group.curve.kept[-1] == 0
        assert group.curve.error == sorted(group.curve.error)
        assert len(group.curve.kept) == min(33, group.channels_before + 1)
        assert group.drift.after < group.drift.before
    page = render_html(report)
    assert len(re.findall('class="small"', page)) == 2
    inspected = prunecvt.inspect(net.proto(), **given)  # type: ignore[arg-type]
    assert inspected.groups[0].curve == report.groups[0].curve


def test_the_report_says_what_auto_came_to() -> None:
    report = prunecvt.slim(SAMPLES / "digits_resnet.onnx", target="macs=0.7", criterion="l2").report
    assert report.resolved == {"scope": "error", "round_to": "8", "recover": "none"}
    plan = prunecvt.plan(SAMPLES / "digits_resnet.onnx", target="macs=0.7")
    assert prunecvt.apply(plan).report.resolved == {"recover": "none"}
