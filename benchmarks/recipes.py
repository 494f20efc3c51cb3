"""What the recipes share: data, nets with new weights, how they are trained, and their tables.

``--data digits`` takes a narrow form of the sample ResNet and scikit-learn's digits, for a few
minutes of a CPU; ``--data cifar`` a ResNet-20 with new weights and the 10,000 labelled images of
``--shared``, for a GPU; ``--data trained`` the same with the weights it was trained to, for a few
epochs on a CPU. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import prunecvt
from prunecvt.bridge import to_module, with_weights
from prunecvt.bridge.methods.fit import Examples, Hook, Schedule, accuracy, fit
from prunecvt.bridge.module import GraphModule
from prunecvt.loading.load import load
from prunecvt.reinit import Reinit, redraw
from prunecvt_passes.model import Model
from trained import MEAN, SAMPLES, STD

QUIET = {"ir": False, "bench": False, "round_to": 1}


@dataclass(frozen=True)
class Setting:
    """Data, the architecture, and how it is trained."""

    data: str
    architecture: Model
    train: Examples
    test: Examples
    schedule: Schedule
    shift: int
    flip: bool
    device: torch.device
    seeds: tuple[int, ...]

    def fresh(self, seed: int) -> Model:
        """The architecture with weights of this seed, or those that it was trained to."""
        if self.data == "trained":
            return self.architecture
        return redraw(self.architecture, Reinit(seed)).model

    def timed(self, seed: int, share: float = 1.0, rate: float = 1.0) -> Schedule:
        """The schedule with a seed, for a share of its steps and of its rate."""
        whole = self.schedule
        steps = max(round(whole.steps * share), 1)
        warmup = min(whole.warmup, steps) if share >= 1 else 0
        return replace(whole, steps=steps, warmup=warmup, rate=whole.rate * rate, seed=seed)

    def module(self, model: Model) -> GraphModule:
        """The model as a module on the device."""
        found = to_module(model, train=True).to(self.device)
        if self.device.type == "cpu" and self.data != "digits":  # a quarter faster
            found = found.to(memory_format=torch.channels_last)
        return found

    def learn(self, module: GraphModule, schedule: Schedule, hooks: Sequence[Hook] = ()) -> float:
        """Trains a module in place; gives its top-1 on the test set, in percent."""
        fit(module, self.train, schedule, hooks=hooks, augment=self.augmented)
        return 100 * accuracy(module, self.test)

    def top1(self, model: Model) -> float:
        """Top-1 of a model on the test set, in percent."""
        return 100 * accuracy(self.module(model), self.test)

    def augmented(self, images: Tensor, draw: torch.Generator) -> Tensor:
        """Moves every image by a few pixels, and turns some round."""
        return moved(images, draw, self.shift, self.flip)


def moved(images: Tensor, draw: torch.Generator, shift: int = 4, flip: bool = True) -> Tensor:
    """Moves all images by up to ``shift`` pixels, zeros coming in; mirrors half of them."""
    count, _, height, width = images.shape
    padded = torch.nn.functional.pad(images, [shift] * 4)
    moves = torch.randint(0, 2 * shift + 1, (2, count, 1), generator=draw)
    turned = torch.rand((count, 1), generator=draw) < (0.5 if flip else 0.0)
    columns = torch.arange(width).expand(count, -1)
    columns = moves[1] + torch.where(turned, width - 1 - columns, columns)
    rows = moves[0] + torch.arange(height)
    rows, columns = rows.to(images.device), columns.to(images.device)
    samples = torch.arange(count, device=images.device)[:, None, None]
    return padded[samples, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def parser(text: str | None, trained: bool = True) -> argparse.ArgumentParser:
    """The flags that every recipe takes; ``trained``: whether it may begin with such weights."""
    found = argparse.ArgumentParser(description=(text or "").splitlines()[0])
    choices = ("digits", "cifar", "trained") if trained else ("digits", "cifar")
    found.add_argument("--data", choices=choices, default="digits")
    found.add_argument("--shared", type=Path, help="holds models/ and data/, for CIFAR-10")
    found.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    found.add_argument("--seeds", default="0,1,2")
    found.add_argument("--epochs", type=int, help="of training; 16, 30 and 3")
    return found


def setting(options: argparse.Namespace) -> Setting:
    """What the flags ask for."""
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False  # what was trimmed has to answer the same
    seeds = tuple(int(seed) for seed in options.seeds.split(","))
    device = device_of(options.device)
    if options.data != "digits":
        if options.shared is None:
            sys.exit(f"--data {options.data} needs --shared FOLDER")
        model = load(options.shared / "models" / "cifar10_resnet20.tsbn.onnx")
        train, test = cifar(options.shared)
        usual, rate = (30, 0.1) if options.data == "cifar" else (3, 0.05)
        batch, epochs, shift = 128, options.epochs or usual, 4
    else:
        model = _narrow()
        # they were 8x8 once: every other row and column is enough
        train, test = (Examples(e.images[:, :, ::2, ::2].clone(), e.labels) for e in digits())
        batch, epochs, rate, shift = 50, options.epochs or 16, 0.05, 1
    steps = epochs * (len(train.labels) // batch)
    schedule = Schedule(steps=steps, rate=rate, batch=batch, warmup=steps // 20)
    return Setting(
        options.data,
        model,
        train.to(device),
        test.to(device),
        schedule,
        shift,
        options.data != "digits",
        device,
        seeds,
    )


def device_of(name: str) -> torch.device:
    """The device of ``--device``."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _narrow() -> Model:
    """The sample ResNet with a third of its widths (16, 32, 48)."""
    path = SAMPLES / "digits_resnet.onnx"
    return prunecvt.slim(path, ratio=2 / 3, round_to=8, reinit=True).slimmed.model


