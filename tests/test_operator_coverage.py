"""Every operator between two projections is cut right or stays; docs/operators.md says which."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import onnx
import pytest

from operator_cases import OTHERS, Setting, cases, examine, settings
from prunecvt_passes.rules import RULES

PAGE = (Path(__file__).parent.parent / "docs" / "operators.md").read_text()
ROWS = {row[0]: row[1:] for row in re.findall(r"^\| (\S+) \| (.*) \| (.*) \| (.*) \|$", PAGE, re.M)}
PER_OPERATOR = 3  # settings tried here; benchmarks/operators.py tries them all


def shown() -> list[Setting]:
    """The settings that the page gives as cut, or as cut inside a body."""
    found = [Setting.parsed(row[2].strip("`")) for row in ROWS.values() if row[2].startswith("`")]
    return [setting for setting in found if setting.case in cases()]


def sample() -> list[Setting]:
    """A few settings of every operator that has a rule: each input and axis once, then repeated."""
    found: dict[str, list[Setting]] = {}
    seen: set[tuple[str, int, int]] = set()
    others = itertools.cycle(OTHERS)
    for case in cases().values():
        op = case.operators[0]
        if len(case.operators) > 1 or op not in RULES:
            continue
        for setting in settings(case, (next(others),)):
            key = (op, setting.place, setting.axis)
            if key not in seen and len(found.setdefault(op, [])) < PER_OPERATOR:
                seen.add(key)
                found[op].append(setting)
    return [setting for chosen in found.values() for setting in chosen]


def inside(setting: str) -> bool:
    return ROWS[cases()[setting.split(":")[0]].operators[0]][0] == "cut inside"


def test_no_operator_is_cut_wrongly_and_the_page_is_true() -> None:
    examples = shown()
    findings = {str(setting): examine(setting) for setting in (*examples, *sample())}
    assert {k: v for k, v in findings.items() if v.status == "wrong"} == {}
    still = {str(s): findings[str(s)].status for s in examples}
    assert {k: v for k, v in still.items() if v != ("inside" if inside(k) else "cut")} == {}
    cut = {cases()[k.split(":")[0]].operators[0] for k, v in findings.items() if v.status == "cut"}
    assert sorted(op for op in cut if not ROWS[op][0].startswith("cut")) == []
    assert len(cut) > 150


def test_the_page_lists_every_rule() -> None:
    assert sorted(set(RULES) - ROWS.keys()) == []
    without = {name for name, row in ROWS.items() if "`no-rule`" in row[1]}
    assert sorted(without & RULES.keys()) == []


def test_the_page_lists_every_operator() -> None:
    if f"ONNX {onnx.defs.onnx_opset_version()} " not in PAGE:
        pytest.skip("written with another version of onnx")
    known = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    assert sorted(known - ROWS.keys()) == []


def test_a_wrong_rule_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, "CumSum", RULES["Relu"])
    finding = examine(Setting("test_cumsum_2d_axis_1", 0, 1, "constant"), seeds=8)
    assert finding.status == "wrong", finding
