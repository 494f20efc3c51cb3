"""Flags in files and in the environment, and which of them wins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from command_line import RESNET, run


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the folder that the tests run in."""
    monkeypatch.chdir(tmp_path)


def kept(*flags: object) -> dict[str, Any]:
    """Member -> share kept, by a plan made with these flags."""
    done = run("plan", RESNET, "-o", "p.json", "--force", "--json", *flags)
    assert done.returncode == 0, done.stderr
    return {
        group["members"][0]: group["channels_after"] / group["channels_before"]
        for group in json.loads(done.stdout)["groups"]
    }


def inner(shares: dict[str, Any]) -> float:
    """The share kept of a group that nothing holds back."""
    return next(float(share) for name, share in shares.items() if "stages.0/first" in name)


def test_a_flag_wins_over_the_environment_and_that_over_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert inner(kept()) == pytest.approx(32 / 48)
    (tmp_path / "prunecvt.toml").write_text("ratio = 0.25\nround-to = 1\n")
    assert inner(kept()) == 0.75
    monkeypatch.setenv("PRUNECVT_RATIO", "0.5")
    assert inner(kept()) == 0.5
    assert inner(kept("--ratio", "0.125")) == 0.875
    monkeypatch.delenv("PRUNECVT_RATIO")
    assert inner(kept("--round-to", "8")) == pytest.approx(40 / 48)


def test_the_nearest_file_counts_from_the_folder_upwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.prunecvt]\nround-to = 1\nratio = 0.25\n")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / "a" / "pyproject.toml").write_text("[tool.other]\nratio = 0.9\n")
    monkeypatch.chdir(below)
    assert inner(kept()) == 0.75
    (below / "prunecvt.toml").write_text("round-to = 1\nratio = 0.5\n")
    assert inner(kept()) == 0.5
    assert inner(kept("--config", tmp_path / "pyproject.toml")) == 0.75
    monkeypatch.setenv("PRUNECVT_CONFIG", str(tmp_path / "pyproject.toml"))
    assert inner(kept()) == 0.75


def test_a_table_is_for_its_command_alone(tmp_path: Path) -> None:
    text = 'round-to = 1\nkeep = ["*stem*"]\n[plan]\nratio = 0.25\n[slim]\nratio = 0.5\n'
    (tmp_path / "prunecvt.toml").write_text(text + "bench = false\nir = false\n")
    shares = kept()
    assert inner(shares) == 0.75
    assert all(share == 1.0 for name, share in shares.items() if "stem" in name)
    done = run("slim", RESNET, "-o", "s.onnx", "--no-verify")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "s.xml").exists()
    report = json.loads((tmp_path / "s.report.json").read_text())
    assert report["settings"]["ratio"] == 0.5
    assert report["latency"] == []


def test_the_strongest_source_says_how_much_goes(tmp_path: Path) -> None:
    (tmp_path / "prunecvt.toml").write_text('round-to = 1\ntarget = "macs=0.9"\n')
    assert inner(kept("--ratio", "0.25")) == 0.75
    (tmp_path / "prunecvt.toml").write_text('target = "macs=0.9"\nratio = 0.2\n')
    done = run("plan", RESNET, "-o", "q.json")
    assert (done.returncode, "E207" in done.stderr) == (2, True)


def test_a_plan_is_replayed_whatever_a_file_says(tmp_path: Path) -> None:
    kept("--ratio", "0.25", "--round-to", "1")
    (tmp_path / "prunecvt.toml").write_text("ratio = 0.9\n")
    flags = ["--no-ir", "--no-bench", "--no-verify", "--plan", "p.json", "-o", "s.onnx"]
    done = run("slim", RESNET, *flags)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "s.report.json").read_text())
    assert report["criterion"] == "plan"


def test_paths_are_relative_to_their_file(tmp_path: Path) -> None:
    folder = tmp_path / "settings"
    folder.mkdir()
    (folder / "c.toml").write_text('output = "p.json"\n')
    done = run("plan", RESNET, "--config", folder / "c.toml")
    assert done.returncode == 0, done.stderr
    assert (folder / "p.json").exists()


def test_several_values_in_a_variable_are_parted_by_spaces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PRUNECVT_KEEP", "*stages.0* *stem*")
    shares = kept()
    assert inner(shares) == 1.0
    assert min(shares.values()) < 1.0


@pytest.mark.parametrize("name", ["PRUNECVT_NO_BENCH", "PRUNECVT_RUOND_TO", "PRUNECVT_FAIL_IF"])
def test_a_variable_of_no_flag_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    done = run("plan", RESNET, "-o", "p.json")
    assert (done.returncode, "E227" in done.stderr, name in done.stderr) == (2, True, True)


@pytest.mark.parametrize(
    "text",
    ["rations = 0.4", "ratio = ", "[tools]\nratio = 0.4", "[slim]\nwidth = 3", "config = 'a'"],
)
def test_what_is_no_setting_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(text)
    done = run("plan", RESNET, "-o", "p.json", "--config", "c.toml")
    assert (done.returncode, "E227" in done.stderr) == (2, True), done.stderr


def test_a_value_of_another_kind_is_refused_as_a_flag_is(tmp_path: Path) -> None:
    (tmp_path / "prunecvt.toml").write_text('ratio = "much"\n')
    done = run("plan", RESNET, "-o", "p.json")
    assert done.returncode == 2
    assert "ratio" in done.stderr


def test_a_file_that_is_named_has_to_be_there() -> None:
    done = run("plan", RESNET, "-o", "p.json", "--config", "none.toml")
    assert (done.returncode, "E227" in done.stderr) == (2, True)
