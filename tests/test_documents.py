"""Reports rendered again, compared, and made fit for continuous integration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import report_examples as examples
from command_line import RESNET, run
from prunecvt.report.ci import tracked, workflow_commands
from prunecvt.report.comparison import differences
from prunecvt.report.files import RENDERERS, report_json
from prunecvt.report.schema import Change, Gate, Report

FORMATS = {"json": ".json", "html": ".html", "md": ".md"}


def changed(report: Report, **totals: float) -> Report:
    """The same with other amounts left."""
    found = report.totals.model_copy(
        update={
            name: Change(before=getattr(report.totals, name).before, after=after)
            for name, after in totals.items()
        }
    )
    return report.model_copy(update={"totals": found})


def verdicts(old: Report, new: Report) -> dict[str, str]:
    return {row.name: row.verdict for row in differences(old, new)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.report.json"
    path.write_text(report_json(examples.report()))
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_a_report_is_rendered_again_as_it_was(name: str, file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("report", file, "--format", name, "-o", out)
    assert done.returncode == 0, done.stderr
    assert out.read_text() == RENDERERS[FORMATS[name]](examples.report())
    assert run("report", file, "--format", name, "-o", out).returncode == 7
    assert run("report", file, "--format", name).stdout == out.read_text()


@pytest.mark.parametrize("ending", FORMATS.values())
def test_a_file_gets_what_its_ending_says(ending: str, file: Path, tmp_path: Path) -> None:
    out = tmp_path / f"out{ending}"
    assert run("report", file, "-o", out).returncode == 0
    assert out.read_text() == RENDERERS[ending](examples.report())
    assert run("report", file, "-o", tmp_path / "out.pdf").returncode == 2


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"schema_version": 2}', "\x00"])
def test_what_is_no_report_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(text)
    done = run("report", tmp_path / "r.json")
    assert (done.returncode, "E310" in done.stderr) == (3, True), done.stderr
    assert run("report", tmp_path / "none.json").returncode == 3


def test_a_format_that_is_none() -> None:
    done = run("slim", RESNET, "--format", "pdf")
    assert (done.returncode, "E201" in done.stderr) == (2, True)


def test_annotations_are_one_line_each_and_escaped() -> None:
    gate = Gate(expr="macs_ratio > 0.1", value=0.5, passed=False)
    report = examples.report().model_copy(
        update={"gates": [gate], "warnings": ["50 % of a\nb, c"], "settings": {}}
    )
    lines = workflow_commands(report).splitlines()
    assert lines[0].endswith("::macs_ratio > 0.1: missed (0.5)")
    assert lines[0].startswith("::error title=prunecvt%3A ")
    assert any(line.endswith("::50 %25 of a%0Ab, c") for line in lines)
    assert lines[-1].startswith("::notice ")
    assert all(line.startswith("::") for line in lines)
    assert sum("macs_ratio" in line for line in lines) == 1


def test_what_is_tracked_is_smaller_when_better() -> None:
    report = examples.report()
    rows = {row["name"].partition(": ")[2]: row for row in json.loads(tracked(report))}
    assert rows["MACs"]["value"] == report.totals.macs.after
    timing = report.latency[0].after
    (latency,) = [row for name, row in rows.items() if name.startswith("onnxruntime")]
    assert latency["value"] == timing.cpu_median_ms
    assert latency["unit"] == "ms"
    assert set(latency) == {"name", "unit", "value", "range", "extra"}


def test_the_summary_of_a_job_is_appended_to(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    done = run("report", file, "--format", "github")
    assert done.returncode == 0, done.stderr
    assert summary.read_text() == "before\n" + RENDERERS[".md"](examples.report()) + "\n"
    assert done.stdout.startswith("::")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    assert run("report", file, "--format", "github").returncode == 7


def test_counts_compare_exactly() -> None:
    old = examples.report()
    assert set(verdicts(old, old).values()) <= {"same", "not comparable"}
    totals = old.totals
    new = changed(old, macs=totals.macs.after + 1, params=totals.params.after - 1)
    found = verdicts(old, new)
    assert (found["MACs"], found["parameters"], found["ONNX file"]) == ("worse", "better", "same")


@pytest.mark.parametrize(
    ("ratio", "interval", "verdict"),
    [
        (0.6, (0.58, 0.62), "worse"),
        (0.4, (0.38, 0.42), "better"),
        (0.6, (0.49, 0.62), "same"),
        (0.52, (0.515, 0.525), "same"),
    ],
)
def test_latencies_compare_by_their_intervals(
    ratio: float, interval: tuple[float, float], verdict: str
) -> None:
    old = examples.report(latency=[examples.latency(ratio=0.5, ratio_ci95=(0.49, 0.51))])
    new = examples.report(latency=[examples.latency(ratio=ratio, ratio_ci95=interval)])
    (found,) = [v for name, v in verdicts(old, new).items() if name.startswith("latency")]
    assert found == verdict
    gone = verdicts(old, examples.report(latency=[]))
    assert [v for name, v in gone.items() if name.startswith("latency")] == ["not comparable"]


def test_agreement_compares_by_its_samples() -> None:
    def agreeing(share: float, samples: int, data: str = "calibration") -> Report:
        report = examples.report()
        assert report.verify is not None
        assert report.verify.fidelity is not None
        update = {"top1_agree": share, "samples": samples, "data": data}
        fidelity = report.verify.fidelity.model_copy(update=update)
        verify = report.verify.model_copy(update={"fidelity": fidelity})
        return report.model_copy(update={"verify": verify})

    few, many = (
        verdicts(agreeing(0.99, 50), agreeing(0.95, 50)),
        verdicts(agreeing(0.99, 5000), agreeing(0.95, 5000)),
    )
    assert (few["agreement"], many["agreement"]) == ("same", "worse")
    random = verdicts(agreeing(0.99, 5000, "random"), agreeing(0.5, 5000, "random"))
    assert "agreement" not in random


def test_the_command_compares_and_fails_when_asked(file: Path, tmp_path: Path) -> None:
    report = examples.report()
    worse = tmp_path / "b.json"
    worse.write_text(report_json(changed(report, macs=report.totals.macs.after * 2)))
    for columns in ("80", "60", "200"):
        done = run("compare", file, worse, COLUMNS=columns)
        assert done.returncode == 0, done.stderr
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("MACs")]
        assert line.split()[-1] == "worse"
        assert all(len(line) <= int(columns) for line in done.stdout.splitlines())
    done = run("compare", file, worse, "--fail-on-worse", "--json")
    assert done.returncode == 6
    assert "E602" in done.stderr
    assert {row["name"] for row in json.loads(done.stdout) if row["verdict"] == "worse"} == {"MACs"}
    assert run("compare", worse, file, "--fail-on-worse").returncode == 0
    assert run("compare", file, worse, "--tolerance", "2").returncode == 2


def test_slim_speaks_the_format_that_is_asked_for(tmp_path: Path) -> None:
    flags = ["--no-ir", "--no-bench", "--no-verify", "--force", "-o", tmp_path / "s.onnx"]
    done = run("slim", RESNET, *flags, "--format", "benchmark")
    assert done.returncode == 0, done.stderr
    assert {row["unit"] for row in json.loads(done.stdout)} == {"parameters", "MACs", "bytes"}
    done = run("slim", RESNET, *flags, "--format", "github")
    assert "parameters " in done.stdout
    assert "\n::notice title=" in done.stdout
