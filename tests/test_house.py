"""The house rules that no linter knows: file lengths, the direction of imports, no stray words."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(
    p
    for top in ("converter", "passes", "tests", "benchmarks", "sample_models")
    for p in (ROOT / top).rglob("*.py")
)
LIBRARY = [p for p in FILES if {"converter", "passes"} & set(p.relative_to(ROOT).parts)]


def imported(path: Path, top_level_only: bool) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_file_is_over_400_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", LIBRARY, ids=lambda p: str(p.relative_to(ROOT)))
def test_functions_stay_under_40_lines(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and "commands" not in path.parts:
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            assert (node.end_lineno or 0) - first.lineno < 40, node.name


@pytest.mark.parametrize("path", LIBRARY, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_keep_their_direction(path: Path) -> None:
    eager = imported(path, top_level_only=True)
    if "bridge" not in path.parts or path.name == "__init__.py":  # the others are imported by it
        assert "torch" not in imported(path, top_level_only=False)
    if "passes" in path.parts:
        assert not {"prunecvt", "typer", "openvino"} & imported(path, top_level_only=False)
    elif path.name != "openvino_child.py":
        assert "openvino" not in eager


@pytest.mark.parametrize("path", LIBRARY, ids=lambda p: str(p.relative_to(ROOT)))
def test_library_code_does_not_print_or_assert(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert not [n.lineno for n in ast.walk(tree) if isinstance(n, ast.Assert)]
    assert not [
        n.lineno
        for n in ast.walk(tree)
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "print"
    ]


def test_every_error_code_is_documented() -> None:
    documented = set(re.findall(r"E\d{3}", (ROOT / "docs" / "errors.md").read_text()))
    used = {code for path in LIBRARY for code in re.findall(r"\bE\d{3}\b", path.read_text())}
    assert used <= documented, sorted(used - documented)
