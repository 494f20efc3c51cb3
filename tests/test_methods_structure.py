"""Training-time methods that leave whole structures at zero: their mathematics, and what trim
makes of them."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import prunecvt  # noqa: E402
from bridge_nets import NETS  # noqa: E402
from method_nets import examples, plain, residual, weight_of  # noqa: E402
from models import SIDE, Net  # noqa: E402
from prunecvt import UsageError  # noqa: E402
from prunecvt.bridge import to_module, with_weights  # noqa: E402
from prunecvt.bridge.methods import group_lasso, structure_selection  # noqa: E402
from prunecvt.bridge.methods.fit import Schedule, fit  # noqa: E402
from prunecvt.bridge.methods.group_lasso import (  # noqa: E402
    GroupLasso,
    count_zeros,
    find_structures,
)
from prunecvt.bridge.methods.scratch import same_computation  # noqa: E402
from prunecvt.bridge.methods.slimming import Slimming, prunable_scales, sizes  # noqa: E402
from prunecvt.bridge.methods.structure_selection import (  # noqa: E402
    Selection,
    accelerated_step,
    factors_of,
    fold_factors,
    insert_factors,
    soft_threshold,
)
from prunecvt_passes import oracle, runtime  # noqa: E402
from prunecvt_passes.model import Model  # noqa: E402

QUICK = Schedule(steps=32, rate=0.05, batch=16, decay=0.0)


def outputs(model: Model) -> dict[str, np.ndarray]:
    images = np.random.default_rng(7).standard_normal((5, 3, SIDE, SIDE)).astype(np.float32)
    return runtime.run(model, {"x": images})


def apart(first: Model, second: Model) -> float:
    return oracle.difference(outputs(first), outputs(second)).relative


# --- Network Slimming


def test_the_subgradient_is_lambda_times_the_sign_and_zero_at_zero() -> None:
    model = residual(blocks=1)
    scales = prunable_scales(model)
    module = to_module(model, train=True)
    scale = module.tensor(scales[0])
    with torch.no_grad():
        scale[:3] = torch.tensor([-2.0, 0.0, 3.0])
    scale.grad = torch.ones_like(scale)
    Slimming(scales, 0.25).before_step(module)
    assert scale.grad[:3].tolist() == [0.75, 1.0, 1.25]


def test_prunable_scales_are_those_of_channels_that_can_go() -> None:
    model = residual(blocks=1)
    norms = [n for n in model.proto.graph.node if n.op_type == "BatchNormalization"]
    assert prunable_scales(model) == tuple(n.input[1] for n in norms)
    g = Net()
    g.output(g.norm(g.add("Relu", g.norm(g.first(), 8)), 8), shape=[None] * 4)
    assert prunable_scales(Model.from_proto(g.proto())) == ()  # an output keeps its channels


def test_scales_that_exporters_copied_are_found_by_their_origin() -> None:
    model = residual(blocks=1).copy()
    norm = next(n for n in model.proto.graph.node if n.op_type == "BatchNormalization")
    origin, norm.input[1] = norm.input[1], "copied"
    node = model.proto.graph.node.add(op_type="Identity", input=[origin], output=["copied"])
    rest = [n for n in model.proto.graph.node if n is not node]
    copies = [type(node).FromString(n.SerializeToString()) for n in (node, *rest)]
    del model.proto.graph.node[:]
    model.proto.graph.node.extend(copies)
    assert origin in prunable_scales(model)


def test_slimming_makes_scales_sparser_than_training_without() -> None:
    model = residual()
    scales = prunable_scales(model)
    small = []
    for strength in (0.0, 0.2):
        module = to_module(model, train=True)
        fit(module, examples(), QUICK, hooks=[Slimming(scales, strength)])
        small.append(float((sizes(module, scales) < 0.2).float().mean()))
    assert small[1] > small[0] + 0.3


def test_slimming_refuses_nets_without_scales() -> None:
    with pytest.raises(UsageError, match="E258"):
        Slimming((), 1e-4)


# --- Structured Sparsity Learning


def test_a_block_soft_threshold_by_hand() -> None:
    norms = torch.tensor([5.0, 1.0, 0.0, 2.0])
    factors = group_lasso.shrinkage(norms, 2.0)
    assert factors.tolist() == pytest.approx([0.6, 0.0, 0.0, 0.0])
    assert torch.isfinite(factors).all()


@pytest.mark.parametrize(
    ("kind", "count", "axes"),
    [("filter", 8, (1, 2, 3)), ("channel", 3, (0, 2, 3)), ("shape", 27, (0,))],
)
def test_groups_of_a_convolution(kind: group_lasso.Kind, count: int, axes: tuple[int]) -> None:
    model = plain()
    module = to_module(model, train=True)
    weight = weight_of(model, "first")
    (found,) = [s for s in find_structures(module, [kind]) if s.parts[0][0] == weight]
    expected = np.square(model.weights[weight]).sum(axes)
    if kind == "filter":  # its bias goes with it
        expected = expected + np.square(model.weights[weight_of(model, "first", 2)])
    assert found.norms(module).numel() == count
    np.testing.assert_allclose(found.norms(module).numpy(), np.sqrt(expected), rtol=1e-5)
    factors = torch.ones(found.norms(module).shape)
    factors.view(-1)[1] = 0
    with torch.no_grad():
        found.scale(module, factors)
    zero = found.norms(module) == 0
    assert zero.flatten().tolist() == [place == 1 for place in range(count)]


def test_a_filter_before_a_normalisation_holds_its_scale_and_shift() -> None:
    model = plain()
    (found,) = [
        s
        for s in find_structures(to_module(model), ["filter"])
        if s.parts[0][0] == weight_of(model, "second")
    ]
    norm = next(n for n in model.proto.graph.node if n.op_type == "BatchNormalization")
    assert found.parts[1:] == ((norm.input[1], (0,)), (norm.input[2], (0,)))


def test_grouped_convolutions_have_filters_only() -> None:
    model = plain(group=8)
    found = find_structures(to_module(model), ["filter", "channel", "shape"])
    second = weight_of(model, "second")
    assert [s.kind for s in found if s.parts[0][0] == second] == ["filter"]


def test_depth_is_the_branches_of_residual_blocks() -> None:
    model = residual(blocks=2)
    found = find_structures(to_module(model), ["depth"])
    names = [{name for name, _ in each.parts} for each in found]
    assert len(names) == 2
    for number in range(2):
        for part in ("first", "second"):
            assert weight_of(model, f"b{number}_{part}") in names[number]
    with pytest.raises(UsageError, match="E258"):
        find_structures(to_module(plain()), ["depth"])


def test_small_structures_come_before_those_around_them() -> None:
    kinds = [each.kind for each in find_structures(to_module(residual()))]
    assert list(dict.fromkeys(kinds)) == ["shape", "channel", "filter", "depth"]


def test_a_step_shrinks_by_rate_times_strength_and_leaves_other_kinds() -> None:
    module = to_module(plain(), train=True)
    found = find_structures(module, ["filter", "channel"])
    lasso = GroupLasso(found, {"channel": 0.5})
    before = [each.norms(module).clone() for each in found]
    value = lasso.value(module)
    with torch.no_grad():
        lasso.after_step(module, rate=0.2)
    for each, norms in zip(found, before, strict=True):
        if each.kind == "channel":
            expected = (norms - 0.1).clamp_min(0)
            torch.testing.assert_close(each.norms(module), expected, atol=1e-5, rtol=1e-5)
    channels = sum(
        float(n.sum()) for s, n in zip(found, before, strict=True) if s.kind == "channel"
    )
    assert value == pytest.approx(0.5 * channels)
    assert lasso.value(module) < value


def test_strengths_of_no_structure_are_refused() -> None:
    found = find_structures(to_module(plain()), ["filter"])
    for strengths in ({"depth": 1.0}, {"filter": -1.0}):
        with pytest.raises(UsageError, match="E258"):
            GroupLasso(found, strengths)
    with pytest.raises(UsageError, match="E258"):
        find_structures(to_module(plain()), ["rows"])


def test_trained_zeros_are_trimmed_exactly() -> None:
    model = residual()
    module = to_module(model, train=True)
    found = find_structures(module)
    strengths = {"filter": 3.0, "channel": 1.0, "shape": 0.3, "depth": 0.0}
    fit(module, examples(), QUICK, hooks=[GroupLasso(found, strengths)])
    zeros = count_zeros(module, found)
    assert zeros["filter"][0] > 0
    assert zeros["channel"][0] > 0
    assert zeros["shape"][0] > 0
    trained = with_weights(model, module)
    trimmed = prunecvt.trim(trained.to_proto(), round_to=1)
    assert trimmed.report.totals.params.ratio < 1
    assert apart(trained, trimmed.slimmed.model) < 1e-5


def test_a_branch_that_is_zero_is_dropped() -> None:
    model = residual()
    module = to_module(model, train=True)
    lasso = GroupLasso(find_structures(module, ["depth"]), {"depth": 1e3})
    with torch.no_grad():
        lasso.after_step(module, rate=1.0)
    trained = with_weights(model, module)
    trimmed = prunecvt.trim(trained.to_proto(), round_to=1).slimmed.model
    assert [n.op_type for n in trimmed.proto.graph.node].count("Conv") == 1  # the stem
    assert apart(trained, trimmed) < 1e-5


# --- Sparse Structure Selection


def test_soft_threshold_by_hand() -> None:
    values = torch.tensor([3.0, -3.0, 0.5, -0.5, 0.0])
    assert soft_threshold(values, 1.0).tolist() == [2.0, -2.0, 0.0, 0.0, 0.0]


def test_accelerated_steps_are_those_of_the_two_point_form() -> None:
    """Equations 10 to 12 against lambda_t = S(d - rate G(d)), d = lambda_t-1 + m (their move)."""
    target, rate, gamma, momentum = torch.tensor([1.0, 0.05, -2.0]), 0.1, 0.3, 0.9
    ahead, speed = torch.ones(3), torch.zeros(3)
    last, before = torch.ones(3), torch.ones(3)
    for _ in range(25):
        point = last + momentum * (last - before)
        torch.testing.assert_close(ahead, point)
        moved = soft_threshold(point - rate * (point - target), rate * gamma)
        last, before = moved, last
        ahead, speed = accelerated_step(
            ahead, speed, ahead - target, rate=rate, strength=gamma, momentum=momentum
        )
    for _ in range(400):
        ahead, speed = accelerated_step(
            ahead, speed, ahead - target, rate=rate, strength=gamma, momentum=momentum
        )
    torch.testing.assert_close(ahead, torch.tensor([0.7, 0.0, -1.7]))  # the lasso's solution
    assert ahead[1] == 0


@pytest.mark.parametrize(("kind", "count"), [("block", 2), ("neuron", 5)])
def test_factors_of_one_change_nothing(kind: structure_selection.Kind, count: int) -> None:
    model = residual()
    made, factors = insert_factors(model, kind)
    assert len(factors) == count
    assert apart(model, made) == 0
    module = to_module(made, train=True)
    assert all(factor.name in module.roles.trainable for factor in factors)


def test_factors_of_groups() -> None:
    _, (factor,) = insert_factors(plain(group=4), "group")
    assert factor.number == 4
    for model, kind in ((plain(), "group"), (plain(), "block"), (NETS["pools"](), "rows")):
        with pytest.raises(UsageError, match="E258"):
            insert_factors(model if isinstance(model, Model) else model.proto(), kind)


def test_channels_of_a_structure_share_one_factor_that_the_optimiser_leaves() -> None:
    made, factors = insert_factors(plain(group=4), "group")
    module = to_module(made, train=True)
    values = module.tensor(factors[0].name)
    values.grad = torch.arange(8.0).reshape(1, 8, 1, 1)
    selection = Selection(factors, 0.5, momentum=0.0)
    selection.before_step(module)
    assert values.grad is None
    with torch.no_grad():
        selection.after_step(module, rate=0.02)
    expected = [1 - 0.02 * g - 0.01 for g in (1.0, 5.0, 9.0, 13.0)]
    assert factors_of(module, factors)[0] == pytest.approx(expected)
    assert values.flatten().tolist() == pytest.approx(np.repeat(expected, 2).tolist())


def test_more_strength_makes_more_factors_zero_and_trim_drops_them_exactly() -> None:
    model = residual(blocks=3)
    made, factors = insert_factors(model)
    zeros = []
    for strength in (0.0, 3.0):
        module = to_module(made, train=True)
        fit(module, examples(), QUICK, hooks=[Selection(factors, strength)])
        zeros.append(sum(each[0] == 0 for each in factors_of(module, factors)))
    assert zeros[0] == 0
    assert zeros[1] == 3
    trained = with_weights(made, module)
    trimmed = prunecvt.trim(trained.to_proto(), round_to=1).slimmed.model
    assert [n.op_type for n in trimmed.proto.graph.node].count("Conv") == 1
    assert apart(trained, trimmed) < 1e-5


@pytest.mark.parametrize("kind", ["block", "neuron"])
@pytest.mark.parametrize("trim", [False, True])
def test_factors_fold_into_weights(kind: structure_selection.Kind, trim: bool) -> None:
    made, factors = insert_factors(residual(), kind)
    made = made.copy()
    draw = np.random.default_rng(0)
    for each in factors:
        values = draw.uniform(-1, 1, made.weights[each.name].shape).astype(np.float32)
        made.set_weight(each.name, values)
    model = prunecvt.trim(made.to_proto(), round_to=1).slimmed.model if trim else made
    folded, stayed = fold_factors(model, factors)
    assert stayed == ()
    assert "Mul" not in [n.op_type for n in folded.proto.graph.node]
    assert not {each.name for each in factors} & folded.weights.keys()
    assert apart(made, folded) < 1e-5


def test_factors_of_two_kinds_on_one_tensor_fold_one_after_the_other() -> None:
    made, blocks = insert_factors(residual())
    made, neurons = insert_factors(made, "neuron")
    made = made.copy()
    for number, each in enumerate((*blocks, *neurons)):
        made.set_weight(each.name, np.full_like(made.weights[each.name], 1 + number / 4))
    folded, stayed = fold_factors(made, (*blocks, *neurons))
    if stayed:  # the outer ones wait for the inner ones
        folded, stayed = fold_factors(folded, stayed)
    assert stayed == ()
    assert apart(made, folded) < 1e-5


def test_a_factor_behind_anything_else_stays() -> None:
    g = Net()
    x = g.add("Relu", g.first())
    inner = g.add("Sigmoid", g.conv(x, 8, 8, 3))
    g.last(g.add("Add", inner, x))
    made, factors = insert_factors(Model.from_proto(g.proto()))
    folded, stayed = fold_factors(made, factors)
    assert stayed == factors
    assert apart(made, folded) == 0


def test_groups_at_zero_are_cut_as_groups() -> None:
    made, (factor,) = insert_factors(plain(group=4), "group")
    made = made.copy()
    values = np.array([1, 1, 0, 0, 0.5, 0.5, 2, 2], np.float32)
    made.set_weight(factor.name, values.reshape(1, 8, 1, 1))
    folded, _ = fold_factors(made, (factor,))
    slim = prunecvt.slim(
        folded.to_proto(),
        criterion="bn",
        threshold=1e-9,
        round_to=1,
        grouped_unit="group",
        only="second",
        fold_bn=False,
    ).slimmed.model
    second = next(n for n in slim.proto.graph.node if "second" in n.output)
    assert slim.weights[second.input[1]].shape[0] == 6
    assert apart(made, slim) < 1e-5


def test_selection_refuses_what_is_out_of_range() -> None:
    _, factors = insert_factors(residual())
    for given in (((), 1.0), (factors, -1.0), (factors, 1.0, 1.0)):
        with pytest.raises(UsageError, match="E258"):
            Selection(*given)


# --- Rethinking the value of network pruning


def test_scratch_b_trains_longer_by_what_is_saved_at_most_twice() -> None:
    schedule = Schedule(steps=100, warmup=10)
    assert same_computation(schedule, 3e6, 2e6).steps == 150
    assert same_computation(schedule, 3e6, 2e6).warmup == 15
    assert same_computation(schedule, 9e6, 2e6).steps == 200
    assert same_computation(schedule, 2e6, 2e6) == schedule
    with pytest.raises(UsageError, match="E258"):
        same_computation(schedule, 2e6, 3e6)
