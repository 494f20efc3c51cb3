"""Runs the command line, in a process of its own or in this one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SAMPLES = Path(__file__).parent.parent / "sample_models"
RESNET = SAMPLES / "digits_resnet.onnx"
QUICK = ("--no-ir", "--no-bench")
Call = Callable[..., "Done"]


def run(
    *arguments: object, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from prunecvt.cli import main; main()", *map(str, arguments)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
        check=False,
    )


@dataclass(frozen=True)
class Done:
    """How a run in this process ended."""

    returncode: int
    stdout: str
    stderr: str
