"""Accuracy before and after, of every form of labelled data, with right intervals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image
from scipy.stats import binomtest

import prunecvt
from command_line import QUICK, RESNET, SAMPLES, Call
from prunecvt.calibration.source import Calibration, data_of
from prunecvt.evaluation.accuracy import EvaluationRequest, measure_accuracy
from prunecvt.evaluation.intervals import bootstrap, paired_difference, wilson
from prunecvt.evaluation.labels import labelled_feeds
from prunecvt.report.schema import Accuracy
from prunecvt_passes.model import Model
from prunecvt_passes.normalise import Source

STORED = np.load(SAMPLES / "digits_test.npz")
INPUT, LABELS = STORED["input"], STORED["labels"]


def scores_model(shape: str = "N,7") -> Model:
    text = f"""
    <ir_version: 8, opset_import: ["" : 17]>
    net (float[{shape}] x) => (float[{shape}] y) {{ y = Identity (x) }}
    """
    return Model.take(onnx.parser.parse_model(text), "scores.onnx")


def negated() -> Model:
    model = scores_model().copy()
    model.proto.graph.node[0].op_type = "Neg"
    return model


def judged(value: Any, before: Model | None = None, after: Model | None = None) -> Accuracy:
    data = data_of(value)
    assert data is not None
    first = before or scores_model()
    request = EvaluationRequest(Calibration(data))
    return measure_accuracy(Source(first, {}), after or first, request)


def code_of(value: Any, before: Model | None = None) -> str:
    with pytest.raises(prunecvt.UsageError) as caught:
        judged(value, before)
    return caught.value.code


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The held-out digits as images, in a folder per class."""
    folder = tmp_path_factory.mktemp("digits")
    for k, (sample, label) in enumerate(zip(INPUT, LABELS, strict=True)):
        (folder / str(label)).mkdir(exist_ok=True)
        pixels = np.rint(sample[0] * 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / str(label) / f"{k:04d}.png")
    return folder


def test_images_and_arrays_give_the_same_accuracy_on_the_command_line(
    pictures: Path, tmp_path: Path, call: Call
) -> None:
    steps = ("--resize", "32", "--mean", "0", "--std", "1", "--scale", "255")
    plain = ("--recover", "none", "--criterion", "share")
    flags = ("--ratio", "0.2", "--json", *plain, *QUICK)
    found = []
    for name, source in (("images", pictures), ("arrays", SAMPLES / "digits_test.npz")):
        out = tmp_path / f"{name}.onnx"
        more = (*steps, "--calib", pictures) if name == "images" else ()
        done = call("slim", RESNET, "-o", out, "--eval", source, *flags, *more)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
        page = out.with_suffix(".report.html").read_text()
        assert "Top-1 accuracy" in page
    images, arrays = (each["accuracy"] for each in found)
    assert images["samples"] == arrays["samples"] == 797
    assert images["top1"] == arrays["top1"]
    assert images["top5"] == arrays["top5"]
    assert round(797 * images["top1"]["before"]) == 796
    low, high = images["top1"]["change_ci95"]
    assert low < images["top1"]["after"] - images["top1"]["before"] < high < 0
    assert images["preprocessing"] == (
        "resize 32, crop 32x32, divide by 255, mean 0, std 1, grey, NCHW"
    )
    assert found[0]["verify"]["fidelity"]["preprocessing"] == images["preprocessing"]


def test_the_terminal_and_markdown_show_it(tmp_path: Path, call: Call) -> None:
    data, page = SAMPLES / "digits_test.npz", tmp_path / "r.md"
    flags = ("--ratio", "0.2", "--no-verify", "--report", page, *QUICK)
    done = call("slim", RESNET, "-o", tmp_path / "s.onnx", "--eval", data, *flags)
    for text in (done.stdout, page.read_text()):
        assert "797 labelled samples" in text
        assert "top-1 99.87 % ->" in text
        assert "top-5 100.00 % ->" in text


