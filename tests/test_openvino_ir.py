"""IR from a child process: the same every time, checked, and never the end of the run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import prunecvt.runtimes.openvino_ir as openvino_ir
from conv_models import Net, stack
from prunecvt.errors import OutputError, PrunecvtError, ResourceError, VerifyError
from prunecvt.runtimes.openvino_ir import UNBOUNDED, Trial, parity, write_ir

INPUTS = {"x": np.random.default_rng(0).standard_normal((1, 8, 8, 8)).astype(np.float32)}


def expected(path: Path, output: str = "r2") -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return {output: session.run([output], INPUTS)[0]}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return stack(16).save(tmp_path / "model.onnx", "r2")


def test_the_ir_computes_what_the_model_does(model: Path, tmp_path: Path) -> None:
    check = write_ir(model, tmp_path / "m.xml", trial=Trial(INPUTS, expected(model), 1e-4))
    assert check is not None and check.passed
    assert check.max_rel < 1e-5
    assert (tmp_path / "m.bin").stat().st_size > 16 * 16 * 9 * 4


def test_two_conversions_give_the_same_bytes(model: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    first, second = tmp_path / "a.xml", tmp_path / "elsewhere" / "b.xml"
    write_ir(model, first, trial=Trial(INPUTS, expected(model), 1e-4))
    write_ir(model, second)
    assert first.read_bytes() == second.read_bytes()
    assert first.with_suffix(".bin").read_bytes() == second.with_suffix(".bin").read_bytes()
    assert str(tmp_path) not in first.read_text("utf-8")


def test_half_precision_is_written_only_when_asked(model: Path, tmp_path: Path) -> None:
    write_ir(model, tmp_path / "half.xml", fp16=True)
    write_ir(model, tmp_path / "full.xml")
    half, full = ((tmp_path / name).stat().st_size for name in ("half.bin", "full.bin"))
    assert half < 0.6 * full


def test_a_difference_fails_the_check_and_is_measured(model: Path) -> None:
    wrong = expected(model)
    wrong["r2"] = wrong["r2"] + 0.5
    check = parity(model, Trial(INPUTS, wrong, 1e-3))
    assert not check.passed
    assert check.max_abs == pytest.approx(0.5, rel=1e-3)


def test_nan_against_a_number_is_a_difference_without_bound(model: Path) -> None:
    wrong = expected(model)
    wrong["r2"] = np.where(wrong["r2"] == wrong["r2"].max(), np.nan, wrong["r2"])
    check = parity(model, Trial(INPUTS, wrong, 1e9))
    assert (check.passed, check.max_abs, check.max_rel) == (False, UNBOUNDED, UNBOUNDED)


def test_another_output_shape_is_an_error(model: Path) -> None:
    with pytest.raises(VerifyError) as caught:
        parity(model, Trial(INPUTS, {"r2": np.zeros((1, 16, 4, 4), np.float32)}, 1e-3))
    assert caught.value.code == "E521"


def test_names_with_odd_characters_come_through(tmp_path: Path) -> None:
    net = Net()
    net.conv("x", "/a/../b:0 ü", 8, 8)
    path = net.save(tmp_path / "odd näme.onnx", "/a/../b:0 ü")
    trial = Trial(INPUTS, expected(path, "/a/../b:0 ü"), 1e-4)
    check = write_ir(path, tmp_path / "ödd.xml", trial=trial)
    assert check is not None and check.passed


def test_what_openvino_refuses_is_a_typed_error_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(OutputError, match="cannot convert") as caught:
        write_ir(path, tmp_path / "m.xml")
    assert "reading the model" in caught.value.where
    assert [p.name for p in tmp_path.iterdir()] == ["broken.onnx"]


def test_inputs_that_do_not_fit_are_a_typed_error(model: Path) -> None:
    with pytest.raises(VerifyError) as caught:
        parity(model, Trial({"x": np.ones((1, 3, 8, 8), np.float32)}, expected(model), 1e-3))
    assert caught.value.code == "E520"


@pytest.mark.parametrize(
    ("death", "kind", "code"),
    [
        ("import os; os.abort()", OutputError, "E720"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", OutputError, "E720"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", ResourceError, "E811"),
        ("import sys; sys.exit(3)", OutputError, "E720"),
        ("import time; time.sleep(60)", ResourceError, "E810"),
    ],
    ids=["abort", "segfault", "killed", "exit", "hang"],
)
def test_the_death_of_the_child_is_a_typed_error(
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    death: str,
    kind: type[PrunecvtError],
    code: str,
) -> None:
    monkeypatch.setattr(openvino_ir, "_BOOT", death)
    (tmp_path / "m.xml").write_text("old")
    with pytest.raises(kind) as caught:
        write_ir(model, tmp_path / "m.xml", timeout=2.0 if "sleep" in death else 60.0)
    assert caught.value.code == code
    assert (tmp_path / "m.xml").read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.xml", "model.onnx"]


def test_the_child_loads_neither_telemetry_nor_torch(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bait = tmp_path / "bait"
    bait.mkdir()
    for name in ("torch", "openvino_telemetry"):
        (bait / f"{name}.py").write_text(f"open({str(tmp_path / name)!r}, 'w').close()")
    monkeypatch.syspath_prepend(str(bait))
    write_ir(model, tmp_path / "m.xml")
    assert not (tmp_path / "torch").exists()
    assert not (tmp_path / "openvino_telemetry").exists()


def test_the_child_imports_nothing_from_the_folder_it_is_started_in(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('imported from the working folder')")
    monkeypatch.chdir(tmp_path)
    write_ir(model, tmp_path / "m.xml")
    assert (tmp_path / "m.xml").exists()
