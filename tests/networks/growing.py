"""A network in the making: its tensors and their sizes, and operators as each opset writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from models import Net, Value
from networks.choices import Choices

Size = tuple[int, int]  # as the model is first probed, and then where sizes are open
WIDTHS = (4, 2, 3, 6, 8, 12)
MOST = 32  # channels of a tensor; wider ones are brought down
LARGEST = 3072  # elements of an example
OPSETS = (17, *range(7, 27))
INT_MAX = 2**31 - 1


@dataclass(frozen=True)
class Tensor:
    """Dimensions are [batch, channels, *space], or [batch, *space, channels] where ``last``."""

    name: str
    channels: int
    space: tuple[Size, ...] = ()
    last: bool = False

    @property
    def axis(self) -> int:
        return len(self.space) + 1 if self.last else 1

    @property
    def spaces(self) -> list[int]:
        first = 1 if self.last else 2
        return list(range(first, first + len(self.space)))

    @property
    def fixed(self) -> bool:
        """Whether no size beside the batch is open."""
        return all(a == b for a, b in self.space)

    @property
    def positions(self) -> int:
        return int(np.prod([a for a, _ in self.space]))

    def sizes(self) -> list[int]:
        """Dimensions after the batch, of a tensor whose space is fixed."""
        space = [a for a, _ in self.space]
        return [*space, self.channels] if self.last else [self.channels, *space]


class Network:
    """Grows step by step; ``tensors`` are what later steps may read."""

    def __init__(self, header: Choices) -> None:
        self.net = Net(opset=header.pick(*OPSETS), seed=header.below(1000))
        self.tensors: list[Tensor] = []
        self.shared: dict[tuple[int, ...], str] = {}
        self.steps: dict[str, list[str]] = {}
        rank = header.pick(2, 2, 2, 1, 1, 3, 0)
        self.open = header.chance(12) and rank in (1, 2)
        batch: int | str = header.pick("N", "N", "N", 2, 1)
        last = header.chance(35)
        sides = header.pick(*{0: [()], 1: [(12,), (5,)], 2: [(8, 8), (6, 8)], 3: [(4, 4, 6)]}[rank])
        if self.open:
            sides = (8,) * rank
        space = tuple((side, 2 * side if self.open else side) for side in sides)
        self.stated: dict[str, tuple[int, ...]] = {}
        for name in ("x", "second") if header.chance(15) else ("x",):
            width = header.pick(3, 1, 4)
            tensor = Tensor(name, width, space, last)
            letters = [f"S{k}" for k in range(rank)] if self.open else sides
            dims = [*letters, width] if last else [width, *letters]
            self.net.input(batch, *dims, name=name)
            self.tensors.append(tensor)
            if self.open:
                self.stated[name] = (batch if isinstance(batch, int) else 2, *tensor.sizes())

    # Operators as the opset writes them; all take and give names.

    @property
    def opset(self) -> int:
        return self.net.opset

    def op(self, op: str, *inputs: Value, **attrs: Any) -> str:
        return self.net.add(op, *inputs, **attrs)

    def weight(self, *shape: int, fan: int = 1) -> str:
        return self.net.random(*shape, scale=1.3 / max(fan, 1) ** 0.5)

    def reshape(self, x: str, *target: int) -> str:
        return self.op("Reshape", x, np.array(target))

    def transpose(self, x: str, *order: int) -> str:
        return self.op("Transpose", x, perm=list(order))

    def axes(self, op: str, x: str, axes: Sequence[int], since: int = 13, **attrs: Any) -> str:
        """An operator whose axes became an input in opset ``since``."""
        if self.opset >= since:
            return self.op(op, x, np.array(axes), **attrs)
        return self.op(op, x, axes=[int(a) for a in axes], **attrs)

    def reduce(self, op: str, x: str, axes: Sequence[int], keepdims: int = 1) -> str:
        return self.axes(op, x, axes, 13 if op == "ReduceSum" else 18, keepdims=keepdims)

    def split(self, x: str, sizes: Sequence[int], axis: int, stated: bool = True) -> list[str]:
        attrs: dict[str, Any] = {"axis": axis, "outputs": len(sizes)}
        if not stated and len(set(sizes)) == 1:
            attrs.update({"num_outputs": len(sizes)} if self.opset >= 18 else {})
            return self.net.many("Split", x, **attrs)
        if self.opset >= 13:
            return self.net.many("Split", x, np.array(sizes), **attrs)
        return self.net.many("Split", x, split=list(sizes), **attrs)

    def slice(self, x: str, start: int, end: int, axis: int, step: int = 1) -> str:
        if self.opset < 10:
            return self.op("Slice", x, starts=[start], ends=[end], axes=[axis])
        bounds = [np.array([v]) for v in (start, end, axis)]
        return self.op("Slice", x, *bounds, *([] if step == 1 else [np.array([step])]))

    def pad(self, x: str, pads: Sequence[int], mode: str = "constant", value: float = 0) -> str:
        if self.opset < 11:
            return self.op("Pad", x, pads=list(pads), mode=mode, value=float(value))
        fill = [np.array(value, np.float32)] if value else []
        return self.op("Pad", x, np.array(pads), *fill, mode=mode)

    def clip(self, x: str, low: float, high: float) -> str:
        if self.opset < 11:
            return self.op("Clip", x, min=low, max=high)
        return self.op("Clip", x, np.float32(low), np.float32(high))

    # Tensors.

    def choose(self, c: Choices) -> Tensor:
        """The newest as a rule, else any."""
        return self.tensors[-1 - (c.below(len(self.tensors)) if c.chance(35) else 0)]

    def partners(self, x: Tensor, same_width: bool = False) -> list[Tensor]:
        """Other tensors of the same space and layout, the newest first."""
        return [
            t
            for t in reversed(self.tensors)
            if (t.space, t.last) == (x.space, x.last)
            and t.name != x.name
            and (t.channels == x.channels or not same_width)
        ]

    def first(self, x: Tensor) -> Tensor:
        """The tensor with its channels first; a vector gets one position."""
        if not x.space:
            return Tensor(self.axes("Unsqueeze", x.name, [2]), x.channels, ((1, 1),))
        if not x.last:
            return x
        return Tensor(self.transpose(x.name, 0, x.axis, *x.spaces), x.channels, x.space)

    def last(self, x: Tensor) -> Tensor:
        if x.last or not x.space:
            return replace(x, last=True)
        return Tensor(self.transpose(x.name, 0, *x.spaces, 1), x.channels, x.space, last=True)

    def as_was(self, y: Tensor, x: Tensor) -> Tensor:
        """``y`` in the layout of ``x``."""
        return self.last(y) if x.last else y

    def vector(self, x: Tensor, size: int, fan: int = 1) -> str:
        """Weights that broadcast along the channels of ``x``."""
        return self.weight(size, *([] if x.last else [1] * len(x.space)), fan=fan)

    def positive(self, size: int) -> str:
        return self.net.positive(size)

    def tanh(self, x: Tensor) -> Tensor:
        """Keeps values in bounds where they were multiplied."""
        return replace(x, name=self.op("Tanh", x.name))
