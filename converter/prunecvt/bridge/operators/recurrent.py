"""LSTM (Hochreiter and Schmidhuber, 1997), GRU (Cho et al., 2014) and plain RNN, step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from prunecvt.bridge.operators.step import Operator, Step, Values, given

_FUNCTIONS: dict[str, Any] = {"Sigmoid": torch.sigmoid, "Tanh": torch.tanh, "Relu": torch.relu}
_USUAL = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
Cell = Callable[..., Any]


def recurrent(kind: str) -> Operator:
    """The operator ``kind``: LSTM, GRU or RNN."""
    cell: Cell = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}[kind]

    def run(step: Step, values: Values) -> Any:
        x = values[0].transpose(0, 1) if step.get("layout", 0) else values[0]
        directions = values[1].shape[0]
        _check(step, values, x)
        runs = [_direction(step, kind, cell, x, values, k) for k in range(directions)]
        y = torch.stack([made for made, _ in runs], 1)  # [time, directions, batch, hidden]
        states = [torch.stack(parts) for parts in zip(*(state for _, state in runs), strict=True)]
        if step.get("layout", 0):
            y = y.permute(2, 0, 1, 3)
            states = [state.transpose(0, 1) for state in states]
        return (y, *states)

    return run


def _check(step: Step, values: Values, x: Tensor) -> None:
    lengths = given(values, 4)
    if lengths is not None and bool((lengths != x.shape[0]).any()):
        raise step.refuse("sequences of several lengths")
    if step.get("input_forget", 0) or step.get("activation_alpha") or "clip" in step.attributes:
        raise step.refuse("input_forget, clip or activation_alpha")


def _functions(step: Step, kind: str, direction: int) -> list[Any]:
    names = [n.decode() if isinstance(n, bytes) else n for n in step.get("activations", [])]
    each = len(_USUAL[kind])
    chosen = names[direction * each : (direction + 1) * each] or _USUAL[kind]
    try:
        return [_FUNCTIONS[name] for name in chosen]
    except KeyError as error:
        raise step.refuse(f"the activation {error}") from error


def _direction(
    step: Step, kind: str, cell: Cell, x: Tensor, values: Values, direction: int
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One direction: what it makes at each time, and its last states."""
    weight, recurrence = values[1][direction], values[2][direction]
    hidden, batch = recurrence.shape[1], x.shape[1]
    rows = _GATES[kind] * hidden
    bias = values[3][direction] if given(values, 3) is not None else x.new_zeros(2 * rows)
    backward = step.get("direction", "forward") == "reverse" or direction == 1
    state = tuple(
        _initial(step, given(values, place), direction, (batch, hidden), x)
        for place in ((5, 6) if kind == "LSTM" else (5,))
    )
    peephole = given(values, 7)[direction] if given(values, 7) is not None else None
    extra = {
        "functions": _functions(step, kind, direction),
        "peephole": peephole,
        "late": bool(step.get("linear_before_reset", 0)),
    }
    read = x @ weight.T + bias[:rows]
    made: list[Tensor] = []
    times = range(x.shape[0])
    for time in reversed(times) if backward else times:
        state = cell(read[time], state, recurrence, bias[rows:], extra)
        made.append(state[0])
    return torch.stack(made[::-1] if backward else made), state


def _initial(step: Step, value: Any, direction: int, shape: tuple[int, int], x: Tensor) -> Tensor:
    if value is None:
        return x.new_zeros(shape)
    return value[:, direction] if step.get("layout", 0) else value[direction]


def _lstm(
    read: Tensor, state: Any, recurrence: Tensor, bias: Tensor, extra: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    """Gates in ONNX's order: input, output, forget, cell."""
    before, cell = state
    f, g, h = extra["functions"]
    inner, outer, forget, new = (read + before @ recurrence.T + bias).chunk(4, -1)
    if extra["peephole"] is not None:
        to_inner, to_outer, to_forget = extra["peephole"].chunk(3)
        inner, forget = inner + to_inner * cell, forget + to_forget * cell
    cell = f(forget) * cell + f(inner) * g(new)
    if extra["peephole"] is not None:
        outer = outer + to_outer * cell
    return f(outer) * h(cell), cell


def _gru(
    read: Tensor, state: Any, recurrence: Tensor, bias: Tensor, extra: dict[str, Any]
) -> tuple[Tensor]:
    """Gates in ONNX's order: update, reset, hidden."""
    (before,) = state
    f, g = extra["functions"]
    hidden = before.shape[-1]
    gates = read[..., : 2 * hidden] + before @ recurrence[: 2 * hidden].T + bias[: 2 * hidden]
    update, reset = f(gates).chunk(2, -1)
    rows, shift = recurrence[2 * hidden :], bias[2 * hidden :]
    if extra["late"]:
        new = read[..., 2 * hidden :] + reset * (before @ rows.T + shift)
    else:
        new = read[..., 2 * hidden :] + (reset * before) @ rows.T + shift
    return ((1 - update) * g(new) + update * before,)


def _rnn(
    read: Tensor, state: Any, recurrence: Tensor, bias: Tensor, extra: dict[str, Any]
) -> tuple[Tensor]:
    return (extra["functions"][0](read + state[0] @ recurrence.T + bias),)
