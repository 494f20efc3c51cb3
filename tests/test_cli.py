"""The command line as users run it: streams, exit codes, files."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer

from command_line import QUICK, RESNET, SAMPLES, Call, run
from prunecvt import slim
from prunecvt.commands.app import app
from prunecvt.report.schema import Report
from prunecvt.report.wording import changed, count

COMMANDS = (
    *("slim", "plan", "sweep", "trim", "tune", "inspect", "verify", "bench", "convert"),
    *("export", "report", "compare", "env"),
)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['prunecvt', '--help']\n"
        "from prunecvt.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'openvino', 'onnx', 'onnxruntime', 'numpy', 'scipy'}\n"
        "assert not heavy & sys.modules.keys()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in COMMANDS:
        assert command in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_speaks_only_of_flags_that_a_command_has(command: str) -> None:
    """Flags are shared: a text that is right for one command may name what another has not."""
    root: Any = typer.main.get_command(app)
    taken = root.commands[command].params
    own = {name for each in taken for name in (*each.opts, *each.secondary_opts)}
    for each in taken:
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", each.help or ""))
        assert named <= own, f"{each.name}: {each.help}"


def test_version_is_one_line() -> None:
    done = run("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("prunecvt ")
    assert done.stdout.count("\n") == 1


def test_slim_writes_everything_beside_the_input(tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(RESNET.read_bytes())
    done = run("slim", model, "--ratio", "0.4")
    assert done.returncode == 0, done.stderr
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "m.onnx",
        "m_slim.onnx",
        "m_slim.xml",
        "m_slim.bin",
        "m_slim.plan.json",
        "m_slim.report.json",
        "m_slim.report.html",
    }
    assert "parameters" in done.stdout
    assert "onnxruntime" in done.stdout
    assert "logits" in done.stdout  # what was pinned, and why
    report = Report.model_validate_json((tmp_path / "m_slim.report.json").read_text())
    assert report.verify is not None
    assert report.verify.masked_dense is not None
    assert report.verify.masked_dense.passed
    assert report.verify.openvino is not None
    assert report.verify.openvino.passed
    assert {row.backend for row in report.latency} == {"onnxruntime", "openvino"}
    assert report.layout is not None


def test_output_names_follow_the_option(tmp_path: Path) -> None:
    done = run("slim", RESNET, "-o", tmp_path / "new" / "s.onnx", *QUICK)
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names == {"s.onnx", "s.plan.json", "s.report.json", "s.report.html"}


def test_json_is_the_report_and_nothing_else(tmp_path: Path) -> None:
    done = run("slim", RESNET, "-o", tmp_path / "s.onnx", "--json", *QUICK)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    jsonschema.validate(document, Report.model_json_schema())
    assert document == json.loads((tmp_path / "s.report.json").read_text())


def test_runs_twice_with_equal_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", "1"), ("b", "2")):
        done = run("slim", RESNET, "-o", tmp_path / name / "s.onnx", *QUICK, PYTHONHASHSEED=seed)
        assert done.returncode == 0, done.stderr
    for file in ("s.onnx", "s.plan.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    reports = [json.loads((tmp_path / name / "s.report.json").read_text()) for name in "ab"]
    for report in reports:
        del report["run"]
        for row in report["passes"]:
            del row["seconds"]
    assert reports[0] == reports[1]


def test_plan_is_replayed_exactly(tmp_path: Path) -> None:
    assert run("slim", RESNET, "-o", tmp_path / "s.onnx", "--ratio", "0.3", *QUICK).returncode == 0
    assert run("plan", RESNET, "-o", tmp_path / "p.json", "--ratio", "0.3").returncode == 0
    assert (tmp_path / "p.json").read_bytes() == (tmp_path / "s.plan.json").read_bytes()
    done = run("slim", RESNET, "-o", tmp_path / "t.onnx", "--plan", tmp_path / "p.json", *QUICK)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "t.onnx").read_bytes() == (tmp_path / "s.onnx").read_bytes()


def test_a_plan_says_what_would_be_left(tmp_path: Path) -> None:
    done = run("plan", RESNET, "-o", tmp_path / "p.json", "--ratio", "0.3")
    left = slim(RESNET, plan=tmp_path / "p.json").report.totals
    for name, total in (("parameters", left.params), ("MACs", left.macs)):
        expected = f"{name}: {count(total.before)} -> {count(total.after)} ({changed(total)})"
        assert expected in done.stdout
    assert re.search(r"^\d+ of \d+ groups cut; ", done.stdout, re.MULTILINE)


def test_verify_takes_what_was_recovered_and_not_what_was_damaged(tmp_path: Path) -> None:
    """The oracle speaks of the cut alone; the report beside tells that it went on from there."""
    import onnx
    from onnx import numpy_helper

    out = tmp_path / "s.onnx"
    data = ["--calib", SAMPLES / "digits_calib.npz", "--calib-count", "64"]
    done = run("slim", RESNET, "-o", out, *QUICK, *data, "--recover", "bias")
    assert done.returncode == 0, done.stderr
    done = run("verify", RESNET, out)
    assert done.returncode == 0, done.stderr
    assert "recovered by bias" in done.stdout
    model = onnx.load(out)
    weight = next(w for w in model.graph.initializer if len(w.dims) == 4)
    weight.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(weight), weight.name))
    onnx.save(model, out)
    done = run("verify", RESNET, out)
    assert (done.returncode, "E504" in done.stderr) == (5, True)


def test_a_model_that_is_not_there_is_said_before_outputs_that_are(tmp_path: Path) -> None:
    (tmp_path / "s.onnx").write_text("old")
    done = run("slim", tmp_path / "typo.onnx", "-o", tmp_path / "s.onnx")
    assert (done.returncode, "E301" in done.stderr) == (3, True), done.stderr


@pytest.mark.parametrize(
    "flags",
    [
        ["--strict-layout"],
        ["--fail-if", "macs_ratio > 1"],
        ["--eval", "labelled.npz"],
        ["--report", "r.html"],
        ["--pass", "mine"],
        ["--static-batch"],
        ["--recover", "refit"],
    ],
)
def test_a_dry_run_refuses_what_it_would_not_look_at(
    flags: list[str], tmp_path: Path, call: Call
) -> None:
    done = call("slim", RESNET, "--dry-run", "-o", tmp_path / "s.onnx", *flags)
    assert (done.returncode, "E207" in done.stderr) == (2, True), done.stderr
    if flags[0] == "--recover":
        done = call("plan", RESNET, "-o", tmp_path / "s.json", *flags)
        assert (done.returncode, "E207" in done.stderr) == (2, True)
    assert not list(tmp_path.iterdir())


def test_wrong_options_are_said_before_files_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text("old")
    for command, out in (("plan", tmp_path / "p.json"), ("slim", tmp_path / "p.onnx")):
        out.write_text("old")
        for flags, code in (("--threshold=-1", "E201"), ("--ratio=2", "E212")):
            done = run(command, RESNET, "-o", out, flags)
            assert (done.returncode, code in done.stderr) == (2, True), done.stderr
        done = run(command, RESNET, "-o", out, "--criterion", "magic")
        assert (done.returncode, "E210" in done.stderr) == (2, True), done.stderr


def test_dry_run_writes_only_the_plan(tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(RESNET.read_bytes())
    done = run("slim", model, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"m.onnx", "m_slim.plan.json"}


def test_verify_passes_its_own_output_and_fails_a_broken_one(tmp_path: Path) -> None:
    import onnx
    from onnx import numpy_helper

    out = tmp_path / "s.onnx"
    assert run("slim", RESNET, "-o", out, *QUICK).returncode == 0
    assert run("verify", RESNET, out, "--no-ir").returncode == 0
    model = onnx.load(out)
    weight = next(t for t in model.graph.initializer if len(t.dims) == 4)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight)[::-1] * 1.5, weight.name))
    onnx.save(model, out)
    done = run("verify", RESNET, out, "--no-ir")
    assert done.returncode == 5
    assert "error[E504]" in done.stderr


def test_inspect_json_lists_groups_and_reasons() -> None:
    done = run("inspect", RESNET, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["groups"]
    assert document["skipped"][0]["reason"] == "'logits' is an output of the model"


def test_env_is_json() -> None:
    document = json.loads(run("env").stdout)
    assert document["versions"]["onnxruntime"]


def test_convert_writes_ir_only(tmp_path: Path) -> None:
    done = run("convert", RESNET, "-o", tmp_path / "m.xml")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"m.xml", "m.bin"}


def test_bench_compares_in_both_runtimes() -> None:
    done = run("bench", RESNET, SAMPLES / "digits_resnet_folded.onnx", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["backend"] for row in rows[0]["latency"]] == ["onnxruntime", "openvino"]


def test_output_is_plain_under_the_c_locale(tmp_path: Path) -> None:
    done = run(
        "slim", RESNET, "-o", tmp_path / "s.onnx", *QUICK, LC_ALL="C", PYTHONUTF8="0", NO_COLOR="1"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()


def test_unicode_paths(tmp_path: Path) -> None:
    model = tmp_path / "modèle ü.onnx"
    model.write_bytes(RESNET.read_bytes())
    assert run("slim", model, "--no-bench").returncode == 0
    assert (tmp_path / "modèle ü_slim.xml").exists()


def test_a_plan_is_replayed_from_where_plan_wrote_it(tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(RESNET.read_bytes())
    assert run("plan", model, "-q").returncode == 0
    plan = tmp_path / "m_slim.plan.json"
    before = plan.read_bytes()
    done = run("slim", model, "--plan", plan, *QUICK)
    assert done.returncode == 0, done.stderr
    assert plan.read_bytes() == before
    plan.write_bytes(before.replace(b'"model_sha256": "', b'"model_sha256": "0'))
    again = run("slim", model, "--plan", plan, *QUICK, "--force")
    assert "made for another file" in " ".join(again.stdout.split())


def test_a_dry_run_names_its_plan_after_the_model(tmp_path: Path, call: Call) -> None:
    done = call("slim", RESNET, "--dry-run", "-o", tmp_path / "s.onnx")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["s.plan.json"]
    refused = call("slim", RESNET, "--dry-run", "--plan", tmp_path / "s.plan.json")
    assert refused.returncode == 2
    assert "E207" in refused.stderr


def test_tables_in_a_pipe_end_where_their_text_does(tmp_path: Path, call: Call) -> None:
    commands = (
        ["slim", RESNET, "-o", tmp_path / "s.onnx", *QUICK],
        ["plan", RESNET, "-o", tmp_path / "p.json"],
        ["inspect", RESNET],
    )
    for command in commands:
        done = call(*command)
        assert done.returncode == 0, done.stderr
        lines = done.stdout.split("\n")
        assert len(lines) > 8 and [line for line in lines if line != line.rstrip()] == []


@pytest.mark.parametrize("name", ["m[1]", "a:smile: [red]x[bold]", "long " * 30])
def test_names_are_taken_and_printed_as_they_are(name: str, tmp_path: Path, call: Call) -> None:
    model = tmp_path / f"{name}.onnx"
    model.write_bytes(RESNET.read_bytes())
    done = call("slim", model, *QUICK)
    assert done.returncode == 0, done.stderr
    out = tmp_path / f"{name}_slim.onnx"
    assert f"wrote {out}\n" in done.stdout
    report = Report.model_validate_json((tmp_path / f"{name}_slim.report.json").read_text())
    assert report.totals.bytes.after == out.stat().st_size


def test_more_reports_are_written_with_the_rest_or_not_at_all(tmp_path: Path) -> None:
    out, blocked = tmp_path / "s.onnx", tmp_path / "file"
    blocked.touch()
    for copy, code in ((blocked / "r.md", 7), (tmp_path / "s.report.json", 7), ("r.txt", 2)):
        assert run("slim", RESNET, "-o", out, *QUICK, "--report", copy).returncode == code
        assert [path.name for path in tmp_path.iterdir()] == ["file"]
    done = run("slim", RESNET, "-o", out, *QUICK, "--report", tmp_path / "r.md")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "r.md").read_text().startswith("### prunecvt")


@pytest.mark.parametrize("command", [("inspect", RESNET), ("inspect", RESNET, "--json"), ("env",)])
def test_a_closed_pipe_is_no_error(command: tuple[object, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    arguments = [sys.executable, "-c", "from prunecvt.cli import main; main()", *map(str, command)]
    done = subprocess.run(arguments, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("seconds", [0.3, 0.6, 1.2])
def test_an_interrupted_run_ends_with_130_and_leaves_nothing(
    seconds: float, tmp_path: Path
) -> None:
    out, temporary = tmp_path / "out", tmp_path / "tmp"
    out.mkdir()
    temporary.mkdir()
    code = "from prunecvt.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "slim", str(RESNET), "-o", str(out / "s.onnx")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(temporary)},
        # started in the background of a shell, the tests ignore the signal, and so would the child
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert b"Traceback" not in stderr
    assert not list(out.iterdir())
    assert not list(temporary.iterdir())


def test_no_progress_bar_where_stderr_is_no_terminal(tmp_path: Path) -> None:
    done = run("slim", RESNET, "-o", tmp_path / "s.onnx", *QUICK, FORCE_COLOR="1")
    assert (done.returncode, done.stderr) == (0, "")
