"""Nets small enough to compute by hand, with samples to train them on."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch

from models import Net
from prunecvt.bridge import to_module
from prunecvt.bridge.methods.fit import Examples, Schedule
from prunecvt.bridge.methods.training import Training


def two_layers(norm: bool = False) -> onnx.ModelProto:
    """A convolution of 3 to 8 channels, a norm where asked, a mean, and a product to 4 classes."""
    graph = Net()
    x = graph.conv(graph.input("N", 3, 4, 4), 3, 8, 3, name="conv")
    x = graph.add("Relu", graph.norm(x, 8) if norm else x)
    mean = graph.add("ReduceMean", x, axes=[2, 3], keepdims=0)
    graph.output(graph.add("MatMul", mean, graph.random(8, 4, name="last")), shape=["N", 4])
    return graph.proto()


def module_of(model: onnx.ModelProto) -> Any:
    return to_module(model, train=True)


def lesson(steps: int = 12, rate: float = 0.1, seed: int = 0) -> Training:
    """Random images with random classes: 16 of them, 4 a step."""
    draw = np.random.default_rng(0)
    images = torch.from_numpy(draw.standard_normal((16, 3, 4, 4)).astype(np.float32))
    labels = torch.from_numpy(draw.integers(0, 4, 16))
    return Training(Examples(images, labels), Schedule(steps, rate, 4, "thirds", seed=seed))


def equal(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether two states are the same to the bit."""
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )
