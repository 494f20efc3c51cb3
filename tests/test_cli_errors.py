"""What the command line refuses: one clear error, the right exit code, nothing written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bad_files import CASES, Case
from command_line import QUICK, RESNET, SAMPLES, Call, run


def test_flags_that_decide_are_refused_beside_a_plan(call: Call, tmp_path: Path) -> None:
    assert call("plan", RESNET, "-o", tmp_path / "p.json").returncode == 0
    given = ("slim", RESNET, "-o", tmp_path / "s.onnx", "--plan", tmp_path / "p.json", *QUICK)
    done = call(*given, "--ratio", "0.7")
    assert done.returncode == 2
    assert "error[E207]" in done.stderr
    assert call(*given).returncode == 0


@pytest.mark.parametrize("given", [".", "/", ""])
def test_a_folder_is_no_model(call: Call, given: str) -> None:
    done = call("slim", given, *QUICK)
    assert done.returncode == 3
    assert "error[E301]" in done.stderr


def test_an_existing_output_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "s.onnx"
    out.write_text("mine")
    done = run("slim", RESNET, "-o", out, *QUICK)
    assert done.returncode == 7
    assert out.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [out]
    assert run("slim", RESNET, "-o", out, "--force", *QUICK).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--ratio", "1.5"), "E212"),
        (("--ratio", "nan"), "E212"),
        (("--criterion", "magic"), "E210"),
        (("--keep", "no_such_layer"), "E213"),
        (("--scope", "galaxy"), "E201"),
        (("--round-to", "seven"), "E201"),
        (("--round-to", "0"), "E212"),
        (("--input-shape", "input"), "E202"),
        (("--input-shape", "other:1,1,32,32"), "E203"),
        (("--recover", "magic"), "E201"),
        (("--recover", "refit"), "E218"),
        (("--criterion", "obs"), "E211"),
        (("--target", "macs=2"), "E212"),
        (("--target", "macs=0.5", "--ratio", "0.4"), "E207"),
        (("--target", "macs=0.001"), "E217"),
        (("--pass", "nobody"), "E216"),
        (("--max-memory", "much"), "E201"),
    ],
)
def test_usage_errors_exit_2(
    call: Call, tmp_path: Path, arguments: tuple[str, ...], code: str
) -> None:
    done = call("slim", RESNET, "-o", tmp_path / "s.onnx", *arguments, *QUICK)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"error[{code}]: ")
    assert "Traceback" not in done.stderr
    assert not done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_files_end_in_one_clear_error(call: Call, tmp_path: Path, case: Case) -> None:
    if case.posix and os.name != "posix":
        pytest.skip("needs a POSIX file system")
    given = tmp_path / "given"
    given.mkdir()
    model = case.make(given)
    before = sorted(given.rglob("*"))
    out = tmp_path / "out"
    done = call("slim", model, "-o", out / "s.onnx", *QUICK)
    assert done.returncode == case.exit_code, done.stderr
    assert done.stderr.startswith(f"error[{case.code}]: ")
    assert len(done.stderr.splitlines()) <= 3
    assert "Traceback" not in done.stderr
    assert not done.stdout
    assert not out.exists()
    assert sorted(given.rglob("*")) == before


def test_bn_criterion_says_what_it_lacks(call: Call, tmp_path: Path) -> None:
    folded = SAMPLES / "digits_resnet_folded.onnx"
    done = call("slim", folded, "-o", tmp_path / "s.onnx", "--criterion", "bn", *QUICK)
    assert done.returncode == 2
    assert "error[E211]" in done.stderr
    assert "BatchNormalization" in done.stderr


@pytest.mark.parametrize(
    ("plan", "code"),
    [(None, 3), ("[" * 100_000, 2), ('{"schema_version":1,"model_sha256":"", "channels":', 2)],
    ids=["missing", "deep", "cut_off"],
)
def test_a_bad_plan_is_refused(plan: str | None, code: int, tmp_path: Path, call: Call) -> None:
    path = tmp_path / "plan.json"
    if plan is not None:
        path.write_text(plan)
    for command in (("slim", RESNET, *QUICK), ("verify", RESNET, RESNET, "--no-ir")):
        done = call(*command, "--plan", path)
        assert done.returncode == code, done.stderr
        assert done.stderr.startswith("error[E")


@pytest.mark.parametrize("flag", ["--seed=-1", "--atol=nan", "--rtol=inf", "--timeout=nan"])
def test_numbers_out_of_range_are_usage_errors(flag: str, call: Call) -> None:
    assert call("slim", RESNET, *QUICK, flag).stderr.startswith("error[E201]")


def test_bench_names_a_missing_ir(call: Call) -> None:
    assert call("bench", RESNET, "nope.xml").stderr.startswith("error[E301]")
