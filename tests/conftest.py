"""Fixtures for all tests."""

from __future__ import annotations

import os
import sys

import pytest

# Before numpy is imported: several workers with several threads each spend their time waiting.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from command_line import Call, Done


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """Runs the command line in this process: quicker than a new one, and as good for errors."""

    def run_here(*arguments: object) -> Done:
        from prunecvt.cli import main

        monkeypatch.setattr(sys, "argv", ["prunecvt", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        return Done(int(ended.value.code or 0), out, err)

    return run_here
