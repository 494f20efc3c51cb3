"""A slimmed model learns from its original: only weights change, and never for the worse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

torch = pytest.importorskip("torch")

from prunecvt import UsageError, VerifyError, tuning  # noqa: E402
from prunecvt.bridge.tuning import training  # noqa: E402
from prunecvt.bridge.tuning.check import check_only_weights_changed, check_torch  # noqa: E402
from prunecvt.report.files import report_json  # noqa: E402
from prunecvt.runtimes.openvino_ir import UNBOUNDED  # noqa: E402
from prunecvt_passes.model import Model  # noqa: E402
from tune_cases import CLASSES, images, interrupted, network, row, saved, slimmed, tuned  # noqa: E402

SAMPLES = Path(__file__).parent.parent / "sample_models"


def agreement_loss(model: onnx.ModelProto, other: onnx.ModelProto, x: Any) -> float:
    """Divergence of ``other`` from ``model``, in numpy."""
    found = []
    for each in (model, other):
        opened = onnxruntime.InferenceSession(each.SerializeToString())
        scores = opened.run(None, {"x": x})[0].astype(np.float64)
        found.append(scores - np.log(np.exp(scores).sum(1, keepdims=True)))
    return float((np.exp(found[0]) * (found[0] - found[1])).sum(1).mean())


@pytest.mark.parametrize("kinds", [{}, {"end": "Softmax"}, {"norm": True}], ids=str)
def test_held_out_divergence_falls(kinds: dict[str, Any]) -> None:
    model = network(**kinds)
    slim = slimmed(model, fold_bn=not kinds.get("norm"))
    result = tuned(model, slim)
    found = row(result)
    assert found.compared == "divergence"
    assert found.after.loss < 0.5 * found.before.loss
    assert found.best_step > 0
    assert "sum0" in found.hints
    assert "sum1" in found.hints
    if not kinds:
        fresh = images(64, seed=9)
        before, after = (agreement_loss(model, each, fresh) for each in (slim, result.model))
        assert after < 0.6 * before


def test_only_weights_change() -> None:
    model = network()
    slim = slimmed(model)
    made = tuned(model, slim).model
    assert made.graph.node == slim.graph.node
    assert made.graph.input == slim.graph.input
    assert made.graph.output == slim.graph.output
    assert made.opset_import == slim.opset_import
    assert made.ir_version == slim.ir_version
    assert made.metadata_props == slim.metadata_props
    before = {tensor.name: tensor for tensor in slim.graph.initializer}
    after = {tensor.name: tensor for tensor in made.graph.initializer}
    assert list(before) == list(after)
    for name, tensor in before.items():
        assert list(after[name].dims) == list(tensor.dims)
        assert after[name].data_type == tensor.data_type
    assert any(after[name] != tensor for name, tensor in before.items())


def test_a_model_of_a_fixed_batch_is_tuned_in_larger_ones() -> None:
    pair = network(), slimmed(network())
    for model in pair:
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 1
    result = tuned(*pair)
    assert row(result).after.loss < 0.5 * row(result).before.loss
    assert result.model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1


def test_a_changed_graph_is_refused() -> None:
    slim = Model.from_proto(slimmed(network()))
    check_only_weights_changed(slim, slim.copy())
    other = slim.copy()
    other.proto.graph.node[0].attribute[0].ints[0] += 1
    with pytest.raises(VerifyError, match="E512"):
        check_only_weights_changed(slim, other)


def test_torch_is_held_against_onnxruntime() -> None:
    model = Model.from_proto(network())
    feed = {"x": images(4)}
    assert check_torch(model, feed, 1e-4) < 1e-5
    with pytest.raises(VerifyError, match="E511"):
        check_torch(model, feed, 1e-12)


def test_the_same_seed_gives_the_same_bytes() -> None:
    model = network()
    slim = slimmed(model)
    settings = {"augment": "flip,crop,noise,mixup", "steps": 8}
    one, same, other = (tuned(model, slim, seed=k, **settings).model for k in (1, 1, 2))
    assert one.SerializeToString() == same.SerializeToString()
    assert one.SerializeToString() != other.SerializeToString()


def test_dropout_drops_the_same_again() -> None:
    """What Dropout draws follows from the seed and the step, not from what ran before."""

    def dropping(model: onnx.ModelProto) -> onnx.ModelProto:
        nodes = list(model.graph.node)
        place = next(k for k, node in enumerate(nodes) if node.op_type == "Add") + 1
        name = nodes[place - 1].output[0]
        for node in nodes[place:]:
            node.input[:] = ["dropped" if given == name else given for given in node.input]
        nodes.insert(place, onnx.helper.make_node("Dropout", [name], ["dropped"]))
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        return model

    original, slim = dropping(network()), dropping(slimmed(network()))
    first = tuned(original, slim, steps=6).model.SerializeToString()
    torch.rand(3)
    again = tuned(original, slim, steps=6).model.SerializeToString()
    assert first == again
    assert first != tuned(original, slim, steps=6, seed=1).model.SerializeToString()


def test_a_rate_that_ruins_the_model_gives_the_model_that_came() -> None:
    model = network()
    slim = slimmed(model)
    result = tuned(model, slim, rate=50.0, optimiser="sgd", steps=10)
    assert row(result).best_step == 0
    assert row(result).after == row(result).before
    assert result.model.SerializeToString() == slim.SerializeToString()
    assert any("no weights did better" in text for text in result.report.warnings)


def test_a_held_out_loss_that_is_no_number_is_a_number_in_the_report() -> None:
    model = network()
    result = tuned(model, slimmed(model), rate=1e12, optimiser="sgd", steps=10, verify=False)
    assert row(result).history[-1].loss == UNBOUNDED
    assert "NaN" not in report_json(result.report)


def test_a_loss_that_is_no_number_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from prunecvt.bridge.tuning.losses import Objective

    usual, calls = Objective.loss, []

    def broken(*arguments: Any) -> Any:
        calls.append(1)
        return usual(*arguments) * (float("nan") if len(calls) > 20 else 1.0)

    monkeypatch.setattr(Objective, "loss", broken)
    model = network()
    result = tuned(model, slimmed(model))
    assert row(result).steps == 20
    assert row(result).after.loss < row(result).before.loss
    assert any("ended before its time" in text for text in result.report.warnings)


@pytest.mark.parametrize(
    ("norm", "owner", "method", "call"),
    [
        (False, training.Training, "_learn", 14),
        (True, training.Training, "_learn", 14),
        (False, torch.optim.AdamW, "step", 10),  # weights moved, the step not yet counted
        (False, training.Training, "quality", 21),  # the last look at held-out data
    ],
    ids=["step", "norm", "optimiser", "look"],
)
def test_a_resumed_run_ends_as_one_that_was_not_interrupted(
    norm: bool, owner: type, method: str, call: int, tmp_path: Path
) -> None:
    original, slim, data = saved(tmp_path, norm=norm)
    settings: dict[str, Any] = {"calib": data, "steps": 24, "augment": "flip", "verify": False}
    whole = tuned(original, slim, tmp_path / "whole.onnx", **settings)
    out = tmp_path / "out.onnx"
    with interrupted(owner, method, call), pytest.raises(KeyboardInterrupt):
        tuned(original, slim, out, **settings)
    assert not out.exists()
    assert (tmp_path / "out.tune.pt").exists()
    resumed = tuned(original, slim, out, resume=True, **settings)
    assert out.read_bytes() == (tmp_path / "whole.onnx").read_bytes()
    assert row(resumed).history == row(whole).history
    assert not (tmp_path / "out.tune.pt").exists()


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    original, slim, data = saved(tmp_path)
    out = tmp_path / "out.onnx"
    with pytest.raises(UsageError, match="E263"):
        tuned(original, slim, out, calib=data, resume=True)
    with interrupted(training.Training, "_learn", 3), pytest.raises(KeyboardInterrupt):
        tuned(original, slim, out, calib=data)
    with pytest.raises(UsageError, match=r"E263.*other models"):
        tuned(original, slim, out, calib=data, resume=True, rate=1e-4)
    (tmp_path / "out.tune.pt").write_bytes(b"nonsense")
    with pytest.raises(UsageError, match=r"E263.*read"):
        tuned(original, slim, out, calib=data, resume=True)


def test_checkpoints_are_written_on_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prunecvt.bridge.tuning.checkpoint import Checkpoint

    original, slim, data = saved(tmp_path)
    written: list[int] = []
    usual = Checkpoint.write

    def write(self: Checkpoint, state: dict[str, Any]) -> None:
        usual(self, state)
        assert self.path is not None
        assert self.path.exists()
        written.append(state["step"])

    monkeypatch.setattr(Checkpoint, "write", write)
    tuned(original, slim, tmp_path / "o.onnx", calib=data, steps=3, checkpoint_minutes=0)
    assert written == [1, 2, 3, 3]  # the last one before the checks


def accuracy(model: onnx.ModelProto, x: Any, labels: Any) -> float:
    scores = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    return float((scores.argmax(1) == labels).mean())


def test_what_labels_teach_is_in_the_model() -> None:
    model = network()
    slim = slimmed(model)
    x = images()
    labels = np.full(len(x), 3)  # against the original, so that it shows
    settings: dict[str, Any] = {"calib": None, "label_weight": 1.0, "hint": 0.0}
    result = tuned(model, slim, labels={"x": x, "labels": labels}, **settings)
    found = row(result)
    assert found.compared == "labels"
    assert found.best_step > 0
    assert found.after.top1 is not None
    assert found.after.top1 > 0.9
    assert accuracy(slim, x, labels) < 0.5
    assert accuracy(result.model, x, labels) > 0.9


def test_numbers_are_learned_where_outputs_are_no_classes() -> None:
    model = network()
    result = tuned(model, slimmed(model), loss="values")
    assert row(result).compared == "error"
    assert row(result).after.top1_agree is None
    assert row(result).after.loss < 0.5 * row(result).before.loss


def test_it_is_said_what_is_done_before_the_first_step() -> None:
    told: list[str] = []

    def tell(what: str, *_: Any, lasting: bool = False, **__: Any) -> None:
        if lasting:
            told.append(what)

    model = network()
    tuned(model, slimmed(model), steps=1, progress=tell)
    first = next(place for place, what in enumerate(told) if what.startswith("tune: step 1,"))
    assert told[:first] == [
        "tune: loading torch and the models",
        "tune: reading the data",
        "tune: trying the slimmed model in torch",
        "tune: looking for inner activations to compare",
        "tune: asking the original for its answers",
        "tune: first look at 10 held-out samples",
    ]


def test_a_model_of_another_original_is_refused() -> None:
    model = network()
    other = network("Softmax")
    other.graph.output[0].type.tensor_type.shape.dim[1].dim_value = CLASSES + 1
    with pytest.raises(UsageError, match="E261"):
        tuned(model, other)
    with pytest.raises(UsageError, match="E261") as caught:
        tuned(slimmed(model), model)
    assert "parameters" in caught.value.where


def test_what_tune_does_not_know_is_refused() -> None:
    model = network()
    for options, code in (
        ({"ratio": 0.4}, "E201"),
        ({"optimiser": "magic"}, "E201"),
        ({"augment": "rotate"}, "E201"),
        ({"batch": 1.5}, "E201"),
        ({"holdout": 0.9}, "E212"),
        ({"steps": 0}, "E212"),
        ({"calib": None}, "E260"),
        ({"resume": True}, "E206"),
    ):
        with pytest.raises(UsageError, match=code):
            tuned(model, model, **options)


@pytest.mark.parametrize(("steps", "epochs", "made"), [(30, 1, 5), (3, 2, 3), (None, 2, 10)])
def test_the_least_of_steps_and_epochs_counts(steps: int | None, epochs: float, made: int) -> None:
    model = network()
    options = {"steps": steps, "epochs": epochs, "verify": False, "hint": 0.0}
    assert row(tuned(model, slimmed(model), **options)).steps == made


def test_only_outputs_of_held_out_data_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[set[str]] = []
    usual = training.answers

    def answers(*arguments: Any) -> Any:
        kept.append(set(found := usual(*arguments)))
        return found

    monkeypatch.setattr(training, "answers", answers)
    model = network()
    result = tuned(model, slimmed(model), steps=1, verify=False)
    assert row(result).hints
    assert kept
    assert all(names == {"scores"} for names in kept)


def half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same in float16."""
    made = onnx.ModelProto.FromString(model.SerializeToString())
    for tensor in made.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for value in (*made.graph.input, *made.graph.output, *made.graph.value_info):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    return made


