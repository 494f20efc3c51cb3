"""The cost model of latencies: by hand-made profiles, and by those of real models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import prunecvt
from models import Net, grouped
from prunecvt.runtimes.profile import profile
from prunecvt.runtimes.runners import Backend
from prunecvt.writing.staged_model import staged
from prunecvt_passes.budget import Budget
from prunecvt_passes.cost import node_macs
from prunecvt_passes.errors import UnsupportedError
from prunecvt_passes.groups import Groups
from prunecvt_passes.model import Model
from prunecvt_passes.recovery import latency_prices
from prunecvt_passes.recovery.allocate import allocate_within
from prunecvt_passes.recovery.latency_prices import Kernel, Profile
from prunecvt_passes.recovery.normal import Floats
from prunecvt_passes.score import Scores

SAMPLES = Path(__file__).parent.parent / "sample_models"
SLOW, FAST, STAYS = 5.0, 1.0, 0.25


def chain() -> Groups:
    """Two layers of 16 channels that cost the same multiply-accumulates, between fixed ends."""
    net = Net()
    x = net.conv(net.input("N", 16, 8, 8, name="x"), 16, 16, name="c0")
    x = net.conv(net.add("Relu", x, name="r0"), 16, 16, name="c1")
    x = net.conv(net.add("Relu", x, name="r1"), 16, 16, name="c2")
    net.output(net.add("Relu", x, name="r2"))
    return grouped(net.proto())[1]


def by_node(times: Callable[[Floats], list[float]], kept: list[int]) -> Profile:
    """A profile whose kernels bear the names that runtimes give to what was fused."""
    widths = np.array(kept, np.float64)
    names = [("r0_nchwc", "r0"), ("c1", "r1"), ("odd", "c2")]
    kernels = [Kernel("Conv", n, ms) for n, ms in zip(names, times(widths), strict=True)]
    return Profile(widths, [*kernels, Kernel("ReorderInput", ("ReorderInput",), 0.5)])


def uneven(kept: Floats) -> list[float]:
    """The first layer's multiply-accumulates are dear; a quarter of every time stays."""
    shares = np.array([kept[0] / 16, kept[0] * kept[1] / 256, kept[1] / 16])
    return list(np.array([SLOW, FAST, FAST]) * (STAYS + (1 - STAYS) * shares))


def test_what_stays_is_told_from_what_falls() -> None:
    found = latency_prices.latency_prices(
        chain(), by_node(uneven, [16, 16]), by_node(uneven, [8, 12])
    )
    assert found is not None
    for kept in ([16, 16], [8, 12], [4, 8], [16, 1]):
        wanted = sum(uneven(np.array(kept, float))) + 0.5
        assert found.total(np.array(kept, float)) == pytest.approx(wanted, rel=1e-9)


def test_without_a_cut_all_of_it_falls() -> None:
    found = latency_prices.latency_prices(chain(), by_node(uneven, [16, 16]))
    assert found is not None
    assert found.total(np.array([8.0, 16.0])) == pytest.approx(SLOW / 2 + FAST / 2 + FAST + 0.5)


def test_layers_that_were_hardly_cut_take_what_is_usual() -> None:
    """The second group is whole in the cut: its last reader's part that stays is the others'."""
    found = latency_prices.latency_prices(
        chain(), by_node(uneven, [16, 16]), by_node(uneven, [8, 16])
    )
    assert found is not None
    wanted = sum(uneven(np.array([16.0, 8.0]))) + 0.5
    assert found.total(np.array([16.0, 8.0])) == pytest.approx(wanted, rel=1e-9)


def test_sums_are_not_taken_for_the_layers_before_them() -> None:
    """A sum that was not fused is priced by its own channels; a fused one goes to its layer."""
    net = Net()
    x = net.conv(net.input("N", 3, 8, 8, name="x"), 3, 8, name="stem")
    x = net.add("Relu", x, name="s")
    y = net.add("Add", net.conv(x, 8, 8, name="branch"), x, name="sum")
    net.output(net.conv(net.add("Relu", y, name="after"), 8, 4, name="out"))
    groups = grouped(net.proto())[1]
    alone = [Kernel("Conv", ("stem",), 1.0), Kernel("Conv", ("branch",), 2.0)]
    alone += [Kernel("Add", ("sum",), 4.0), Kernel("Conv", ("out",), 8.0)]
    fused = [alone[0], Kernel("Conv", ("after",), 6.0), alone[3]]
    half = np.full(len(groups.groups), 4.0)
    whole = np.full(len(groups.groups), 8.0)
    for kernels, left in ((alone, 0.5 + 2 / 4 + 4 / 2 + 8 / 2), (fused, 0.5 + 6 / 4 + 8 / 2)):
        found = latency_prices.latency_prices(groups, Profile(whole, kernels))
        assert found is not None
        assert found.total(half) == pytest.approx(left)


