"""``prunecvt trim`` as users run it, and ``prunecvt.trim``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

import prunecvt
from command_line import QUICK, RESNET, SAMPLES, Call
from models import WIDTH, Net
from prunecvt.report.files import RENDERERS
from prunecvt.report.schema import Report
from prunecvt.report.trim_rows import trim_lines
from prunecvt.runtimes.latency import Contender
from trim_cases import weight_name, zero

CALIB = SAMPLES / "digits_calib.npz"


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample net as training with group sparsity leaves it: gammas and kernel borders of 0."""
    model = onnx.load(RESNET)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    draw = np.random.default_rng(0)
    for number, node in enumerate(model.graph.node):
        name = node.input[1] if len(node.input) > 1 else ""
        values = numpy_helper.to_array(weights[name]).copy() if name in weights else np.zeros(0)
        if node.op_type == "BatchNormalization":
            values[draw.permutation(values.size)[: values.size // 2]] = 0
        elif node.op_type == "Conv" and number % 3 == 0:
            values[:, :, 0] = values[:, :, -1] = 0
        else:
            continue
        weights[name].CopyFrom(numpy_helper.from_array(values, name))
    path = tmp_path_factory.mktemp("sparse") / "sparse.onnx"
    onnx.save(model, path)
    return path


def outputs(path: Path) -> Any:
    session = onnxruntime.InferenceSession(str(path))
    return session.run(None, {"input": np.load(CALIB)["input"][:32]})[0]


def test_a_model_with_zero_groups_is_trimmed_exactly(
    sparse: Path, tmp_path: Path, call: Call
) -> None:
    out = tmp_path / "t.onnx"
    done = call("trim", sparse, "-o", out, "--no-bench", "--report", tmp_path / "r.md")
    assert done.returncode == 0, done.stderr
    written = {path.name for path in tmp_path.iterdir()}
    reports = {"t.report.json", "t.report.html", "r.md"}
    assert written == {"t.onnx", "t.xml", "t.bin", *reports}
    assert "kernel of" in done.stdout
    before, after = outputs(sparse), outputs(out)
    assert np.abs(before - after).max() / np.abs(before).max() < 1e-5
    text = (tmp_path / "t.report.json").read_text()
    report = Report.model_validate_json(text)
    jsonschema.validate(json.loads(text), Report.model_json_schema())
    assert report.totals.params.ratio < 0.85
    assert report.verify is not None
    assert report.verify.masked_dense is None
    assert report.verify.exact is not None
    assert (report.verify.exact.passed, report.verify.exact.tolerance) == (True, 1e-5)
    assert report.trim is not None
    assert any(row.after == [1, 3] for row in report.trim.kernels)
    assert report.settings["tolerance"] == 0.0
    assert "ratio" not in report.settings
    assert "equal after the clean-up" in (tmp_path / "t.report.html").read_text()
    for ending, render in RENDERERS.items():
        assert ('"kernels"' if ending == ".json" else "kernel of") in render(report)
    assert call("verify", sparse, out, "--no-ir").returncode == 0


def test_the_same_file_twice(sparse: Path, tmp_path: Path) -> None:
    files = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for file in files:
        prunecvt.trim(sparse, file, ir=False, bench=False)
    assert files[0].read_bytes() == files[1].read_bytes()
    again = prunecvt.trim(files[0]).report
    assert again.status == "nothing-to-prune"


def test_rounding_is_a_choice(sparse: Path) -> None:
    wide, narrow = (prunecvt.trim(sparse, round_to=step).report.totals for step in ("auto", 1))
    assert narrow.params.after < wide.params.after


def test_a_dense_model_has_nothing_to_trim(call: Call, tmp_path: Path) -> None:
    done = call("trim", RESNET, "-o", tmp_path / "t.onnx", *QUICK, "--json")
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert report["status"] == "nothing-to-prune"
    assert report["totals"]["macs"]["before"] == report["totals"]["macs"]["after"]


def test_blocks_go_cheapest_first() -> None:
    result = prunecvt.trim(RESNET, blocks=1, calib=CALIB, calib_count=256)
    trim = result.report.trim
    assert trim is not None
    (gone,) = [row for row in trim.blocks if row.dropped]
    assert gone.error / gone.cost == min(row.error / row.cost for row in trim.blocks)
    assert len(trim.blocks) > 2
    totals = result.report.totals
    assert totals.macs.before - totals.macs.after == pytest.approx(gone.cost, rel=1e-3)
    assert any("changes the outputs" in note for note in result.report.warnings)


def test_blocks_go_until_a_share_is_left() -> None:
    options = {"calib": CALIB, "calib_count": 256}
    assert prunecvt.trim(RESNET, macs=0.8, **options).report.totals.macs.ratio <= 0.8
    with pytest.raises(prunecvt.UsageError, match="E217"):
        prunecvt.trim(RESNET, macs=0.01, **options)
    with pytest.raises(prunecvt.UsageError, match="E241"):
        prunecvt.trim(RESNET, blocks=99, **options)


def test_blocks_are_priced_by_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each variant is timed; a block that saves nothing has a cost of next to nothing."""
    options = {"calib": CALIB, "calib_count": 128, "price": "latency"}
    saved: dict[str, float] = {}

    class Run:
        def __init__(self, contenders: list[Contender]) -> None:
            self.names = [each.name for each in contenders]
            self.macs = [cost_of(each.onnx) for each in contenders]
            saved.update({n: 0.5 * k for k, n in enumerate(self.names) if k})

        def judged_ms(self, place: int) -> list[float]:
            assert (self.macs[place] < self.macs[0]) == (place > 0)
            return [2.0 - saved.get(self.names[place], 0.0)] * 3

    monkeypatch.setattr("prunecvt.trimming.race", lambda contenders, *_, **__: Run(contenders))
    trim = prunecvt.trim(RESNET, blocks=1, **options).report.trim
    assert trim is not None
    assert {row.unit for row in trim.blocks} == {"ms"}
    assert [row.cost for row in trim.blocks] == [saved[row.tensor] for row in trim.blocks]
    assert len({row.cost for row in trim.blocks}) == len(trim.blocks)
    monkeypatch.setattr(Run, "judged_ms", lambda *_: [2.0])
    trim = prunecvt.trim(RESNET, blocks=1, **options).report.trim
    assert trim is not None
    assert {row.cost for row in trim.blocks} == {0.002}


def cost_of(path: Path) -> int:
    """Weights of a model on disk."""
    return sum(numpy_helper.to_array(tensor).size for tensor in onnx.load(path).graph.initializer)


def test_blocks_are_timed() -> None:
    options = {"calib": CALIB, "calib_count": 128, "price": "latency"}
    trim = prunecvt.trim(RESNET, blocks=1, **options).report.trim
    assert trim is not None
    assert 0.0 < sum(row.cost for row in trim.blocks) < 1e3
    assert len({row.cost for row in trim.blocks}) > 1  # a floor alone would be one number


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_a_mask_says_that_it_makes_nothing_faster(scope: str, tmp_path: Path, call: Call) -> None:
    done = call(
        *("trim", RESNET, "-o", tmp_path / "t.onnx", *QUICK),
        *("--sparsity", "0.8", "--sparsity-scope", scope),
    )
    assert done.returncode == 0, done.stderr
    assert "no dense kernel faster" in done.stdout
    report = Report.model_validate_json((tmp_path / "t.report.json").read_text())
    assert report.trim is not None
    assert report.trim.mask is not None
    assert 1 - report.trim.mask.nonzero / report.trim.mask.weights == pytest.approx(0.8, abs=1e-3)
    assert report.trim.mask.compressed_after < 0.5 * report.trim.mask.compressed_before
    assert report.verify is not None
    assert report.verify.exact is not None


def test_a_tolerance_takes_what_is_nearly_zero(sparse: Path) -> None:
    model = onnx.load(sparse)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32:
            moved = np.where(values == 0, np.float32(1e-7), values).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(moved, tensor.name))
    assert prunecvt.trim(model).report.status == "nothing-to-prune"
    reports = [prunecvt.trim(each, tolerance=t).report for each, t in ((model, 1e-5), (sparse, 0))]
    assert reports[0].totals.macs.after <= reports[1].totals.macs.after * 1.05


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        (("--blocks", "1"), "E240"),
        (("--blocks", "1", "--macs", "0.8"), "E207"),
        (("--price", "latency"), "E207"),
        (("--price", "grams", "--blocks", "1"), "E201"),
        (("--sparsity", "1"), "E212"),
        (("--sparsity-scope", "none"), "E201"),
        (("--sparsity-scope", "global"), "E207"),
        (("--round-to", "0"), "E212"),
        (("--macs", "0"), "E212"),
        (("--blocks", "0"), "E212"),
        (("--tolerance", "-1"), "E212"),
        (("--keep", "nothing_is_called_so"), "E213"),
        (("-o", "t.txt"), "E205"),
    ],
)
def test_refusals(flags: tuple[str, ...], code: str, call: Call, tmp_path: Path) -> None:
    out = () if "-o" in flags else ("-o", tmp_path / "t.onnx")
    done = call("trim", RESNET, *out, *QUICK, *flags)
    assert (done.returncode, code in done.stderr) == (2, True), done.stderr
    assert not list(tmp_path.iterdir())


def test_options_of_slim_that_trim_does_not_look_at_are_refused() -> None:
    with pytest.raises(prunecvt.UsageError, match="E201"):
        prunecvt.trim(RESNET, ratio=0.4)


def test_a_clean_up_that_changes_outputs_is_caught(
    sparse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prunecvt_passes.trim import sweep

    monkeypatch.setattr(sweep, "add_bias", lambda *_: None)
    monkeypatch.setattr(sweep, "add_merged", lambda *_: None)
    with pytest.raises(prunecvt.VerifyError, match="E507"):
        prunecvt.trim(sparse, round_to=1)
    assert prunecvt.trim(sparse, round_to=1, verify=False).report.verify is None


def test_gates_look_at_a_trimmed_model(sparse: Path, tmp_path: Path, call: Call) -> None:
    out = ("-o", tmp_path / "t.onnx", *QUICK)
    assert call("trim", sparse, *out, "--fail-if", "macs_ratio > 0.1").returncode == 6


def test_what_a_tolerance_sets_to_zero_is_a_change() -> None:
    net = Net()
    x = net.first()
    name = weight_name(net, "first")
    values = net.weights[name].copy()
    values[3] *= 1e-2
    net.weights[name] = values
    net.last(net.add("Relu", x))
    report = prunecvt.trim(net.proto(), tolerance=0.05).report  # rounded up: no channel goes
    assert report.totals.params.before == report.totals.params.after
    assert report.status == "ok"
    assert report.trim is not None
    assert report.trim.silenced == 1
    assert any("set to zero" in line for line in trim_lines(report.trim))
    assert prunecvt.trim(net.proto()).report.status == "nothing-to-prune"


def test_a_layer_that_goes_with_its_branch_can_be_named() -> None:
    net = Net()
    x = net.add("Relu", net.first())
    dead = net.add("Mul", net.conv(x, WIDTH, WIDTH, 3, name="gone"), np.float32(0))
    net.last(net.add("Add", x, dead))
    report = prunecvt.trim(net.proto(), keep=("gone",)).report
    assert report.trim is not None
    assert len(report.trim.branches) == 1


def test_a_layer_is_kept_by_its_name_before_its_normalisation_is_folded() -> None:
    net = Net()
    x = net.norm(net.first(), WIDTH)
    for place in (1, 2):
        zero(net, weight_name(net, x, place), [1, 4])
    net.last(net.add("Relu", x))
    free, kept = (
        prunecvt.trim(net.proto(), round_to=1, keep=keep).report.totals.channels
        for keep in ((), ("first",))
    )
    assert free.before - free.after == 2
    assert kept.before == kept.after
