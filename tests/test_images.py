"""Images become what the model reads: every step against a plain numpy and Pillow one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import prunecvt
from image_models import folder_of, image_model, picture
from prunecvt.calibration.preprocessing import Preprocessing
from prunecvt.calibration.source import Calibration, calibration_feeds

IMAGENET: dict[str, Any] = {
    "resize": "40",
    "crop": "32",
    "mean": "0.485,0.456,0.406",
    "std": "0.229,0.224,0.225",
}


def fed(shape: str, folder: Path, dtype: str = "float", **stated: Any) -> Any:
    source = Calibration(folder, Preprocessing.of(stated))
    feeds = calibration_feeds(image_model(shape, dtype), source)
    return np.concatenate([feed["x"] for feed in feeds])


def refused(code: str, shape: str, folder: Path, dtype: str = "float", **stated: Any) -> Any:
    with pytest.raises(prunecvt.UsageError) as caught:
        fed(shape, folder, dtype, **stated)
    assert caught.value.code == code
    assert caught.value.help
    return caught.value


def imagenet_reference(path: Path) -> Any:
    image = Image.open(path).convert("RGB")
    width, height = image.size
    if width < height:
        size = (40, int(40 * height / width))
    else:
        size = (int(40 * width / height), 40)
    image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = round((size[0] - 32) / 2), round((size[1] - 32) / 2)
    pixels = np.asarray(image)[top : top + 32, left : left + 32].astype(np.float32) / 255
    mean = np.array([0.485, 0.456, 0.406], np.float32)
    return ((pixels - mean) / np.array([0.229, 0.224, 0.225], np.float32)).transpose(2, 0, 1)


@pytest.mark.parametrize("size", [(50, 60), (77, 41), (40, 40), (33, 200)])
def test_the_usual_steps_equal_a_plain_reference(tmp_path: Path, size: tuple[int, int]) -> None:
    folder = folder_of(tmp_path, [size, size])
    found = fed("N,3,32,32", folder, **IMAGENET)
    expected = np.stack([imagenet_reference(path) for path in sorted(folder.iterdir())])
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_layout_follows_the_input(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [(32, 32)] * 3)
    first, last = fed("N,3,32,32", folder), fed("N,32,32,3", folder)
    assert np.array_equal(first.transpose(0, 2, 3, 1), last)
    stated = fed("N,C,H,W", folder, layout="nhwc", crop="32x32")
    assert np.array_equal(stated, last)
    refused("E237", "N,C,32,32", folder)


def test_channels_follow_the_input(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [(32, 32)])
    image = Image.open(folder / "000.png")
    grey = np.asarray(image.convert("L"), np.float32)[None, None] / 255
    assert np.array_equal(fed("N,1,32,32", folder), grey)
    rgb, bgr = fed("N,3,32,32", folder), fed("N,3,32,32", folder, color="bgr")
    assert np.array_equal(rgb[:, ::-1], bgr)
    refused("E237", "N,3,32,32", folder, color="grey")
    refused("E237", "N,4,32,32", folder, layout="NCHW")


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "LA"])
def test_other_modes_become_colour(tmp_path: Path, mode: str) -> None:
    ending = "jpg" if mode == "CMYK" else "png"
    picture(32, 32).convert(mode).save(tmp_path / f"a.{ending}")
    expected = np.asarray(Image.open(tmp_path / f"a.{ending}").convert("RGB"), np.float32) / 255
    assert np.array_equal(fed("N,3,32,32", tmp_path)[0], expected.transpose(2, 0, 1))


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (32, 32), np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    expected = (deep >> 8).astype(np.float32) / 255
    assert np.array_equal(fed("N,1,32,32", tmp_path)[0, 0], expected)


@pytest.mark.parametrize("size", [(20, 50), (90, 41), (64, 64)])
def test_nothing_stated_covers_the_input(tmp_path: Path, size: tuple[int, int]) -> None:
    folder = folder_of(tmp_path, [size])
    source = Calibration(folder)
    feeds = calibration_feeds(image_model("N,3,24,32"), source)
    assert feeds[0]["x"].shape == (1, 3, 24, 32)
    assert feeds[0]["x"].min() >= 0
    assert feeds[0]["x"].max() <= 1
    (note,) = feeds.notes
    for word in ("24x32", "255", "no mean and std", "--resize"):
        assert word in note
    assert "crop 24x32" in feeds.preprocessing


def test_what_is_stated_is_not_assumed(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [(50, 50)])
    stated = Preprocessing.of({**IMAGENET, "scale": 255})
    feeds = calibration_feeds(image_model("N,3,32,32"), Calibration(folder, stated))
    assert feeds.notes == ()
    assert feeds.preprocessing == (
        "resize 40, crop 32x32, divide by 255, mean 0.485,0.456,0.406, std 0.229,0.224,0.225, "
        "rgb, NCHW"
    )


def test_turned_images_are_put_upright(tmp_path: Path) -> None:
    image = picture(32, 32)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    image.save(tmp_path / "a.png", exif=exif)
    expected = np.asarray(image.rotate(-90), np.float32) / 255
    assert np.array_equal(fed("N,3,32,32", tmp_path)[0], expected.transpose(2, 0, 1))


def test_open_sizes_need_a_size(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [(50, 70), (60, 60)])
    assert "--resize" in refused("E237", "N,3,H,W", folder).help
    assert fed("N,3,H,W", folder, crop="48").shape == (2, 3, 48, 48)
    assert fed("N,3,H,W", folder, resize="40").shape == (2, 3, 40, 40)
    assert fed("N,3,H,W", folder, resize="40x56").shape == (2, 3, 40, 56)
    assert "50x70" in str(refused("E237", "N,3,H,W", folder, crop="64"))
    refused("E237", "N,3,32,32", folder, crop="48")


def test_uint8_inputs_take_pixels(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [(32, 32)])
    found = fed("N,32,32,3", folder, "uint8")
    assert np.array_equal(found[0], np.asarray(Image.open(folder / "000.png")))
    refused("E237", "N,32,32,3", folder, "uint8", mean="0.5")
    refused("E237", "N,3,32,32", folder, "int64")


def test_half_precision_inputs(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [(32, 32)])
    half = fed("N,3,32,32", folder, "float16")
    assert half.dtype == np.float16
    assert np.array_equal(half, fed("N,3,32,32", folder).astype(np.float16))


def test_damaged_images_are_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [(32, 32)] * 8)
    for k in range(5):
        path = folder / f"{k:03d}.png"
        path.write_bytes(path.read_bytes()[: 300 * k])
    error = refused("E234", "N,3,32,32", folder)
    assert "000.png" in error.where
    assert "002.png" in error.where
    assert error.where.endswith("and 2 others")


def test_huge_images_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of(tmp_path, [(32, 32), (60, 60)])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    assert "001.png" in refused("E235", "N,3,32,32", folder).where


def test_pillow_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of(tmp_path, [(32, 32)])
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert refused("E233", "N,3,32,32", folder).help == "pip install prunecvt[images]"


def test_every_ending_in_every_folder_sorted_and_spread(tmp_path: Path) -> None:
    names = ["b/z.JPG", "a.png", "b/c/d.webp", "c.jpeg", "d.bmp"]
    for k, name in enumerate(names):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 40 * k).save(tmp_path / name)
    (tmp_path / "._a.png").write_bytes(b"no image")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "a.png").write_bytes(b"no image")
    (tmp_path / "notes.txt").write_text("no image")
    found = fed("N,1,8,8", tmp_path)[:, 0, 0, 0] * 255
    assert np.allclose(found, [40, 80, 0, 120, 160], atol=2)  # a, b/c/d, b/z, c, d
    few = calibration_feeds(image_model("N,1,8,8"), Calibration(tmp_path), 2)
    assert np.allclose(few[0]["x"][:, 0, 0, 0] * 255, [40, 0], atol=2)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    refused("E230", "N,3,32,32", tmp_path)


def test_a_fixed_batch_takes_whole_batches(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [(32, 32)] * 5)
    assert fed("2,3,32,32", folder).shape == (4, 3, 32, 32)
    refused("E232", "8,3,32,32", folder)


def test_batches_are_the_same_each_time_and_held_as_bytes(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [(50, 60)] * 40)
    feeds = calibration_feeds(image_model("N,3,32,32"), Calibration(folder))
    assert [len(feed["x"]) for feed in feeds] == [32, 8]
    before = feeds[1]["x"]
    for path in folder.iterdir():
        path.unlink()
    assert np.array_equal(feeds[-1]["x"], before)
    assert len(feeds[:5]) == 2
    with pytest.raises(IndexError):
        feeds[2]


@pytest.mark.parametrize(
    "stated",
    [
        {"resize": "big"},
        {"resize": "1x2x3"},
        {"crop": "0"},
        {"mean": "a,b"},
        {"mean": ""},
        {"std": "0"},
        {"scale": 0},
        {"scale": float("nan")},
        {"mean": "123.7,116.3,103.5"},
        {"layout": "HWC"},
        {"color": "pink"},
    ],
    ids=str,
)
def test_steps_that_cannot_be_read(stated: dict[str, Any]) -> None:
    with pytest.raises(prunecvt.UsageError, match="E236"):
        Preprocessing.of(stated)


def test_means_have_to_fit_the_channels(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [(32, 32)])
    refused("E236", "N,1,32,32", folder, mean="0.1,0.2,0.3")
    one, three = (fed("N,3,32,32", folder, mean=text) for text in ("0.1", "0.1,0.1,0.1"))
    assert np.array_equal(one, three)
    raw = fed("N,3,32,32", folder, mean="123.7,116.3,103.5", scale=1)
    assert raw.max() > 100
