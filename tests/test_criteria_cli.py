"""Criteria on the command line: what is listed, and what data and images do for them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import prunecvt
from command_line import RESNET, SAMPLES, Call
from image_models import folder_of
from prunecvt_passes.criteria.table import CRITERIA

CALIB = SAMPLES / "digits_calib.npz"
FEW = ("--calib-count", "64")
IMAGES = ("--resize", "36", "--crop", "32", "--scale", "255", "--mean", "0.5", "--std", "0.5")
FORMS = ("--layout", "NCHW", "--color", "grey")


@pytest.mark.parametrize("command", ["slim", "plan", "inspect"])
def test_help_lists_every_criterion(command: str, call: Call) -> None:
    text = " ".join(call(command, "--help").stdout.replace("│", " ").split())
    listed = text.split("channels are scored: ")[1].split(". ")[0]
    named = listed.replace("; with --calib or --noise also", ",").split(", ")
    assert sorted(named) == sorted(["auto", *CRITERIA])


@pytest.mark.parametrize("name", ["auto", "apoz", "thinet", "wanda"])
def test_inspect_shows_scores_of_data(name: str, call: Call) -> None:
    done = call("inspect", RESNET, "--criterion", name, "--calib", CALIB, *FEW, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["criterion"] == ("obs" if name == "auto" else name)
    assert all(group["score"]["max"] > group["score"]["min"] for group in document["groups"])


@pytest.mark.parametrize("name", [name for name, entry in CRITERIA.items() if entry.needs_data])
def test_inspect_says_which_criteria_need_data(name: str, call: Call) -> None:
    done = call("inspect", RESNET, "--criterion", name)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error[E211]: criterion '{name}' needs calibration data")


def test_apoz_names_the_layer_that_has_no_zeros(call: Call) -> None:
    model = SAMPLES / "digits_unet.onnx"
    done = call("inspect", model, "--criterion", "apoz", "--calib", CALIB, *FEW)
    assert done.returncode == 2
    assert "E211" in done.stderr and "ConvTranspose '/up.0/ConvTranspose'" in done.stderr


@pytest.mark.parametrize("command", ["plan", "inspect"])
def test_images_are_read_as_the_flags_say(command: str, tmp_path: Path, call: Call) -> None:
    folder = folder_of(tmp_path / "images", [(40, 44)] * 70, channels=1)
    count, criterion = ("--calib-count", "64"), ("--criterion", "mean-activation")
    flags = (*criterion, "--calib", folder, *count, *IMAGES, *FORMS, "--json")
    out = ("-o", tmp_path / "plan.json") if command == "plan" else ()
    done = call(command, RESNET, *flags, *out)
    assert done.returncode == 0, done.stderr
    options = {
        **{"criterion": "mean-activation", "calib": folder, "calib_count": 64, "resize": 36},
        **{"crop": 32, "scale": 255.0, "mean": 0.5, "std": 0.5, "layout": "NCHW", "color": "grey"},
    }
    if command == "plan":
        assert done.stdout == prunecvt.plan(RESNET, **options).plan.to_json()
        assert done.stdout != prunecvt.plan(RESNET, **{**options, "mean": 0.0}).plan.to_json()
        return
    found = prunecvt.inspect(RESNET, **options)
    shown = [group["score"] for group in json.loads(done.stdout)["groups"]]
    assert shown == [group.model_dump()["score"] for group in found.groups]
