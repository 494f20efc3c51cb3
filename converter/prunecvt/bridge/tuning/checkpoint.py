"""Where training stands, on disk: so that it goes on as if nothing had happened."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from prunecvt.errors import UsageError

_VERSION = 2


@dataclass
class Checkpoint:
    """A file that is written every so often.

    Attributes:
        path: None writes nothing.
        digest: of models, data and settings; a file of another one is refused.
        minutes: between two writes.
    """

    path: Path | None
    digest: str
    minutes: float = 5.0
    written: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        """Whether it is time."""
        return self.path is not None and time.monotonic() - self.written >= 60 * self.minutes

    def write(self, state: dict[str, Any]) -> None:
        """Writes, in one go: an interrupt leaves the old file or the new one."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        staged = self.path.with_name(f"{self.path.name}.part")
        torch.save({"version": _VERSION, "digest": self.digest, **state}, staged)
        os.replace(staged, self.path)
        self.written = time.monotonic()

    def read(self) -> dict[str, Any]:
        """What was written.

        Raises:
            UsageError: E263, there is no such file, it is damaged, or of another run.
        """
        try:
            found: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # damaged files fail in many ways: zipfile, pickle, torch
            raise _refused(self.path, f"it cannot be read ({type(error).__name__})") from error
        if not isinstance(found, dict) or found.get("version") != _VERSION:
            raise _refused(self.path, "it is none that this version wrote")
        if found["digest"] != self.digest:
            raise _refused(self.path, "it is of other models, data or settings")
        return found


def _refused(path: Path | None, why: str) -> UsageError:
    return UsageError(
        "E263",
        f"training cannot go on from the checkpoint: {why}",
        where=str(path),
        help="give what the run was started with, or leave --resume out to start anew",
    )
