"""What ``tune`` refuses, or notices before hours of work, and that no work is lost."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

torch = pytest.importorskip("torch")

from models import Net  # noqa: E402
from prunecvt import OutputError, UsageError, VerifyError  # noqa: E402
from prunecvt.bridge.tuning import training  # noqa: E402
from prunecvt.bridge.tuning.interrupts import noted_interrupts  # noqa: E402
from prunecvt.bridge.tuning.samples import Samples, parted  # noqa: E402
from tune_cases import CLASSES, SIZE, images, network, row, saved, slimmed, tuned  # noqa: E402


def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    def learn(self: Any, share: float) -> None:
        raise AssertionError("it was trained")

    monkeypatch.setattr(training.Training, "_learn", learn)


def test_what_fails_in_the_end_fails_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    untrained(monkeypatch)
    model = network()
    slim = slimmed(model)
    with pytest.raises(UsageError, match="E230"):
        tuned(model, slim, eval="nothing.npz")
    late = {"x": images(), "labels": np.array([*[0] * 95, CLASSES])}
    with pytest.raises(UsageError, match="E238"):
        tuned(model, slim, eval=late)
    with pytest.raises(VerifyError, match="E511") as caught:
        tuned(model, slim, rtol=1e-15)
    assert "not trained" in caught.value.help
    assert "report" not in caught.value.help


def test_a_check_that_fails_after_training_loses_no_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prunecvt.bridge.tuning import check

    original, slim, data = saved(tmp_path)
    out = tmp_path / "out.onnx"

    def refuse(*arguments: Any) -> None:
        raise VerifyError("E512", "refused")

    with monkeypatch.context() as patched:
        patched.setattr(check, "check_only_weights_changed", refuse)
        with pytest.raises(VerifyError, match="E512"):
            tuned(original, slim, out, calib=data, steps=4)
    assert (tmp_path / "out.tune.pt").exists()
    untrained(monkeypatch)
    assert row(tuned(original, slim, out, calib=data, steps=4, resume=True)).steps == 4


def places() -> onnx.ModelProto:
    """A class for every place, not for every sample."""
    net = Net(seed=1)
    x = net.conv(net.input("N", 3, SIZE, SIZE), 3, CLASSES, 3, name="stem")
    net.output(net.add("Softmax", x, name="p", axis=1), shape=["N", CLASSES, SIZE, SIZE])
    return net.proto()


def test_labels_that_do_not_fit_are_refused() -> None:
    model = network()
    slim = slimmed(model)
    data = {"x": images(), "labels": np.arange(96) % (CLASSES + 1)}
    with pytest.raises(UsageError, match=r"E238.*class 5 is out of range"):
        tuned(model, slim, calib=None, labels=data)
    held = parted(Samples({"x": torch.arange(96)}), 0.1, 0)[1].inputs["x"]
    data["labels"] = np.where(np.arange(96) == int(held[0]), CLASSES, 0)  # in what is held out
    with pytest.raises(UsageError, match=r"E238.*out of range"):
        tuned(model, slim, calib=None, labels=data)
    dense = places()
    data["labels"] = np.arange(96) % CLASSES
    with pytest.raises(UsageError, match=r"E238.*one class per sample"):
        tuned(dense, dense, calib=None, labels=data)


def averaged(model: onnx.ModelProto, alone: bool = False) -> onnx.ModelProto:
    """With the mean of everything as an output more, or as the only one."""
    made = onnx.ModelProto.FromString(model.SerializeToString())
    made.graph.node.append(helper.make_node("ReduceMean", ["scores"], ["mean"], keepdims=0))
    if alone:
        del made.graph.output[:]
    made.graph.output.append(helper.make_tensor_value_info("mean", onnx.TensorProto.FLOAT, []))
    return made


def test_outputs_without_samples_are_left_out() -> None:
    model = network()
    slim = slimmed(model)
    result = tuned(averaged(model), averaged(slim), steps=8)
    assert row(result).compared == "divergence"
    assert row(result).after.loss < row(result).before.loss
    with pytest.raises(UsageError, match="E266"):
        tuned(averaged(model, alone=True), averaged(slim, alone=True))


def test_hints_are_found_within_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from prunecvt.bridge.tuning import hints
    from prunecvt_passes.model import Model

    asked: list[tuple[int, int]] = []
    usual = hints._made

    def made(teacher: Any, student: Any, feed: Any, names: Any) -> Any:
        asked.append((len(feed["x"]), len(names)))
        return usual(teacher, student, feed, names)

    model = network()
    pair = Model.from_proto(model), Model.from_proto(slimmed(model))
    feed = {"x": torch.from_numpy(images(32))}
    whole = hints.common_tensors(*pair, feed)
    monkeypatch.setattr(hints, "_made", made)
    assert hints.hints_of(*pair, feed, ()).taken == {"sum0": None, "sum1": None}
    assert asked == [(2, 2)]  # shapes told all
    asked.clear()
    monkeypatch.setattr(hints, "_BYTES", 32 * 16 * SIZE * SIZE * 4)  # of one tensor
    assert hints.common_tensors(*pair, feed) == whole
    assert [count for count, _ in asked if count > 2] == [32] * (len(asked) - 1)
    assert all(names == 1 for count, names in asked if count > 2)
    assert len(asked) > 3


@pytest.mark.parametrize(
    "options",
    [
        {"label_weight": 0.9},
        {"loss": "values", "temperature": 2.0},
        {"hint": 0.0, "layers": "sum0"},
        {"labels": {"x": images(), "labels": np.arange(96) % CLASSES}},  # beside calib
        {
            "calib": None,
            "labels": {"x": images(), "labels": np.arange(96) % CLASSES},
            "augment": "mixup",
        },
    ],
    ids=lambda options: "-".join(options),
)
def test_what_says_nothing_is_refused(options: dict[str, Any]) -> None:
    model = network()
    with pytest.raises(UsageError, match="E207"):
        tuned(model, model, **options)


def test_counts_and_preprocessing_are_of_labelled_data() -> None:
    model = network()
    data = {"x": images(), "labels": np.arange(96) % CLASSES}
    found = row(tuned(model, slimmed(model), calib=None, labels=data, calib_count=32, steps=1))
    assert found.samples + found.held_out == 32


def test_a_seed_that_generators_do_not_take_is_refused() -> None:
    model = network()
    with pytest.raises(UsageError, match="E212"):
        tuned(model, model, seed=2**32)
    settings = {"steps": 1, "augment": "flip", "verify": False}
    assert row(tuned(model, slimmed(model), seed=2**32 - 1, **settings)).steps == 1


@pytest.mark.parametrize(
    "variables",
    [
        {"WORLD_SIZE": "2"},
        {"WORLD_SIZE": "two"},
        {"WORLD_SIZE": "2", "RANK": "0", "MASTER_PORT": "1234"},
        {"WORLD_SIZE": "2", "RANK": "first", "MASTER_PORT": "1234", "MASTER_ADDR": "localhost"},
    ],
    ids=str,
)
def test_half_an_environment_of_torchrun_is_refused(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORLD_SIZE", "RANK", "MASTER_PORT", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="E267"):
        tuned(network(), slimmed(network()))


def test_the_checkpoint_of_another_run_is_not_written_over(tmp_path: Path) -> None:
    original, slim, data = saved(tmp_path)
    out, kept = tmp_path / "out.onnx", tmp_path / "out.tune.pt"
    kept.write_bytes(b"hours of another run")
    settings: dict[str, Any] = {"calib": data, "steps": 1, "verify": False}
    with pytest.raises(OutputError, match="E701"):
        tuned(original, slim, out, **settings)
    assert kept.read_bytes() == b"hours of another run"
    tuned(original, slim, out, force=True, **settings)
    assert not kept.exists()


def test_the_first_interrupt_is_noted_and_the_second_raises() -> None:
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with noted_interrupts() as seen:
            signal.raise_signal(signal.SIGINT)
            assert len(seen) == 1
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with noted_interrupts() as seen:
            signal.raise_signal(signal.SIGINT)
        assert not seen
    finally:
        signal.signal(signal.SIGINT, heard)