def test_unstated_steps_are_noted(pictures: Path) -> None:
    report = prunecvt.slim(RESNET, ratio=0.1, calib=pictures, calib_count=20).report
    assert any("assumed" in note for note in report.warnings)
    assert report.accuracy is None


def test_ranks_are_counted_by_hand() -> None:
    scores = np.array(
        [
            [9, 1, 2, 3, 4, 5, 6],  # 0 is first, and last when negated
            [1, 9, 2, 3, 4, 5, 6],  # 2 is sixth: only 0 is lower
            [5, 5, 1, 1, 1, 1, 1],  # a tie goes to 0
            [np.nan, 9, 0, 0, 0, 0, 0],  # a NaN is wrong
        ],
        np.float32,
    )
    labels = np.array([0, 2, 1, 1])
    found = judged({"x": scores, "labels": labels}, after=negated())
    assert (found.samples, found.classes) == (4, 7)
    assert (found.top1.before, found.top1.after) == (1 / 4, 0)
    assert found.top5 is not None
    assert (found.top5.before, found.top5.after) == (2 / 4, 1 / 4)
    few = judged({"x": scores[:3, :5], "labels": labels[:3]}, scores_model("N,5"))
    assert few.top5 is None


def test_maps_of_one_pixel_are_scores() -> None:
    scores = np.eye(4, dtype=np.float32)[:, :, None, None]
    found = judged({"x": scores, "labels": np.arange(4)}, scores_model("N,4,1,1"))
    assert found.top1.before == 1


def test_a_model_that_guesses_is_pointed_out() -> None:
    labels = (LABELS + 1) % 10
    report = prunecvt.slim(RESNET, ratio=0.1, eval={"input": INPUT, "labels": labels}).report
    assert any("than by guessing" in note for note in report.warnings)


def test_labels_beside_the_file(tmp_path: Path) -> None:
    scores = np.eye(7, dtype=np.float32)
    np.save(tmp_path / "x.npy", scores)
    assert code_of(tmp_path / "x.npy") == "E238"
    (tmp_path / "labels.csv").write_text("file,label\na,0\nb,1\nc,2\nd,3\ne,4\nf,5\ng,0\n")
    assert judged(tmp_path / "x.npy").top1.before == 6 / 7
    np.save(tmp_path / "labels.npy", np.arange(7))
    assert judged(tmp_path / "x.npy").top1.before == 1


@pytest.mark.parametrize(
    "labels",
    [np.arange(6), np.arange(7.0), np.arange(7) - 1, np.arange(7) + 1, np.zeros((7, 1), int)],
    ids=["too-few", "floats", "negative", "out-of-range", "matrix"],
)
def test_labels_that_do_not_fit(labels: Any) -> None:
    assert code_of({"x": np.eye(7, dtype=np.float32), "labels": labels}) == "E238"


def test_a_model_without_classes_is_refused() -> None:
    data = {"x": np.zeros((2, 3, 4, 4), np.float32), "labels": np.zeros(2, int)}
    assert code_of(data, scores_model("N,3,4,4")) == "E239"


def test_samples_without_labels_are_refused() -> None:
    assert code_of(lambda: iter([np.zeros(7, np.float32)])) == "E238"


def grey_model(batch: str = "N") -> Model:
    return scores_model(f"{batch},1,4,4")


def labels_of(path: Path, batch: str = "N") -> tuple[list[int], list[float]]:
    found = labelled_feeds(grey_model(batch), Calibration(path))
    shades = [float(v) for feed in found.feeds for v in feed["x"][:, 0, 0, 0] * 255]
    return found.labels.tolist(), [round(shade) for shade in shades]


def shaded(folder: Path, names: list[str]) -> Path:
    for k, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), k).save(folder / name)
    return folder


