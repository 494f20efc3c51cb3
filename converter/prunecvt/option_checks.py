"""Refusals that the options of every command share."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from prunecvt.errors import UsageError


def check_names(names: Iterable[str], known: Collection[str], command: str = "") -> None:
    """Refuses options that a command does not know.

    Raises:
        UsageError: E201.
    """
    for name in names:
        if name not in known:
            raise UsageError(
                "E201",
                f"{command} has no option '{name}'" if command else f"no option is called '{name}'",
                help=f"known are {', '.join(sorted(known))}",
            )


def check_number(name: str, value: object, *kinds: type, help: str = "give a number") -> None:
    """Refuses what is of another type; True and False are no numbers.

    Raises:
        UsageError: E201.
    """
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise UsageError("E201", f"{name} is {value!r}", help=help)


def check_one_of(name: str, value: object, allowed: Collection[str]) -> None:
    """Refuses what is none of several words.

    Raises:
        UsageError: E201.
    """
    if value not in allowed:
        raise UsageError("E201", f"{name} is '{value}'", help=f"it can be {' or '.join(allowed)}")
