"""Retraining after pruning: weight rewinding, learning-rate rewinding, fine-tuning.

Renda, Frankle and Carbin (2020, "Comparing rewinding and fine-tuning in neural network pruning"):
with t steps to spend after weights or structures were removed from a net trained for T,

- weight rewinding sets the others back to step T - t and runs the schedule from there,
- learning-rate rewinding keeps them trained and runs the last t steps of the schedule,
- fine-tuning keeps them trained and goes on at the schedule's last, low rate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from prunecvt.bridge import to_module, with_weights
from prunecvt.bridge.methods.fit import Schedule
from prunecvt.bridge.methods.masks import Masked, Masks
from prunecvt.bridge.methods.training import State, Training, restore
from prunecvt.bridge.module import GraphModule
from prunecvt.bridge.weights import loaded
from prunecvt.errors import UsageError
from prunecvt.loading.load import Loadable
from prunecvt_passes.model import Model
from prunecvt_passes.plan import Plan

Retraining = Literal["weights", "rate", "fine-tuning"]


@dataclass(frozen=True)
class Constant(Schedule):
    """A schedule that stays at its rate, as fine-tuning does."""

    def at(self, step: int) -> float:
        """The rate, at any step."""
        return self.rate


def low_rate(schedule: Schedule) -> float:
    """The rate of the last step; of a cosine, that ends at zero, a hundredth of the highest."""
    return schedule.rate / 100 if schedule.shape == "cosine" else schedule.at(schedule.steps - 1)


def retrain(
    module: GraphModule,
    training: Training,
    start: State,
    steps: int,
    method: Retraining,
    *,
    masks: Masks | None = None,
) -> None:
    """Retrains a pruned module in place; all three methods take as many steps.

    Args:
        module: its weights are replaced by those of ``start``.
        training: of the dense net.
        start: for ``weights`` the state after T - ``steps`` steps, else that after T; cut alike
            where structures were removed (``cut_alike``).
        steps: to spend, at most those of the schedule.
        method: how.
        masks: of the weights that stay; None where only structures were removed.

    Raises:
        UsageError: E272, the steps are none or more than the schedule has.
    """
    total = training.schedule.steps
    if not 0 < steps <= total:
        raise UsageError("E272", f"retraining takes 1 to {total} steps, not {steps}")
    restore(module, start)
    hooks = [] if masks is None else [Masked(module, masks)]
    if method == "fine-tuning":
        old = training.schedule
        low = Constant(**{**vars(old), "rate": low_rate(old), "warmup": 0})
        training = replace(training, schedule=low)
    training.run(module, *hooks, first=total - steps)


def with_state(model: Loadable | Model, state: State) -> Model:
    """A model with the weights of a state of its module."""
    module = to_module(model)
    restore(module, {name: value.cpu() for name, value in state.items()})
    return with_weights(model, module)


def cut_alike(model: Loadable | Model, state: State, plan: Plan, **options: Any) -> GraphModule:
    """Another checkpoint of the same net, cut as a plan says, ready to train.

    Args:
        model: whose module the state is of.
        state: of ``capture``; for weight rewinding an early one.
        plan: of ``prunecvt.plan`` on the trained model: the channels kept there are kept here.
        options: of ``prunecvt.slim``, where they are not its defaults.

    Returns:
        A module on the CPU with BatchNormalization kept; its weights are the state's, unrecovered.

    Raises:
        PrunecvtError: as ``prunecvt.slim``.
    """
    from prunecvt.api import slim

    proto = with_state(loaded(model), state).to_proto()
    chosen = {"fold_bn": False, "recover": "none", **options}
    return to_module(slim(proto, plan=plan, **chosen).model)