def test_classes_of_folders(tmp_path: Path) -> None:
    words = shaded(tmp_path / "w", ["cat/0.png", "ant/1.png", "cat/deep/2.png", "bee/3.png"])
    (words / "aaa").mkdir()  # a class without images counts
    assert labels_of(words) == ([1, 2, 3, 3], [1, 3, 0, 2])
    numbers = shaded(tmp_path / "n", ["10/0.png", "9/1.png"])
    assert labels_of(numbers) == ([10, 9], [0, 1])
    assert labels_of(shaded(tmp_path / "f", ["0/a.png", "0/b.png", "1/c.png"]), "2") == (
        [0, 0],
        [0, 1],
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.txt", "a b.png 3\nc.png 5\n"),
        ("list.csv", "file,class\na b.png,3\n\nc.png,5\n"),
        ("list.tsv", "a b.png\t3\nc.png\t5\n"),
        ("labels.csv", '"a b.png", 3\n"c.png", 5\n'),
    ],
)
def test_lists_of_images(tmp_path: Path, name: str, text: str) -> None:
    shaded(tmp_path, ["a b.png", "c.png"])
    (tmp_path / name).write_text(text)
    path = tmp_path if name == "labels.csv" else tmp_path / name
    assert labels_of(path) == ([3, 5], [0, 1])
    (tmp_path / name).write_text(text.replace("3", "dog").replace("5", "cat"))
    assert labels_of(path) == ([1, 0], [0, 1])


@pytest.mark.parametrize("text", ["", "a.png\n", "missing.png 3\n", "a.png 3\nmissing.png 3\n"])
def test_lists_that_do_not_fit(tmp_path: Path, text: str) -> None:
    shaded(tmp_path, ["a.png"])
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(prunecvt.UsageError, match="E238"):
        labels_of(tmp_path / "list.txt")


def test_folders_without_classes(tmp_path: Path) -> None:
    shaded(tmp_path, ["a.png"])
    with pytest.raises(prunecvt.UsageError, match="E238"):
        labels_of(tmp_path)
    shaded(tmp_path, ["0/a.png"])
    with pytest.raises(prunecvt.UsageError, match="E238"):
        labels_of(tmp_path)


def test_wilson_is_scipys() -> None:
    for hits, total in ((0, 7), (3, 7), (7, 7), (796, 797)):
        expected = binomtest(hits, total).proportion_ci(method="wilson")
        assert np.allclose(wilson(hits / total, total), (expected.low, expected.high))


def test_paired_difference_is_newcombes() -> None:
    """The worked example (36, 12, 2, 0) of Newcombe (1998), method 10."""
    cells = ((36, True, True), (12, True, False), (2, False, True), (0, False, False))
    first = np.concatenate([np.full(n, a) for n, a, _ in cells])
    second = np.concatenate([np.full(n, b) for n, _, b in cells])
    low, high = paired_difference(second, first)
    assert (round(low, 4), round(high, 4)) == (0.0569, 0.3404)
    same = np.ones(100, bool)
    low, high = paired_difference(same, same)
    assert -0.04 < low < 0 < high < 0.04


def test_paired_difference_covers() -> None:
    draw = np.random.default_rng(0)
    cells = draw.choice(4, (2000, 120), p=[0.8, 0.1, 0.04, 0.06])
    hits = 0
    for row in cells:
        low, high = paired_difference((row == 0) | (row == 1), (row == 0) | (row == 2))
        hits += low <= 0.04 - 0.1 <= high
    assert 0.93 < hits / len(cells) < 0.985


def test_bootstrap_of_a_mean_is_the_normal_one() -> None:
    values = np.random.default_rng(0).standard_normal((400, 1)) + 3
    found = bootstrap(values, lambda sums: sums[:, 0] / 400)
    assert found is not None
    spread = 1.96 * values.std() / 20
    assert np.allclose(found, (values.mean() - spread, values.mean() + spread), atol=0.01)
    assert bootstrap(values, lambda sums: sums[:, 0] / 400) == found
    assert bootstrap(values[:1], lambda sums: sums[:, 0]) is None
