"""A tiny residual network, what is slimmed from it, and data: for tests of tuning."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import prunecvt
from models import Net
from prunecvt.report.schema import TuneRow

SIZE, CLASSES = 8, 5
QUICK: dict[str, Any] = {"threads": 1, "ir": False, "batch": 16, "rate": 0.03}


def network(end: str = "", norm: bool = False) -> onnx.ModelProto:
    """Two residual blocks between a convolution and a product."""
    net = Net(seed=1)
    x = net.conv(net.input("N", 3, SIZE, SIZE), 3, 16, 3, name="stem")
    for k in range(2):
        inner = net.conv(x, 16, 16, 3, name=f"block{k}_a")
        inner = net.add("Relu", net.norm(inner, 16) if norm else inner)
        x = net.add("Add", x, net.conv(inner, 16, 16, 3, name=f"block{k}_b"), name=f"sum{k}")
    pooled = net.add("Flatten", net.add("GlobalAveragePool", net.add("Relu", x)))
    scores = net.add("Gemm", pooled, net.random(16, CLASSES), name="" if end else "scores")
    net.output(net.add(end, scores, name="scores") if end else scores, shape=["N", CLASSES])
    return net.proto()


def slimmed(model: onnx.ModelProto, **options: Any) -> onnx.ModelProto:
    """Half of the blocks' inner width is gone."""
    chosen = {"ratio": 0.5, "round_to": 1, "only": ["block*_a"], "verify": False, **options}
    return prunecvt.slim(model, **chosen).model


def images(count: int = 96, seed: int = 0) -> np.ndarray[Any, Any]:
    draw = np.random.default_rng(seed)
    return draw.standard_normal((count, 3, SIZE, SIZE)).astype(np.float32)


def saved(folder: Path, **kinds: Any) -> tuple[Path, Path, Path]:
    """The original, the slimmed model and the data, as files."""
    model = network(**kinds)
    paths = folder / "net.onnx", folder / "slim.onnx", folder / "data.npz"
    onnx.save(model, paths[0])
    onnx.save(slimmed(model), paths[1])
    np.savez(paths[2], x=images())
    return paths


def tuned(original: Any, slim: Any, out: Path | None = None, **options: Any) -> prunecvt.Result:
    chosen: dict[str, Any] = {**QUICK, "steps": 40, "calib": images(), **options}
    result = prunecvt.tune(original, slim, out, **chosen)
    assert result is not None
    return result


@contextmanager
def interrupted(owner: type, name: str, call: int) -> Iterator[None]:
    """Ctrl-C in the given call of a method, once it has done its work."""
    usual, calls = getattr(owner, name), itertools.count(1)

    def method(*arguments: Any, **named: Any) -> Any:
        found = usual(*arguments, **named)
        if next(calls) == call:
            signal.raise_signal(signal.SIGINT)
        return found

    # started in the background of a shell, the tests ignore the signal
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)
    setattr(owner, name, method)
    try:
        yield
    finally:
        setattr(owner, name, usual)
        signal.signal(signal.SIGINT, heard)


def row(result: prunecvt.Result) -> TuneRow:
    assert result.report.tune is not None
    return result.report.tune
