"""Which convolutions stay on onnxruntime's blocked path."""

from __future__ import annotations

from pathlib import Path

import pytest

from conv_models import Net, stack
from prunecvt.errors import UnsupportedError
from prunecvt.runtimes.layout import block_width, check_layout, layout_of, pair

blocked = pytest.mark.skipif(block_width() == 1, reason="this CPU has no blocked layout")


def test_a_block_is_as_wide_as_a_vector_register() -> None:
    assert block_width() in (1, 4, 8, 16)


@blocked
def test_aligned_convolutions_are_blocked_and_named_by_their_output_tensor() -> None:
    layout, convs = layout_of(stack(64).bytes("r2"))
    assert (layout.nchwc_convs, layout.plain_convs) == (3, 0)
    assert [(conv.tensor, conv.nchwc) for conv in convs] == [
        ("c0", True),
        ("c1", True),
        ("c2", True),
    ]


@blocked
def test_the_convolution_that_reads_an_odd_width_falls_off() -> None:
    check = check_layout(stack(64).bytes("r2"), stack(62).bytes("r2"))
    assert check.fell_off == ["c1", "c2"]  # c0 reads 8 channels still
    assert check.after.plain_convs == 2
    assert check.after.nchwc_convs == 1


@blocked
@pytest.mark.parametrize("width", [20, 32, 36, 48])
def test_a_width_that_is_a_multiple_of_four_keeps_every_convolution(width: int) -> None:
    assert check_layout(stack(64).bytes("r2"), stack(width).bytes("r2")).fell_off == []


def depthwise(width: int) -> bytes:
    net = Net()
    net.conv("x", "expand", 8, width)
    net.conv("expand", "depthwise", width, width, group=width)
    net.conv("depthwise", "project", width, 8)
    return net.bytes("project")


@blocked
@pytest.mark.parametrize(("width", "fell_off"), [(60, []), (62, ["depthwise", "project"])])
def test_a_depthwise_convolution_needs_a_multiple_of_four(width: int, fell_off: list[str]) -> None:
    assert check_layout(depthwise(64), depthwise(width)).fell_off == fell_off


@blocked
def test_a_grouped_convolution_needs_whole_blocks_per_group() -> None:
    def grouped(width: int) -> bytes:
        net = Net()
        net.conv("x", "wide", 8, 2 * width)
        net.conv("wide", "grouped", 2 * width, 64, group=2)
        return net.bytes("grouped")

    block = block_width()
    assert check_layout(grouped(block), grouped(block + 4)).fell_off == ["grouped"]
    assert check_layout(grouped(2 * block), grouped(block)).fell_off == []


def residual(width: int, *, folded: bool) -> bytes:
    net = Net()
    shortcut = net.conv("x", "shortcut", 8, width)
    if folded:
        net.conv("x", "bn", 8, width)
    else:
        net.conv("x", "main", 8, width)
        net.batch_norm("main", "bn", width)
    net.node("Add", ["bn", shortcut], "sum")
    net.node("Relu", ["sum"], "out")
    net.conv("out", "last", width, 8)
    return net.bytes("last")


@blocked
def test_both_branches_of_a_residual_are_told_apart() -> None:
    _, convs = layout_of(residual(64, folded=False))
    assert {conv.tensor: conv.nchwc for conv in convs} == {
        "shortcut": True, "main": True, "last": True
    }  # fmt: skip


@blocked
def test_a_folded_batch_norm_does_not_lose_the_convolution() -> None:
    check = check_layout(residual(64, folded=False), residual(62, folded=True))
    assert check.fell_off == ["last"]


@blocked
def test_nothing_falls_off_where_nothing_was_blocked() -> None:
    def listed(width: int) -> bytes:  # weights as graph inputs keep onnxruntime from blocking
        net = stack(width)
        model = net.model("r2")
        for tensor in model.graph.initializer:
            value = model.graph.input.add(name=tensor.name)
            value.type.tensor_type.elem_type = tensor.data_type
            for size in tensor.dims:
                value.type.tensor_type.shape.dim.add(dim_value=size)
        return bytes(model.SerializeToString())

    check = check_layout(listed(64), listed(62))
    assert check.before.nchwc_convs == 0
    assert check.fell_off == []


def test_a_file_and_its_bytes_have_the_same_layout(tmp_path: Path) -> None:
    net = stack(24)
    assert layout_of(net.save(tmp_path / "m.onnx", "r2")) == layout_of(net.bytes("r2"))


def test_a_file_that_onnxruntime_refuses_is_a_typed_error(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(UnsupportedError, match="cannot load") as caught:
        layout_of(path)
    assert caught.value.code == "E413"
    assert "broken.onnx" in caught.value.where


def test_pairing_gives_a_shared_name_to_the_nearest() -> None:
    assert pair([("a", "sum"), ("b", "bn", "sum")], [("sum",), ("a",)]) == {0: 1, 1: 0}
