"""Writes a set of output files: all of them appear, complete, or none does.

Everything is written into a staging folder beside its target, flushed to the disk, checked there
under its final name, and only then renamed into place, the model itself last. A failure at any
point puts back what was there before. Only a kill between two renames can leave new files beside
old ones, each of them whole.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from prunecvt.errors import OutputError
from prunecvt.writing.staging import Staging, clear_stale

log = logging.getLogger("prunecvt")
Verify = Callable[[Mapping[Path, Path]], None]
_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_NOT_A_FILE = {errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}


@dataclass(frozen=True)
class Part:
    """One file of the set: its path, and what writes its bytes to an open file."""

    path: Path
    write: Callable[[BinaryIO], object]


def from_bytes(path: Path, data: bytes) -> Part:
    """Returns a part that holds ``data``."""
    return Part(path, lambda file: file.write(data))


def from_file(path: Path, source: Path) -> Part:
    """Returns a part that is a copy of the file ``source``."""

    def copy(file: BinaryIO) -> None:
        with open(source, "rb") as original:
            shutil.copyfileobj(original, file, 1 << 20)

    return Part(path, copy)


def write_set(
    parts: Sequence[Part],
    *,
    inputs: Sequence[Path] = (),
    force: bool = False,
    verify: Verify | None = None,
) -> None:
    """Writes ``parts``; they are renamed into place in the order given, so put the model last.

    Args:
        parts: the files; folders that are missing are made.
        inputs: files that were read; writing over one wants ``force``.
        force: replaces existing files.
        verify: called with target -> staged file when all are written; the files of one folder are
            staged together under their final names. What it raises ends the run.

    Raises:
        OutputError: E701 to E706, see ``check_targets`` and ``reported``.
    """
    check_targets([part.path for part in parts], inputs=inputs, force=force)
    transaction = _Transaction()
    try:
        for part in parts:
            with reported(part.path):
                transaction.stage(part)
        if verify:
            verify(dict(transaction.staged))
        for part in parts:
            with reported(part.path):
                transaction.publish(part.path, force)
        for folder in transaction.staging:
            with reported(folder):
                _flush_folder(folder)
    except BaseException:
        transaction.undo()
        raise
    finally:
        transaction.close()


def check_targets(
    targets: Sequence[Path], *, inputs: Sequence[Path] = (), force: bool = False
) -> None:
    """Refuses targets that must not be written; worth calling before a long run.

    Raises:
        OutputError: E701, a target exists; E702, a target is an input, or named twice; E704, its
            folder may not be written to; E705, it is not a regular file.
    """
    seen: set[Path] = set()
    for target in targets:
        if (resolved := Path(os.path.abspath(target))) in seen:
            raise OutputError("E702", "two outputs have the same name", where=str(target))
        seen.add(resolved)
        with reported(target):
            mode = _mode(target)
        if mode is None:
            _check_folder(target)
            continue
        if not force and any(source.exists() and source.samefile(target) for source in inputs):
            raise OutputError(
                "E702",
                "the output would replace the input",
                where=str(target),
                help="name another output with -o, or replace the input with --force",
            )
        if not stat.S_ISREG(mode):
            raise OutputError(
                "E705",
                "the output exists and is not a regular file",
                where=str(target),
                help="name a file with -o",
            )
        if not force:
            raise _exists(target)


@contextlib.contextmanager
def reported(path: Path) -> Iterator[None]:
    """Turns an ``OSError`` inside the block into an ``OutputError`` about ``path``.

    Raises:
        OutputError: E703, the disk is full; E704, no permission; E705, a folder stands where a file
            should be, or a file where a folder should; E706, anything else.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _FULL:
            code, help = "E703", "free some space, or write to another disk with -o"
        elif error.errno in _DENIED:
            code, help = "E704", "write to a folder of your own with -o"
        elif error.errno in _NOT_A_FILE:
            code, help = "E705", "name a file in an existing or new folder with -o"
        else:
            code, help = "E706", "check the disk and the path"
        message = f"the output could not be written: {reason}"
        raise OutputError(code, message, where=str(path), help=help) from error


def _check_folder(target: Path) -> None:
    """Refuses a target in a folder that may not be written to; a missing one will be made."""
    folder = next((each for each in target.absolute().parents if each.exists()), None)
    if folder is not None and not os.access(folder, os.W_OK | os.X_OK):
        with reported(target):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _exists(target: Path) -> OutputError:
    return OutputError(
        "E701",
        "the output exists",
        where=str(target),
        help="name another output with -o, or replace it with --force",
    )


def _mode(path: Path) -> int | None:
    """Returns the type bits of what ``path`` leads to; of itself where it is a link to nowhere.

    None where nothing is there.
    """
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return path.lstat().st_mode if path.is_symlink() else None


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _flush_folder(folder: Path) -> None:
    """Makes renames in ``folder`` survive a power cut, where the system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows does not open folders
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@dataclass
class _Transaction:
    """What has been done so far and how to take it back."""

    staging: dict[Path, Staging] = field(default_factory=dict)
    staged: dict[Path, Path] = field(default_factory=dict)
    replaced: list[tuple[Path, Path | None]] = field(default_factory=list)
    made: list[Path] = field(default_factory=list)

    def stage(self, part: Part) -> None:
        """Writes a part into its staging folder and flushes it."""
        folder = part.path.parent
        if folder not in self.staging:
            self._make(folder)
            clear_stale(folder)
            self.staging[folder] = Staging(folder)
        staged = self.staging[folder].new / part.path.name
        with open(staged, "xb") as file:
            part.write(file)
            file.flush()
            os.fsync(file.fileno())
        self.staged[part.path] = staged

    def publish(self, target: Path, force: bool) -> None:
        """Renames a staged file into place; keeps what was there until the end."""
        old: Path | None = None
        if _mode(target) is not None:
            if not force:
                raise _exists(target)
            old = self.staging[target.parent].old / target.name
            try:
                os.link(target, old, follow_symlinks=False)  # no rename: it never is away
            except (OSError, NotImplementedError):
                # no hard links here: FAT, some network shares, or no right to make them; Python
                # raises NotImplementedError where links cannot be told not to be followed
                shutil.copy2(target, old, follow_symlinks=False)
        self.replaced.append((target, old))
        os.replace(self.staged[target], target)

    def undo(self) -> None:
        """Puts back the old files and removes what was made."""
        for target, old in reversed(self.replaced):
            try:
                if old is not None:
                    os.replace(old, target)
                elif not self.staged[target].exists():
                    target.unlink()
            except OSError as error:
                log.error("%s could not be put back (%s); see %s", target, error, old or "nothing")
                self.staging[target.parent].keep()

    def close(self) -> None:
        """Removes the staging folders, and after ``undo`` the empty folders that were made."""
        with contextlib.ExitStack() as last:  # every step is taken, even if one is interrupted
            for folder in self.made:
                last.callback(_remove_if_empty, folder)
            for staging in self.staging.values():
                last.callback(staging.close)

    def _make(self, folder: Path) -> None:
        missing = [f for f in (folder, *folder.parents) if not f.exists()]
        for each in reversed(missing):
            each.mkdir()
            self.made.append(each)
