"""Sweeps: points, what is taken up again, what no other beats."""

from __future__ import annotations

import io
import json
import pickle
import re
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import report_examples as examples
from command_line import RESNET, SAMPLES, run
from prunecvt import sweeping
from prunecvt.commands.progress import clock_time, drawn_progress, line_writer
from prunecvt.errors import InputError, OutputError, UsageError
from prunecvt.options import Options
from prunecvt.pace import Pace, Stages
from prunecvt.report.schema import OutputFile
from prunecvt.report.sweep import SweepReport, marked
from prunecvt.report.sweep_page import link, render_sweep_html
from prunecvt.report.tables import sweep_table
from prunecvt.slimming import file_sha256
from prunecvt.sweep_folder import made_before
from prunecvt.sweeping import amounts, sweep
from sweep_examples import point, sweep_of

OPTIONS: dict[str, Any] = {"ir": False, "eval": SAMPLES / "digits_test.npz"}


def test_what_no_other_beats() -> None:
    points = [
        point("fast", 0.3, 0.8),
        point("good", 0.9, 0.99),
        point("between", 0.5, 0.9),
        point("slower", 0.6, 0.9),
        point("worse", 0.5, 0.85),
        point("twin", 0.3, 0.8),
        point("unknown", 0.1, None),
    ]
    found = marked(points)
    assert [p.name for p in found if p.best] == ["fast", "good", "between", "twin"]


def test_amounts_are_stated_once() -> None:
    found = amounts([0.1, 0.2, 0.1], ["macs=0.5"])
    assert [amount.name for amount in found] == ["ratio=0.1", "ratio=0.2", "macs=0.5"]
    assert len({amount.stem for amount in found}) == 3


@pytest.mark.parametrize(
    ("ratios", "targets", "code"),
    [([1.5], [], "E212"), ([0.0], [], "E212"), ([], ["macs"], "E201"), ([], ["fps=3"], "E201")],
)
def test_amounts_that_are_none(ratios: list[float], targets: list[str], code: str) -> None:
    with pytest.raises(UsageError) as caught:
        amounts(ratios, targets)
    assert caught.value.code == code


def test_a_sweep_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    points = amounts([0.1, 0.3], ["macs=0.8"])
    first = sweep(RESNET, tmp_path, points[:2], OPTIONS, jobs=2)
    made = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.onnx")}
    assert len(made) == 2
    told: list[tuple[str, dict[str, Any]]] = []

    def tell(what: str, share: float | None = None, **more: Any) -> None:
        told.append((what, more))

    second = sweep(RESNET, tmp_path, points, OPTIONS, progress=tell)
    lasting = [(what, more.get("left")) for what, more in told if more.get("lasting")]
    assert lasting == [
        ("taken up again: 2 of 3", None),
        ("slimmed 3 of 3: macs=0.8", 0.0),
        ("timing 4 models in one race", None),
    ]
    races = [more["left"] for what, more in told if what == "latency in onnxruntime"]
    assert len(races) > 2 and races[-1] == 0
    again = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.onnx")}
    assert {name: again[name] for name in made} == made
    assert len(again) == 3
    assert [p.name for p in second.points] == ["ratio=0.1", "ratio=0.3", "macs=0.8"]
    for old, new in zip(first.points, second.points, strict=False):
        assert (old.macs, old.quality, old.measure) == (new.macs, new.quality, "top1")
    document = (tmp_path / "sweep.json").read_text()
    assert SweepReport.model_validate_json(document) == second
    assert any(p.best for p in second.points)
    page = (tmp_path / "sweep.html").read_text()
    assert page == render_sweep_html(second) and "797 labelled samples" in page
    assert second.original is not None and second.settings["eval"] == "digits_test.npz"
    assert not {"ratio", "target", "bench"} & set(second.settings)
    for each in second.points:
        assert (tmp_path / link(each)).is_file()


