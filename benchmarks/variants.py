"""Data-free criteria that were tried beside those of ``prunecvt_passes.criteria``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from moments import moments
from prunecvt_passes import runtime
from prunecvt_passes.criteria.norms import channel_norms
from prunecvt_passes.criteria.share import batch_norm_energy
from prunecvt_passes.flow import Read
from prunecvt_passes.groups import Groups
from prunecvt_passes.model import Array
from prunecvt_passes.samples import random_inputs

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
TINY = float(np.finfo(float).tiny)


@dataclass(frozen=True)
class Member:
    """One value per channel of one axis of one tensor, and the channels' classes."""

    classes: Ints
    values: Floats


def members(groups: Groups, role: str, folded: bool = True) -> list[Member]:
    """Norms of the channels of every weight that plays ``role``."""
    found = []
    for use in groups.channels.uses:
        labels = groups.channels.axes[use.tensor][use.axis]
        if use.role != role or labels is None:
            continue
        norms = channel_norms(groups, use, 2)
        if not folded:
            norms = _raw_norms(groups.channels.graph.constant(use.tensor), use.axis)
        if norms is not None and norms.size == labels.size:
            found.append(Member(groups.class_of[labels], norms))
    return found


def _raw_norms(weight: Array | None, axis: int) -> Floats | None:
    if weight is None:
        return None
    others = tuple(k for k in range(weight.ndim) if k != axis)
    return np.asarray(np.sqrt((np.asarray(weight, np.float64) ** 2).sum(axis=others)), np.float64)


def total(groups: Groups, given: Iterable[Member]) -> Floats:
    """Sum by class."""
    result = np.zeros(groups.total)
    for member in given:
        np.add.at(result, member.classes, member.values)
    return result


def average(groups: Groups, given: list[Member]) -> Floats:
    """Mean by class."""
    counts = total(groups, [Member(m.classes, np.ones(m.values.size)) for m in given])
    return np.asarray(total(groups, given) / np.maximum(counts, 1))


def by(given: list[Member], norm: Callable[[Floats], float]) -> list[Member]:
    """Every member divided by one number of its own."""
    return [Member(m.classes, m.values / max(float(norm(m.values)), TINY)) for m in given]


def logarithms(given: list[Member]) -> list[Member]:
    return [Member(m.classes, np.log(np.maximum(m.values, 1e-30))) for m in by(given, np.mean)]


def l2_raw(groups: Groups) -> Floats:
    """As l2, without folding BatchNormalization."""
    return total(groups, by(members(groups, "weight_out", False), np.mean))


def l2_plain(groups: Groups) -> Floats:
    """As l2, members not normalised."""
    return total(groups, members(groups, "weight_out"))


def l2_average(groups: Groups) -> Floats:
    """As l2, mean over the members instead of their sum."""
    return average(groups, by(members(groups, "weight_out"), np.mean))


def l2_max(groups: Groups) -> Floats:
    """As l2, members divided by their largest channel."""
    return total(groups, by(members(groups, "weight_out"), np.max))


def l2_geometric(groups: Groups) -> Floats:
    """As l2, geometric mean over the members."""
    return np.asarray(np.exp(average(groups, logarithms(members(groups, "weight_out")))))


def readers(groups: Groups) -> Floats:
    """Norm of the weights that read a channel, nothing else."""
    return total(groups, by(members(groups, "weight_in"), np.mean))


def product_average(groups: Groups) -> Floats:
    """Product of mean producer norm and mean reader norm."""
    return l2_average(groups) * average(groups, by(members(groups, "weight_in"), np.mean))


def product_geometric(groups: Groups) -> Floats:
    """Product of geometric means over producers and over readers."""
    logs = average(groups, logarithms(members(groups, "weight_in")))
    return np.asarray(l2_geometric(groups) * np.exp(logs))


def _shares(
    groups: Groups,
    energy: Callable[[Read, Ints], Floats],
    power: float = 1.0,
    norm: Callable[[Floats], float] = np.sum,
) -> Floats:
    """Sum over the reads of a channel of its share in the energy that the reader's sum receives."""
    weights = {(u.node.index, u.role): u for u in groups.channels.uses}
    found = []
    for read in groups.channels.reads:
        use = weights.get((read.node.index, "weight_in"))
        norms = channel_norms(groups, use, 2) if use is not None else None
        classes = groups.class_of[read.labels]
        if norms is None or norms.size != classes.size:
            norms = np.ones(classes.size)
        found.append(Member(classes, (norms**2 * energy(read, classes)) ** power))
    return total(groups, by(found, norm))


