"""Gives the command line every bad file of the tests and every way that writing can fail.

    python benchmarks/bad_input.py [--kills 40] > docs/bad_input.md

Each runs in a process of its own. Printed per case: exit code, error, lines on stderr, whether
anything was written, seconds and peak memory. Exits 1 if a case ends otherwise than it should:
another code, a traceback, a file left behind, an old output that is neither whole nor replaced.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from bad_files import CASES, Case  # noqa: E402

MODEL = ROOT / "sample_models" / "digits_resnet.onnx"
COMMAND = [sys.executable, "-c", "from prunecvt.cli import main; main()"]
SECONDS, MEGABYTES = 20.0, 1000.0  # what no case may take
PAGE = """# Bad input

Written by `python benchmarks/bad_input.py`: what the command line makes of every bad file of the
tests and of every way that writing can fail, each in a process of its own. Codes are those of
[errors.md](errors.md); *lines* are those on stderr; *written* says whether anything in the folder
changed.
"""
HEADS = ("case", "exit", "error", "lines", "written", "s", "MB", "as it should be")


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    exit_code: int
    stderr: str
    seconds: float
    megabytes: float

    @property
    def error(self) -> str:
        """Code of the error, "" where none was printed."""
        first = self.stderr.partition("\n")[0]
        return first[6:10] if first.startswith("error[") else ""


def run(*arguments: object, limit: Callable[[], None] | None = None) -> Ended:
    """Runs the command line in a process of its own; ``limit`` runs in it first."""
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            stdout=subprocess.DEVNULL,
            stderr=errors,
            preexec_fn=limit,
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        errors.seek(0)
        return Ended(process.returncode, errors.read(), seconds, used.ru_maxrss / 1024)


def contents(folder: Path) -> dict[str, str]:
    """Every file below ``folder`` and what it holds; links, pipes and folders by name."""
    found = {}
    for path in sorted(folder.rglob("*")):
        plain = path.is_file() and not path.is_symlink()
        found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest() if plain else "special"
    return found


def show(name: str, ended: Ended, written: bool, fine: bool) -> bool:
    lines = len(ended.stderr.splitlines())
    fine = fine and "Traceback" not in ended.stderr and lines <= 3
    fine = fine and ended.seconds < SECONDS and ended.megabytes < MEGABYTES
    cells = (
        *(name, ended.exit_code, ended.error, lines, "yes" if written else "no"),
        *(f"{ended.seconds:.1f}", f"{ended.megabytes:.0f}", "yes" if fine else "**no**"),
    )
    print(f"| {' | '.join(map(str, cells))} |", flush=True)
    return fine


def bad_file(case: Case, folder: Path) -> bool:
    """Slims a bad file; nothing may be written."""
    path = case.make(folder)
    before = contents(folder)
    ended = run("slim", path, "-o", folder / "out.onnx")
    written = contents(folder) != before
    fine = (ended.exit_code, ended.error) == (case.exit_code, case.code) and not written
    return show(case.name, ended, written, fine)


def small_files() -> None:
    """No file may grow beyond 16 KB, as on a full disk; asked, the system says so politely."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16384, 16384))


def writing_faults(folder: Path) -> list[bool]:
    """Outputs that cannot be written: the code is 7 and what was there stays."""
    mine = folder / "mine.onnx"
    mine.write_bytes(MODEL.read_bytes())
    (folder / "taken").write_text("a file")
    (folder / "out.onnx").write_text("an older output")
    (folder / "folder.onnx").mkdir()
    cases: list[tuple[str, Path, tuple[str, ...], Callable[[], None] | None]] = [
        ("output is the input", mine, (), None),
        ("output exists", folder / "out.onnx", (), None),
        ("output is a folder", folder / "folder.onnx", ("--force",), None),
        ("output below a file", folder / "taken" / "out.onnx", (), None),
        ("output below a device", Path("/dev/null/out.onnx"), (), None),
        ("disk full", folder / "full.onnx", (), small_files),
        ("disk full, old output", folder / "out.onnx", ("--force",), small_files),
    ]
    if os.geteuid() != 0:  # the superuser may write anywhere
        (folder / "closed").mkdir(mode=0o500)
        cases.append(("read-only folder", folder / "closed" / "out.onnx", (), None))
    fine = []
    for name, out, flags, limit in cases:
        before = contents(folder)
        ended = run("slim", mine, "-o", out, "--no-bench", *flags, limit=limit)
        written = contents(folder) != before
        fine.append(show(name, ended, written, ended.exit_code == 7 and not written))
    return fine


def killed(folder: Path, kills: int) -> bool:
    """Kills runs at random moments: the old output is whole or the new one complete."""
    out = folder / "out.onnx"
    slim = ("slim", str(MODEL), "-o", str(out), "--force", "--no-bench", "--no-ir")
    started = time.perf_counter()
    subprocess.run([*COMMAND, *slim], check=True, stdout=subprocess.DEVNULL)
    usual = time.perf_counter() - started
    complete = out.read_bytes()
    chance, states = random.Random(0), {"old": 0, "new": 0, "neither": 0}
    for _ in range(kills):
        out.write_bytes(b"an older output")
        process = subprocess.Popen([*COMMAND, *slim], stdout=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.5, 1.1) * usual)
        process.kill()
        process.wait()
        held = out.read_bytes() if out.exists() else b""
        state = {b"an older output": "old", complete: "new"}.get(held, "neither")
        states[state] += 1
    subprocess.run([*COMMAND, *slim], check=True, stdout=subprocess.DEVNULL)
    left = [path.name for path in folder.iterdir() if not path.name.startswith("out.")]
    print(
        f"\nkilled {kills} times at random moments: the old output was whole {states['old']} times,"
        f" the new one complete {states['new']} times, neither {states['neither']} times;"
    )
    print(f"left behind after the next run: {', '.join(left) or 'nothing'}")
    return not states["neither"] and not left


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=40)
    kills = parser.parse_args().kills
    print(PAGE)
    print(f"| {' | '.join(HEADS)} |\n|{'---|' * len(HEADS)}", flush=True)
    fine = []
    for case in CASES:
        with tempfile.TemporaryDirectory() as name:
            fine.append(bad_file(case, Path(name)))
    with tempfile.TemporaryDirectory() as name:
        fine += writing_faults(Path(name))
    with tempfile.TemporaryDirectory() as name:
        fine.append(killed(Path(name), kills))
    print(f"\n{len(fine)} cases, {fine.count(False)} not as they should be")
    sys.exit(not all(fine))


if __name__ == "__main__":
    main()