@pytest.mark.parametrize(("end", "norm"), [("", False), ("Softmax", False), ("", True)])
def test_half_precision_is_trained_in_float32(end: str, norm: bool) -> None:
    model = network(end, norm)
    slim = half(slimmed(model))
    result = tuned(half(model), slim, calib=images().astype(np.float16))
    found = row(result)
    assert found.best_step > 0
    assert found.norms_put_back == 2 * norm
    assert found.after.loss < 0.5 * found.before.loss
    assert not any("ended" in text for text in result.report.warnings)
    types = {tensor.name: tensor.data_type for tensor in slim.graph.initializer}
    assert {t.name: t.data_type for t in result.model.graph.initializer} == types
    assert result.model.graph.output == slim.graph.output


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="E265"):
        tuned(network(), slimmed(network()), device="cuda")


def test_as_many_samples_are_read_as_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of what is there, unless that is much; of a stream a number, since it may not end."""
    original = network()
    slim, data = slimmed(original), images()
    monkeypatch.setattr(tuning, "COUNT", 40)

    def count(calib: Any, **options: Any) -> int:
        found = row(tuned(original, slim, calib=calib, steps=1, verify=False, **options))
        return found.samples + found.held_out

    assert count(data) == len(data)
    assert count(iter(data)) == 40
    assert count(data, calib_count=50) == 50
    monkeypatch.setattr(tuning, "BYTES", 60 * data[0].nbytes)
    assert count(data) == 60
    monkeypatch.setattr(tuning, "BYTES", 1)
    assert count(data) == 40
    fixed = network()
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 8
    original, slim = fixed, slimmed(fixed)
    assert count(data) == 40
