"""Calibration data of every kind gives the same batches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import prunecvt
from command_line import RESNET, SAMPLES
from image_models import folder_of, image_model
from prunecvt.calibration.preprocessing import Preprocessing
from prunecvt.calibration.source import Calibration, calibration_feeds, data_of
from prunecvt_passes.model import Model

DIGITS = np.load(SAMPLES / "digits_test.npz")["input"][:40]


def two_inputs() -> Model:
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    net (float[N,2] a, float[N,3] b) => (float[N,5] y) { y = Concat <axis = 1> (a, b) }
    """
    return Model.take(onnx.parser.parse_model(text), "two.onnx")


def read(model: Model, value: Any, count: int | None = None) -> Any:
    data = data_of(value)
    assert data is not None
    feeds = calibration_feeds(model, Calibration(data), count)
    return {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}


def code_of(model: Model, value: Any) -> str:
    with pytest.raises(prunecvt.UsageError) as caught:
        read(model, value)
    return caught.value.code


def samples_of() -> Iterator[Any]:
    yield from DIGITS


@pytest.mark.parametrize(
    "source",
    [
        DIGITS,
        {"x": DIGITS},
        {"other": DIGITS},
        list(DIGITS),
        samples_of,
        samples_of(),
        [DIGITS[:7], DIGITS[7:]],
        [{"x": sample} for sample in DIGITS],
        lambda: {"x": DIGITS},
        lambda: DIGITS,
    ],
    ids=[
        *("array", "dict", "dict-other-name", "list", "callable", "generator", "batches"),
        *("dicts", "callable-dict", "callable-array"),
    ],
)
def test_python_sources_give_the_samples(source: Any) -> None:
    found = read(image_model("N,1,32,32"), source)
    assert np.array_equal(found["x"], DIGITS)


def test_a_generator_is_read_once_and_kept() -> None:
    model = image_model("N,1,32,32")
    data = data_of(samples_of())
    assert data is not None
    first = calibration_feeds(model, Calibration(data), 5)
    again = calibration_feeds(model, Calibration(data), 8)
    assert np.array_equal(first[0]["x"], DIGITS[:5])
    assert np.array_equal(again[0]["x"], DIGITS[:8])


def test_endless_sources_are_read_as_far_as_asked() -> None:
    def endless() -> Iterator[Any]:
        while True:
            yield DIGITS[0]

    assert len(read(image_model("N,1,32,32"), endless, 10)["x"]) == 10


def test_several_inputs() -> None:
    a, b = np.ones((4, 2), np.float32), np.zeros((4, 3), np.float32)
    samples = [{"a": a[k], "b": b[k]} for k in range(4)]
    assert read(two_inputs(), samples)["b"].shape == (4, 3)
    assert read(two_inputs(), {"a": a, "b": b, "more": b})["a"].shape == (4, 2)
    assert code_of(two_inputs(), {"a": a}) == "E231"
    assert code_of(two_inputs(), [{"a": a[0]}]) == "E231"
    assert code_of(two_inputs(), [a[0]]) == "E232"


def test_sources_that_fail() -> None:
    def failing() -> Iterator[Any]:
        yield DIGITS[0]
        raise RuntimeError("no more files")

    model = image_model("N,1,32,32")
    with pytest.raises(prunecvt.UsageError, match="no more files"):
        read(model, failing)
    assert code_of(model, []) == "E230"
    assert code_of(model, [(DIGITS[0], 3)]) == "E232"
    assert code_of(model, [DIGITS[0, 0, 0]]) == "E232"
    assert code_of(model, [DIGITS[0], DIGITS[0][:, :3]]) == "E232"
    assert code_of(model, lambda: 3) == "E230"
    with pytest.raises(prunecvt.UsageError, match="E201"):
        data_of(3)


