"""Values are read right however a file stores them, beside the model too, and frugally."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bad_case import conv_model, external, nodes_model, relu, weight
from prunecvt.loading.load import load

WEIGHT = np.arange(16 * 27, dtype=np.float32).reshape(16, 3, 3, 3)


def as_path(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    "keys", [{}, {"offset": "4"}, {"offset": "4096", "length": "1728"}, {"checksum": "0"}]
)
def test_external_data_is_read(keys: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "parts" / "deep"
    folder.mkdir(parents=True)
    offset = int(keys.get("offset", "0"))
    (folder / "w.bin").write_bytes(b"\xff" * offset + WEIGHT.tobytes() + b"\xff" * 3)
    loaded = load(as_path(external(conv_model(), "parts/deep/w.bin", **keys), tmp_path))
    np.testing.assert_array_equal(loaded.weights["w"], WEIGHT)
    assert not loaded.weights["w"].flags.writeable
    assert not loaded.proto.graph.initializer[0].external_data


def test_external_data_of_inner_tensors_comes_inside(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHT.tobytes())
    tensor = external(conv_model(), "w.bin").graph.initializer[0]
    model = nodes_model(
        helper.make_node("Constant", [], ["w"], value=tensor),
        helper.make_node("Conv", ["x", "w"], ["y"]),
    )
    loaded = load(as_path(model, tmp_path))
    inner = loaded.proto.graph.node[0].attribute[0].t
    np.testing.assert_array_equal(numpy_helper.to_array(inner), WEIGHT)


def test_an_unknown_external_key_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHT.tobytes())
    with caplog.at_level(logging.WARNING, "prunecvt"):
        load(as_path(external(conv_model(), "w.bin", __class__="x"), tmp_path))
    assert "'__class__' is unknown" in caplog.text


INT4 = np.array([[-8, 7, 3], [1, -1, 0]])


@pytest.mark.parametrize(
    "tensor",
    [
        numpy_helper.from_array(INT4.astype(ml_dtypes.int4), "c"),
        helper.make_tensor("c", TensorProto.INT4, [2, 3], INT4.flatten()),
        numpy_helper.from_array((INT4 & 7).astype(ml_dtypes.uint4), "c"),
        numpy_helper.from_array(INT4.astype(ml_dtypes.bfloat16), "c"),
        numpy_helper.from_array(INT4.astype(np.float16), "c"),
        helper.make_tensor("c", TensorProto.FLOAT16, [2, 3], INT4.flatten()),
        helper.make_tensor("c", TensorProto.BFLOAT16, [2, 3], INT4.flatten()),
        helper.make_tensor("c", TensorProto.UINT4, [2, 3], INT4.flatten() & 7),
        helper.make_tensor("c", TensorProto.FLOAT8E4M3FN, [2, 3], INT4.flatten()),
        numpy_helper.from_array(INT4.astype(ml_dtypes.float8_e5m2), "c"),
        helper.make_tensor("c", TensorProto.UINT16, [2, 3], INT4.flatten() & 7),
        helper.make_tensor("c", TensorProto.DOUBLE, [2, 3], INT4.flatten()),
        helper.make_tensor("c", TensorProto.FLOAT, [2, 3], INT4.flatten()),
        helper.make_tensor("c", TensorProto.INT64, [2, 3], INT4.flatten()),
        helper.make_tensor("c", TensorProto.COMPLEX64, [2, 3], INT4.flatten() * 1j),
        helper.make_tensor("c", TensorProto.BOOL, [2, 3], INT4.flatten() > 0),
        helper.make_tensor("c", TensorProto.STRING, [2], ["one", "two"]),
        TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[0, 3]),
        TensorProto(name="c", data_type=TensorProto.INT64, dims=[], int64_data=[5]),
    ],
    ids=lambda tensor: f"{TensorProto.DataType.Name(tensor.data_type)}-{list(tensor.dims)}",
)
def test_every_way_to_store_values(tensor: TensorProto) -> None:
    model = nodes_model(relu("x", "y", "n"), weights=(tensor,))
    model.opset_import[0].version, model.ir_version = 21, 10
    values = load(model).weights["c"]
    expected = numpy_helper.to_array(tensor)
    assert values.dtype == expected.dtype
    assert values.shape == tuple(tensor.dims)
    np.testing.assert_array_equal(values, expected)


def test_packed_external_data_is_unpacked(tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(INT4.astype(ml_dtypes.int4), "c")
    (tmp_path / "c.bin").write_bytes(tensor.raw_data)
    model = nodes_model(relu("x", "y", "n"), weights=(tensor,))
    model.opset_import[0].version, model.ir_version = 21, 10
    values = load(as_path(external(model, "c.bin", length="3"), tmp_path)).weights["c"]
    np.testing.assert_array_equal(values.astype(int), INT4)


PEAK = """
import resource, sys
from prunecvt.loading.load import load
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
load(sys.argv[1])
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units elsewhere")
@pytest.mark.parametrize("outside", [False, True])
def test_memory_stays_near_the_size_of_the_model(outside: bool, tmp_path: Path) -> None:
    size = 48 * 2**20
    model = nodes_model(
        helper.make_node("Reshape", ["x", "shape"], ["v"]),
        helper.make_node("Gemm", ["v", "w"], ["g"]),
        relu("g", "y", "n"),
        weights=(
            weight("w", 192, size // 768),
            numpy_helper.from_array(np.array([1, 192], np.int64), "shape"),
        ),
    )
    if outside:
        (tmp_path / "w.bin").write_bytes(model.graph.initializer[0].raw_data)
        external(model, "w.bin")
    path = as_path(model, tmp_path)
    run = subprocess.run(
        [sys.executable, "-c", PEAK, str(path)], check=True, capture_output=True, text=True
    )
    assert int(run.stdout) < (1.2 if outside else 2.3) * size + 16 * 2**20
