"""Linear mode connectivity: whether two trained nets lie in one valley.

Frankle, Dziugaite, Roy and Carbin (2020, "Linear mode connectivity and the lottery ticket
hypothesis"): train two copies of a state with different orders of the samples, and follow the
error along the straight line between where they end. The barrier is the highest error on the line
above the mean of both ends; where it is about zero, the state is stable to that noise.

Running statistics of BatchNormalization on the line are either interpolated like the weights, or
estimated anew from training images for each point, which fits them to the weights there (as
Izmailov et al., 2018, do for averaged weights).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from prunecvt.bridge.methods.masks import Masked, Masks
from prunecvt.bridge.methods.training import State, Training, capture, restore
from prunecvt.bridge.module import GraphModule
from prunecvt.errors import UsageError


def blend(first: State, second: State, share: float) -> State:
    """The state at a share of the way from one to another; equal values stay as they are."""
    return {name: torch.lerp(value, second[name], share) for name, value in first.items()}


def along_line(
    module: GraphModule,
    ends: tuple[State, State],
    measure: Callable[[GraphModule], float],
    *,
    points: int = 11,
    images: Tensor | None = None,
) -> list[float]:
    """A measure at evenly spaced points of the line between two states, ends included.

    Args:
        module: takes each state in turn, and is left in the first.
        ends: of ``capture``.
        measure: of the module in evaluation mode, as an error of 0 to 1 or a loss.
        points: 2 or more; 31 in the paper.
        images: training images to estimate running statistics from at each point, the ends too;
            None to interpolate them.

    Raises:
        UsageError: E272, fewer than 2 points.
    """
    if points < 2:
        raise UsageError("E272", f"a line has 2 points or more, not {points}")
    found = []
    for place in range(points):
        restore(module, blend(*ends, place / (points - 1)))
        module.eval()
        if images is not None:
            estimate_statistics(module, images)
        found.append(measure(module))
    restore(module, ends[0])
    return found


def barrier(errors: Sequence[float]) -> float:
    """The highest error above the mean of both ends (instability of Frankle et al., 2020).

    It is never below zero by more than rounding: the line holds its ends.
    """
    return max(errors) - (errors[0] + errors[-1]) / 2


def branches(
    module: GraphModule,
    training: Training,
    start: State,
    first: int,
    seeds: Sequence[int],
    masks: Masks | None = None,
) -> list[State]:
    """Where copies of a state end that differ in the order and augmentation of samples.

    Args:
        module: left in the last of them.
        training: its schedule's seed gives way to ``seeds``.
        start: the state after ``first`` steps.
        first: the step to go on with.
        seeds: one for each copy.
        masks: for the same of a sparse net; None for the dense one.
    """
    ends = []
    for seed in seeds:
        restore(module, start)
        hooks = [] if masks is None else [Masked(module, masks)]
        training.seeded(seed).run(module, *hooks, first=first)
        ends.append(capture(module))
    return ends


def estimate_statistics(module: GraphModule, images: Tensor, batch: int = 250) -> None:
    """Sets running statistics to the mean of those of batches; weights stay. In place.

    Batches are of about the same size, each with statistics of its own, as in training. Norms that
    never update (momentum 1) keep theirs.

    Args:
        module: left in evaluation mode.
        images: on its device.
        batch: at most.
    """
    shares = _update_shares(module)
    if not shares:
        return
    chunks = images.tensor_split(-(-len(images) // batch))
    sums = {name: torch.zeros_like(module.tensor(name)) for name in shares}
    module.train()
    with torch.no_grad():
        for chunk in chunks:
            for name in shares:
                module.tensor(name).zero_()  # what is there afterwards is this batch's alone
            module(chunk)
            for name, share in shares.items():
                sums[name] += module.tensor(name) / share
        for name, total in sums.items():
            module.tensor(name).copy_(total / len(chunks))
    module.eval()


def _update_shares(module: GraphModule) -> dict[str, float]:
    """Statistic -> how much of it one run of the module replaces; a layer may run several times."""
    remain: dict[str, float] = {}
    own = set(module.roles.statistics)
    for node in module.graph.nodes:
        if node.op == "BatchNormalization" and node.index not in module.roles.fixed_norms:
            for name in node.inputs[3:5]:
                momentum = float(node.attributes.get("momentum", 0.9))
                remain[name] = remain.get(name, 1.0) * momentum
    return {name: 1 - rest for name, rest in remain.items() if name in own and rest < 1}