def share_white(groups: Groups) -> Floats:
    """Shares; a channel's energy is that of its filters (as for white inputs)."""
    made = total(groups, [Member(m.classes, m.values**2) for m in members(groups, "weight_out")])
    return _shares(groups, lambda read, classes: made[classes])


Energy = Callable[[Read, Ints], Floats]


def _guess(groups: Groups, gain: float = 1.0) -> Energy:
    guessed = moments(groups.channels.graph, gain)

    def energy(read: Read, classes: Ints) -> Floats:
        found = guessed.get(read.node.inputs[read.place])
        if found is None or found.mean.size != classes.size:
            return np.ones(classes.size)
        return found.energy

    return energy


def share_bn(groups: Groups) -> Floats:
    """Shares; a channel's energy follows from beta and gamma behind the activation."""
    return _shares(groups, _guess(groups))


def share_gain(groups: Groups) -> Floats:
    """As share_bn, convolutions without BatchNormalization double the variance."""
    return _shares(groups, _guess(groups, gain=2.0))


def share_amplitude(groups: Groups) -> Floats:
    """As share_gain, shares of the root of the energy."""
    return _shares(groups, _guess(groups, gain=2.0), power=0.5)


def share_equal(groups: Groups) -> Floats:
    """As share_gain, divided by the mean over a reader's channels instead of their sum."""
    return _shares(groups, _guess(groups, gain=2.0), norm=np.mean)


def _by_class(groups: Groups) -> Energy:
    energy = batch_norm_energy(groups)
    known = np.isfinite(energy)

    def of(read: Read, classes: Ints) -> Floats:
        found = known[classes]
        typical = float(energy[classes][found].mean()) if found.any() else 1.0
        return np.where(found, energy[classes], typical)

    return of


def share_root(groups: Groups) -> Floats:
    """As ``share``, times the root of the reader's width: between ``share`` and equal layers."""
    return _shares(groups, _by_class(groups), norm=lambda v: float(v.sum() / v.size**0.5))


def amplitude(groups: Groups) -> Floats:
    """Root of the energy, divided by its mean over a reader's channels: ``readers`` with energy."""
    return _shares(groups, _by_class(groups), power=0.5, norm=np.mean)


def share_readers(groups: Groups) -> Floats:
    """Shares; equal energy for all: what the weights of the readers alone say."""
    return _shares(groups, lambda read, classes: np.ones(classes.size))


def share_noise(groups: Groups) -> Floats:
    """Shares; a channel's energy is measured while the model runs on white noise."""
    graph = groups.channels.graph
    model = graph.model.copy()
    names = sorted({read.node.inputs[read.place] for read in groups.channels.reads})
    known = {value.name for value in model.proto.graph.output}
    for name in names:
        if name not in known:
            model.proto.graph.output.add(name=name)
    sizes = {name: graph.shape(name) or () for name in graph.inputs}
    runs = [runtime.run(model, random_inputs(model, sizes, seed), names) for seed in range(8)]

    def energy(read: Read, classes: Ints) -> Floats:
        name = read.node.inputs[read.place]
        others = tuple(k for k in range(runs[0][name].ndim) if k != read.axis)
        squares = [(np.asarray(r[name], np.float64) ** 2).mean(others) for r in runs]
        return np.asarray(np.mean(squares, axis=0), np.float64)

    return _shares(groups, energy)


def _lamp(groups: Groups, values: Floats) -> Floats:
    """LAMP within every group: energy over the energy of the channels that are worth no less."""
    result = np.zeros(groups.total)
    for group in groups.groups:
        order = group.classes[np.argsort(values[group.classes], kind="stable")]
        suffix = np.cumsum(values[order][::-1])[::-1]
        result[order] = values[order] / np.maximum(suffix, TINY)
    return result


VARIANTS: dict[str, Callable[[Groups], Floats]] = {
    "l2_raw": l2_raw,
    "l2_plain": l2_plain,
    "l2_average": l2_average,
    "l2_max": l2_max,
    "l2_geometric": l2_geometric,
    "l2_lamp": lambda groups: _lamp(groups, l2_average(groups) ** 2),
    "readers": readers,
    "product_average": product_average,
    "product_geometric": product_geometric,
    "product_lamp": lambda groups: _lamp(groups, product_average(groups) ** 2),
    "share_white": share_white,
    "share_bn": share_bn,
    "share_bn_lamp": lambda groups: _lamp(groups, share_bn(groups)),
    "share_gain": share_gain,
    "share_amplitude": share_amplitude,
    "share_equal": share_equal,
    "share_root": share_root,
    "amplitude": amplitude,
    "share_readers": share_readers,
    "share_noise": share_noise,
}
