"""Other tools on the same nets: Torch-Pruning (torch modules) and onnxsim (ONNX files)."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import numpy_helper

from speed import peak, timed


def torch_pruning(name: str, ratio: float) -> dict[str, float]:
    """Seconds that Torch-Pruning takes to build its dependency graph and to prune."""
    import torch
    import torch_pruning as tp

    from torch_nets import MODULES

    make, size = MODULES[name]
    module = make().eval()
    full = sum(p.numel() for p in module.parameters())
    example = torch.randn(1, 3, size, size)
    times = {"before": peak()}
    classifier = [m for m in module.modules() if isinstance(m, torch.nn.Linear)]

    def build() -> tp.pruner.MagnitudePruner:
        return tp.pruner.MagnitudePruner(
            module,
            example,
            importance=tp.importance.MagnitudeImportance(p=2),
            pruning_ratio=ratio,
            ignored_layers=classifier,
        )

    pruner = timed(times, "build", build)
    timed(times, "prune", pruner.step)
    times["left"] = sum(p.numel() for p in module.parameters()) / full
    return times


def onnxsim_simplify(path: Path) -> dict[str, float]:
    """Seconds that onnxsim takes to simplify."""
    import onnxsim

    times = {"before": peak()}
    model = timed(times, "load", onnx.load, path)
    timed(times, "simplify", onnxsim.simplify, model)
    return times


def onnxsim_prune(path: Path, ratio: float) -> dict[str, float]:
    """Seconds that onnxsim takes to simplify and to cut (it wants BatchNormalization folded)."""
    import onnxsim

    times = {"before": peak()}
    model = timed(times, "load", onnx.load, path)
    simplified, _ = timed(times, "simplify", onnxsim.simplify, model)
    pruned = timed(times, "prune", onnxsim.apply_structured_pruning_cpp, simplified, ratio)
    times["left"] = _elements(pruned) / _elements(model)
    return times


def _elements(model: onnx.ModelProto) -> int:
    tensors = [numpy_helper.to_array(t) for t in model.graph.initializer]
    return sum(t.size for t in tensors if t.dtype.kind == "f")
