"""Masks of single weights: what goes, what is counted, and that zeros stay zeros."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mask_nets import equal, lesson, module_of, two_layers  # noqa: E402
from method_nets import reshaped  # noqa: E402
from models import Net  # noqa: E402
from prunecvt import UsageError  # noqa: E402
from prunecvt.bridge.methods.fit import Hook  # noqa: E402
from prunecvt.bridge.methods.initialise import initialise  # noqa: E402
from prunecvt.bridge.methods.masks import (  # noqa: E402
    Masked,
    apply_masks,
    counts,
    density,
    full_masks,
    magnitude_masks,
    maskable,
    prune,
    random_masks,
)
from prunecvt.bridge.methods.training import Checkpoints, capture, restore, values_of  # noqa: E402
from prunecvt.reinit import Reinit, redraw  # noqa: E402
from prunecvt_passes.model import Model  # noqa: E402

SCORES = {"a": torch.tensor([[4.0, 1.0], [3.0, 2.0]]), "b": torch.tensor([10.0, 0.5])}


def test_what_goes_is_computed_by_hand() -> None:
    layer = prune(SCORES, 0.5, scope="layer")
    assert layer["a"].tolist() == [[True, False], [True, False]]
    assert layer["b"].tolist() == [True, False]
    together = prune(SCORES, 0.5, scope="global")
    assert together["a"].tolist() == [[True, False], [True, False]]
    assert together["b"].tolist() == [True, False]
    third = prune(SCORES, 0.34, scope="global")  # two of six
    assert third["a"].tolist() == [[True, False], [True, True]]
    assert third["b"].tolist() == [True, False]
    each = prune(SCORES, {"a": 0.75, "b": 0.0}, scope="layer")
    assert counts(each) == {"a": (1, 4), "b": (2, 2)}


def test_what_is_gone_stays_gone_and_shares_are_of_the_rest() -> None:
    draw = torch.Generator().manual_seed(0)
    scores = {"a": torch.rand(1000, generator=draw), "b": torch.rand(30, 30, generator=draw)}
    masks, left = None, 1900
    for number in range(1, 9):
        new = prune(scores, 0.2, masks=masks)
        if masks is not None:
            assert all(not bool((new[n] & ~masks[n]).any()) for n in new)
            scores = {n: -s for n, s in scores.items()}  # what is gone would now score best
        masks, left = new, left - int(left * 0.2 + 1e-9)
        assert sum(kept for kept, _ in counts(masks).values()) == left
        assert density(masks) == pytest.approx(0.8**number, abs=8 / 1900)


def test_equal_scores_go_in_order_or_at_random() -> None:
    scores = {"a": torch.zeros(1000)}
    assert not prune(scores, 0.5)["a"][:500].any()
    drawn = [prune(scores, 0.5, seed=seed)["a"] for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert 200 < int(drawn[0][:500].sum()) < 300


@pytest.mark.parametrize(
    ("share", "scope"),
    [(1.0, "layer"), (-0.1, "global"), ({"a": 0.5}, "layer"), ({"a": 0.5, "b": 0.5}, "global")],
)
def test_shares_that_make_no_sense(share: object, scope: str) -> None:
    with pytest.raises(UsageError, match="share") as caught:
        prune(SCORES, share, scope=scope)  # type: ignore[arg-type]
    assert caught.value.code == "E212"


def test_scores_that_are_no_numbers_and_masks_of_another_net() -> None:
    with pytest.raises(UsageError) as caught:
        prune({"a": torch.tensor([1.0, math.nan])}, 0.5)
    assert caught.value.code == "E270"
    module = module_of(two_layers())
    for masks in ({"other": torch.ones(8, 4) > 0}, {"last": torch.ones(4, 8) > 0}):
        with pytest.raises(UsageError) as caught:
            apply_masks(module, masks)
        assert caught.value.code == "E251"


def test_an_emptied_layer_is_named(caplog: pytest.LogCaptureFixture) -> None:
    prune({"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0, 4.0])}, 0.5)
    assert "'a'" in caplog.text


def test_weights_of_convolutions_and_products_are_masked_and_nothing_else() -> None:
    module = module_of(two_layers(norm=True))
    names = maskable(module)
    assert [tuple(module.tensor(n).shape) for n in names] == [(8, 3, 3, 3), (8, 4)]
    masks = magnitude_masks(module, 0.5)
    sizes = torch.cat([v.abs().flatten() for v in values_of(module, names).values()])
    kept = torch.cat([masks[n].flatten() for n in names])
    assert sizes[kept].min() >= sizes[~kept].max()
    assert int(kept.sum()) == len(sizes) // 2


def test_random_masks_keep_as_many_of_each_layer() -> None:
    masks = magnitude_masks(module_of(two_layers()), 0.7)
    other = random_masks(masks, 1)
    assert counts(other) == counts(masks)
    assert any(not torch.equal(other[n], masks[n]) for n in masks)


class Pushes(Hook):
    """Gradients and movements of its own, as other methods have."""

    def before_step(self, module: object) -> None:
        module.tensor("last").grad += 1  # type: ignore[attr-defined]

    def after_step(self, module: object, rate: float) -> None:
        module.tensor("last").sub_(rate)  # type: ignore[attr-defined]


@pytest.mark.parametrize("held", [False, True])
def test_masked_weights_stay_through_momentum_decay_and_other_hooks(held: bool) -> None:
    module = module_of(two_layers(norm=True))
    masks = magnitude_masks(module, 0.6)
    values = values_of(module, masks) if held else None
    before = values_of(module, masks)
    lesson().run(module, Pushes(), Masked(module, masks, values))
    for name, mask in masks.items():
        now = module.tensor(name).detach()
        wanted = before[name][~mask] if held else torch.zeros(int((~mask).sum()))
        assert torch.equal(now[~mask], wanted)
        assert bool((now[mask] != before[name][mask]).any())


class OnlyGradients(Masked):
    """Puts nothing back: what moved would be seen."""

    def after_step(self, module: object, rate: float) -> None:
        """Does nothing."""


def test_gradients_of_masked_weights_leave_no_momentum() -> None:
    module = module_of(two_layers())
    masks = magnitude_masks(module, 0.6)
    lesson().run(module, OnlyGradients(module, masks))
    for name, mask in masks.items():
        assert not module.tensor(name).detach()[~mask].any()


def test_states_come_back_exactly_and_are_kept_on_the_way() -> None:
    module = module_of(two_layers(norm=True))
    start = capture(module)
    early = Checkpoints(module, {0, 5, 12})
    lesson().run(module, early)
    plain = module_of(two_layers(norm=True))
    lesson().run(plain, last=5)
    assert equal(early.states[0], start)
    assert equal(early.states[5], capture(plain))  # keeping states disturbs nothing
    assert equal(early.states[12], capture(module))
    assert not equal(early.states[12], start)
    restore(module, early.states[0])
    assert equal(capture(module), start)


@pytest.mark.parametrize("kind", ["he", "glorot"])
def test_fresh_weights_have_the_variance_of_their_kind(kind: str) -> None:
    graph = Net()
    x = graph.norm(graph.conv(graph.input("N", 64, 4, 4), 64, 96, 3, group=2), 96)
    mean = graph.add("ReduceMean", x, axes=[2, 3], keepdims=0)
    shift = graph.random(300)
    wide = graph.add("Gemm", mean, graph.random(96, 300), shift)
    narrow = graph.add("Gemm", wide, graph.random(200, 300), transB=1)
    graph.output(narrow, shape=["N", 200])
    module = module_of(graph.proto())
    initialise(module, 3, kind)  # type: ignore[arg-type]
    fans = [(32 * 9, 48 * 9), (96, 300), (300, 200)]
    for name, (given, made) in zip(maskable(module), fans, strict=True):
        wanted = 2 / given if kind == "he" else 2 / (given + made)
        assert float(module.tensor(name).detach().var()) == pytest.approx(wanted, rel=0.06)
        assert abs(float(module.tensor(name).detach().mean())) < 4 * (wanted / 17000) ** 0.5
    norm = next(n for n in module.graph.nodes if n.op == "BatchNormalization")
    for name, value in zip(norm.inputs[1:], (1, 0, 0, 1), strict=True):
        assert bool((module.tensor(name) == value).all())
    assert not module.tensor(shift).any()
    state = capture(module)
    initialise(module, 4, kind)  # type: ignore[arg-type]
    assert not equal(state, capture(module))
    initialise(module, 3, kind)  # type: ignore[arg-type]
    assert equal(state, capture(module))


def test_weights_of_which_nothing_is_known_are_refused() -> None:
    graph = Net()
    x = graph.conv(graph.input("N", 3, 4, 4), 3, 8, 3)
    flat = graph.add("ReduceMean", x, axes=[2, 3], keepdims=0)
    graph.output(graph.add("MatMul", flat, reshaped(graph, "turned", 8, 4)), shape=[None] * 2)
    module = module_of(graph.proto())
    state = capture(module)
    with pytest.raises(UsageError, match="turned") as caught:
        initialise(module, 0)
    assert caught.value.code == "E271"
    assert equal(state, capture(module))
    assert full_masks(module).keys() == set(maskable(module))


def test_matrices_that_a_transpose_brings_are_masked_and_drawn() -> None:
    """As torch exports a Linear on [N, T, C]."""
    graph = Net()
    x = graph.input("N", 5, 32)
    for given, made, name in ((32, 400, "first"), (400, 16, "second")):
        turned = graph.add("Transpose", graph.random(made, given, name=name), perm=[1, 0])
        x = graph.add("Relu", graph.add("MatMul", x, turned))
    graph.output(x, shape=["N", 5, 16])
    module = module_of(graph.proto())
    assert maskable(module) == ("first", "second")
    for kind, fans in (("he", (32, 400)), ("glorot", (432, 416))):
        initialise(module, 3, kind)  # type: ignore[arg-type]
        for name, fan in zip(maskable(module), fans, strict=True):
            assert float(module.tensor(name).detach().var()) == pytest.approx(2 / fan, rel=0.06)


def test_all_weights_start_as_those_that_reinit_draws() -> None:
    """Tables, factors and recurrent matrices too: there is one rule for both."""
    graph = Net()
    x = graph.add("MatMul", graph.input("N", 20, 8), graph.random(8, 64))
    x = graph.add("Add", x, graph.random(1, 20, 64, name="position"))
    x = graph.add("Mul", x, graph.random(64, name="factor"))
    x = graph.add("MatMul", x, graph.random(64, 64))
    cells = [graph.random(1, 64, 64, name="cells"), graph.random(1, 64, 64)]
    x = graph.many(
        "RNN", graph.add("Transpose", x, perm=[1, 0, 2]), *cells, outputs=1, hidden_size=64
    )[0]
    graph.output(x, shape=[20, 1, "N", 64])
    module, drawn = module_of(graph.proto()), redraw(Model.from_proto(graph.proto()), Reinit())
    initialise(module, 0)
    assert set(drawn.drawn) == set(module.roles.trainable)
    assert float(module.tensor("position").detach().std()) == pytest.approx(0.02, rel=0.1)
    assert bool((module.tensor("factor") == 1).all())
    assert float(module.tensor("cells").detach().abs().max()) == pytest.approx(1 / 8, rel=0.01)
    for name in drawn.drawn:
        wanted = float(drawn.model.weights[name].std())
        assert float(module.tensor(name).detach().std(correction=0)) == pytest.approx(
            wanted, rel=0.1
        )


def test_dropout_follows_from_the_seed_and_the_step() -> None:
    """A run that goes on from a step drops what the whole run dropped there."""
    graph = Net()
    x = graph.add(
        "ReduceMean", graph.conv(graph.input("N", 3, 4, 4), 3, 8), axes=[2, 3], keepdims=0
    )
    dropped = graph.add("Dropout", x, np.float32(0.5))
    graph.output(graph.add("MatMul", dropped, graph.random(8, 4)), shape=["N", 4])
    found = []
    for parts in ([None], [None], [2, None]):
        module, training, first = module_of(graph.proto()), lesson(4), 0
        schedule = replace(training.schedule, momentum=0.0)
        for last in parts:
            replace(training, schedule=schedule).run(module, first=first, last=last)
            first = last or 0
        found.append(capture(module))
        torch.rand(1)
    assert equal(found[0], found[1])
    assert equal(found[0], found[2])
