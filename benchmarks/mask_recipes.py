"""What the recipes on masks, tickets and connectivity share: nets, settings, rows."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import onnx
import torch

import prunecvt
from nets import Builder
from prunecvt.bridge import to_module
from prunecvt.bridge.methods.fit import Examples, Schedule, accuracy
from prunecvt.bridge.methods.initialise import Initialisation, initialise
from prunecvt.bridge.methods.training import State, Training, restore
from prunecvt.bridge.module import GraphModule
from recipes import cifar, device_of, digits, moved
from trained import SAMPLES


class Small(Builder):
    """Nets without BatchNormalization, as the papers on tickets began with."""

    def shift(self, x: str, width: int) -> str:
        """The bias of a convolution, joined to the node that made ``x``."""
        self.nodes[-1].input.append(self.weight((width,), 0.0))
        return x

    def dense(self, x: str, given: int, made: int) -> str:
        inputs = [x, self.weight((given, made), (1 / given) ** 0.5), self.weight((made,), 0.0)]
        return self.node("Gemm", inputs)

    def model(self, x: str, channels: int, classes: int = 10) -> onnx.ModelProto:
        kind = onnx.TensorProto.FLOAT
        given = onnx.helper.make_tensor_value_info("input", kind, ["N", channels, 32, 32])
        self.nodes[-1].output[0] = "logits"
        made = onnx.helper.make_tensor_value_info("logits", kind, ["N", classes])
        graph = onnx.helper.make_graph(self.nodes, "small", [given], [made], self.weights)
        opset = [onnx.helper.make_opsetid("", 17)]
        return onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)


def lenet(channels: int) -> onnx.ModelProto:
    """LeNet-300-100 (LeCun et al., 1998), on images of 32 x 32."""
    net = Small(32)
    x = net.node("Flatten", ["input"])
    x = net.relu(net.dense(x, channels * 1024, 300))
    x = net.relu(net.dense(x, 300, 100))
    return net.model(net.dense(x, 100, 10), channels)


def conv4(channels: int) -> onnx.ModelProto:
    """Conv-4 of Frankle and Carbin (2019): 64, 64, pool, 128, 128, pool, 256, 256, 10."""
    net, x, given = Small(32), "input", channels
    for made in (64, 128):
        for _ in range(2):
            x = net.relu(net.shift(net.conv(x, given, made), made))
            given = made
        x = net.pool(x, "MaxPool", 2, 2)
    x = net.relu(net.dense(net.node("Flatten", [x]), 128 * 64, 256))
    x = net.relu(net.dense(x, 256, 256))
    return net.model(net.dense(x, 256, 10), channels)


@dataclass(frozen=True)
class Setting:
    """Data, a net, and how it is trained."""

    data: str
    device: torch.device
    seeds: tuple[int, ...]
    epochs: int
    train: Examples
    test: Examples
    shared: Path | None

    @property
    def plain(self) -> onnx.ModelProto:
        """The net without BatchNormalization."""
        return lenet(1) if self.data == "digits" else conv4(3)

    @property
    def normed(self) -> onnx.ModelProto:
        """A ResNet with BatchNormalization: the sample one made narrow, or CIFAR's ResNet-20."""
        if self.shared is not None:
            return onnx.load(self.shared / "models" / "cifar10_resnet20.tsbn.onnx")
        options = {"ratio": 0.75, "round_to": 1, "recover": "none", "fold_bn": False}
        return prunecvt.slim(SAMPLES / "digits_resnet.onnx", **options).model

    def module(self, model: onnx.ModelProto, seed: int, kind: Initialisation) -> GraphModule:
        """A module with fresh weights."""
        module = to_module(model, train=True).to(self.device)
        initialise(module, seed, kind)
        return module

    def training(self, rate: float, seed: int, warmup: float = 0.0) -> Training:
        """A run of all epochs; ``warmup``: a share of it."""
        batch = 50 if self.data == "digits" else 128
        steps = self.epochs * (len(self.train.labels) // batch)
        schedule = Schedule(steps, rate, batch, "thirds", int(warmup * steps), seed=seed)
        return Training(self.train, schedule, None if self.data == "digits" else moved)

    def score(self, module: GraphModule, state: State | None = None) -> float:
        """Right answers on the test data in percent, of the module or of a state of it."""
        if state is not None:
            restore(module, state)
        return 100 * accuracy(module, self.test)


def asked(title: str, digits_epochs: int, cifar_epochs: int, **more: float) -> argparse.Namespace:
    """Reads the command line; ``setting`` is among what it gives, with ``more`` numbers."""
    parser = argparse.ArgumentParser(description=title.splitlines()[0])
    parser.add_argument("--data", choices=["digits"], help="instead of CIFAR-10")
    parser.add_argument("--shared", type=Path, help="folder with data/ and models/ of CIFAR-10")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", type=int)
    for name, value in more.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    found = parser.parse_args()
    if (found.data is None) == (found.shared is None):
        parser.error("give --shared FOLDER or --data digits")
    device = device_of(found.device)
    train, test = cifar(found.shared) if found.shared else digits()
    epochs = found.epochs or (cifar_epochs if found.shared else digits_epochs)
    seeds = tuple(int(seed) for seed in found.seeds.split(","))
    data = found.data or "cifar"
    both = train.to(device), test.to(device)
    found.setting = Setting(data, device, seeds, epochs, *both, found.shared)
    found.started = time.process_time()
    torch.set_num_threads(1)  # small nets: several threads wait for one another
    return found


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean and standard deviation over seeds."""
    deviation = stdev(values) if len(values) > 1 else 0.0
    return f"{mean(values):.{digits}f} ± {deviation:.{digits}f}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print(flush=True)


def verdict(finding: str, holds: bool, options: argparse.Namespace) -> None:
    """Says whether what the paper found was found here; ``options`` of ``asked``."""
    say(finding, "reproduced" if holds else "not reproduced", options)


def compare(
    finding: str, better: Sequence[float], worse: Sequence[float], options: argparse.Namespace
) -> None:
    """The same of two rows of scores, seed by seed: a difference counts above its deviation."""
    gaps = [first - second for first, second in zip(better, worse, strict=True)]
    gap, noise = mean(gaps), stdev(gaps) if len(gaps) > 1 else 0.0
    result = "reproduced" if gap > noise else "not reproduced" if gap < -noise else "undecided"
    say(finding, f"{result}, {gap:+.1f} ± {noise:.1f}", options)


def say(finding: str, result: str, options: argparse.Namespace) -> None:
    seconds = time.process_time() - options.started
    setting = options.setting
    where = f"{setting.data}, {setting.epochs} epochs, {len(setting.seeds)} seeds"
    print(f"- {finding}: **{result}** ({where}, {seconds:.0f} CPU s)")