def digits() -> tuple[Examples, Examples]:
    """scikit-learn's digits, to train on and to judge by."""
    sys.path.append(str(SAMPLES))
    from digits import split

    found = split()
    pairs = (
        (found.train_images, found.train_labels),
        (found.test_images, found.test_labels),
    )
    train, test = (Examples(*map(torch.from_numpy, pair)) for pair in pairs)
    return train, test


def cifar(shared: Path) -> tuple[Examples, Examples]:
    """10,000 images of CIFAR-10 to train on, and those to judge by."""
    train, test = (
        _stored(shared / "data" / f"cifar10_{part}.npz") for part in ("train10k", "test")
    )
    return train, test


def _stored(path: Path) -> Examples:
    with np.load(path) as stored:
        images, labels = stored["images"], stored["labels"].astype(np.int64)
    plain = ((images.astype(np.float32) / 255 - MEAN) / STD).transpose(0, 3, 1, 2)
    return Examples(torch.from_numpy(np.ascontiguousarray(plain)), torch.from_numpy(labels))


def written(model: Model, module: GraphModule) -> Model:
    """The model with what the module learnt."""
    return with_weights(model, module)


@dataclass
class Table:
    """Rows of Markdown, printed as they come, and a row of means and deviations at the end."""

    heads: tuple[str, ...]

    def __post_init__(self) -> None:
        self.rows: list[tuple[str, list[float]]] = []
        self.started = time.perf_counter()
        print(f"| {' | '.join(self.heads)} |\n|{'---|' * len(self.heads)}", flush=True)

    def add(self, case: str, seed: int, numbers: Sequence[float]) -> None:
        """Prints the row of one case and seed."""
        self.rows.append((case, list(numbers)))
        cells = [case, str(seed), *(f"{number:.2f}" for number in numbers)]
        print(f"| {' | '.join(cells)} |", flush=True)

    def close(self) -> dict[str, list[float]]:
        """Prints mean and standard deviation of each case; gives the means."""
        means = {}
        for case in dict.fromkeys(case for case, _ in self.rows):
            found = np.array([numbers for other, numbers in self.rows if other == case])
            spread = found.std(0, ddof=1) if len(found) > 1 else np.zeros(found.shape[1])
            means[case] = found.mean(0).tolist()
            pairs = zip(means[case], spread, strict=True)
            cells = [f"**{case}**", "mean", *(f"{mean:.2f} ± {off:.2f}" for mean, off in pairs)]
            print(f"| {' | '.join(cells)} |", flush=True)
        print(f"\n{time.perf_counter() - self.started:.0f} s", flush=True)
        return means


def verdict(finding: str, holds: bool) -> None:
    """Says whether what a paper found is found here."""
    print(f"- {finding}: **{'reproduced' if holds else 'NOT reproduced'}**")
