"""Torch modules that the export is tried on; named by ``torch_modules:NAME``."""

from __future__ import annotations

import os
import sys

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


class BatchTraced(nn.Module):
    """Computes with its batch as a number that a tracer takes for a constant."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.ones(torch.sym_int(x.shape[0]), 1)


class BatchDoubled(nn.Module):
    """Doubles its input, and adds nothing as often as the traced batch says."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 + torch.zeros(int(x.shape[0]), 1)


class NamedOutput(nn.Module):
    """Calls its input what an output is called."""

    def forward(self, output: Tensor) -> Tensor:
        return output * 2


class SameNames(nn.Module):
    """Gives out two tensors that are called the same, and as the input is."""

    def forward(self, a_b: Tensor) -> dict[str, object]:
        return {"a": {"b": a_b * 2}, "a_b": a_b * 3}


class Talks(nn.Module):
    """Prints while it runs, from compiled code too."""

    def __init__(self) -> None:
        super().__init__()
        print("made")

    def forward(self, x: Tensor) -> Tensor:
        print("run")
        os.write(1, b"compiled\n")
        return x * 2


class Leaves(nn.Module):
    """Ends the program while it runs."""

    def forward(self, x: Tensor) -> Tensor:
        sys.exit(3)


def leaving() -> nn.Module:
    sys.exit(3)


class NoTensor(nn.Module):
    """Gives out text."""

    def forward(self, x: Tensor) -> str:
        return "text"


def broken() -> nn.Module:
    raise RuntimeError("no weights here")


def nothing() -> None:
    """A factory that makes no module."""


ready = small()
