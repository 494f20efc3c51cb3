"""How the errors of loading name a place: on one line, whatever characters names hold."""

from __future__ import annotations

from typing import Any

import onnx

from prunecvt_passes.errors import InputError

_LONGEST = 300  # characters of a line; names in a hostile file can be megabytes long


def one_line(text: str) -> str:
    """Returns ``text`` without control characters, cut to the longest line an error may have."""
    cut = text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)


def label(node: onnx.NodeProto) -> str:
    """Name of ``node``, or what it makes where it has no name."""
    return str(node.name) or next((str(name) for name in node.output if name), "")


def title(node: onnx.NodeProto) -> str:
    """How messages call ``node``: its operator and its label."""
    return f"{node.op_type} '{label(node)}'"


def place(source: str, *parts: str) -> str:
    """Returns ``source: part: part``; long parts are cut, the file's name is not."""
    return ": ".join((_printable(source), one_line(": ".join(parts))) if parts else (source,))


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def invalid(code: str, message: str, where: str, *, node: str = "", help: str = "") -> InputError:
    """Returns the ``InputError`` of an invalid model; its lines are safe to print."""
    return InputError(code, one_line(message), where=where, node=node, help=help)


def dims(shape: Any) -> str:
    """Writes a shape as ``[16,5,3,3]``; unknown sizes as ``?``."""
    return "[" + ",".join("?" if size is None else str(size) for size in shape) + "]"
