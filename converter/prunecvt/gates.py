"""Gates: ``--fail-if EXPR``, a comparison over a report's numbers that must not hold.

The language is Python's for numbers, comparisons, ``and``, ``or``, ``not`` and arithmetic, read
into a tree that is walked here: nothing is ever called or evaluated. Names are the short ones
below, or paths into the JSON report, such as ``totals.macs.after`` or ``latency[0].before.p90``.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from prunecvt.errors import UsageError
from prunecvt.report.schema import Gate, Report

LONGEST = 500
_SHORT: dict[str, Callable[[Report], Any]] = {
    "status": lambda report: report.status,
    "params_ratio": lambda report: report.totals.params.ratio,
    "macs_ratio": lambda report: report.totals.macs.ratio,
    "bytes_ratio": lambda report: report.totals.bytes.ratio,
    "channels_ratio": lambda report: report.totals.channels.ratio,
    "latency_ratio": lambda report: _slowest(report, ""),
    "latency_ratio_onnxruntime": lambda report: _slowest(report, "onnxruntime"),
    "latency_ratio_openvino": lambda report: _slowest(report, "openvino"),
    "speedup": lambda report: _inverse(_slowest(report, "")),
    "fell_off": lambda report: None if report.layout is None else len(report.layout.fell_off),
    "max_rel": lambda report: _drift(report, "max_rel"),
    "cosine": lambda report: _drift(report, "cosine"),
    "sqnr_db": lambda report: _drift(report, "sqnr_db"),
    "agreement": lambda report: _drift(report, "top1_agree"),
    "top1": lambda report: None if report.accuracy is None else report.accuracy.top1.after,
    "top1_drop": lambda report: None if report.accuracy is None else -report.accuracy.top1.change,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_BINARY: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def check_gate(text: str) -> None:
    """Refuses what is no gate, before anything runs.

    Raises:
        UsageError: E226.
    """
    tree = _parsed(text)
    if not _decides(tree):
        raise _refusal(text, "it compares nothing")
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id not in {*_SHORT, *Report.model_fields}:
            raise _refusal(text, f"the report has no '{node.id}'")
        if isinstance(node, (ast.Attribute, ast.Subscript)) and not _shapes(node):
            raise _refusal(text, f"the report has no '{ast.unparse(node)}'")


def _shapes(node: ast.expr) -> list[dict[str, Any]]:
    """What the report's schema says may lie at a name or a path; nothing where it has no such."""
    if isinstance(node, ast.Name):
        return _open({"$ref": "#"}, node.id)
    if isinstance(node, ast.Attribute):
        place: Any = node.attr
        inner = _shapes(node.value)
    elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        place, inner = node.slice.value, _shapes(node.value)
    else:
        return []
    return [found for shape in inner for found in _open(shape, place)]


@cache
def _schema() -> dict[str, Any]:
    return Report.model_json_schema()


def _open(shape: dict[str, Any], place: Any) -> list[dict[str, Any]]:
    """The shapes of a part of a shape; any where the schema leaves it open."""
    if "$ref" in shape:
        name = shape["$ref"].rpartition("/")[2]
        return _open(_schema() if name == "#" else _schema()["$defs"][name], place)
    if "anyOf" in shape:
        return [found for each in shape["anyOf"] for found in _open(each, place)]
    if isinstance(place, int):
        several: list[dict[str, Any]] = shape.get("prefixItems", [])[place : place + 1]
        return several or ([shape["items"]] if "items" in shape else [])
    if place in shape.get("properties", {}):
        return [shape["properties"][place]]
    rest = shape.get("additionalProperties", not shape.get("properties") and "type" not in shape)
    return [rest if isinstance(rest, dict) else {}] if rest or rest == {} else []


def judged(report: Report, gates: Sequence[str], strict_layout: bool = False) -> list[Gate]:
    """Every gate with the first number it compares, and whether it was passed.

    A gate on something that was not measured is missed: nothing says that it would be passed.

    Args:
        report: what they look at.
        gates: the expressions.
        strict_layout: whether no convolution may leave onnxruntime's blocked path.
    """
    found = []
    if report.target is not None:
        text, row = f"target {report.target.text}", report.target
        found.append(Gate(expr=text, value=row.value, passed=row.met))
    if strict_layout:
        number = _SHORT["fell_off"](report)
        found.append(Gate(expr="strict layout", value=number, passed=number == 0))
    return found + [_judged(report, text) for text in gates]


