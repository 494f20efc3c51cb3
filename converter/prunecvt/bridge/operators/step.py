"""What an operator's function is given: the node, the operator set, and how the run goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from prunecvt.errors import UnsupportedError
from prunecvt_passes.graph import Node

Values = list[Any]  # the inputs: a tensor each, None where an input is left out
Operator = Callable[["Step", Values], Any]
# Their inputs behind the first are sizes and axes, which stay on the CPU where they are read.
_STEERED = frozenset(
    (
        *("CumProd", "CumSum", "Expand", "Pad", "Reshape", "Resize", "Slice", "Split", "Squeeze"),
        *("Tile", "TopK", "Trilu", "Unsqueeze", "Upsample"),
    )
)


@dataclass
class Context:
    """What all steps of a run share.

    Attributes:
        stated: the batch that the graph states, None where it is open.
        fed: the batch of this run.
        training: whether the module is in training mode.
        generator: of what Dropout drops, on the CPU; seeded with 0 at the start, callers may seed
            it anew at any step.
    """

    stated: int | None = None
    fed: int | None = None
    training: bool = False
    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))


class Step:
    """One node, ready to run.

    Attributes:
        node: the node.
        opset: version of the default operator set.
        context: of the run.
        fixed: a BatchNormalization that normalises with its statistics in training too.
    """

    def __init__(self, node: Node, operator: Operator, opset: int, context: Context) -> None:
        self.node, self.opset, self.context = node, opset, context
        self.attributes = node.attributes
        self.fixed = False
        self._operator = operator
        self._steered = node.op in _STEERED or node.op.startswith("Reduce")

    def run(self, values: Values) -> Sequence[Tensor]:
        """Runs the node; returns its outputs in order."""
        made = self._operator(self, values if self._steered else _on_one_device(values))
        return made if isinstance(made, tuple | list) else (made,)

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, or its default."""
        return self.attributes.get(name, default)

    def integers(self, values: Values, place: int, name: str = "") -> list[int] | None:
        """Whole numbers from the attribute ``name`` or from input ``place``; None without both."""
        if name and name in self.attributes:
            stated = self.attributes[name]
            return list(stated) if isinstance(stated, list | tuple) else [stated]
        found = given(values, place)
        return None if found is None else [int(v) for v in found.reshape(-1).tolist()]

    def refuse(self, what: str) -> UnsupportedError:
        """The error for a setting of an operator that has no counterpart."""
        return UnsupportedError(
            "E440",
            f"{self.node.title}: {what} has no counterpart in torch",
            where=f"{self.node.title}, domain '{self.node.domain or 'ai.onnx'}'",
            node=self.node.name or self.node.output(0),
            help="train a model without that operator",
        )


def given(values: Values, place: int) -> Any:
    """Input ``place``, None where it is left out."""
    return values[place] if place < len(values) else None


def _on_one_device(values: Values) -> Values:
    """Moves what lies on the CPU to where the rest lies: sizes and indices are kept on the CPU."""
    devices = {value.device for value in values if value is not None}
    if len(devices) < 2:
        return values
    away = next(device for device in devices if device.type != "cpu")
    return [value if value is None else value.to(away) for value in values]