@pytest.fixture
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Races that are over at once."""

    def raced(files: list[Path], *_: Any) -> Any:
        return [file.name for file in files], [[examples.latency()] for _ in files[1:]]

    monkeypatch.setattr(sweeping, "bench_files", raced)


@pytest.mark.usefixtures("untimed")
def test_what_is_damaged_is_made_anew(tmp_path: Path) -> None:
    options = {"ir": False, "verify": False}
    sweep(RESNET, tmp_path, amounts([0.2], []), options)
    (made,) = tmp_path.glob("*.onnx")
    whole = made.read_bytes()
    made.write_bytes(whole[:-1])
    sweep(RESNET, tmp_path, amounts([0.2], []), options)
    assert made.read_bytes() == whole


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.usefixtures("untimed")
@pytest.mark.parametrize("change", ["settings", "model"])
def test_other_results_are_only_replaced_by_force(change: str, tmp_path: Path) -> None:
    """They were replaced without a word: hours of work of another sweep."""
    points = amounts([0.2], [])
    options: dict[str, Any] = {"ir": False, "verify": False}
    model = tmp_path / "m.onnx"
    model.write_bytes(RESNET.read_bytes())
    folder = tmp_path / "out"
    sweep(model, folder, points, options)
    (made,) = folder.glob("*.onnx")
    before = contents(folder)
    asked = {**options, "threads": 2, "max_memory": 2**40}  # these two change no point
    if change == "settings":
        asked |= {"round_to": 1}
    else:
        model.write_bytes((SAMPLES / "digits_resnet_folded.onnx").read_bytes())
    why = 'round_to is "auto" there and 1 now' if change == "settings" else "of another model"
    told: list[str] = []
    for place in (folder / "sweep.json", made):  # a sweep that was interrupted has only points
        with pytest.raises(OutputError) as caught:
            sweep(model, folder, points, asked, progress=lambda what, *_, **__: told.append(what))
        assert (caught.value.code, told) == ("E701", [])
        assert caught.value.where.startswith(f"{place}: ")
        assert caught.value.where.endswith(why)
        assert "--force" in caught.value.help
        assert contents(folder) == before
        for name in ("sweep.json", "sweep.html"):
            (folder / name).unlink(missing_ok=True)
            before.pop(name, None)
    old = made.read_bytes()
    found = sweep(model, folder, points, {**asked, "force": True})
    assert made.read_bytes() != old
    assert found == SweepReport.model_validate_json((folder / "sweep.json").read_bytes())
    kept = made.stat().st_mtime_ns
    sweep(model, folder, points, {**asked, "force": True})  # what is the same is taken up
    sweep(model, folder, points, asked)
    assert made.stat().st_mtime_ns == kept


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("digits_resnet_ratio_0.2.onnx", "no report of prunecvt"),
        ("digits_resnet_ratio_0.2.xml", "no report of prunecvt"),
        ("sweep.html", "missing beside sweep.html"),
        ("sweep.json", "no sweep's"),
    ],
)
def test_files_of_others_are_not_replaced(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("precious")
    with pytest.raises(OutputError, match=rf"(?s)E701.*{said}"):
        sweep(RESNET, tmp_path, amounts([0.2], []), {})
    assert contents(tmp_path) == {name: b"precious"}


def test_a_model_that_is_missing_is_no_bug(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="E301"):
        sweep(tmp_path / "none.onnx", tmp_path / "out", amounts([0.2], []), {})
    assert not (tmp_path / "out").exists()


def test_a_point_that_fails_ends_the_sweep_with_its_error(tmp_path: Path) -> None:
    points = amounts([], ["params=0.0001"])
    with pytest.raises(UsageError) as caught:
        sweep(RESNET, tmp_path, points, {"ir": False})
    assert caught.value.code == "E217"
    assert "--target" in str(caught.value)


def test_errors_go_from_process_to_process_whole() -> None:
    error = UsageError("E201", "no", where="there", node="n", help="so")
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is UsageError
    assert (str(found), found.code, found.node) == (str(error), "E201", "n")


def test_the_time_left_is_that_of_what_has_to_be_made() -> None:
    now = [100.0]
    alone = Pace(4, 1, lambda: now[0])
    found = []
    for _ in range(4):
        now[0] += 10
        found.append(alone.finished(10.0))
    assert found == [30, 20, 10, 0]
    slow = Pace(2, 1, lambda: now[0])
    now[0] += 30  # of which a process took twenty to start
    assert slow.finished(10.0) == 10


def test_the_time_left_is_shared_by_the_processes() -> None:
    now = [0.0]
    pair = Pace(6, 2, lambda: now[0])
    now[0] = 10
    assert [pair.finished(10.0), pair.finished(10.0)] == [20, 20]
    now[0] = 15  # a short one; the other has worked for five seconds
    assert pair.finished(5.0) == pytest.approx((25 / 3 * 3 - 5) / 2)
    last = Pace(3, 2, lambda: now[0])
    now[0] += 10
    last.finished(10.0)
    assert last.finished(10.0) == 10  # one process has nothing to do
    assert last.finished(10.0) == 0


def test_the_time_left_of_a_race_is_known_from_its_share() -> None:
    now = [0.0]
    stages = Stages(lambda: now[0])
    assert stages.left("a", 0.0) is None
    now[0] = 2
    assert stages.left("a", 0.25) == 6
    assert stages.left("b", 0.5) is None
    now[0] = 3
    assert stages.left("b", 0.5) == 1


def test_lines_say_what_is_done_and_how_long_it_takes() -> None:
    now, stream = [0.0], io.StringIO()
    tell = line_writer(stream, lambda: now[0])
    now[0] = 75.2
    tell("latency", 0.5)
    tell("slimmed 1 of 3: a", 0.3, left=3675, lasting=True)
    tell("slimmed 3 of 3: b", 1.0, left=0.0, lasting=True)
    assert stream.getvalue().splitlines() == [
        "slimmed 1 of 3: a (1:15 elapsed, about 1:01:15 left)",
        "slimmed 3 of 3: b (1:15 elapsed)",
    ]
    assert clock_time(-1) == "0:00" and clock_time(59.6) == "1:00"


def test_a_terminal_shows_the_time_left() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100)
    with drawn_progress(console) as tell:
        tell("slimmed 1 of 3: a", 0.3, left=100.0, lasting=True)
        time.sleep(0.3)
    assert "slimmed 1 of 3: a" in stream.getvalue() and "1:40 left" in stream.getvalue()


def test_the_command_prints_a_table(tmp_path: Path) -> None:
    flags = ["--ratios", "0.2", "--target", "macs=0.9", "--no-ir", "-o", tmp_path]
    done = run("sweep", RESNET, *flags, COLUMNS="80")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert all(len(line) <= 80 for line in lines if not line.startswith("wrote "))
    names = [line.split()[0] for line in lines if "=" in line and " % " in line]
    assert names == ["ratio=0.2", "macs=0.9"]
    told = done.stderr.splitlines()
    gone = r" \(\d+:\d\d elapsed"
    for line, form in zip(
        told,
        [
            rf"slimmed 1 of 2: ratio=0\.2{gone}(, about \d+:\d\d left)?\)",
            rf"slimmed 2 of 2: macs=0\.9{gone}\)",
            rf"timing 3 models in one race{gone}\)",
        ],
        strict=True,
    ):
        assert re.fullmatch(form, line), line
    wrote = [line for line in lines if line.startswith("wrote ")]
    assert wrote == [f"wrote {tmp_path / 'sweep.json'}", f"wrote {tmp_path / 'sweep.html'}"]
    done = run("sweep", RESNET, *flags, "--json")
    assert done.stderr == ""
    assert json.loads(done.stdout) == json.loads((tmp_path / "sweep.json").read_text())
    out_of_reach = ["--ratios", "", "--target", "latency=0.000001", "--no-ir"]
    done = run("sweep", RESNET, *out_of_reach, "-o", tmp_path / "missed")
    assert "latency=0.000001 (missed)" in done.stdout
    assert run("sweep", RESNET, "--ratios", "much", "-o", tmp_path).returncode == 2
    assert run("sweep", RESNET, "--ratios", "", "-o", tmp_path).returncode == 2


@pytest.mark.parametrize("where", ["a file", "below a file", "its document"])
def test_a_folder_that_cannot_be_written_is_refused_before_the_work(
    where: str, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    if where == "its document":
        (folder / "sweep.html").mkdir(parents=True)
    else:
        folder.write_text("")
    made: list[str] = []

    def tell(what: str, *_: Any, **__: Any) -> None:
        made.append(what)

    asked = folder / "deeper" if where == "below a file" else folder
    with pytest.raises(OutputError) as caught:
        sweep(RESNET, asked, amounts([0.2], []), OPTIONS, progress=tell)
    assert (caught.value.code, made) == ("E705", [])


@pytest.mark.parametrize(("target", "taken"), [("latency=0.9", False), ("macs=0.8", True)])
def test_threads_count_where_a_point_was_timed(target: str, taken: bool, tmp_path: Path) -> None:
    report = examples.report()
    path = tmp_path / "m.onnx"
    path.write_bytes(b"model")
    asked = Options.of({"target": target, "threads": 1})
    written = report.output.model_copy(
        update={"onnx": OutputFile(path="m.onnx", bytes=5, sha256=file_sha256(path))}
    )
    changes = {"settings": json.loads(json.dumps(asked.settings())), "output": written}
    path.with_suffix(".report.json").write_text(report.model_copy(update=changes).model_dump_json())
    sha256 = report.input.sha256
    assert made_before(path, sha256, asked) is not None
    other = Options.of({"target": target, "threads": 2})
    assert (made_before(path, sha256, other) is not None) == taken


def test_a_cosine_is_no_share() -> None:
    stream = io.StringIO()
    points = [point("ratio=0.3", 0.5, 0.98765, measure="cosine"), point("ratio=0.4", 0.4, None)]
    Console(file=stream, width=100).print(sweep_table(sweep_of(points)))
    assert "0.98765" in stream.getvalue() and "98.77 %" not in stream.getvalue()
