"""The line between two nets: blends, barriers of known functions, statistics along it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mask_nets import equal, lesson, module_of, two_layers  # noqa: E402
from models import Net  # noqa: E402
from prunecvt import UsageError  # noqa: E402
from prunecvt.bridge.methods.connectivity import (  # noqa: E402
    along_line,
    barrier,
    blend,
    branches,
    estimate_statistics,
)
from prunecvt.bridge.methods.masks import magnitude_masks  # noqa: E402
from prunecvt.bridge.methods.training import capture  # noqa: E402


def ends_at(module: Any, *places: float) -> list[dict[str, Any]]:
    """States that differ in one weight."""
    found = []
    for place in places:
        with torch.no_grad():
            module.tensor("last")[0, 0] = place
        found.append(capture(module))
    return found


def at(module: Any) -> float:
    return float(module.tensor("last").detach()[0, 0])


def test_the_barrier_of_known_functions() -> None:
    module = module_of(two_layers())
    left, right = ends_at(module, -1.0, 3.0)
    hill = along_line(module, (left, right), lambda m: 9 - at(m) ** 2, points=5)
    assert hill == pytest.approx([8, 9, 8, 5, 0])
    assert barrier(hill) == pytest.approx(5)  # 9 - (8 + 0) / 2
    valley = along_line(module, (left, right), lambda m: (at(m) - 1) ** 2, points=5)
    assert valley == pytest.approx([4, 1, 0, 1, 4])
    assert barrier(valley) == pytest.approx(0)
    assert equal(capture(module), left)
    with pytest.raises(UsageError) as caught:
        along_line(module, (left, right), at, points=1)
    assert caught.value.code == "E272"


def test_blends_are_exact_at_the_ends_and_where_nothing_differs() -> None:
    module = module_of(two_layers(norm=True))
    left, right = ends_at(module, 0.1, 0.7)
    assert equal(blend(left, right, 0), left)
    assert equal(blend(left, right, 1), right)
    third = blend(left, right, 1 / 3)
    assert [n for n in left if not torch.equal(third[n], left[n])] == [module.places["last"]]


def test_copies_part_by_seed_alone() -> None:
    training = lesson()
    module = module_of(two_layers(norm=True))
    training.run(module, last=6)
    start = capture(module)
    masks = magnitude_masks(module, 0.5)
    one, two, same = branches(module, training, start, 6, (1, 2, 1), masks)
    assert equal(one, same)
    assert not equal(one, two)
    for name, mask in masks.items():
        assert not one[module.places[name]][~mask].any()
    assert equal(start, branches(module, training, start, 12, (1,))[0])  # no step is left


def norm_alone(momentum: float, twice: bool) -> Any:
    graph = Net()
    x = graph.input("N", 3, 4, 4)
    y = graph.conv(graph.norm(x, 3, momentum=momentum, name="n"), 3, 4)
    if twice:
        norm = next(node for node in graph.nodes if node.op_type == "BatchNormalization")
        again = graph.add("BatchNormalization", x, *norm.input[1:], momentum=momentum)
        y = graph.add("Add", y, graph.conv(again, 3, 4))
    graph.output(y, shape=[None] * 4)
    return module_of(graph.proto())


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("momentum", [0.9, 0.5, 0.0])
def test_statistics_are_the_mean_of_those_of_batches(momentum: float, twice: bool) -> None:
    module = norm_alone(momentum, twice)
    images = torch.from_numpy(np.random.default_rng(0).standard_normal((20, 3, 4, 4)) * 2 + 1)
    images = images.float()
    before = {name: module.tensor(name).detach().clone() for name in module.roles.trainable}
    estimate_statistics(module, images, batch=10)
    mean, variance = (module.tensor(name) for name in module.roles.statistics)
    halves = images.split(10)
    torch.testing.assert_close(mean, sum(h.mean((0, 2, 3)) for h in halves) / 2)
    torch.testing.assert_close(variance, sum(h.var((0, 2, 3)) for h in halves) / 2)
    assert not module.training
    assert all(torch.equal(module.tensor(n).detach(), value) for n, value in before.items())


def test_along_the_line_statistics_are_blended_or_estimated() -> None:
    module = module_of(two_layers(norm=True))
    training = lesson()
    ends = branches(module, training, capture(module), 0, (1, 2))
    name = module.roles.statistics[0]
    seen: list[Any] = []

    def note(net: Any) -> float:
        seen.append(net.tensor(name).clone())
        return 0.0

    along_line(module, (ends[0], ends[1]), note, points=3)
    first, second = (end[module.places[name]] for end in ends)
    torch.testing.assert_close(seen[1], (first + second) / 2)
    along_line(module, (ends[0], ends[1]), note, points=3, images=training.examples.images)
    assert not torch.allclose(seen[4], seen[1])
    module.load_state_dict(blend(ends[0], ends[1], 0.5))
    estimate_statistics(module, training.examples.images)
    torch.testing.assert_close(seen[4], module.tensor(name))
