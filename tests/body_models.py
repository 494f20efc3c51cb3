"""Graphs with bodies (of If, Loop and Scan) in the making."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models import FLOAT, INT64, Net

BOOL = TensorProto.BOOL
Entry = tuple[str, int, Sequence[int] | None]


class Body(Net):
    """A body in the making; its weights are its own initializers, or Constant nodes."""

    def __init__(self, net: Net, stem: str) -> None:
        super().__init__(net.opset, seed=len(stem))
        self.stem, self.constants = stem, False

    def fresh(self, stem: str = "t") -> str:
        return f"{self.stem}_{super().fresh(stem)}"

    def pair(self, x: str, inputs: int = 3, outputs: int = 3, **attrs: Any) -> str:
        """A convolution named after the body that makes eight channels, and one that reads them."""
        x = self.conv(x, inputs, 8, 3, name=f"{self.stem}_first", **attrs)
        return self.conv(self.add("Relu", x), 8, outputs)

    def graph(self, *outputs: str, entries: Sequence[Entry] = ()) -> onnx.GraphProto:
        tensors = [numpy_helper.from_array(v, n) for n, v in self.weights.items()]
        nodes = list(self.nodes)
        if self.constants:
            made = [helper.make_node("Constant", [], [t.name], value=t) for t in tensors]
            nodes, tensors = [*made, *nodes], []
        kinds = [BOOL if name == "on" else FLOAT for name in outputs]
        return helper.make_graph(
            nodes,
            self.stem,
            [helper.make_tensor_value_info(*entry) for entry in entries],
            [
                helper.make_tensor_value_info(n, k, None)
                for n, k in zip(outputs, kinds, strict=True)
            ],
            tensors,
        )


def branch(net: Net, stem: str, build: Callable[[Body], str], constants: bool = False) -> Any:
    body = Body(net, stem)
    body.constants = constants
    return body.graph(build(body))


def image(net: Net) -> tuple[str, str]:
    """A graph input and a flag."""
    return net.input("N", 3, 6, 6), net.input(name="flag", type=BOOL)


def choice(net: Net, flag: Any, then: Any, other: Any, width: int = 3) -> str:
    made = net.add("If", flag, then_branch=then, else_branch=other)
    return net.output(made, shape=["N", width, 6, 6])


LOOPED: list[Entry] = [("i", INT64, []), ("go", BOOL, []), ("state", FLOAT, None)]


def loop(net: Net, start: str, build: Callable[[Body], str], trips: Any = 3) -> str:
    body = Body(net, "loop")
    body.add("Identity", "go", name="on")
    made = build(body)
    graph = body.graph("on", made, entries=LOOPED)
    return net.add("Loop", np.array(trips), np.array(True), start, body=graph)