def _judged(report: Report, text: str) -> Gate:
    tree = _parsed(text)
    try:
        held = bool(_value(tree, report))
    except (_UnmeasuredError, ZeroDivisionError, TypeError):
        return Gate(expr=text, value=None, passed=False)
    first = next((node.left for node in ast.walk(tree) if isinstance(node, ast.Compare)), tree)
    value = _value(first, report)
    number = isinstance(value, (int, float)) and math.isfinite(value)
    return Gate(expr=text, value=float(value) if number else None, passed=not held)


class _UnmeasuredError(Exception):
    """A value that the report does not hold."""


def _parsed(text: str) -> ast.expr:
    if len(text) > LONGEST:
        raise _refusal(text[:40] + "...", f"it is longer than {LONGEST} characters")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _refusal(text, "it cannot be read") from error
    for node in ast.walk(tree):
        if not _known(node):
            raise _refusal(text, f"{type(node).__name__} has no place in it")
    return tree


def _known(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, (int, float, str))
    if isinstance(node, ast.Subscript):
        return isinstance(node.slice, ast.Constant)
    if isinstance(node, (ast.operator, ast.cmpop)):
        return type(node) in {*_BINARY, *_COMPARE}
    shapes = (ast.BoolOp, ast.boolop, ast.UnaryOp, ast.Not, ast.USub, ast.Compare, ast.BinOp)
    return isinstance(node, (*shapes, ast.Name, ast.Attribute, ast.Load))


def _decides(node: ast.expr) -> bool:
    """Whether it is a comparison, or made of some."""
    if isinstance(node, ast.BoolOp):
        return all(map(_decides, node.values))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return _decides(node.operand)
    return isinstance(node, ast.Compare)


def _value(node: ast.expr, report: Report) -> Any:
    """What a part of a gate comes to."""
    if isinstance(node, ast.BoolOp):
        values = (bool(_value(each, report)) for each in node.values)
        return all(values) if isinstance(node.op, ast.And) else any(values)
    if isinstance(node, ast.UnaryOp):
        value = _value(node.operand, report)
        return (not value) if isinstance(node.op, ast.Not) else -value
    if isinstance(node, ast.BinOp):
        sides = [_value(each, report) for each in (node.left, node.right)]
        if not all(isinstance(side, (int, float)) for side in sides):
            raise TypeError("only numbers are added and multiplied")
        return _BINARY[type(node.op)](*sides)
    if isinstance(node, ast.Compare):
        sides = [_value(each, report) for each in (node.left, *node.comparators)]
        steps = zip(node.ops, sides, sides[1:], strict=False)
        return all(_COMPARE[type(step)](left, right) for step, left, right in steps)
    found = node.value if isinstance(node, ast.Constant) else _field(node, report)
    if found is None or isinstance(found, (Mapping, list)):
        raise _UnmeasuredError
    return found


def _field(node: ast.expr, report: Report) -> Any:
    """What a name or a dotted path stands for."""
    if isinstance(node, ast.Name):
        if node.id in _SHORT:
            return _SHORT[node.id](report)
        return report.model_dump(mode="json")[node.id]
    if isinstance(node, ast.Attribute):
        place: Any = node.attr
        inner = _field(node.value, report)
    elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        place, inner = node.slice.value, _field(node.value, report)
    else:
        raise _UnmeasuredError
    try:
        return inner[place]
    except (KeyError, IndexError, TypeError) as error:
        raise _UnmeasuredError from error


def _refusal(text: str, why: str) -> UsageError:
    return UsageError(
        "E226",
        f"--fail-if {text!r} is no gate: {why}",
        help=f"compare numbers, such as 'latency_ratio > 0.9'; names: {', '.join(_SHORT)}",
    )


def _slowest(report: Report, backend: str) -> float | None:
    ratios = [row.ratio for row in report.latency if row.backend == backend or not backend]
    return max(ratios, default=None)


def _inverse(ratio: float | None) -> float | None:
    return 1 / ratio if ratio else None


def _drift(report: Report, name: str) -> float | None:
    fidelity = report.verify.fidelity if report.verify is not None else None
    if fidelity is not None and name == "top1_agree" and fidelity.data == "random":
        return None  # four random inputs say nothing of data
    value: float | None = getattr(fidelity, name, None)
    return value
