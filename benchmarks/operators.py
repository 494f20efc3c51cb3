"""Puts every operator between two projections, cuts it, and writes down what became of it.

Takes onnx's node tests and some of our own (tests/operator_cases.py), on every axis of every input,
removes half of the channels and holds the result against the oracle. Writes docs/operators.md and
exits with 1 if a cut was wrong. Takes about six minutes on one core.

    python benchmarks/operators.py
"""

from __future__ import annotations

import argparse
import fnmatch
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from prunecvt_passes.rules import RULES
from prunecvt_passes.units import Units

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "operators.md"
sys.path.insert(0, str(ROOT / "tests"))

from operator_cases import OTHERS, Case, Finding, cases, examine, opens, settings  # noqa: E402

HOLDS_NONE = (
    *("BlackmanWindow", "Constant", "ConstantOfShape", "HammingWindow", "HannWindow"),
    *("ImageDecoder", "MelWeightMatrix", "RandomNormal", "RandomUniform", "Range"),
    *("RegexFullMatch", "SequenceEmpty", "Shape", "Size", "StringConcat", "StringNormalizer"),
    *("StringSplit", "TfIdfVectorizer"),
)
BODIES = ("If", "Loop", "Scan", "SequenceMap")
HEAD = """# Operators

Every operator of ONNX {opset} and of the rule table, between a projection that makes channels and a
sum that reads them. Written by `python benchmarks/operators.py`, which tries every axis of every
input of onnx's node tests, and of cases of our own for what they leave out, and compares with the
oracle; a test holds this page to the rule table.

- **cut**: channels of at least one axis go through it, exactly. *Stays* has the codes that
  `prunecvt inspect` gives for axes that it works across, *shown by* a case that is cut
  (case:input:axis:what the other inputs are).
- **cut inside**: channels that are made and read in one of its bodies are cut; those that go into a
  body or come out of one stay. (An If whose condition is constant is replaced by its branch.)
- **more inexact**: axes that stay are cut where inexact units are asked for.
- **inexact**: cut only where inexact units are asked for.
- **pinned**: what it reads stays whole, and the report names the node. (MaxUnpool alone is;
  behind a MaxPool of equal size that gave its positions it is cut.)
- **no channels**: what it makes holds none.
- **not tried**: it has a rule, and onnxruntime has no kernel for it on the CPU.

| operator | channels | stays | shown by |
|---|---|---|---|
"""


@dataclass
class Record:
    """What became of one operator's cases."""

    counts: Counter[str] = field(default_factory=Counter)
    codes: set[str] = field(default_factory=set)
    example: str = ""
    inexact: bool = False


def operators() -> list[str]:
    """Operators of the newest default opset and of the rule table."""
    found = {s.name for s in onnx.defs.get_all_schemas() if s.domain == ""}
    return sorted(found | set(RULES), key=lambda name: (":" in name, name.lower()))


def note(record: Record, setting: str, finding: Finding, shown: str) -> None:
    record.counts[finding.status] += 1
    if finding.status != "not run":
        record.codes.update(code for code, _ in finding.reasons)
    if finding.status == shown and not record.example:
        record.example = setting


def tried(case: Case, record: Record) -> list[str]:
    """Tries all settings of a case; returns what went wrong."""
    wrong = []
    known = all(op in RULES or op in BODIES for op in case.operators)
    shown = "inside" if case.operators[0] in BODIES else "cut"
    for setting in settings(case, OTHERS if known else OTHERS[:1]):
        finding = examine(setting)
        note(record, str(setting), finding, shown)
        if finding.status == "wrong":
            wrong.append(f"{setting}: {finding.detail}")
        if finding.status == "pinned" and known and not record.inexact:
            record.inexact = opens(setting, Units(inexact=True)) and not opens(setting, Units())
    return wrong


def channels(name: str, record: Record) -> str:
    """The column that says what becomes of an operator's channels."""
    if name in HOLDS_NONE:
        return "no channels"
    if record.counts["inside"]:
        return "cut inside"
    if record.counts["cut"]:
        return "cut" + (", more inexact" if record.inexact else "")
    if record.inexact:
        return "inexact"
    if name in RULES:
        return "pinned" if record.counts["pinned"] else "not tried"
    return "pinned"


def page(records: dict[str, Record]) -> str:
    """The whole page."""
    lines = []
    for name in operators():
        record = records[name]
        status = channels(name, record)
        codes = sorted(record.codes - {"graph-output"})
        if name in BODIES:
            codes = ["subgraph"]
        elif status == "pinned" and name not in RULES:
            codes = ["no-rule"]
        stays = "" if status == "no channels" else ", ".join(f"`{code}`" for code in codes)
        example = f"`{record.example}`" if record.example and status != "no channels" else ""
        lines.append(f"| {name} | {status} | {stays} | {example} |")
    return HEAD.format(opset=onnx.defs.onnx_opset_version()) + "\n".join(lines) + "\n"


def main() -> int:
    """Parses the command line, writes the page and returns the exit status."""
    parser = argparse.ArgumentParser(description="Try every operator, write docs/operators.md.")
    parser.add_argument(
        "--cases", default="*", help="pattern of cases; the page is then not written"
    )
    options = parser.parse_args()
    records: dict[str, Record] = defaultdict(Record)
    wrong, total = [], Counter[str]()
    for name, case in cases().items():
        if fnmatch.fnmatch(name, options.cases):
            single = len(case.operators) == 1
            record = records[case.operators[0]] if single else Record()
            before = Counter(record.counts)
            wrong += tried(case, record)
            total += record.counts - before
    if options.cases == "*":
        PAGE.write_text(page(records))
    print(", ".join(f"{count} {status}" for status, count in sorted(total.items())))
    print("\n".join(wrong))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
