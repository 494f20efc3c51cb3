"""Several processes, as torchrun starts them: each takes a share of every batch."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from prunecvt.errors import UsageError


def whole_number(name: str, otherwise: int | None = None) -> int:
    """The environment variable of that name.

    Raises:
        UsageError: E267, it is no whole number from 0, or missing where nothing stands for it.
    """
    text = os.environ.get(name)
    if text is None and otherwise is not None:
        return otherwise
    if text is None or not (text.isascii() and text.isdigit()):
        raise _unset(name, "missing" if text is None else f"'{text}'")
    return int(text)


def _unset(name: str, found: str) -> UsageError:
    return UsageError(
        "E267",
        f"the environment variable {name} is {found}, so other processes cannot be joined",
        help="start tune through torchrun, or unset WORLD_SIZE and LOCAL_RANK",
    )


@dataclass(frozen=True)
class Processes:
    """Which of how many this one is."""

    rank: int = 0
    size: int = 1

    @staticmethod
    def joined(device: torch.device) -> Processes:
        """Joins the others, where WORLD_SIZE says that there are some: gloo on CPUs, else nccl.

        Raises:
            UsageError: E267, a variable that torchrun sets is missing or no whole number.
        """
        if whole_number("WORLD_SIZE", 1) < 2:
            return Processes()
        whole_number("RANK")
        whole_number("MASTER_PORT")
        if not os.environ.get("MASTER_ADDR"):
            raise _unset("MASTER_ADDR", "missing")
        if not distributed.is_initialized():
            distributed.init_process_group("gloo" if device.type == "cpu" else "nccl")
        return Processes(distributed.get_rank(), distributed.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this one writes."""
        return self.rank == 0

    def share(self, places: Tensor) -> Tensor:
        """This process's part of a batch; all get equal parts, and a rest is left out.

        Where there are fewer samples than processes, some get the same one.
        """
        each = max(len(places) // self.size, 1)
        start = self.rank * each % len(places)
        return places[start : start + each]

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Makes every gradient the mean of all processes'."""
        if self.size == 1:
            return
        gradients = [each.grad for each in parameters if each.grad is not None]
        flat = torch.cat([each.flatten() for each in gradients])
        distributed.all_reduce(flat)
        start = 0
        for each in gradients:
            each.copy_(flat[start : start + each.numel()].view(each.shape) / self.size)
            start += each.numel()

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a scalar over all processes."""
        if self.size == 1:
            return value
        total = value.clone()
        distributed.all_reduce(total)
        return total / self.size

    def any(self, found: bool, device: torch.device) -> bool:
        """Whether it is so in any process."""
        return float(self.mean(torch.tensor(float(found), device=device))) > 0

    def told(self, value: float, device: torch.device) -> float:
        """What the first process says, for all."""
        if self.size == 1:
            return value
        box = torch.tensor([value], dtype=torch.float64, device=device)
        distributed.broadcast(box, 0)
        return float(box)

    def leave(self) -> None:
        """Leaves the others."""
        if self.size > 1 and distributed.is_initialized():
            distributed.destroy_process_group()
