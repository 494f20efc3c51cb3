"""The GitHub action, the example workflow and the pre-commit hook: their commands, run."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from command_line import RESNET, SAMPLES

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the action runs in bash")


def step() -> dict[str, Any]:
    """The action's step that slims."""
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    (found,) = [each for each in action["runs"]["steps"] if each.get("id") == "slim"]
    return dict(found)


def example() -> dict[str, Any]:
    """What the workflow in the docs gives the action."""
    (text,) = re.findall(
        r"```yaml\n(name: slim.*?)```", (ROOT / "docs/github.md").read_text(), re.S
    )
    steps = yaml.safe_load(text)["jobs"]["slim"]["steps"]
    (found,) = [each for each in steps if each.get("id") == "slim"]
    return dict(found["with"])


def slimmed(folder: Path, inputs: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Runs the step as GitHub would: inputs in place of expressions, files for what it gives."""
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    assert set(inputs) <= set(action["inputs"])
    values = {name: each.get("default", "") for name, each in action["inputs"].items()}
    values.update(inputs)
    held = {
        name: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda found: str(values[found[1]]), text)
        for name, text in step()["env"].items()
    }
    beside = str(Path(sys.executable).parent)  # the commands of this environment
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step()["run"]],
        capture_output=True,
        text=True,
        cwd=folder,
        env={
            **os.environ,
            **held,
            "PATH": f"{beside}{os.pathsep}{os.environ['PATH']}",
            "GITHUB_OUTPUT": str(folder / "outputs"),
            "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        },
        check=False,
    )


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The files that the example names."""
    for place, source in (("model", RESNET), ("calib", SAMPLES / "digits_calib.npz")):
        path = tmp_path / example()[place]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.read_bytes())
    return tmp_path


def test_the_example_workflow_runs(repository: Path) -> None:
    done = slimmed(repository, example())
    assert done.returncode == 0, done.stderr
    outputs = dict(line.split("=", 1) for line in (repository / "outputs").read_text().splitlines())
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    assert set(outputs) == set(action["outputs"])
    assert (repository / outputs["model"]).exists()
    report = json.loads((repository / outputs["report"]).read_text())
    macs = report["totals"]["macs"]
    assert float(outputs["macs-ratio"]) == pytest.approx(macs["after"] / macs["before"], abs=1e-4)
    assert outputs["latency-ratio"] == ""
    assert [gate["passed"] for gate in report["gates"]] == [True, True, True]
    assert "### prunecvt" in (repository / "summary.md").read_text()
    assert "::notice title=" in done.stdout


def test_a_missed_gate_fails_the_job_with_its_outputs(repository: Path) -> None:
    inputs = {"model": example()["model"], "ratio": "0.2", "fail-if": "macs_ratio > 0.01"}
    done = slimmed(repository, {**inputs, "arguments": "--no-ir --no-bench --no-verify"})
    assert done.returncode == 6, done.stderr
    assert "::error title=" in done.stdout
    assert "report=slim/model.report.json" in (repository / "outputs").read_text()


def test_an_error_ends_without_outputs(repository: Path) -> None:
    done = slimmed(repository, {"model": "none.onnx"})
    assert done.returncode == 3
    assert not (repository / "outputs").exists()


def test_the_hook_inspects_every_model(tmp_path: Path) -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert re.search(hook["files"], "a/b.onnx")
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"no model")
    beside = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{beside}{os.pathsep}{os.environ['PATH']}"}
    for models, code in (((RESNET, RESNET), 0), ((RESNET, bad, RESNET), 3)):
        done = subprocess.run(
            [*shlex.split(hook["entry"]), *map(str, models)],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert done.stdout.count("groups prunable") == (2 if code == 0 else 1)
