"""What distillation makes small, and what on: the mathematics, on tiny tensors."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from models import Net  # noqa: E402
from prunecvt import UsageError  # noqa: E402
from prunecvt.bridge.tuning.augment import (  # noqa: E402
    augmented,
    augmented_once,
    check_augmentable,
    flipped,
    mixed,
    moved,
    noisy,
)
from prunecvt.bridge.tuning.losses import (  # noqa: E402
    Objective,
    Target,
    divergence,
    label_loss,
    normalised_error,
    output_loss,
    targets_of,
)
from prunecvt.bridge.tuning.parallel import Processes  # noqa: E402
from prunecvt.bridge.tuning.quality import Quality, mean_quality  # noqa: E402
from prunecvt.bridge.tuning.samples import Samples, batch_places, parted, stacked  # noqa: E402
from prunecvt.bridge.tuning.training import Recipe  # noqa: E402
from prunecvt_passes.graph import index  # noqa: E402
from prunecvt_passes.model import Model  # noqa: E402


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_divergence_of_two_classes_is_that_of_the_definition() -> None:
    teacher, student = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    p = 1 / (1 + math.exp(-1))  # at temperature 2
    wanted = 4 * (p * math.log(p / 0.5) + (1 - p) * math.log((1 - p) / 0.5))
    assert float(divergence(student, teacher, 2.0)) == pytest.approx(wanted, rel=1e-5)


def test_divergence_is_zero_for_the_same_answers_and_never_below() -> None:
    one, other = (torch.randn(8, 5, generator=draw(k)) for k in range(2))
    assert float(divergence(one, one + 3.0, 4.0)) == pytest.approx(0, abs=1e-6)
    assert float(divergence(one, other, 4.0)) > 0


def test_gradients_of_the_divergence_keep_their_size_at_high_temperatures() -> None:
    teacher = torch.randn(4, 6, generator=draw(1))
    sizes = []
    for temperature in (100.0, 200.0):
        student = torch.zeros(4, 6, requires_grad=True)
        divergence(student, teacher, temperature).backward()
        assert student.grad is not None
        sizes.append(float(student.grad.norm()))
    assert sizes[0] == pytest.approx(sizes[1], rel=0.02)


def test_probabilities_are_compared_as_the_logits_that_made_them() -> None:
    student, teacher = (torch.randn(3, 4, generator=draw(k)) for k in range(2))
    logits = output_loss(Target("y", "logits"), student, teacher, 4.0)
    shares = output_loss(Target("y", "probabilities"), student.softmax(1), teacher.softmax(1), 4.0)
    assert float(shares) == pytest.approx(float(logits), rel=1e-4)


def test_classes_on_another_axis_are_averaged_over_places() -> None:
    student, teacher = (torch.randn(3, 7, 4, generator=draw(k)) for k in range(2))
    flat = divergence(student.reshape(21, 4), teacher.reshape(21, 4))
    assert float(divergence(student, teacher, axis=-1)) == pytest.approx(float(flat), rel=1e-5)


def test_normalised_error_is_one_for_the_mean_and_zero_for_the_same() -> None:
    teacher = torch.randn(64, 3, generator=draw())
    assert float(normalised_error(teacher, teacher)) == 0
    mean = teacher.mean().expand_as(teacher)
    assert float(normalised_error(mean, teacher)) == pytest.approx(1, rel=1e-5)
    scaled = normalised_error(10 * mean, 10 * teacher)
    assert float(scaled) == pytest.approx(1, rel=1e-5)


def test_a_constant_target_gives_a_finite_error() -> None:
    assert math.isfinite(float(normalised_error(torch.zeros(4), torch.zeros(4))))


def test_cross_entropy_is_that_of_logits_and_of_probabilities() -> None:
    logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
    wanted = (math.log(1 + math.exp(-2)) + math.log(1 + math.e)) / 2
    assert float(label_loss(Target("y", "logits"), logits, labels)) == pytest.approx(wanted)
    shares = label_loss(Target("y", "probabilities"), logits.softmax(1), labels)
    assert float(shares) == pytest.approx(wanted, rel=1e-5)


def test_the_objective_weighs_hints_and_labels() -> None:
    made = {"y": torch.zeros(4, 3), "a": torch.zeros(4, 2)}
    right = {
        "y": torch.randn(4, 3, generator=draw()),
        "a": torch.tensor([[1.0, -1.0]]).repeat(4, 1),
    }
    target = Target("y", "logits")
    alone = Objective((target,), temperature=2.0).loss(made, right, None)
    hinted = Objective((target,), {"a": None}, 2.0, hint=3.0).loss(made, right, None)
    assert float(hinted - alone) == pytest.approx(3.0, rel=1e-5)  # its error is 1
    labels = torch.tensor([0, 1, 2, 0])
    taught = Objective((target,), temperature=2.0, label=0.25).loss(made, right, labels)
    assert float(taught) == pytest.approx(0.75 * float(alone) + 0.25 * math.log(3), rel=1e-5)


def test_several_outputs_count_alike() -> None:
    made = {"y": torch.zeros(4, 3), "box": torch.zeros(4, 2, 2)}
    right = {"y": made["y"], "box": torch.randn(4, 2, 2, generator=draw())}
    both = Objective((Target("y", "logits"), Target("box", "values"))).loss(made, right, None)
    error = normalised_error(made["box"], right["box"])
    assert float(both) == pytest.approx(float(error) / 2, rel=1e-5)


def net(end: str, shape: list[int | str]) -> Model:
    made = Net()
    pooled = made.add("GlobalAveragePool", made.conv(made.input("N", 3, 6, 6), 3, 4, 3))
    flat = made.add("Flatten", pooled)
    made.output(made.add(end, flat) if end else flat, shape=shape)
    return Model.from_proto(made.proto())


def test_outputs_are_classes_by_softmax_or_shape() -> None:
    (logits,) = targets_of(index(net("", ["N", 4])))
    (shares,) = targets_of(index(net("Softmax", ["N", 4])))
    (values,) = targets_of(index(net("", ["N", 4])), "values")
    assert [each.kind for each in (logits, shares, values)] == ["logits", "probabilities", "values"]


def test_flips_mirror_some_and_leave_the_others() -> None:
    images = torch.arange(64 * 12.0).reshape(64, 1, 3, 4)
    made = flipped(images, draw())
    mirrored = (made == images.flip(3)).flatten(1).all(1)
    same = (made == images).flatten(1).all(1)
    assert bool((mirrored ^ same).all())
    assert 16 < int(mirrored.sum()) < 48
    last = flipped(images.movedim(1, 3), draw(), True)
    assert bool((last.movedim(3, 1) == made).all())


def test_crops_move_an_image_by_an_eighth_at_most() -> None:
    images = torch.randn(200, 2, 16, 16, generator=draw())
    made = moved(images, draw(1))
    assert made.shape == images.shape
    found = set()
    for k in range(200):
        shifts = [
            (dy, dx)
            for dy in range(-2, 3)
            for dx in range(-2, 3)
            if bool(
                (made[k, :, 4:12, 4:12] == images[k, :, 4 + dy : 12 + dy, 4 + dx : 12 + dx]).all()
            )
        ]
        assert len(shifts) == 1
        found.update(shifts)
    assert len(found) == 25


def test_mixtures_and_noise_keep_shape_and_mean() -> None:
    values = torch.randn(500, 8, generator=draw())
    mixture = mixed(values, draw(1))
    assert float(mixture.mean(0).sub(values.mean(0)).abs().max()) < 0.15
    assert float(mixture.std()) < float(values.std())
    noise = noisy(values, draw(2)) - values
    assert float(noise.std()) == pytest.approx(0.1 * float(values.std()), rel=0.05)


def test_augmentations_follow_from_the_seed() -> None:
    batch = {"x": torch.randn(8, 3, 16, 16, generator=draw()), "n": torch.arange(8)}
    names = ("flip", "crop", "noise", "mixup")
    one, same, other = (augmented(batch, names, draw(seed)) for seed in (3, 3, 4))
    assert bool((one["x"] == same["x"]).all())
    assert not bool((one["x"] == other["x"]).all())
    assert one["n"] is batch["n"]


def test_samples_are_augmented_once_in_parts() -> None:
    inputs = {"x": torch.randn(300, 3, 8, 8), "scale": torch.tensor(2)}
    samples = Samples(inputs, frozenset({"scale"}), torch.arange(300))
    one, same = (augmented_once(samples, ("flip", "mixup"), 5) for _ in range(2))
    assert torch.equal(one.inputs["x"], same.inputs["x"])
    assert one.inputs["x"].shape == (300, 3, 8, 8)
    assert not torch.equal(one.inputs["x"], inputs["x"])
    assert one.inputs["scale"] is inputs["scale"]
    assert one.labels is samples.labels


def test_held_out_loss_is_the_mean_over_sets_and_agreement_that_of_the_first() -> None:
    first, second = Quality(1.0, 0.5, 0.25), Quality(3.0, 0.75, 1.0)
    assert mean_quality([first, second]) == Quality(2.0, 0.5, 0.25)
    assert mean_quality([second]) == second


def test_augmentations_that_do_not_fit_are_refused() -> None:
    check_augmentable({"x": torch.zeros(4, 3, 8, 8)}, ("flip",), "m")
    check_augmentable({"x": torch.zeros(4, 5)}, ("mixup",), "m")
    for batch in ({"x": torch.zeros(4, 5)}, {"i": torch.zeros(4, 3, 8, 8, dtype=torch.int64)}):
        with pytest.raises(UsageError, match="E264"):
            check_augmentable(batch, ("crop",), "m")


def test_data_is_parted_without_overlap_and_batches_cover_an_epoch() -> None:
    samples = Samples({"x": torch.arange(100.0), "gain": torch.tensor(2.0)}, frozenset({"gain"}))
    learned, held = parted(samples, 0.1, seed=3)
    assert (len(learned), len(held)) == (90, 10)
    whole = torch.cat([learned.inputs["x"], held.inputs["x"]]).sort().values
    assert bool((whole == samples.inputs["x"]).all())
    assert bool((parted(samples, 0.1, 3)[1].inputs["x"] == held.inputs["x"]).all())
    first = torch.cat([batch_places(90, 30, step, 0) for step in range(3)])
    second = torch.cat([batch_places(90, 30, step, 0) for step in range(3, 6)])
    assert first.sort().values.tolist() == list(range(90)) == second.sort().values.tolist()
    assert first.tolist() != second.tolist()


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(UsageError, match="E260"):
        stacked([{"x": torch.zeros(8, 2).numpy()}])
    with pytest.raises(UsageError, match="E260"):
        stacked([{"x": torch.zeros(32, 2).numpy(), "y": torch.zeros(16, 2).numpy()}])


def test_the_rate_rises_and_falls_and_the_first_end_counts() -> None:
    recipe = Recipe("adamw", 1.0, 0.0, 8, 100, 1.0, (), 0)
    assert 0 < recipe.rate_at(0) < 0.1
    assert recipe.rate_at(0.5) == pytest.approx(0.5)
    assert recipe.rate_at(1.0) == pytest.approx(0, abs=1e-9)
    assert recipe.share(50, 6.0) == 0.5
    assert recipe.share(50, 54.0) == 0.9


def test_processes_share_a_batch_in_equal_parts() -> None:
    parts = [Processes(rank, 3).share(torch.arange(10)).tolist() for rank in range(3)]
    assert parts == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    few = [Processes(rank, 4).share(torch.arange(2)).tolist() for rank in range(4)]
    assert few == [[0], [1], [0], [1]]
    assert Processes().share(torch.arange(3)).tolist() == [0, 1, 2]