def test_rows_are_spread(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", DIGITS)
    found = read(image_model("N,1,32,32"), tmp_path / "x.npy", 4)["x"]
    assert np.array_equal(found, DIGITS[[0, 10, 20, 30]])


def test_the_last_batch_is_shorter() -> None:
    feeds = calibration_feeds(image_model("N,1,32,32"), Calibration({"x": DIGITS}))
    assert [len(feed["x"]) for feed in feeds] == [32, 8]
    fixed = calibration_feeds(image_model("16,1,32,32"), Calibration({"x": DIGITS}))
    assert [len(feed["x"]) for feed in fixed] == [16, 16]


def settings(folder: Path, text: str) -> Path:
    path = folder / "calib.toml"
    path.write_text(text)
    return path


def test_a_settings_file_says_it_all(tmp_path: Path) -> None:
    folder_of(tmp_path / "photos", [(50, 60)] * 6)
    text = """
    path = "photos"
    count = 4
    resize = 40
    crop = [32, 32]
    mean = [0.5, 0.4, 0.3]
    std = 0.25
    scale = 255
    layout = "NCHW"
    color = "bgr"
    """
    model, file = image_model("N,3,32,32"), settings(tmp_path, text)
    stated = {"resize": 40, "crop": 32, "mean": "0.5,0.4,0.3", "std": "0.25", "color": "bgr"}
    by_flags = Calibration(tmp_path / "photos", Preprocessing.of(stated), 4)
    expected = calibration_feeds(model, by_flags)[0]["x"]
    feeds = calibration_feeds(model, Calibration(file))
    assert np.array_equal(feeds[0]["x"], expected)
    assert feeds.notes == ()
    flagged = Calibration(file, Preprocessing.of({"color": "rgb"}), 2)
    assert np.array_equal(calibration_feeds(model, flagged)[0]["x"].shape, (2, 3, 32, 32))
    assert "rgb" in calibration_feeds(model, flagged).preprocessing


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('path = "photos"\nsize = 3', "E236"),
        ("resize = 3", "E236"),
        ('path = "photos"\ncount = 0', "E236"),
        ('path = "photos"\nresize = "big"', "E236"),
        ('path = "other.toml"', "E236"),
        ("path = ", "E230"),
        ('path = "missing.npz"', "E230"),
    ],
)
def test_settings_that_cannot_be_read(tmp_path: Path, text: str, code: str) -> None:
    assert code_of(image_model("N,3,32,32"), settings(tmp_path, text)) == code


def test_missing_paths() -> None:
    assert code_of(image_model("N,3,32,32"), "nowhere/calib.toml") == "E230"
    assert code_of(image_model("N,3,32,32"), "nowhere") == "E230"


def test_steps_beside_arrays_are_named() -> None:
    stated = Preprocessing.of({"resize": 40})
    feeds = calibration_feeds(image_model("N,1,32,32"), Calibration({"x": DIGITS}, stated))
    assert "not applied" in feeds.notes[0]


def test_images_need_one_input(tmp_path: Path) -> None:
    assert code_of(two_inputs(), folder_of(tmp_path, [(8, 8)])) == "E231"


def test_slimming_on_python_samples_reports_intervals() -> None:
    options: dict[str, Any] = {"ratio": 0.1, "calib": samples_of, "calib_count": 24}
    first, again = (prunecvt.slim(RESNET, **options).report for _ in range(2))
    assert first.verify is not None
    fidelity = first.verify.fidelity
    assert fidelity is not None
    assert again.verify is not None
    assert again.verify.fidelity == fidelity
    assert fidelity.samples == 24
    assert fidelity.cosine_ci95 is not None
    assert fidelity.cosine_ci95[0] < fidelity.cosine < fidelity.cosine_ci95[1]
    assert fidelity.sqnr_db is not None
    assert fidelity.sqnr_db_ci95 is not None
    assert fidelity.sqnr_db_ci95[0] < fidelity.sqnr_db < fidelity.sqnr_db_ci95[1]
    assert first.settings["calib"] == "samples from Python"
    planned = prunecvt.plan(RESNET, **options)
    assert prunecvt.apply(planned).report.verify == first.verify


def test_options_are_checked_early() -> None:
    for options in ({"calib_count": 0}, {"calib_count": "many"}, {"calib": 3}):
        with pytest.raises(prunecvt.UsageError, match="E201"):
            prunecvt.slim(RESNET, **options)
    with pytest.raises(prunecvt.UsageError, match="E236"):
        prunecvt.slim(RESNET, resize="x")
