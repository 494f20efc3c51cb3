"""The sweep of dead channels: exact on tiny graphs, and refused where it would not be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from models import WIDTH, Net
from prunecvt_passes.budget import Budget
from prunecvt_passes.flow import trace
from prunecvt_passes.groups import solve
from prunecvt_passes.rules import RULES
from prunecvt_passes.trim.merge import find_carriers
from prunecvt_passes.trim.reading import Reading, readings_of
from prunecvt_passes.trim.still import still
from prunecvt_passes.trim.sweep import find_dead
from prunecvt_passes.units import Units
from trim_cases import EVERY, cleaned, dense_of, operators, weight_name, width, zero

DEAD = [1, 4, 6]


def dead_first(net: Net, bias: bool = False) -> str:
    """The convolution ``first`` with three filters of zeros; without their biases as well."""
    x = net.first()
    zero(net, weight_name(net, "first"), DEAD)
    if not bias:
        zero(net, weight_name(net, "first", 2), DEAD)
    return x


def relu(net: Net, x: str) -> str:
    return net.add("Relu", x)


def silu(net: Net, x: str) -> str:
    return net.add("Mul", x, net.add("Sigmoid", x))


def gelu(net: Net, x: str) -> str:
    erf = net.add("Erf", net.add("Div", x, np.float32(1.5)))
    return net.add("Mul", x, net.add("Add", erf, np.float32(1)))


def leaky(net: Net, x: str) -> str:
    return net.add("LeakyRelu", x, alpha=0.3)


def prelu(net: Net, x: str) -> str:
    return net.add("PRelu", x, net.random(WIDTH, 1, 1))


def clip(net: Net, x: str) -> str:
    return net.add("Clip", x, np.float32(-0.2), np.float32(0.4))


def norm(net: Net, x: str) -> str:
    return net.norm(x, WIDTH)


def max_pool(net: Net, x: str) -> str:
    return net.add("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1])


def average_pool(net: Net, x: str) -> str:
    return net.add("AveragePool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1])


def scale_by_channel(net: Net, x: str) -> str:
    return net.add("Mul", x, net.random(1, WIDTH, 1, 1))


def excite(net: Net, x: str) -> str:
    """A factor per channel that is computed: what it is multiplied with has to be zero."""
    pooled = net.add("GlobalAveragePool", x)
    return net.add("Mul", x, net.add("Sigmoid", net.conv(pooled, WIDTH, WIDTH)))


def depthwise(net: Net, x: str) -> str:
    return net.conv(x, WIDTH, WIDTH, 3, group=WIDTH, pads=[0] * 4)


def resize(net: Net, x: str) -> str:
    return net.add("Resize", x, None, np.float32([1, 1, 2, 2]), mode="nearest")


def shuffle(net: Net, x: str) -> str:
    return net.add("Transpose", net.add("Transpose", x, perm=[0, 2, 3, 1]), perm=[0, 3, 1, 2])


def joined(net: Net, x: str) -> str:
    other = net.add("Relu", x)
    return net.add("Slice", net.add("Concat", x, other, axis=1), [0], [WIDTH], [1])


def halves(net: Net, x: str) -> str:
    first, second = net.many("Split", x, np.int64([3, 5]), outputs=2, axis=1)
    return net.add("Concat", net.add("Relu", first), second, axis=1)


CONSTANTS = [
    *(relu, silu, gelu, leaky, prelu, clip, norm, max_pool, average_pool, scale_by_channel),
    *(depthwise, resize, shuffle, joined, halves),
]


@pytest.mark.parametrize("between", CONSTANTS, ids=lambda f: f.__name__)
def test_filters_of_zeros_go_and_their_constants_into_the_reader(
    between: Callable[[Net, str], str],
) -> None:
    net = Net()
    net.last(between(net, positive_dead(net)))
    found = cleaned(net)
    assert width(found, "first") == WIDTH - len(DEAD)
    assert found.constant > 0


@pytest.mark.parametrize("between", [*CONSTANTS, excite], ids=lambda f: f.__name__)
def test_filters_of_zeros_without_bias(between: Callable[[Net, str], str]) -> None:
    net = Net()
    net.last(between(net, dead_first(net)))
    assert width(cleaned(net), "first") == WIDTH - len(DEAD)


def test_gammas_of_zero_make_their_betas() -> None:
    net = Net()
    x = net.norm(net.first(), WIDTH)
    zero(net, weight_name(net, x), DEAD)
    net.last(net.add("Relu", x))
    assert width(cleaned(net), "first") == WIDTH - len(DEAD)


def test_what_nobody_reads_goes_with_what_only_it_reads() -> None:
    net = Net()
    middle = net.conv(net.add("Relu", net.first()), WIDTH, WIDTH, 3, name="middle")
    net.last(net.add("Relu", middle))
    zero(net, weight_name(net, "last"), DEAD, axis=1)
    values = net.weights[weight_name(net, "middle")].copy()
    values[[k for k in range(WIDTH) if k not in DEAD], 2] = 0  # the rest alone reads channel 2
    net.weights[weight_name(net, "middle")] = values
    found = cleaned(net)
    assert (width(found, "middle"), width(found, "first")) == (WIDTH - 3, WIDTH - 1)


@pytest.mark.parametrize("operator", ["Conv", "ConvTranspose"])
def test_where_a_constant_is_padded_one_channel_stands_for_the_others(operator: str) -> None:
    net = Net()
    x = net.add("Relu", positive_dead(net))
    weight = net.random(*((4, WIDTH) if operator == "Conv" else (WIDTH, 4)), 3, 3)
    steps = [2, 2] if operator == "ConvTranspose" else [1, 1]
    net.output(net.add(operator, x, weight, name="last", pads=[1] * 4, strides=steps))
    found = cleaned(net)
    assert width(found, "first") == WIDTH - 2
    assert found.carried == 2
    (stayed,) = found.stayed
    assert (stayed.channels, "pads with zeros" in stayed.reason) == (1, True)


def test_one_channel_stands_for_others_before_several_readers() -> None:
    """Two readers see other constants, a third has no padding, and one looks at some of them."""
    net = Net()
    x = net.norm(positive_dead(net), WIDTH)
    for number, y in enumerate((net.add("Sigmoid", x), net.add("Exp", x), x)):
        net.output(net.conv(y, WIDTH, 4, (3, 3, 1)[number], name=f"last{number}"))
    zero(net, weight_name(net, "last1"), DEAD[:1], axis=1)
    assert width(cleaned(net), "first") == WIDTH - 2


def test_grouped_readers_with_padding_keep_their_constants() -> None:
    net = Net()
    net.output(net.conv(positive_dead(net), WIDTH, 4, 3, name="last", group=2))
    assert width(cleaned(net), "first") == WIDTH


def test_a_lone_constant_that_is_padded_stays() -> None:
    net = Net()
    x = net.first()
    zero(net, weight_name(net, "first"), 2)
    net.output(net.conv(x, WIDTH, 4, 3, name="last"))
    found = cleaned(net)
    assert width(found, "first") == WIDTH
    assert found.stayed[0].channels == 1


def positive_dead(net: Net) -> str:
    x = dead_first(net, bias=True)
    name = weight_name(net, "first", 2)
    net.weights[name] = np.abs(net.weights[name]) + 1
    return x


def test_zero_padding_of_a_constant_is_taken_where_inexact_cuts_are() -> None:
    net = Net()
    net.output(net.conv(net.add("Relu", positive_dead(net)), WIDTH, 4, 3, name="last"))
    found = cleaned(net, inexact=True)
    assert width(found, "first") == WIDTH - 3
    assert (found.inexact, found.constant) == (3, 3)


def test_zero_padding_of_a_relus_zero_is_exact() -> None:
    net = Net()
    x = dead_first(net, bias=True)
    name = weight_name(net, "first", 2)
    net.weights[name] = -np.abs(net.weights[name])
    net.output(net.conv(net.add("Relu", x), WIDTH, 4, 3, name="last"))
    assert width(cleaned(net), "first") == WIDTH - 3


def test_a_stream_is_swept_where_all_its_summands_are_dead() -> None:
    net = Net()
    x = dead_first(net, bias=True)
    inner = net.conv(x, WIDTH, WIDTH, name="inner")
    total = net.add("Add", x, inner)
    zero(net, weight_name(net, "inner"), DEAD[:2])
    net.last(net.add("Relu", total))
    assert width(cleaned(net), "first") == WIDTH - 2


@pytest.mark.parametrize("operator", ["Gemm", "MatMul"])
def test_features_and_flattened_maps(operator: str) -> None:
    net = Net()
    flat = net.add("Flatten", net.add("MaxPool", positive_dead(net), kernel_shape=[6, 6]))
    weight = net.random(WIDTH, 5)
    scaled = {"alpha": 0.5, "beta": 2.0} if operator == "Gemm" else {}
    added = [net.random(5)] if operator == "Gemm" else []
    net.output(net.add(operator, flat, weight, *added, name="last", **scaled))
    assert width(cleaned(net), "first") == WIDTH - 3


def test_a_transposed_convolution_takes_zeros() -> None:
    net = Net()
    weight = net.random(WIDTH, 4, 3, 3)
    net.output(net.add("ConvTranspose", dead_first(net), weight, name="last", strides=[2, 2]))
    assert width(cleaned(net), "first") == WIDTH - 3


def test_grouped_readers_take_constants() -> None:
    net = Net()
    x = net.add("Relu", net.conv(net.input("N", 3, 6, 6), 3, WIDTH, 3, name="first"))
    zero(net, weight_name(net, "first"), [1, 5])  # the same channel of both groups
    net.output(net.conv(x, WIDTH, 4, name="last", group=2))
    assert width(cleaned(net), "first") == WIDTH - 2


def test_widths_are_rounded_up_and_the_reason_says_so() -> None:
    net = Net()
    net.last(dead_first(net))
    found = cleaned(net, Budget(round_to=4))
    assert width(found, "first") == WIDTH
    assert "rounded up" in found.removal.reasons[0]
    assert width(cleaned(net, Budget(round_to=1, keep=("first",))), "first") == WIDTH


def test_a_floor_keeps_dead_channels_and_the_reason_says_so() -> None:
    net = Net()
    net.last(dead_first(net))
    found = cleaned(net, Budget(round_to=1, min_channels=WIDTH))
    assert width(found, "first") == WIDTH
    assert "8 are to stay at least" in found.removal.reasons[0]


def test_a_layer_that_is_all_dead_keeps_a_channel_where_its_tensor_is_needed() -> None:
    net = Net()
    x = net.first()
    zero(net, weight_name(net, "first"), slice(None))
    net.last(net.add("Relu", x))
    assert width(cleaned(net), "first") == 1


def test_nothing_dead_changes_nothing() -> None:
    net = Net()
    net.last(net.add("Relu", net.first()))
    found = cleaned(net)
    assert not found.removal.removed.any()
    assert operators(found) == ["Conv", "Relu", "Conv"]


@pytest.mark.parametrize("operator", ["Conv", "Gemm"])
def test_a_bias_that_is_computed_takes_no_constant(operator: str) -> None:
    net = Net()
    x = positive_dead(net)
    if operator == "Conv":
        net.output(net.add("Conv", x, net.random(4, WIDTH, 1, 1), net.input(4, name="b")))
    else:
        flat = net.add("Flatten", net.add("MaxPool", x, kernel_shape=[6, 6]))
        net.output(net.add("Gemm", flat, net.random(WIDTH, 5), net.input("N", 5, name="b")))
    found = cleaned(net)
    assert width(found, "first") == WIDTH
    (stayed,) = found.stayed
    assert (stayed.channels, "its bias is computed" in stayed.reason) == (len(DEAD), True)


def test_a_bias_that_is_computed_lets_zeros_go() -> None:
    net = Net()
    net.output(net.add("Conv", dead_first(net), net.random(4, WIDTH, 1, 1), net.input(4, name="b")))
    assert width(cleaned(net), "first") == WIDTH - len(DEAD)


@pytest.mark.filterwarnings("error")
def test_weights_that_are_not_finite_are_no_constants_and_no_noise() -> None:
    net = Net()
    x = positive_dead(net)
    middle = net.conv(net.add("Relu", x), WIDTH, WIDTH, name="middle")
    values = net.weights[weight_name(net, middle)].copy()
    values[0, 0], values[3, 1], values[5, 2], values[5, 3] = np.nan, np.inf, np.inf, -np.inf
    net.weights[weight_name(net, middle)] = values
    net.last(middle)
    dense = dense_of(net)
    values = still(dense.graph)["first"]
    assert np.isnan(values.ravel()[[0, 2]]).all() and np.isfinite(values.ravel()[DEAD]).all()
    assert "middle" not in still(dense.graph)
    sweep = find_dead(solve(trace(dense.graph, RULES, Units())), EVERY)
    shift = sweep.constants["middle"]
    assert np.isfinite(shift[[0, 1, 2, 4, 5]]).all()  # what goes is finite there


def test_many_groups_take_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reading is asked as often in a deep net as in a shallow one."""
    asked: list[int] = []
    for depth in (4, 12):
        net, count = Net(), [0]
        x = net.first()
        for number in range(depth):
            own = x
            zero(net, weight_name(net, own), DEAD)
            x = net.conv(net.add("Relu", x), WIDTH, WIDTH, 3, name=f"c{number}")
        net.last(x)
        groups = solve(trace(dense_of(net).graph, RULES, Units()))
        readings = readings_of(groups)

        def lost(*given: Any, counted: list[int] = count, real: Any = Reading.lost) -> Any:
            counted[0] += 1
            return real(*given)

        with monkeypatch.context() as patched:
            patched.setattr(Reading, "lost", lost)
            find_carriers(groups, readings, np.zeros(groups.total, bool))
        asked.append(-(-count[0] // len(readings)))
    assert asked[0] == asked[1] == 1
