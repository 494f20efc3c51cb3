"""BatchNormalization that is put back for the time of training, and folded again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

import prunecvt  # noqa: E402
from models import Net  # noqa: E402
from prunecvt.bridge.module import GraphModule  # noqa: E402
from prunecvt.bridge.tuning import distil, norms  # noqa: E402
from prunecvt.bridge.tuning.norms import Norms, norms_put_back  # noqa: E402
from prunecvt.bridge.tuning.samples import Samples  # noqa: E402
from prunecvt.bridge.tuning.training import Recipe, Training, _optimiser  # noqa: E402
from prunecvt.bridge.weights import replaced  # noqa: E402
from prunecvt.errors import UsageError  # noqa: E402
from prunecvt_passes import oracle, runtime  # noqa: E402
from prunecvt_passes.fold import fold_batch_norms  # noqa: E402
from prunecvt_passes.graph import index  # noqa: E402
from prunecvt_passes.model import Model  # noqa: E402
from prunecvt_passes.normalise import Source, normalise  # noqa: E402
from test_fold import MAKERS  # noqa: E402
from tune_cases import images, interrupted, network, row, slimmed, tuned  # noqa: E402

CPU = torch.device("cpu")
X = np.random.default_rng(4).standard_normal((40, 4, 6, 6)).astype(np.float32)


def samples_for(model: Model, count: int = 40) -> Samples:
    draw = np.random.default_rng(3)
    (value,) = model.proto.graph.input
    dims = [d.dim_value for d in value.type.tensor_type.shape.dim][1:]
    values = draw.standard_normal((count, *dims)).astype(np.float32)
    return Samples({value.name: torch.from_numpy(values)})


def put_back(net: Net | onnx.ModelProto, where: str = "original") -> tuple[Model, Norms, Samples]:
    """The folded model, and it with normalisations put back."""
    original = Model.from_proto(net.proto() if isinstance(net, Net) else net)
    folded, samples = fold_batch_norms(original), samples_for(original)
    return folded, norms_put_back(original, folded, where, samples), samples


def gap(first: Model, second: Model, samples: Samples) -> float:
    feed = {name: values.numpy() for name, values in samples.inputs.items()}
    return oracle.difference(runtime.run(first, feed), runtime.run(second, feed)).relative


def operators(model: Model) -> list[str]:
    return [node.op_type for node in model.proto.graph.node]


def normalisations(model: Model) -> list[onnx.NodeProto]:
    return [n for n in model.proto.graph.node if n.op_type == "BatchNormalization"]


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_nothing_changes_there_and_back(make: Any) -> None:
    """The same function with the normalisation, and the same weights once it is folded again."""
    net = Net()
    made = make(net)
    if "gemm" in make.__name__:
        net.output(net.add("Relu", net.norm(made, 8)), shape=["N", 8])
    else:
        net.output(net.add("Relu", net.norm(made, 8)))
    folded, found, samples = put_back(net)
    assert operators(found.model).count("BatchNormalization") == 1
    assert gap(folded, found.model, samples) < 1e-5
    again = found.folded(GraphModule(found.model).weights())
    assert again.keys() == folded.weights.keys()
    assert gap(folded, replaced(folded, again), samples) < 1e-5


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_what_was_trained_is_folded(make: Any) -> None:
    """Weights, scales, shifts and statistics all move, and the file's weights say the same."""
    net = Net()
    normed = net.norm(make(net), 8)
    net.output(normed, shape=["N", 8] if "gemm" in make.__name__ else None)
    folded, found, samples = put_back(net)
    module = GraphModule(found.model).train()
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(3):
        (next(iter(module(samples.inputs).values())) - 1).square().mean().backward()
        optimiser.step()
    trained = replaced(found.model, module.weights())
    assert gap(folded, trained, samples) > 1e-2
    again = replaced(folded, found.folded(module.weights()))
    assert gap(trained, again, samples) < 1e-4
    assert "BatchNormalization" not in operators(again)


