"""Fixtures for all tests."""

from __future__ import annotations

import sys

import pytest

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
