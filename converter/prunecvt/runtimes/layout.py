"""Which convolutions onnxruntime runs in its fast blocked layout (NCHWc), by asking onnxruntime.

On x86 onnxruntime moves a convolution into blocks of 8 channels (AVX2) or 16 (AVX-512) only where
its input channels allow it; one that falls off runs slower than the wider one did (depthwise: up
to 3 times). So a session is built, its optimised graph written out, and each convolution looked up
in it. That takes some 50 ms, needs no timing, and gives the same answer every time.

Fused nodes carry the name of the last tensor they took in: ``Relu_out_nchwc`` for Conv, batch norm,
activation. So a convolution is known by all the names down its chain.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from prunecvt.errors import UnsupportedError
from prunecvt.loading.refusal import place
from prunecvt.report.schema import Layout, LayoutCheck

_NCHWC = "com.microsoft.nchwc"
_PLAIN = {("", "Conv"), ("ai.onnx", "Conv"), ("com.microsoft", "FusedConv")}
_REORDERS = {(_NCHWC, "ReorderInput"), (_NCHWC, "ReorderOutput")}
_SUFFIX = re.compile(r"_nchwc(_token_\d+)?$")
_FUSABLE = {
    "Add",
    "BatchNormalization",
    "Clip",
    "HardSigmoid",
    "Identity",
    "LeakyRelu",
    "Mul",
    "Relu",
    "Sigmoid",
    "Tanh",
}
_LONGEST_CHAIN = 6


@dataclass(frozen=True)
class ConvLayout:
    """One convolution of the main graph.

    Attributes:
        tensor: the output tensor of the Conv node, its name in the report.
        chain: ``tensor`` and the tensors after it that a runtime may fuse into the convolution.
        nchwc: whether onnxruntime runs it in blocks; None where the optimised graph has lost it.
    """

    tensor: str
    chain: tuple[str, ...]
    nchwc: bool | None


def layout_of(model: Path | bytes) -> tuple[Layout, tuple[ConvLayout, ...]]:
    """Returns the counts of the optimised graph and every convolution of ``model``, in file order.

    Args:
        model: a file, or a serialized model without external data.

    Raises:
        UnsupportedError: E413, onnxruntime cannot load the model.
    """
    optimised = _optimised(model)
    kinds = [(node.domain, node.op_type) for node in optimised.graph.node]
    layout = Layout(
        nchwc_convs=kinds.count((_NCHWC, "Conv")),
        plain_convs=sum(kind in _PLAIN for kind in kinds),
        reorders=sum(kind in _REORDERS for kind in kinds),
    )
    chains = _chains(_skeleton(model).graph)
    found = {
        (_SUFFIX.sub("", node.name) if node.domain == _NCHWC else node.output[0]): node.domain
        for node in optimised.graph.node
        if (node.domain, node.op_type) == (_NCHWC, "Conv") or (node.domain, node.op_type) in _PLAIN
    }
    owner = pair(chains, [(name,) for name in found])
    domains = list(found.values())
    return layout, tuple(
        ConvLayout(chain[0], chain, domains[owner[i]] == _NCHWC if i in owner else None)
        for i, chain in enumerate(chains)
    )


def check_layout(before: Path | bytes, after: Path | bytes) -> LayoutCheck:
    """Compares two models; ``fell_off`` names the output tensors (in ``before``) of convolutions.

    Where ``before`` has no blocked convolution (not an x86 CPU, or a file that keeps onnxruntime
    from moving them) nothing can fall off.

    Raises:
        UnsupportedError: E413, onnxruntime cannot load one of them.
    """
    layout_before, convs_before = layout_of(before)
    layout_after, convs_after = layout_of(after)
    partner = pair([c.chain for c in convs_before], [c.chain for c in convs_after])
    fell_off = [
        conv.tensor
        for i, conv in enumerate(convs_before)
        if conv.nchwc and i in partner and convs_after[partner[i]].nchwc is False
    ]
    return LayoutCheck(before=layout_before, after=layout_after, fell_off=fell_off)


def pair(left: Sequence[Sequence[str]], right: Sequence[Sequence[str]]) -> dict[int, int]:
    """Matches chains one to one by a name they share, the names nearest to the Conv first.

    A residual Add stands in the chains of both its branches; taking near names first leaves it to
    the branch that was fused with it.

    Returns:
        index into ``left`` -> index into ``right``, for those that have a partner.
    """
    places: dict[str, list[tuple[int, int]]] = {}
    for j, chain in enumerate(right):
        for depth, name in enumerate(chain):
            places.setdefault(name, []).append((depth, j))
    candidates = sorted(
        (depth + other, i, j)
        for i, chain in enumerate(left)
        for depth, name in enumerate(chain)
        for other, j in places.get(name, [])
    )
    matched: dict[int, int] = {}
    taken: set[int] = set()
    for _, i, j in candidates:
        if i not in matched and j not in taken:
            matched[i] = j
            taken.add(j)
    return matched


def block_width() -> int:
    """Returns the channels of a block on this machine (8 or 16), or 1 where there are no blocks.

    onnxruntime says it itself: it pads the single output channel of a probe to one block.
    """
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[1, 1])],
        "probe",
        [value("x", TensorProto.FLOAT, [1, 1, 4, 4])],
        [value("y", TensorProto.FLOAT, [1, 1, 4, 4])],
        [helper.make_tensor("w", TensorProto.FLOAT, [1, 1, 1, 1], [1.0])],
    )
    opsets = [helper.make_opsetid("", 17)]
    probe = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    for node in (optimised := _optimised(probe.SerializeToString()).graph).node:
        if node.domain == _NCHWC and node.op_type == "Conv":
            weight = next(t for t in optimised.initializer if t.name == node.input[1])
            return int(weight.dims[0])
    return 1


def _skeleton(model: Path | bytes) -> onnx.ModelProto:
    if isinstance(model, bytes):
        return onnx.load_model_from_string(model)
    return onnx.load(str(model), load_external_data=False)


def _optimised(model: Path | bytes) -> onnx.ModelProto:
    """Returns the graph that onnxruntime would run, without its weights."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory(prefix="prunecvt-") as folder:
        path = Path(folder) / "optimised.onnx"
        options.optimized_model_filepath = str(path)
        # a model beyond 2 GiB cannot be written in one piece
        key = "session.optimized_model_external_initializers_file_name"
        options.add_session_config_entry(key, "weights")
        source = model if isinstance(model, bytes) else str(model)
        try:
            onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
            return onnx.load(str(path), load_external_data=False)
        except Exception as error:  # onnxruntime's errors have no base of their own
            name = "model" if isinstance(model, bytes) else str(model)
            raise UnsupportedError(
                "E413",
                "onnxruntime cannot load the model",
                where=place(name, " ".join(str(error).split())),
                help="check that onnxruntime runs the original model",
            ) from error


def _chains(graph: onnx.GraphProto) -> list[tuple[str, ...]]:
    """Returns for each Conv its output and the tensors that may be fused into it, nearest first."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    public = {value.name for value in graph.output}
    return [
        tuple(_walk(node.output[0], readers, public))
        for node in graph.node
        if node.op_type == "Conv" and node.domain in ("", "ai.onnx")
    ]


def _walk(name: str, readers: dict[str, list[onnx.NodeProto]], public: set[str]) -> Iterable[str]:
    for _ in range(_LONGEST_CHAIN):
        yield name
        after = readers.get(name, [])
        if len(after) != 1 or name in public or after[0].op_type not in _FUSABLE:
            return
        name = after[0].output[0]
