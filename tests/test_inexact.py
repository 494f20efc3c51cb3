"""Inexact cuts from end to end: asked for, verified, and flagged wherever a reader looks."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

import prunecvt
from command_line import run
from models import Net, check_oracle
from prunecvt.report.findings import findings
from prunecvt.report.html import render_html
from prunecvt.report.markdown import render_markdown
from prunecvt.report.tables import groups_table, summary_table
from prunecvt.report.wording import checks
from prunecvt_passes.units import Units
from test_report import printed

NODE = "LayerNormalization 'normed'"


def model() -> onnx.ModelProto:
    """A residual stream that is normalised over its channels, and an inner width beside it."""
    net = Net()
    x = net.add("MatMul", net.input("N", 5, 3), net.random(3, 16), name="stream")
    y = net.add("Relu", net.add("MatMul", x, net.random(16, 24), name="inner"))
    x = net.add("Add", x, net.add("MatMul", y, net.random(24, 16), name="outer"))
    net.nodes.append(
        onnx.helper.make_node(
            "LayerNormalization", [x, net.positive(16), net.random(16)], ["n"], name="normed"
        )
    )
    net.head("n", 16)
    return net.proto()


OPTIONS = {"ratio": 0.5, "round_to": 1}


def test_by_default_nothing_is_inexact() -> None:
    report = prunecvt.slim(model(), **OPTIONS).report
    assert [row.inexact for row in report.groups] == [[]]
    assert any("--allow-inexact" in row.reason and NODE in row.reason for row in report.skipped)
    assert report.verify is not None and report.verify.masked_dense is not None
    assert report.verify.masked_dense.narrowed == 0
    assert "inexact" not in render_html(report).replace("--allow-inexact", "").replace(
        "allow_inexact", ""
    )


def test_every_report_says_what_is_inexact_and_by_which_node() -> None:
    report = prunecvt.slim(model(), allow_inexact=True, **OPTIONS).report
    flags = {row.members[0]: row.inexact for row in report.groups}
    assert flags == {"stream": [NODE], "inner": []}
    assert report.verify is not None and report.verify.masked_dense is not None
    assert report.verify.masked_dense.passed and report.verify.masked_dense.narrowed == 1
    note = next(text for text in findings(report) if "inexactly" in text)
    assert "1 group cut inexactly" in note and NODE in note
    assert any("1 inexact node on the kept" in check.detail for check in checks(report.verify))
    assert "inexactly" in render_markdown(report)
    assert f"cut, inexactly: {NODE}".replace("'", "&#39;") in render_html(report)
    assert "inexactly" in printed(summary_table(report))
    assert "yes, inexactly:" in printed(groups_table(report.groups, report.skipped), width=160)
    assert json.loads(report.model_dump_json())["groups"][0]["inexact"] == [NODE]


def test_a_group_that_is_left_whole_is_not_called_inexact() -> None:
    report = prunecvt.slim(model(), allow_inexact=True, keep=("stream",), **OPTIONS).report
    assert not any("inexactly" in text for text in findings(report))
    assert report.verify is not None and report.verify.masked_dense is not None
    assert report.verify.masked_dense.narrowed == 0


def test_inspect_says_what_would_be_inexact() -> None:
    found = prunecvt.inspect(model(), allow_inexact=True)
    assert [row.inexact for row in found.groups] == [[NODE], []]


def test_a_plan_keeps_the_units_and_verifies(tmp_path: Path) -> None:
    path, slim = tmp_path / "m.onnx", tmp_path / "s.onnx"
    onnx.save(model(), path)
    flags = ("--allow-inexact", "--ratio", "0.5", "--round-to", "1", "--no-ir", "--no-bench")
    done = run("slim", path, "-o", slim, *flags)
    assert done.returncode == 0, done.stderr
    plan = tmp_path / "s.plan.json"
    assert json.loads(plan.read_text())["units"]["inexact"] is True
    done = run("verify", path, slim, "--plan", plan, "--no-ir")
    assert done.returncode == 0, done.stderr
    assert "1 inexact node" in done.stdout
    exact = json.loads(plan.read_text())
    exact["units"]["inexact"] = False
    plan.write_text(json.dumps(exact))
    done = run("verify", path, slim, "--plan", plan, "--no-ir")
    assert done.returncode == 2 and "E215" in done.stderr


@pytest.mark.parametrize("inexact", [False, True])
def test_a_replayed_plan_gives_the_same_model(inexact: bool) -> None:
    planned = prunecvt.plan(model(), allow_inexact=inexact, **OPTIONS)
    applied = prunecvt.apply(planned)
    assert applied.model == prunecvt.slim(model(), allow_inexact=inexact, **OPTIONS).model


def test_names_that_the_oracle_would_make_may_be_taken() -> None:
    net = Net()
    x = net.add("MatMul", net.input("N", 5, 3), net.random(3, 8), name="first")
    x = net.add("LayerNormalization", x, net.positive(8), name="n")
    x = net.add("MatMul", x, net.random(8, 8), name="n__kept_0_2")
    x = net.add("Abs", x, name="n__masked_0")
    net.head(net.add("Relu", x, name="n__kept_made_0_2"), 8)
    outcome = check_oracle(net.proto(), units=Units(inexact=True))
    assert outcome.lost == {"first": 4, "n__kept_0_2": 4}