def test_profiles_that_lead_nowhere_make_no_prices() -> None:
    strange = Profile(np.array([16.0, 16.0]), [Kernel("Conv", ("who?",), 3.0)])
    assert latency_prices.latency_prices(chain(), strange) is None
    mostly = replace(strange, kernels=[*strange.kernels, Kernel("Conv", ("c1",), 1.0)])
    assert latency_prices.latency_prices(chain(), mostly) is None


def test_channels_go_where_they_buy_time() -> None:
    """Equal errors and equal multiply-accumulates: those of the slow layer go first."""
    groups = chain()
    scores = Scores("l2", np.ones(groups.total))
    prices = latency_prices.latency_prices(groups, by_node(uneven, [16, 16]))
    assert prices is not None
    budget = Budget(scope="error", round_to=1, min_channels=1)
    removal = allocate_within(groups, scores, budget, prices, 0.7)
    assert removal is not None
    gone = [int(removal.removed[g.classes].sum()) for g in groups.groups]
    assert gone[0] > 0
    assert gone[1] == 0
    assert allocate_within(groups, scores, budget, prices, 0.01) is None


def mlp() -> onnx.ModelProto:
    """Products with a bias and no names, which onnxruntime fuses and renames."""
    net = Net()
    x = net.input("N", 64, name="x")
    for _ in range(3):
        x = net.add(
            "Relu", net.add("Add", net.add("MatMul", x, net.random(64, 64)), net.random(64))
        )
    net.output(net.add("MatMul", x, net.random(64, 4)))
    return net.proto()


def odd() -> onnx.ModelProto:
    """Convolutions of widths that onnxruntime does not run in its blocked layout, unnamed."""
    net = Net()
    x = net.add("Relu", net.conv(net.input(1, 3, 16, 16, name="x"), 3, 30, 3))
    net.output(net.conv(net.add("Relu", net.conv(x, 30, 30, 3)), 30, 4, 1))
    return net.proto()


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("make", [mlp, odd])
def test_unnamed_layers_are_priced(
    make: Callable[[], onnx.ModelProto], backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """The search profiles a copy whose nodes have names, so that its trials have prices."""
    with caplog.at_level("INFO", logger="prunecvt"):
        prunecvt.plan(make(), target="latency=0.8", judge=backend, min_channels=1, round_to=4)
    assert any("cost model" in record.message for record in caplog.records)


def test_an_empty_profile_makes_no_prices() -> None:
    assert latency_prices.latency_prices(chain(), Profile(np.array([16.0, 16.0]), [])) is None


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("name", ["digits_resnet", "digits_mobilenet", "digits_unet"])
def test_kernels_are_led_back_to_layers(name: str, backend: Backend, tmp_path: Path) -> None:
    """In both runtimes nearly every contraction of the model has a kernel of its own."""
    proto = onnx.load(SAMPLES / f"{name}.onnx")
    _, groups = grouped(proto)
    path = staged(Model.from_proto(proto), tmp_path / "m" / "m.onnx")
    shape = [d.dim_value or 1 for d in proto.graph.input[0].type.tensor_type.shape.dim]
    inputs = {proto.graph.input[0].name: np.zeros(shape, np.float32)}
    kernels = profile(path, inputs, backend=backend, threads=1)
    graph = groups.channels.graph
    found, rest = latency_prices._by_node(graph, kernels)
    contractions = [node.index for node in graph.nodes if node_macs(graph, node)]
    assert sum(index in found for index in contractions) >= 0.9 * len(contractions)
    assert rest < sum(found.values())
    assert all(kernel.ms >= 0 for kernel in kernels)


@pytest.mark.parametrize(("backend", "code"), [("onnxruntime", "E412"), ("openvino", "E430")])
def test_what_cannot_be_profiled_is_said(backend: Backend, code: str, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(UnsupportedError) as caught:
        profile(tmp_path / "m.onnx", {}, backend=backend, threads=1)
    assert caught.value.code == code
