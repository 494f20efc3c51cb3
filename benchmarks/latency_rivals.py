"""What other tools make of the nets of ``nets.py`` at equal multiply-accumulates, as ONNX files.

Torch-Pruning cuts the same net built in torch, as it comes and with its ``round_to=8``, the same
ratio in every layer; torch's exporter writes it. onnxsim cuts the ONNX file, in the layers that it
sees through.
"""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from prunecvt_passes.cost import cost
from prunecvt_passes.model import Model
from prunecvt_passes.normalise import Source, normalise

if TYPE_CHECKING:
    import torch

_TRIES = 12
Cut = Callable[[float], onnx.ModelProto]


def rivals(
    name: str, path: Path, size: int, shares: list[float]
) -> Iterator[tuple[str, float, Path]]:
    """Tool, share and file, for each share; a tool that is not installed is left out.

    Args:
        name: of the net.
        path: the net as ONNX.
        size: of its images.
        shares: of the multiply-accumulates that may be left.
    """
    whole = macs(onnx.load(path))
    for tool, opened in (
        ("Torch-Pruning", lambda: _torch_pruning(name, size, None)),
        ("Torch-Pruning, round_to=8", lambda: _torch_pruning(name, size, 8)),
        ("onnxsim", lambda: _onnxsim(path)),
    ):
        try:
            cut = opened()
        except ImportError as error:
            print(f"{tool}: {error}")
            continue
        for place, share in enumerate(shares):
            model = _within(cut, share * whole)
            if model is None:
                continue
            out = path.with_name(f"{path.stem}_{place}_{len(tool)}.onnx")
            onnx.save(model, out)
            yield tool, share, out


def macs(proto: onnx.ModelProto) -> int:
    """Multiply-accumulates of one image."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    dense = normalise(Source(Model.take(made, "net")))
    return cost(dense.graph, dense.batch).macs


def _within(cut: Cut, goal: float) -> onnx.ModelProto | None:
    """The largest model of the tool that costs no more than ``goal``, by bisection."""
    low, high, most, best = 0.0, 0.95, -1, None
    for _ in range(_TRIES):
        ratio = (low + high) / 2
        model = cut(ratio)
        price = macs(model)
        low, high = (low, ratio) if price <= goal else (ratio, high)
        if most < price <= goal:
            most, best = price, model
    return best


def _torch_pruning(name: str, size: int, round_to: int | None) -> Cut:
    import torch
    import torch_pruning as tp

    from torch_nets import MODULES

    torch.manual_seed(0)
    module = MODULES[name][0]().eval()
    example = torch.zeros(1, 3, size, size)

    def cut(ratio: float) -> onnx.ModelProto:
        made = copy.deepcopy(module)
        outputs = [m for m in made.modules() if isinstance(m, torch.nn.Linear)]
        outputs += [m for m in made.modules() if getattr(m, "out_channels", 0) == 1]
        tp.pruner.MagnitudePruner(
            made,
            example,
            importance=tp.importance.MagnitudeImportance(p=2),
            pruning_ratio=ratio,
            ignored_layers=outputs,
            round_to=round_to,
        ).step()
        return _exported(made, example)

    return cut


def _exported(module: torch.nn.Module, example: torch.Tensor) -> onnx.ModelProto:
    import torch

    written = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter that keeps to what is said
        torch.onnx.export(
            module,
            (example,),
            written,
            dynamo=False,
            input_names=["input"],
            output_names=["logits"],
            dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}},
        )
    return onnx.load_from_string(written.getvalue())


def _onnxsim(path: Path) -> Cut:
    import onnxsim

    simplified, _ = onnxsim.simplify(onnx.load(path))

    def cut(ratio: float) -> onnx.ModelProto:
        made = onnx.ModelProto()
        made.CopyFrom(simplified)
        found: onnx.ModelProto = onnxsim.apply_structured_pruning_cpp(made, sparsity=ratio)
        return found

    return cut
