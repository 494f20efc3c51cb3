"""Trains the sample models on scikit-learn's digits and writes them as ONNX files.

Seeds, thread count and algorithms are fixed: on one machine, two runs write the same bytes.
    python sample_models/train.py [--out FOLDER] [NAME ...]
Names: digits_resnet (also writes digits_resnet_folded), digits_mobilenet, digits_unet.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from architectures import MobileNet, ResNet, UNet
from digits import NOISE, SIDE, split
from evaluate import evaluate
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

HERE = Path(__file__).parent
THREADS = 2
OPSET = 17
BATCH = 50
SHIFT = 2

Loss = Callable[[nn.Module, Tensor, Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class Recipe:
    """How one network is trained, what its output is called and which files it is written to."""

    network: Callable[[], nn.Module]
    loss: Loss
    epochs: int
    output: str
    files: tuple[str, ...]


def classify(model: nn.Module, images: Tensor, labels: Tensor, _: torch.Generator) -> Tensor:
    """Returns the cross-entropy of the logits."""
    return functional.cross_entropy(model(images), labels, label_smoothing=0.05)


def denoise(model: nn.Module, images: Tensor, _: Tensor, random: torch.Generator) -> Tensor:
    """Returns the mean squared error of the cleaned images."""
    noisy = images + NOISE * torch.randn(images.shape, generator=random)
    return functional.mse_loss(model(noisy), images)


RECIPES = {
    "digits_resnet": Recipe(
        ResNet, classify, 24, "logits", ("digits_resnet.onnx", "digits_resnet_folded.onnx")
    ),
    "digits_mobilenet": Recipe(MobileNet, classify, 16, "logits", ("digits_mobilenet.onnx",)),
    "digits_unet": Recipe(UNet, denoise, 16, "denoised", ("digits_unet.onnx",)),
}


def shift(images: Tensor, random: torch.Generator) -> Tensor:
    """Moves each image by up to SHIFT pixels along both axes, filling with black."""
    padded = functional.pad(images, (SHIFT,) * 4)
    offsets = torch.randint(2 * SHIFT + 1, (len(images), 2), generator=random).tolist()
    return torch.stack(
        [
            image[:, row : row + SIDE, column : column + SIDE]
            for image, (row, column) in zip(padded, offsets, strict=True)
        ]
    )


def train(recipe: Recipe) -> nn.Module:
    """Trains a network from a fixed seed, with AdamW and one cycle of the learning rate."""
    torch.manual_seed(0)
    random = torch.Generator().manual_seed(0)
    digits = split()
    images, labels = torch.from_numpy(digits.train_images), torch.from_numpy(digits.train_labels)
    # Channels last: depthwise convolutions train twice as fast.
    model = recipe.network().train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05)
    steps = recipe.epochs * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps, pct_start=0.15)
    for _ in range(recipe.epochs):
        for chosen in torch.randperm(len(images), generator=random).split(BATCH):
            moved = shift(images[chosen], random)
            optimizer.zero_grad()
            recipe.loss(model, moved, labels[chosen], random).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def export(model: nn.Module, output: str, path: Path) -> None:
    """Writes the network as ONNX; BatchNorm stays unless the file's name says `folded`.

    In mode EVAL the exporter folds BatchNorm into the convolutions; in mode PRESERVE it leaves
    the nodes as they are, and those of an evaluated network are in inference mode.
    """
    folded = path.stem.endswith("_folded")
    mode = torch.onnx.TrainingMode.EVAL if folded else torch.onnx.TrainingMode.PRESERVE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            model,
            (torch.zeros(1, 1, SIDE, SIDE),),
            str(path),
            input_names=["input"],
            output_names=[output],
            dynamic_axes={"input": {0: "batch"}, output: {0: "batch"}},
            opset_version=OPSET,
            training=mode,
            do_constant_folding=folded,
            dynamo=False,
        )
    check(path, folded)


def check(path: Path, folded: bool) -> None:
    """Raises ValueError unless the file is valid and treats BatchNorm as its name says."""
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    training = [
        node.name
        for node in norms
        if len(node.output) != 1 or any(a.name == "training_mode" and a.i for a in node.attribute)
    ]
    if bool(norms) == folded or training:
        raise ValueError(f"{path.name}: {len(norms)} BatchNormalization, in training: {training}")


def count_macs(model: nn.Module) -> int:
    """Returns the multiply-accumulates of convolutions and linear layers for one image."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 1, SIDE, SIDE))
    return counter.get_total_flops() // 2


def make(recipe: Recipe, folder: Path) -> None:
    """Trains one network, writes its files and prints what they are and what they reach."""
    start = time.perf_counter()
    model = train(recipe)
    seconds = time.perf_counter() - start
    parameters = sum(parameter.numel() for parameter in model.parameters())
    macs = count_macs(model)
    print(f"{parameters:,} parameters, {macs:,} MACs, trained in {seconds:.0f} s", flush=True)
    for name in recipe.files:
        path = folder / name
        export(model, recipe.output, path)
        print(f"  {name}  {path.stat().st_size:,} bytes, {evaluate(path).text}", flush=True)


def main() -> None:
    """Parses the command line and makes the networks asked for."""
    parser = argparse.ArgumentParser(description="Train the sample models.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(RECIPES)}")
    parser.add_argument("--out", type=Path, default=HERE, help="folder (default: this one)")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(RECIPES))
    if unknown:
        parser.error(f"no such model: {', '.join(unknown)}")
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    for name in arguments.names or RECIPES:
        make(RECIPES[name], arguments.out)


if __name__ == "__main__":
    main()
