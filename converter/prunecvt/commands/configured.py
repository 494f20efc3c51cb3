"""Where a flag's value comes from when it is not given: the environment, a file, its default.

``PRUNECVT_ROUND_TO`` stands for ``--round-to``; a file is ``--config FILE``, or the nearest
``prunecvt.toml`` or ``pyproject.toml`` with a table ``[tool.prunecvt]``, from the working folder
upwards. Keys are flags without their dashes; a table of a command's name is for that command alone.
Paths in a file are relative to it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import typer
from typer.models import OptionInfo

PREFIX = "PRUNECVT_"
_AMOUNTS = {"ratio": None, "target": "", "threshold": None}  # and what each is if not given
_RANKS = ("DEFAULT", "DEFAULT_MAP", "ENVIRONMENT", "PROMPT", "COMMANDLINE")
_SPACED = {"fail_if"}  # a variable's values are parted by spaces, which these hold
_PATHS = {"output", "calib", "eval", "plan", "report", "labels"}


def with_variables(command: Callable[..., None]) -> Callable[..., None]:
    """Gives every flag of a command its environment variable."""
    for name, hint in get_type_hints(command, include_extras=True).items():
        for option in getattr(hint, "__metadata__", ()):
            if isinstance(option, OptionInfo) and name not in ("config", *_SPACED):
                long = [each for each in option.param_decls or () if each.startswith("--")]
                flag = long[0].partition("/")[0].lstrip("-") if long else name
                option.envvar = PREFIX + flag.replace("-", "_").upper()
                option.show_envvar = False
    return command


def read_settings(context: typer.Context, config: Path | None) -> Path | None:
    """Makes what a file says the flags' defaults; runs before any flag is looked at.

    Raises:
        UsageError: E227, the file cannot be read, or holds what is no flag.
    """
    _check_environment(context)
    found = (config, True) if config is not None else _nearest()
    if found is not None and not context.resilient_parsing:
        path, whole = found
        own = _names(context.command)
        stated = _flags(path, whole, context)
        context.default_map = {
            own[flag]: _placed(flag, value, path.parent)
            for flag, value in stated.items()
            if flag in own
        }
    return config


def strongest(context: typer.Context, given: dict[str, Any]) -> dict[str, Any]:
    """The flags, with the one amount that the strongest source states: ``--target`` on the command
    line is not contradicted by a ratio in a file."""
    sources = {name: context.get_parameter_source(name) for name in _AMOUNTS}
    ranks = {name: _RANKS.index(source.name) if source else 0 for name, source in sources.items()}
    weaker = {name: _AMOUNTS[name] for name in ranks if ranks[name] < max(ranks.values())}
    return {**given, **weaker}


def _check_environment(context: typer.Context) -> None:
    """Refuses variables that would be looked at by nothing, such as ``PRUNECVT_NO_BENCH``."""
    known = {PREFIX + name.upper() for name in _every_flag(context) - _SPACED}
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in known:
            raise _refusal("no flag has this variable", name)


def _every_flag(context: typer.Context) -> set[str]:
    """Flags of all commands, without dashes."""
    return {name for command in _commands(context).values() for name in _names(command)}


def _commands(context: typer.Context) -> dict[str, Any]:
    group: Any = context.parent.command if context.parent is not None else None
    found: dict[str, Any] = getattr(group, "commands", {})
    return found


def _names(command: Any) -> dict[str, str]:
    """Flag without dashes -> name of the parameter."""
    return {
        text.lstrip("-").replace("-", "_"): option.name
        for option in command.params
        for text in option.opts
        if text.startswith("--")
    }


def _nearest() -> tuple[Path, bool] | None:
    """The nearest file with settings, and whether all of it is ours."""
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / "prunecvt.toml").is_file():
            return folder / "prunecvt.toml", True
        project = folder / "pyproject.toml"
        try:
            mentions = project.is_file() and "tool.prunecvt" in project.read_text("utf-8")
        except (OSError, UnicodeDecodeError):  # somebody else's file: no reason to fail
            continue
        if mentions and "prunecvt" in _toml(project).get("tool", {}):
            return project, False
    return None


def _toml(path: Path) -> dict[str, Any]:
    from prunecvt.loading.toml_file import read_toml

    try:
        return read_toml(path)
    except (OSError, ValueError) as error:
        raise _refusal("the settings cannot be read", f"{path}: {error}") from error


def _flags(path: Path, whole: bool, context: typer.Context) -> dict[str, Any]:
    """Flag -> value for a command: the file's, and over them those of the command's table."""
    document = _toml(path)
    ours = document.get("tool", {}).get("prunecvt")
    table = ours if isinstance(ours, dict) else document if whole else {}
    commands, known = _commands(context), _every_flag(context) - {"config"}
    tables = {name: table[name] for name in commands if isinstance(table.get(name), dict)}
    for held in (table, *tables.values()):
        for key, value in held.items():
            flag = key.replace("-", "_") in known and not isinstance(value, dict)
            if not flag and not (held is table and key in tables):
                raise _refusal(f"no flag is called '{key}'", str(path))
    own = tables.get(context.command.name or "", {})
    shared = {key: value for key, value in table.items() if key not in tables}
    return {key.replace("-", "_"): value for key, value in {**shared, **own}.items()}


def _placed(flag: str, value: Any, folder: Path) -> Any:
    """A value as the command line takes it; paths from where the file lies."""
    if isinstance(value, list):
        return [_placed(flag, each, folder) for each in value]
    if flag in _PATHS:
        return os.path.join(folder, str(value))
    return value if isinstance(value, bool) else str(value)


def _refusal(message: str, where: str) -> Exception:
    from prunecvt.errors import UsageError

    help_line = "write TOML; keys are flags without their dashes, such as round-to = 8"
    return UsageError("E227", message, where=where, help=help_line)
