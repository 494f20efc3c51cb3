"""Several processes, as torchrun starts them: each takes a share of every batch."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn


@dataclass(frozen=True)
class Processes:
    """Which of how many this one is."""

    rank: int = 0
    size: int = 1

    @staticmethod
    def joined(device: torch.device) -> Processes:
        """Joins the others, where WORLD_SIZE says that there are some: gloo on CPUs, else nccl."""
        if int(os.environ.get("WORLD_SIZE", "1")) < 2:
            return Processes()
        if not distributed.is_initialized():
            distributed.init_process_group("gloo" if device.type == "cpu" else "nccl")
        return Processes(distributed.get_rank(), distributed.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this one writes."""
        return self.rank == 0

    def share(self, places: Tensor) -> Tensor:
        """This process's part of a batch; all get equal parts, and a rest is left out."""
        each = max(len(places) // self.size, 1)
        return places[self.rank * each : (self.rank + 1) * each] if self.size > 1 else places

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
