"""The oracle is worth what it catches: with a bug put in, generated networks must fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from networks import grow
from networks.choices import random_genome
from networks.trial import check
from prunecvt_passes import flow, slice
from prunecvt_passes.flow import Flow
from prunecvt_passes.rules import RULES, contraction, layout, movement
from prunecvt_passes.rules.elementwise import elementwise

Patch = Callable[[pytest.MonkeyPatch], None]
MUTANTS: list[Any] = []
MOST = 600  # seeds tried per mutant


def mutant(*operators: str) -> Callable[[Patch], Patch]:
    """Registers a bug that networks with one of ``operators`` have to show."""

    def register(patch: Patch) -> Patch:
        MUTANTS.append(pytest.param(patch, operators, id=patch.__name__))
        return patch

    return register


def changed(op: str, change: Callable[[list[Any]], list[Any]]) -> Patch:
    """Changes the labels that the rule of ``op`` gives its first output."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        rule = RULES[op]

        def wrong(flow: Flow, node: Any) -> list[Any]:
            first, *others = rule(flow, node)
            return [change(list(first)), *others]

        monkeypatch.setitem(RULES, op, wrong)

    return patch


def reversed_channels(axes: list[Any]) -> list[Any]:
    return [axes[0], None if axes[1] is None else axes[1][::-1].copy(), *axes[2:]]


@mutant("Concat")
def concat_in_the_wrong_order(monkeypatch: pytest.MonkeyPatch) -> None:
    changed("Concat", reversed_channels)(monkeypatch)


@mutant("Relu")
def activation_reverses(monkeypatch: pytest.MonkeyPatch) -> None:
    changed("Relu", reversed_channels)(monkeypatch)


@mutant("SpaceToDepth")
def space_to_depth_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    def repeat(axes: list[Any]) -> list[Any]:
        if axes[1] is not None:
            axes[1] = np.repeat(axes[1][: axes[1].size // 4], 4)
        return axes

    changed("SpaceToDepth", repeat)(monkeypatch)


@mutant("Tile")
def tile_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    def repeat(axes: list[Any]) -> list[Any]:
        if axes[1] is not None:
            axes[1] = np.repeat(axes[1][: axes[1].size // 2], 2)
        return axes

    changed("Tile", repeat)(monkeypatch)


@mutant("DepthToSpace")
def depth_to_space_mixes_the_modes_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(flow: Flow, node: Any) -> list[Any]:
        labels = flow.axes_of(node.inputs[0])[1]
        if labels is None or labels.size == 4:
            return movement.depth_to_space(flow, node)
        mode = node.attributes.get("mode", "DCR")
        rows = labels.reshape(-1, 4).T if mode == "DCR" else labels.reshape(4, -1)
        flow.ties.append((np.broadcast_to(rows[:1], rows[1:].shape).ravel(), rows[1:].ravel()))
        return [[None, rows[0].copy(), None, None]]

    monkeypatch.setitem(RULES, "DepthToSpace", wrong)


@mutant("Gather")
def indices_are_not_renumbered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slice, "_rewrite_indices", lambda *_: None)


@mutant("Split", "Slice")
def sizes_are_not_rewritten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slice, "_rewrite_counts", lambda *_: None)


@mutant("Conv")
def the_next_channel_is_sliced(monkeypatch: pytest.MonkeyPatch) -> None:
    compress = np.compress
    monkeypatch.setattr(slice.np, "compress", lambda k, a, axis: compress(np.roll(k, 1), a, axis))


@mutant("Conv", "Gemm")
def reads_are_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Flow, "reading", lambda *_: None)


@mutant("Conv")
def biases_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contraction, "bias", lambda *_: None)


@mutant("Add", "Mul")
def operands_are_not_tied(monkeypatch: pytest.MonkeyPatch) -> None:
    tie = Flow.tie

    def forget(flow: Flow, first: Any, second: Any, node: Any, what: str = "") -> Any:
        return first if node.op in ("Add", "Mul") else tie(flow, first, second, node, what)

    monkeypatch.setattr(Flow, "tie", forget)


@mutant("BatchNormalization")
def one_vector_of_a_norm_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    tie, met = Flow.tie, [0]

    def forget(flow: Flow, first: Any, second: Any, node: Any, what: str = "") -> Any:
        met[0] += node.op == "BatchNormalization"
        skip = node.op == "BatchNormalization" and met[0] % 4 == 0
        return first if skip else tie(flow, first, second, node, what)

    monkeypatch.setattr(Flow, "tie", forget)


@mutant("Transpose")
def a_shuffle_ties_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    divided = layout.divided

    def forget(flow: Flow, *rest: Any) -> Any:
        count = len(flow.ties)
        made = divided(flow, *rest)
        del flow.ties[count:]
        return made

    monkeypatch.setattr(layout, "divided", forget)


@mutant("Conv")
def outputs_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "_pin_public", lambda *_: None)


@mutant("Softmax", "GlobalAveragePool")
def a_softmax_counts_as_elementwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, "Softmax", elementwise)


@mutant("Pad")
def padding_is_put_on_the_other_side(monkeypatch: pytest.MonkeyPatch) -> None:
    padded = movement._padded

    def wrong(*arguments: Any) -> Any:
        labels = padded(*arguments)
        return None if labels is None else labels[::-1].copy()

    monkeypatch.setattr(movement, "_padded", wrong)


@mutant("Split")
def a_split_is_off_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def shifted(axes: list[Any]) -> list[Any]:
        return [None if a is None else np.append(a[1:], a[:1]) for a in axes]

    changed("Split", shifted)(monkeypatch)


@mutant("Grouped")
def groups_are_told_apart_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(flow: Flow, node: Any, inner: Any, groups: int) -> None:
        data = flow.axes_of(node.inputs[0])[1]
        flow.tie(data, None if inner is None else np.repeat(inner, groups), node)
        flow.reading(node, 0, 1)

    monkeypatch.setattr(contraction, "_grouped_input", wrong)


@mutant("Grouped")
def a_multiplier_is_told_apart_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    depthwise = contraction._depthwise

    def wrong(flow: Flow, node: Any, out: Any, groups: int) -> Any:
        made = depthwise(flow, node, out, groups)
        return made if made is None else np.tile(made[:: out.size // groups], out.size // groups)

    monkeypatch.setattr(contraction, "_depthwise", wrong)


def operators_of(proto: onnx.ModelProto) -> set[str]:
    """Operators of a network, and ``Grouped`` where a convolution has groups."""
    nodes = proto.graph.node
    grouped = any(a.name == "group" and a.i > 1 for node in nodes for a in node.attribute)
    return {node.op_type for node in nodes} | ({"Grouped"} if grouped else set())


@pytest.mark.parametrize(("patch", "operators"), MUTANTS)
def test_the_oracle_catches(
    patch: Patch, operators: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    patch(monkeypatch)
    for seed in range(MOST):
        grown = grow(random_genome(seed))
        if not operators_of(grown.proto) & set(operators):
            continue
        try:
            check(grown)
        except Exception:  # however it shows: another result, another shape, a failed check
            return
    pytest.fail("no generated network shows the bug")