def test_inner_sums_tell_mean_and_deviation(monkeypatch: pytest.MonkeyPatch) -> None:
    """In parts as small as they may be, the moments are those of all samples at once."""
    original = Model.from_proto(network(norm=True))
    folded, samples = fold_batch_norms(original), samples_for(original)
    monkeypatch.setattr(norms, "_BYTES", 1)
    found = norms_put_back(original, folded, "original", samples).model
    feed = {name: values.numpy() for name, values in samples.inputs.items()}
    normed = normalisations(found)
    made = runtime.run(oracle.showing(folded, [n.output[0] for n in normed]), feed)
    for node in normed:
        scale, shift, _, variance = (found.weights[name] for name in node.input[1:])
        values = made[node.output[0]]
        np.testing.assert_allclose(shift, values.mean((0, 2, 3)), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(variance, values.var((0, 2, 3)), rtol=1e-4)
        np.testing.assert_allclose(scale, np.sqrt(variance + 1e-5), rtol=1e-5)
    assert len(normed) == 2


def test_where_a_cut_left_nothing_steps_have_the_size_of_the_original() -> None:
    """A share of what is left of a scale would never bring it back."""
    original = Model.from_proto(network(norm=True))
    faint = fold_batch_norms(original).copy()
    made = {node.output[0] for node in normalisations(original)}
    for node in faint.proto.graph.node:
        for weight in node.input[1:] if node.output[0] in made else ():
            faint.set_weight(weight, faint.weights[weight] * np.float32(0.01))
    samples = samples_for(original)
    found = norms_put_back(original, faint, "original", samples)
    module = GraphModule(found.model)
    scales = {node.input[1]: node.output[0] for node in normalisations(found.model)}
    recipe = Recipe("adamw", 1.0, 0.0, 16, 1, None, (), 0)
    groups = _optimiser(module, recipe, found.sizes).param_groups
    used = {id(group["params"][0]): group["scale"] for group in groups}
    for scale in scales:
        own = float(module.tensor(scale).detach().square().mean().sqrt())
        assert used[id(module.tensor(scale))] == found.sizes[scale] > 50 * own
    sgd = _optimiser(module, replace(recipe, optimiser="sgd"), found.sizes).param_groups
    assert {group["scale"] for group in sgd} == {1.0}


def test_layers_without_their_own_weights_are_left() -> None:
    """What two layers share cannot hold what is folded into one of them; the report says so."""
    nets = Net(), Net()
    for net, normed in zip(nets, (True, False), strict=True):
        x, shared, bias = net.input("N", 4, 6, 6), net.random(4, 4, 3, 3), net.random(4)
        for name in ("first", "second"):
            inner = "" if normed else name
            x = net.add("Conv", x, shared, bias, pads=[1, 1, 1, 1], name=inner)
            x = net.norm(x, 4, name=name) if normed else x
        net.output(net.add("Relu", x, name="end"))
    original, slim = (net.proto() for net in nets)
    models = Model.from_proto(original), Model.from_proto(slim)
    found = norms_put_back(*models, "original", samples_for(models[0]))
    assert not found.biases
    assert list(found.left_out) == ["first", "second"]
    result = tuned(original, slim, calib=X, steps=2)
    (told,) = (text for text in result.report.warnings if "put back" in text)
    assert "behind 2 layers first, second: it has no weight or no bias of its own" in told


@pytest.mark.parametrize("shape", [(1,), (1, 8)])
def test_a_bias_of_another_shape_is_left(shape: tuple[int, ...]) -> None:
    """It cannot hold what folding would make of it."""
    net = Net()
    made = net.add("Gemm", net.input("N", 4), net.random(4, 8), net.random(*shape), name="normed")
    net.output(net.add("Relu", made), shape=["N", 8])
    normed = Net()
    made = normed.add("Gemm", normed.input("N", 4), normed.random(4, 8), normed.random(1))
    normed.output(normed.add("Relu", normed.norm(made, 8, name="normed")), shape=["N", 8])
    original, folded = (Model.from_proto(each.proto()) for each in (normed, net))
    found = norms_put_back(original, folded, "original", samples_for(original))
    assert not found.biases
    assert found.left_out == {"normed": norms._NOT_FOLDED}
    assert operators(found.model) == operators(folded)


def test_what_has_no_samples_is_left() -> None:
    """There one value for each channel has no deviation, and torch refuses it."""
    net = Net()
    pooled = net.add("ReduceMean", net.input("N", 4), axes=[0], keepdims=1)
    made = net.norm(net.add("Gemm", pooled, net.random(4, 8), net.random(8)), 8, name="normed")
    net.output(net.add("Relu", made), shape=[1, 8])
    _, found, _ = put_back(net)
    assert found.left_out == {"normed": norms._NO_SAMPLES}


def test_what_the_slimmed_model_has_not_is_told() -> None:
    """A normalisation whose tensor went, or is made by something else, has a reason."""
    original = Model.from_proto(network(norm=True))
    folded = fold_batch_norms(original).copy()
    gone, other = (node.output[0] for node in normalisations(original))
    for node in folded.proto.graph.node:
        node.input[:] = ["renamed" if name == gone else name for name in node.input]
        node.output[:] = ["renamed" if name == gone else name for name in node.output]
        if node.output[0] == other:
            node.op_type = "Softplus"
            del node.input[1:], node.attribute[:]
    left_out = dict(norms._lost(index(original), index(folded)))
    assert left_out.keys() == {gone, other}
    assert "no tensor of that name" in left_out[gone]
    assert "Softplus makes it" in left_out[other]
    assert not dict(norms._lost(index(original), index(original)))


def test_norms_of_functions_tell_their_sizes() -> None:
    """The original is looked at with its functions unfolded."""
    original = Model.from_proto(in_a_function(network(norm=True)))
    folded = fold_batch_norms(normalise(Source(original)).graph.model)
    found = norms_put_back(original, folded, "original", samples_for(original))
    assert len(found.sizes) == 2 * len(found.biases) > 0


def in_a_function(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with Relu behind its first normalisation in a function with it."""
    (norm, *_) = (n for n in model.graph.node if n.op_type == "BatchNormalization")
    places = [f"i{k}" for k in range(5)]
    inner = onnx.helper.make_node("BatchNormalization", places, ["o"])
    imports = list(model.opset_import)
    made = onnx.helper.make_function("own", "Normed", places, ["o"], [inner], imports)
    model.functions.append(made)
    model.opset_import.append(onnx.helper.make_opsetid("own", 1))
    norm.op_type, norm.domain = "Normed", "own"
    return model


def test_all_takes_inner_convolutions_alone() -> None:
    """Not what makes an output, not products, not what is normalised already."""
    model = Model.from_proto(network())
    samples = samples_for(model)
    found = norms_put_back(model, model, "all", samples)
    assert set(found.biases) == {"stem", "block0_a", "block0_b", "block1_a", "block1_b"}
    assert gap(model, found.model, samples) < 1e-5
    assert not norms_put_back(model, model, "original", samples).biases
    assert not norms_put_back(model, model, "none", samples).biases
    net = Net()
    net.output(net.conv(net.input("N", 4, 6, 6), 4, 8, 3))
    _, alone, _ = put_back(net, "all")
    assert not alone.biases
    kept = Model.from_proto(network(norm=True))
    partly = norms_put_back(kept, kept, "all", samples_for(kept))
    assert set(partly.biases) == {"stem", "block0_b", "block1_b"}


def test_tune_writes_the_graph_that_it_was_given(tmp_path: Path) -> None:
    original = network(norm=True)
    slim = slimmed(original)
    assert "BatchNormalization" not in [node.op_type for node in slim.graph.node]
    said: list[str] = []

    def tell(what: str, *_: Any, **__: Any) -> None:
        said.append(what)

    for where, count in (("original", 2), ("all", 5), ("none", 0)):
        said.clear()
        result = tuned(original, slim, steps=30, norms=where, progress=tell)
        assert ("tune: looking at what layers make" in said) == (count > 0)
        found = row(result)
        assert found.norms_put_back == count
        assert found.after.loss < found.before.loss
        assert [n.op_type for n in result.model.graph.node] == [n.op_type for n in slim.graph.node]
        assert {t.name for t in result.model.graph.initializer} == {
            t.name for t in slim.graph.initializer
        }


def test_weights_that_came_are_given_back_to_the_byte() -> None:
    """Where nothing did better; what was folded and put back would be rounded."""
    original = network(norm=True)
    slim = slimmed(original)
    result = tuned(original, slim, steps=2, rate=50.0)
    assert row(result).best_step == 0
    before = {t.name: t.SerializeToString() for t in slim.graph.initializer}
    after = {t.name: t.SerializeToString() for t in result.model.graph.initializer}
    assert before == after


def test_training_goes_on_from_a_checkpoint_to_the_same_bytes(tmp_path: Path) -> None:
    original = network(norm=True)
    slim, out = slimmed(original), tmp_path / "out.onnx"
    for name, model in (("net", original), ("slim", slim)):
        onnx.save(model, tmp_path / f"{name}.onnx")
    pair = tmp_path / "net.onnx", tmp_path / "slim.onnx"
    whole = tuned(*pair, tmp_path / "whole.onnx", steps=12)
    assert row(whole).best_step > 5
    assert row(whole).norms_put_back == 2
    with interrupted(Training, "_learn", 5), pytest.raises(KeyboardInterrupt):
        tuned(*pair, out, steps=12)
    resumed = tuned(*pair, out, steps=12, resume=True)
    assert row(resumed).steps == row(whole).steps == 12
    assert out.read_bytes() == (tmp_path / "whole.onnx").read_bytes()


def test_where_there_is_no_place_for_a_norm_it_is_said() -> None:
    net = Net()
    x = net.add("MatMul", net.add("Flatten", net.input("N", 4, 6, 6)), net.random(144, 3))
    net.output(x, shape=["N", 3])
    result = tuned(net.proto(), net.proto(), calib=X, norms="all", steps=2)
    assert any("no inner convolution" in text for text in result.report.warnings)


def test_an_unknown_place_is_refused() -> None:
    with pytest.raises(UsageError, match="norms"):
        prunecvt.tune(network(), network(), calib=images(), norms="some")


def test_more_processes_than_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert distil._device("auto") == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(UsageError, match=r"process 2 here, and torch finds 1 CUDA device\n"):
        distil._device("cuda")
    assert distil._device("cpu") == CPU


def test_a_share_of_one_sample_is_refused_where_statistics_are_taken() -> None:
    normed, bare = (GraphModule(Model.from_proto(network(norm=norm))) for norm in (True, False))
    distil._check_share(normed, 4, 2, put_back=False)
    distil._check_share(bare, 3, 2, put_back=False)
    with pytest.raises(UsageError, match="a batch of 3 leaves each of 2 processes one sample"):
        distil._check_share(normed, 3, 2, put_back=False)
