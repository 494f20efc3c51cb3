"""Good models load from wherever they come, with the values they hold."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bad_case import conv_model, nodes_model, relu
from models import Net
from prunecvt.errors import InputError, UnsupportedError
from prunecvt.loading.load import load
from prunecvt.loading.versions import newest_ir, newest_opset

WEIGHT = np.arange(16 * 27, dtype=np.float32).reshape(16, 3, 3, 3)


def counted_model() -> onnx.ModelProto:
    return conv_model(numpy_helper.from_array(WEIGHT, "w"))


def as_path(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


SOURCES: dict[str, Callable[[onnx.ModelProto, Path], object]] = {
    "path": as_path,
    "string": lambda model, folder: str(as_path(model, folder)),
    "bytes": lambda model, folder: model.SerializeToString(),
    "proto": lambda model, folder: model,
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_gives_the_same_model(source: str, tmp_path: Path) -> None:
    proto = counted_model()
    loaded = load(SOURCES[source](proto, tmp_path))  # type: ignore[arg-type]
    assert loaded.to_proto().SerializeToString() == proto.SerializeToString()
    np.testing.assert_array_equal(loaded.weights["w"], WEIGHT)
    assert not loaded.weights["w"].flags.writeable
    assert not loaded.proto.graph.initializer[0].HasField("raw_data")


def test_the_source_is_what_the_user_wrote(tmp_path: Path) -> None:
    path = as_path(counted_model(), tmp_path)
    assert load(path).source == str(path)
    assert load(path.read_bytes()).source == "model"


def test_path_may_be_unicode_and_a_symbolic_link(tmp_path: Path) -> None:
    path = as_path(counted_model(), tmp_path).rename(tmp_path / "modèle 模型.onnx")
    link = tmp_path / "link.onnx"
    link.symlink_to(path)
    assert load(link).weights.keys() == {"w"}


def test_a_proto_is_left_untouched() -> None:
    proto = nodes_model(relu("z", "y", "second"), relu("x", "z", "first"))
    before = proto.SerializeToString()
    loaded = load(proto)
    assert proto.SerializeToString() == before
    assert [node.name for node in loaded.proto.graph.node] == ["first", "second"]


def test_everything_but_the_weights_is_kept() -> None:
    proto = counted_model()
    proto.doc_string, proto.producer_name, proto.model_version = "text", "tests", 7
    helper.set_model_props(proto, {"owner": "me"})
    proto.graph.doc_string = "graph text"
    proto.graph.initializer[0].doc_string = "weight text"
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    assert load(proto).to_proto().SerializeToString() == proto.SerializeToString()


def test_a_graphsurgeon_graph_is_exported() -> None:
    surgeon = pytest.importorskip("onnx_graphsurgeon")
    graph = surgeon.import_onnx(counted_model())
    np.testing.assert_array_equal(load(graph).weights["w"], WEIGHT)
    graph.ir_version = None  # the export then states onnx's newest
    assert load(graph).proto.ir_version <= newest_ir()


def test_a_sparse_initializer_stays_as_it_is() -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    index = numpy_helper.from_array(np.array([2], np.int64))
    model = nodes_model(helper.make_node("Add", ["x", "s"], ["y"], name="n"))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, index, [8]))
    loaded = load(model)
    assert loaded.proto.graph.sparse_initializer == model.graph.sparse_initializer


def test_local_functions_are_allowed() -> None:
    model = nodes_model(helper.make_node("Twice", ["x"], ["y"], domain="local"))
    model.opset_import.append(helper.make_opsetid("local", 1))
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    opsets = [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function("local", "Twice", ["a"], ["b"], body, opsets))
    assert len(load(model).proto.functions) == 1


def test_other_domains_are_allowed() -> None:
    model = nodes_model(helper.make_node("Odd", ["x"], ["z"], domain="custom"), relu("z", "y", "n"))
    model.opset_import.append(helper.make_opsetid("custom", 1))
    assert len(load(model).proto.graph.node) == 2


def branch(*nodes: onnx.NodeProto) -> onnx.GraphProto:
    result = helper.make_tensor_value_info("q", TensorProto.FLOAT, None)
    return helper.make_graph(nodes, "branch", [], [result])


def test_nodes_are_sorted_in_subgraphs_too_and_captures_count() -> None:
    yes = helper.make_node(
        "Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True), "")
    )
    body = branch(relu("p", "q", "late"), relu("captured", "p", "early"))
    choice = helper.make_node("If", ["yes"], ["y"], name="n_if", then_branch=body, else_branch=body)
    loaded = load(nodes_model(choice, relu("x", "captured", "n_made"), yes))
    assert [node.op_type for node in loaded.proto.graph.node] == ["Relu", "Constant", "If"]
    inner = next(a.g for a in loaded.proto.graph.node[2].attribute if a.name == "then_branch")
    assert [node.name for node in inner.node] == ["early", "late"]


def test_what_a_branch_captures_must_exist() -> None:
    body = branch(relu("nowhere", "q", "n_inner"))
    yes = numpy_helper.from_array(np.array(True), "yes")
    choice = helper.make_node("If", ["yes"], ["y"], then_branch=body, else_branch=body)
    with pytest.raises(InputError) as caught:
        load(nodes_model(choice, weights=(yes,)))
    assert caught.value.node == "n_inner"


def test_stale_and_missing_output_shapes_are_forgiven() -> None:
    stale = counted_model()
    stale.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 99
    stale.graph.value_info.append(helper.make_tensor_value_info("c", TensorProto.FLOAT, [9, 9]))
    assert load(stale)
    bare = counted_model()
    bare.graph.output[0].type.tensor_type.ClearField("shape")
    assert not load(bare).proto.graph.output[0].type.tensor_type.HasField("shape")


def test_old_models_list_their_weights_as_inputs() -> None:
    model = counted_model()
    model.ir_version = 3
    model.graph.input.append(helper.make_tensor_value_info("w", 1, [16, 3, 3, 3]))
    assert load(model).weights.keys() == {"w"}


@pytest.mark.parametrize("transposed", [False, True])
def test_weights_must_be_finite_even_behind_a_transpose(transposed: bool) -> None:
    values = WEIGHT.copy()
    values[3, 2, 1, 0] = np.inf
    nodes = [helper.make_node("Conv", ["x", "v" if transposed else "w"], ["y"], name="n")]
    if transposed:
        nodes.insert(0, helper.make_node("Transpose", ["w"], ["v"], perm=[0, 1, 3, 2]))
    model = nodes_model(*nodes, weights=(numpy_helper.from_array(values, "w"),))
    with pytest.raises(UnsupportedError, match="not a finite number") as caught:
        load(model)
    assert caught.value.node == "n"
    assert "holds inf at [3,2,1,0]" in caught.value.where
    assert np.isinf(load(model, allow_nonfinite=True).weights["w"]).sum() == 1


def test_infinite_masks_are_no_weights() -> None:
    mask = numpy_helper.from_array(np.full((8, 8), -np.inf, np.float32), "mask")
    model = nodes_model(helper.make_node("Add", ["x", "mask"], ["y"], name="n"), weights=(mask,))
    assert load(model)
    model.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(np.full((8, 8), np.nan, np.float32), "mask")
    )
    with pytest.raises(UnsupportedError):
        load(model)


def test_the_newest_versions_are_those_that_onnxruntime_opens() -> None:
    assert 21 <= newest_opset() <= onnx.defs.onnx_opset_version()
    assert 10 <= newest_ir() <= onnx.IR_VERSION
    assert load(conv_model(opset=newest_opset(), ir_version=newest_ir()))
    for model in (
        conv_model(opset=newest_opset() + 1),
        conv_model(ir_version=newest_ir() + 1),
    ):
        with pytest.raises(UnsupportedError):
            load(model)


def test_long_chains_need_no_recursion() -> None:
    names = ["x", *(f"t{i}" for i in range(5000)), "y"]
    nodes = [relu(a, b, f"n_{b}") for a, b in pairwise(names)]
    assert len(load(nodes_model(*nodes[::-1])).proto.graph.node) == 5001


def test_an_operator_of_onnxruntime_in_the_default_domain_is_taken() -> None:
    scale = numpy_helper.from_array(np.ones(4, np.float32), "scale")
    node = helper.make_node("SimplifiedLayerNormalization", ["x", "scale"], ["y"])
    ports = [helper.make_tensor_value_info(name, 1, ["N", 4]) for name in ("x", "y")]
    graph = helper.make_graph([node], "one", ports[:1], ports[1:], [scale])
    opset = [helper.make_opsetid("", 17)]
    model = load(helper.make_model(graph, opset_imports=opset, ir_version=8))
    assert [node.op_type for node in model.proto.graph.node] == ["SimplifiedLayerNormalization"]


def test_a_deprecated_operator_that_onnxruntime_runs_is_taken() -> None:
    net = Net(opset=18)
    normed = net.add(
        "GroupNormalization", net.first(), net.positive(4), net.random(4), num_groups=4
    )
    net.last(normed)
    assert load(net.proto())
