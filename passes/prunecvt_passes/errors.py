"""The errors prunecvt raises, each with a stable code, the place, and what to do.

PrunecvtError
├── UsageError        exit 2   an option or a plan that does not make sense
├── InputError        exit 3   the input file is unreadable or invalid
├── UnsupportedError  exit 4   a construct that prunecvt will not work on
├── VerifyError       exit 5   the slimmed model failed a check; nothing was written
├── GateError         exit 6   a target or gate was missed; the output was written
├── OutputError       exit 7   the output could not be written
├── ResourceError     exit 8   a memory or time limit was reached
└── PassError         exit 1   a pass broke its contract: a bug in prunecvt or in a plug-in
"""

from __future__ import annotations

from collections.abc import Callable


class PrunecvtError(Exception):
    """Anything prunecvt refuses or fails at.

    Attributes:
        code: stable identifier such as ``E304``; its first digit is the exit code.
        message: what is wrong, in one line.
        where: the place, ``file: node`` as far as it is known.
        node: name of the node at fault, or "".
        help: what the user can do about it.
    """

    exit_code = 1

    def __init__(
        self, code: str, message: str, *, where: str = "", node: str = "", help: str = ""
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.where = where
        self.node = node
        self.help = help

    def __reduce__(self) -> tuple[Callable[..., PrunecvtError], tuple[object, ...]]:
        """How it goes from one process to another, keywords and all."""
        return _made, (type(self), self.code, self.message, self.where, self.node, self.help)

    def __str__(self) -> str:
        """Returns the three-line form that the command line prints."""
        lines = [f"error[{self.code}]: {self.message}"]
        if self.where:
            lines.append(f"  {self.where}")
        if self.help:
            lines.append(f"  help: {self.help}")
        return "\n".join(lines)


def _made(
    kind: type[PrunecvtError], code: str, message: str, where: str, node: str, help: str
) -> PrunecvtError:
    return kind(code, message, where=where, node=node, help=help)


class UsageError(PrunecvtError):
    """An option, a pattern or a plan that does not make sense."""

    exit_code = 2


class InputError(PrunecvtError):
    """The input file is missing, unreadable or not a valid model."""

    exit_code = 3


class UnsupportedError(PrunecvtError):
    """The model is valid, but holds something prunecvt will not work on."""

    exit_code = 4


class VerifyError(PrunecvtError):
    """The slimmed model failed a check; nothing was written."""

    exit_code = 5


class GateError(PrunecvtError):
    """A target or a ``--fail-if`` gate was missed; the output was written."""

    exit_code = 6


class OutputError(PrunecvtError):
    """The output could not be written."""

    exit_code = 7


class ResourceError(PrunecvtError):
    """A memory or time limit was reached."""

    exit_code = 8


class PassError(PrunecvtError):
    """A pass broke its contract: a bug in prunecvt or in a plug-in."""

    exit_code = 1
