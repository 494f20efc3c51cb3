"""ONNX graphs as torch modules: the same outputs, trainable, and back without a trace."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from bridge_nets import NETS  # noqa: E402
from models import Net  # noqa: E402
from prunecvt import UnsupportedError, UsageError  # noqa: E402
from prunecvt.bridge import to_module, with_weights  # noqa: E402
from prunecvt.loading.load import load  # noqa: E402
from prunecvt.writing.serialize import serialize_onnx  # noqa: E402
from prunecvt_passes import oracle, runtime  # noqa: E402
from prunecvt_passes.model import Model  # noqa: E402
from prunecvt_passes.normalise import Source, normalise  # noqa: E402
from prunecvt_passes.samples import random_inputs  # noqa: E402

SAMPLES = Path(__file__).parent.parent / "sample_models"


def arrays(outputs: dict[str, Any]) -> dict[str, Any]:
    return {name: value.detach().numpy() for name, value in outputs.items()}


def feeds(model: Model, batch: int) -> dict[str, Any]:
    return random_inputs(model, {"x": (batch, 3, 6, 6)}, seed=batch)


def tensors(inputs: dict[str, Any]) -> dict[str, Any]:
    return {name: torch.from_numpy(values) for name, values in inputs.items()}


def step(module: Any, x: Any, target: Any, optimizer: Any) -> float:
    optimizer.zero_grad()
    loss = functional.mse_loss(module(x), target)
    loss.backward()
    optimizer.step()
    return float(loss.detach())


@pytest.mark.parametrize("name", NETS)
def test_outputs_are_those_of_onnxruntime_at_any_batch(name: str) -> None:
    model = Model.from_proto(NETS[name]().proto())
    module = to_module(model)
    for batch in (1, 3):
        inputs = feeds(model, batch)
        found = arrays(module(tensors(inputs)))
        assert oracle.difference(runtime.run(model, inputs), found).relative < 1e-5


@pytest.mark.parametrize("name", NETS)
def test_training_lowers_a_loss_and_the_weights_go_back(name: str) -> None:
    torch.manual_seed(0)
    model = Model.from_proto(NETS[name]().proto())
    module = to_module(model, train=True)
    x, target = torch.randn(4, 3, 6, 6), torch.randn(4, 4)
    optimizer = torch.optim.SGD(module.parameters(), 1e-3)
    losses = [step(module, x, target, optimizer) for _ in range(8)]
    assert losses[-1] < losses[0]
    assert all(parameter.grad is not None for parameter in module.parameters())
    tuned = with_weights(model, module)
    assert tuned.proto == model.proto
    inputs = feeds(model, 3)
    found = arrays(module.eval()(tensors(inputs)))
    assert oracle.difference(runtime.run(tuned, inputs), found).relative < 1e-5
    assert oracle.difference(runtime.run(model, inputs), found).relative > 1e-5


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.onnx")), ids=lambda path: path.stem)
def test_untrained_weights_leave_every_byte_as_it_was(path: Path) -> None:
    model = load(path)
    module = to_module(path)
    assert serialize_onnx(with_weights(path, module)) == serialize_onnx(model)


def test_the_normal_form_is_taken_too() -> None:
    dense = normalise(Source(load(SAMPLES / "digits_resnet.onnx"))).graph.model
    inputs = random_inputs(dense, {"input": (3, 1, 32, 32)})
    found = arrays(to_module(dense)(tensors(inputs)))
    assert oracle.difference(runtime.run(dense, inputs), found).relative < 1e-5


@pytest.mark.parametrize("name", ["attention", "depthwise", "pools", "shuffle", "transposed"])
def test_sizes_are_not_read_from_an_accelerator(name: str) -> None:
    module = to_module(Model.from_proto(NETS[name]().proto())).to("meta")
    (made,) = module({"x": torch.empty(3, 3, 6, 6, device="meta")}).values()
    assert made.device.type == "meta"
    assert made.shape == (3, 4)


def norm_net() -> Model:
    graph = Net()
    graph.output(graph.norm(graph.conv(graph.input("N", 3, 6, 6), 3, 8), 8, momentum=0.75))
    return Model.from_proto(graph.proto())


def test_batch_normalisation_means_in_training_what_it_does_in_torch() -> None:
    model = norm_net()
    module = to_module(model, train=True)
    weight, bias, scale, shift, mean, variance = module.roles.values
    twin = nn.BatchNorm2d(8, momentum=0.25)
    twin.load_state_dict(
        {
            "weight": module.tensor(scale),
            "bias": module.tensor(shift),
            "running_mean": module.tensor(mean),
            "running_var": module.tensor(variance),
            "num_batches_tracked": torch.tensor(0),
        }
    )
    x = torch.randn(5, 3, 6, 6)
    read = functional.conv2d(x, module.tensor(weight), module.tensor(bias))
    torch.testing.assert_close(module(x), twin(read))
    torch.testing.assert_close(module.tensor(mean), twin.running_mean)
    torch.testing.assert_close(module.tensor(variance), twin.running_var)
    torch.testing.assert_close(module.eval()(x), twin.eval()(read))
    tuned = with_weights(model, module)
    assert not np.array_equal(tuned.weights[mean], model.weights[mean])
    np.testing.assert_array_equal(tuned.weights[mean], twin.running_mean.numpy())


def test_statistics_that_two_layers_share_stay_as_they_are() -> None:
    graph = Net()
    x, names = graph.input("N", 8, 6, 6), (graph.random(8), graph.positive(8))
    for _ in range(2):
        x = graph.add("BatchNormalization", x, graph.positive(8), graph.random(8), *names)
    graph.output(x)
    module = to_module(Model.from_proto(graph.proto()), train=True)
    before = module.tensor(names[0]).clone()
    module(torch.randn(4, 8, 6, 6))
    assert len(module.roles.fixed_norms) == 2
    torch.testing.assert_close(module.tensor(names[0]), before)


def test_a_layer_that_runs_twice_updates_its_statistics_twice() -> None:
    graph = Net()
    shared = (graph.positive(8), graph.random(8), graph.random(8), graph.positive(8))
    x = graph.input("N", 8, 6, 6)
    for _ in range(2):
        x = graph.add("BatchNormalization", x, *shared)
    graph.output(x)
    module = to_module(Model.from_proto(graph.proto()), train=True)
    assert module.roles.statistics == shared[2:]
    before = module.tensor(shared[2]).clone()
    module(torch.randn(4, 8, 6, 6)).sum().backward()
    assert not torch.equal(module.tensor(shared[2]), before)


def test_dropout_drops_in_training_only() -> None:
    graph = Net()
    graph.output(graph.add("Dropout", graph.input("N", 4), np.float32(0.5)))
    module = to_module(Model.from_proto(graph.proto()))
    x = torch.ones(64, 4)
    torch.testing.assert_close(module(x), x)
    dropped = module.train()(x)
    assert set(dropped.unique().tolist()) == {0.0, 2.0}


def test_dropout_follows_from_a_seed_and_leaves_the_numbers_of_torch() -> None:
    graph = Net()
    graph.output(graph.add("Dropout", graph.input("N", 400), np.float32(0.25)))
    x, found = torch.ones(8, 400), []
    for before in (0, 1):
        torch.manual_seed(before)
        module = to_module(graph.proto()).train()
        found.append([module(x), module(x)])
        module.seed_dropout(5)
        found[-1] += [module(x), copy.deepcopy(module)(x), module(x)]
    state = torch.random.get_rng_state()
    assert torch.equal(state, torch.Generator().manual_seed(1).get_state())
    assert all(map(torch.equal, *found))
    assert not torch.equal(found[0][0], found[0][1])
    assert torch.equal(found[0][3], found[0][4])  # a copy goes on where the original is
    assert set(found[0][0].unique().tolist()) == {0.0, float(torch.tensor(1 / 0.75))}
    assert 0.7 < float((found[0][0] > 0).float().mean()) < 0.8


def test_only_what_layers_read_is_trained() -> None:
    graph = Net()
    x = graph.add("Sub", graph.input("N", 3, 6, 6), graph.constant(np.ones((1, 3, 1, 1), "f4")))
    x = graph.add("Mul", x, graph.random(1, 3, 1, 1, name="input_scale"))
    x = graph.conv(x, 3, 8)
    x = graph.add("Mul", x, graph.random(8, 1, 1, name="layer_scale"))
    x = graph.add("Add", x, np.where(np.eye(6) > 0, -100, 0).astype(np.float32))
    x = graph.conv(graph.add("Pow", x, np.float32(2)), 8, 2)
    x = graph.add("Mul", x, graph.random(1, 2, 1, 1, name="box_scale"))
    graph.output(graph.add("Add", x, graph.random(1, 2, 6, 6, name="anchors")))
    module = to_module(Model.from_proto(graph.proto()), train=True)
    assert len(list(module.parameters())) == 5  # of two convolutions, and the scale
    assert "layer_scale" in dict(module.named_parameters())
    assert {"input_scale", "box_scale", "anchors"} <= dict(module.named_buffers()).keys()


def test_names_are_those_of_the_initializers() -> None:
    graph = Net()
    names = ["layer.0.weight", "layer.0", "type", "a..b", "/x/y:0"]
    x = graph.input("N", 4)
    for name in names:
        x = graph.add("MatMul", x, graph.random(4, 4, name=name))
    graph.output(x)
    module = to_module(Model.from_proto(graph.proto()))
    places = module.places
    assert places["layer.0.weight"] == "layer.0.weight"
    assert places["/x/y:0"] == "/x/y:0"
    assert set(module.state_dict()) == set(places.values())
    assert len(set(places.values())) == len(names)
    state = {key: torch.zeros_like(value) for key, value in module.state_dict().items()}
    module.load_state_dict(state)
    assert all(not values.any() for values in module.weights().values())


def test_weights_in_constant_nodes_are_trained_and_written_back() -> None:
    graph = Net()
    x = graph.input("N", 3)
    value = onnx.numpy_helper.from_array(graph.rng.random((3, 4)).astype(np.float32))
    weight = graph.add("Identity", graph.add("Constant", name="held", value=value))
    bias = graph.add("Constant", value_floats=[1.0, 2.0, 3.0, 4.0])
    graph.output(graph.add("Gemm", x, weight, bias))
    model = Model.from_proto(graph.proto())
    module = to_module(model, train=True)
    assert len(list(module.parameters())) == 2
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    step(module, torch.randn(4, 3), torch.randn(4, 4), optimizer)
    tuned = with_weights(model, module)
    assert [node.op_type for node in tuned.proto.graph.node] == [
        node.op_type for node in model.proto.graph.node
    ]
    inputs = {"x": np.ones((3, 3), np.float32)}
    found = arrays(module.eval()(tensors(inputs)))
    assert oracle.difference(runtime.run(tuned, inputs), found).relative < 1e-6
    assert oracle.difference(runtime.run(model, inputs), found).relative > 1e-6


def test_external_data_is_read_and_its_weights_go_back(tmp_path: Path) -> None:
    proto = onnx.load(SAMPLES / "digits_resnet.onnx")
    path = tmp_path / "model.onnx"
    onnx.save(proto, path, save_as_external_data=True, size_threshold=0, location="w.bin")
    module = to_module(path)
    name = module.roles.trainable[0]
    with torch.no_grad():
        module.tensor(name).mul_(2)
    tuned = with_weights(path, module)
    np.testing.assert_array_equal(tuned.weights[name], 2 * load(path).weights[name])
    onnx.checker.check_model(tuned.to_proto())


def test_a_stated_batch_may_be_left() -> None:
    graph = Net()
    x = graph.conv(graph.input(1, 3, 6, 6), 3, 8)
    flat = graph.add("Reshape", x, np.array([1, -1]))
    graph.output(graph.add("MatMul", flat, graph.random(288, 4)))
    module = to_module(Model.from_proto(graph.proto()))
    x = torch.randn(3, 3, 6, 6)
    together, alone = module(x), torch.cat([module(part[None]) for part in x])
    torch.testing.assert_close(together, alone)


def test_positions_give_tensors_and_a_dict_gives_a_dict() -> None:
    graph = Net()
    a, b = graph.input("N", 4, name="a"), graph.input("N", 4, name="b")
    graph.output(graph.add("Add", a, b, name="sum"))
    graph.output(graph.add("Mul", a, b, name="product"))
    module = to_module(Model.from_proto(graph.proto()))
    x, y = torch.randn(2, 4), torch.randn(2, 4)
    total, product = module(x, y)
    torch.testing.assert_close(total, x + y)
    torch.testing.assert_close(module({"b": y, "a": x})["product"], product)
    for wrong in ((x,), (x, y, x), ({"a": x},)):
        with pytest.raises(UsageError, match="E252"):
            module(*wrong)


def test_a_copy_is_independent_and_does_not_touch_the_model() -> None:
    model = norm_net()
    before = {name: values.copy() for name, values in model.weights.items()}
    module = to_module(model, train=True)
    twin = copy.deepcopy(module)
    step(twin, torch.randn(4, 3, 6, 6), torch.randn(4, 8, 6, 6), torch.optim.SGD(twin.parameters()))
    for name, values in before.items():
        np.testing.assert_array_equal(model.weights[name], values)
        np.testing.assert_array_equal(module.tensor(name).detach().numpy(), values)
    first = module.roles.trainable[0]
    assert not np.array_equal(twin.weights()[first], before[first])


def test_unknown_operators_are_named() -> None:
    graph = Net()
    graph.output(graph.add("Warp", graph.input("N", 4), domain="my.own"), shape=["N", 4])
    with pytest.raises(UnsupportedError) as caught:
        to_module(Model.from_proto(graph.proto()))
    assert caught.value.code == "E440"
    assert "Warp" in caught.value.message
    assert "my.own" in caught.value.where


def test_a_weight_behind_a_step_cannot_be_trained() -> None:
    graph = Net()
    x = graph.add("MatMul", graph.input("N", 4), graph.random(4, 4, name="w"))
    graph.output(graph.add("ArgMax", x, name="chosen"), type=onnx.TensorProto.INT64)
    model = Model.from_proto(graph.proto())
    assert to_module(model)(torch.eye(4)).shape == (1, 4)
    with pytest.raises(UnsupportedError) as caught:
        to_module(model, train=True)
    assert caught.value.code == "E441"
    assert "ArgMax 'chosen'" in caught.value.message
    assert "'w'" in caught.value.message


def test_a_module_of_another_model_is_refused() -> None:
    with pytest.raises(UsageError, match="E251"):
        with_weights(norm_net(), to_module(SAMPLES / "digits_resnet.onnx"))


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16"])
def test_types_stay(dtype: str) -> None:
    graph = Net()
    kind = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    weight = graph.constant(graph.rng.random((4, 4)).astype(kind), "w")
    code = onnx.helper.np_dtype_to_tensor_dtype(kind)
    graph.output(graph.add("MatMul", graph.input("N", 4, type=code), weight), type=code)
    model = Model.from_proto(graph.proto())
    module = to_module(model, train=True)
    with torch.no_grad():
        module.tensor("w").mul_(2)
    tuned = with_weights(model, module)
    assert tuned.weights["w"].dtype == kind
    np.testing.assert_array_equal(
        tuned.weights["w"].astype(np.float32), 2 * model.weights["w"].astype(np.float32)
    )


def test_constants_of_bfloat16_that_the_graph_makes() -> None:
    graph, kind = Net(), onnx.TensorProto.BFLOAT16
    value = onnx.helper.make_tensor("value", kind, [1], [2.0])
    twos = graph.add("ConstantOfShape", np.array([4]), value=value)
    graph.output(graph.add("Add", graph.input("N", 4, type=kind), twos), type=kind)
    made = to_module(Model.from_proto(graph.proto()))(torch.ones(2, 4, dtype=torch.bfloat16))
    assert torch.equal(made, torch.full((2, 4), 3.0, dtype=torch.bfloat16))
