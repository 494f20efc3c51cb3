"""Torch modules that the export is tried on; named by ``torch_modules:NAME``."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def small() -> nn.Module:
    """A convolution with BatchNormalization, dropout and a head, on [N, 3, 8, 8]."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(8, 4),
    )


class TwoInputs(nn.Module):
    """An embedding of ids scaled by a gate; gives out a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(4, 6)

    def forward(self, ids: Tensor, gate: Tensor) -> dict[str, Tensor]:
        mixed = self.table(ids).mean(1)
        return {"mixed": mixed, "gated": mixed * gate}


class BatchBaked(nn.Module):
    """Computes with its batch as a plain number."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.full((1,), float(len(x.tolist())))


class NoTensor(nn.Module):
    """Gives out text."""

    def forward(self, x: Tensor) -> str:
        return "text"


def broken() -> nn.Module:
    raise RuntimeError("no weights here")


def nothing() -> None:
    """A factory that makes no module."""


ready = small()
