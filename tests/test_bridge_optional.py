"""Without torch everything works but the bridge, which says what to install."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

RESNET = Path(__file__).parent.parent / "sample_models" / "digits_resnet.onnx"
BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'")

sys.meta_path.insert(0, Blocker())
"""


def without_torch(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED + code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_slim_runs() -> None:
    without_torch(
        "import prunecvt, prunecvt.bridge\n"
        f"report = prunecvt.slim({str(RESNET)!r}, ratio=0.2).report\n"
        "assert report.status == 'ok'\n"
    )


def test_the_bridge_says_what_to_install() -> None:
    without_torch(
        "import prunecvt\n"
        "from prunecvt.bridge import to_module\n"
        f"try: to_module({str(RESNET)!r})\n"
        "except prunecvt.UsageError as error:\n"
        "    assert error.code == 'E250' and 'prunecvt[torch]' in error.help\n"
        "else: raise SystemExit('nothing was raised')\n"
    )


def test_tuning_says_what_to_install() -> None:
    without_torch(
        "import prunecvt\n"
        f"model, calib = {str(RESNET)!r}, {str(RESNET.parent / 'digits_calib.npz')!r}\n"
        "try: prunecvt.tune(model, model, calib=calib)\n"
        "except prunecvt.UsageError as error:\n"
        "    assert error.code == 'E250' and 'prunecvt[torch]' in error.help\n"
        "else: raise SystemExit('nothing was raised')\n"
    )


def test_importing_the_bridge_imports_no_torch() -> None:
    code = "import sys, prunecvt.bridge; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("stated", "found"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_of_torch_sleep_while_they_wait(stated: str | None, found: str) -> None:
    """What OpenMP read when it was loaded, in its own words; and nothing stays behind."""
    pytest.importorskip("torch")
    code = (
        "import os; from prunecvt.bridge import require_torch; require_torch()\n"
        "print(os.environ.get('OMP_WAIT_POLICY'))"
    )
    told = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    told |= {"OMP_DISPLAY_ENV": "TRUE"} | ({"OMP_WAIT_POLICY": stated} if stated else {})
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=told)
    assert done.stdout.strip() == str(stated)
    if "OMP_WAIT_POLICY" not in done.stderr:
        pytest.skip("this torch has no OpenMP that says what it read")
    assert f"OMP_WAIT_POLICY = '{found}'" in done.stderr
