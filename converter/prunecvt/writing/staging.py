"""The folder in which output files wait beside their targets until all of them are ready.

It is locked while its run lives, so the next run can clear away what a killed one left behind
without touching what a running one is writing.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
import time
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: there an open file cannot be deleted, which is lock enough
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("prunecvt")
PREFIX = ".prunecvt-write-"
_LOCK, _KEPT = "lock", "kept"
_UNLOCKED_S = 60.0  # a staging folder without a lock may be one that is just being made


class Staging:
    """A locked folder beside the targets: ``new`` files and, while renaming, the ``old`` ones."""

    def __init__(self, folder: Path) -> None:
        self.root = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder))
        self.new, self.old = self.root / "new", self.root / "old"
        try:
            self._lock = open(self.root / _LOCK, "xb")  # noqa: SIM115 - open as long as we live
            if fcntl:
                with contextlib.suppress(OSError):  # a file system without locks
                    fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.new.mkdir()
            self.old.mkdir()
        except BaseException:
            self.close()
            raise

    def keep(self) -> None:
        """Leaves the folder for good: it holds the only copy of an old file."""
        self._kept = True
        with contextlib.suppress(OSError):
            (self.root / _KEPT).touch()

    def close(self) -> None:
        """Removes the folder."""
        if lock := getattr(self, "_lock", None):
            lock.close()
        if getattr(self, "_kept", False):
            return
        try:
            shutil.rmtree(self.root, ignore_errors=True)
        finally:  # again, where an interrupt or a passing fault came between
            shutil.rmtree(self.root, ignore_errors=True)


def clear_stale(folder: Path) -> None:
    """Removes staging folders in ``folder`` whose run was killed."""
    for root in folder.glob(f"{PREFIX}*"):
        if root.is_dir() and not root.is_symlink() and not _alive(root):
            log.info("removing %s, left behind by a run that was killed", root)
            shutil.rmtree(root, ignore_errors=True)


def _alive(root: Path) -> bool:
    """Says whether a run still uses a staging folder, or it must stay for another reason."""
    try:
        if (root / _KEPT).exists():
            return True
        if not (root / _LOCK).exists():
            return time.time() - root.stat().st_mtime < _UNLOCKED_S
        if not fcntl:
            (root / _LOCK).unlink()  # fails while another process has it open
            return False
        with open(root / _LOCK, "rb+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
