"""What is each clean-up before writing worth? The same model with it and without, in one race.

Nets with random weights. ``shortcuts``: ResNets with zero-padded shortcuts (Slice and Pad), whole
and cut; ``blocks``: one such block by its channels, a convolution at any width; ``picks``: channels
put in another order; ``form``: weights listed as inputs, shapes of inner tensors stated; ``batch``:
the IR's, open or fixed. A ratio below 1 means that the clean-up makes it quicker.

    python benchmarks/clean_ups.py
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

import prunecvt
from nets import MODELS, Builder
from prunecvt.judging import bench_files, convert_file
from prunecvt_passes.rewriting import shortcut

QUICK: dict[str, Any] = {"ir": False, "bench": False, "verify": False, "force": True}
END = np.iinfo(np.int64).max
Case = tuple[str, Path, Path]


def constant(net: Builder, values: list[int]) -> str:
    """An integer vector among the weights."""
    name = f"w{len(net.weights)}"
    net.weights.append(numpy_helper.from_array(np.array(values, np.int64), name))
    return name


def block(net: Builder, x: str, given: int, made: int) -> str:
    """A basic block; where it widens it halves the image, with zero channels on its shortcut."""
    stride = 1 if given == made else 2
    y = net.relu(net.bn(net.conv(x, given, made, 3, stride), made))
    y = net.bn(net.conv(y, made, made), made)
    if stride > 1:
        bounds = ([0, 0], [END, END], [2, 3], [2, 2])
        x = net.node("Slice", [x, *(constant(net, values) for values in bounds)])
        beside = (made - given) // 2
        x = net.node("Pad", [x, constant(net, [0, beside, 0, 0] * 2)])
    return net.relu(net.node("Add", [y, x]))


def cifar(blocks: int) -> onnx.ModelProto:
    """The ResNet of 6 n + 2 layers for 32 px, with n ``blocks`` a stage."""
    net = Builder(32)
    x, width = net.relu(net.bn(net.conv("input", 3, 16), 16)), 16
    for made in (16, 32, 64):
        for _ in range(blocks):
            x, width = block(net, x, width, made), made
    return net.classifier(x, width, 10)


def imagenet() -> onnx.ModelProto:
    """ResNet-18 for 224 px, with zero-padded shortcuts."""
    net = Builder(224)
    x = net.relu(net.bn(net.conv("input", 3, 64, 7, 2), 64))
    x, width = net.pool(x, "MaxPool", 3, 2, 1), 64
    for made in (64, 128, 256, 512):
        for _ in range(2):
            x, width = block(net, x, width, made), made
    return net.classifier(x, width)


def one_block(channels: int, size: int) -> onnx.ModelProto:
    """Two convolutions and a block that doubles the channels."""
    net = Builder(size)
    x = net.relu(net.bn(net.conv("input", 3, channels), channels))
    x = net.relu(net.bn(net.conv(x, channels, channels, 1), channels))
    return net.classifier(block(net, x, channels, 2 * channels), 2 * channels, 10)


def reordered() -> onnx.ModelProto:
    """ResNet-18 with colours backwards, and channels in another order after 8 convolutions."""
    net = Builder(224)
    x = net.node("Gather", ["input", constant(net, [2, 1, 0])], axis=1)
    x = net.relu(net.bn(net.conv(x, 3, 64, 7, 2), 64))
    x, width = net.pool(x, "MaxPool", 3, 2, 1), 64
    for made in (64, 128, 256, 512):
        for _ in range(2):
            stride = 1 if made == width else 2
            y = net.relu(net.bn(net.conv(x, width, made, 3, stride), made))
            order = net.random.permutation(made).tolist()
            y = net.node("Gather", [y, constant(net, order)], axis=1)
            y = net.bn(net.conv(y, made, made), made)
            x = net.bn(net.conv(x, width, made, 1, stride), made) if stride > 1 else x
            x, width = net.relu(net.node("Add", [y, x])), made
    return net.classifier(x, width)


def cleaned(name: str, model: onnx.ModelProto, ratio: float, folder: Path) -> Case:
    """A model cut by ``ratio``, left as it is and cleaned up."""
    source = folder / "source.onnx"
    onnx.save(model, source)
    paths = [folder / f"{name}_{mode}.onnx" for mode in ("none", "auto")]
    for path, mode in zip(paths, ("none", "auto"), strict=True):
        prunecvt.slim(source, path, ratio=ratio, clean=mode, **QUICK)
    return f"{name}, {ratio:g} cut", paths[0], paths[1]


def shortcuts(folder: Path) -> Iterator[Case]:
    """Whole nets, as the rule has it, and with every shortcut a convolution."""
    for name, model in (("ResNet-20, 32 px", cifar(3)), ("ResNet-56, 32 px", cifar(9))):
        for ratio in (0.0, 0.4):
            yield cleaned(name, model, ratio, folder)
    for ratio in (0.0, 0.4):
        shortcut.MOST_CHANNELS, usual = 1 << 30, shortcut.MOST_CHANNELS
        case = cleaned("ResNet-18, 224 px, forced", imagenet(), ratio, folder)
        shortcut.MOST_CHANNELS = usual
        yield case


def blocks(folder: Path) -> Iterator[Case]:
    """One block, by channels and pixels."""
    shortcut.MOST_CHANNELS, usual = 1 << 30, shortcut.MOST_CHANNELS
    for channels, size in ((8, 56), (16, 32), (16, 112), (32, 16), (32, 56), (64, 14), (64, 56)):
        yield cleaned(f"{channels} channels, {size} px", one_block(channels, size), 0.0, folder)
    for channels, size in ((128, 28), (256, 14)):
        yield cleaned(f"{channels} channels, {size} px", one_block(channels, size), 0.0, folder)
    shortcut.MOST_CHANNELS = usual


def picks(folder: Path) -> Iterator[Case]:
    """Channels in another order."""
    for ratio in (0.0, 0.4):
        yield cleaned("ResNet-18, 9 Gathers", reordered(), ratio, folder)


def form(folder: Path) -> Iterator[Case]:
    """How the same graph is written down."""
    for name in ("resnet18", "mobilenet_v2"):
        model = MODELS[name]()
        listed = onnx.ModelProto()
        listed.CopyFrom(model)
        for tensor in model.graph.initializer:
            kind = onnx.helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
            listed.graph.input.append(onnx.ValueInfoProto(name=tensor.name, type=kind))
        paths = [folder / f"{name}_{what}.onnx" for what in ("listed", "written", "stated")]
        onnx.save(listed, paths[0])
        prunecvt.slim(paths[0], paths[1], ratio=0.0, **QUICK)
        yield f"{name}: weights no inputs any more", paths[0], paths[1]
        onnx.save(onnx.shape_inference.infer_shapes(onnx.load(paths[1])), paths[2])
        yield f"{name}: shapes of inner tensors stated", paths[1], paths[2]


def batch(folder: Path) -> Iterator[Case]:
    """Open or fixed at 1."""
    for name, size, ratio in (
        ("resnet18", 224, 0.0),
        ("mobilenet_v2", 224, 0.0),
        ("mobilenet_v2", 224, 0.5),
        ("mobilenet_v2", 112, 0.5),
    ):
        source, path, fixed = (folder / f"{name}{end}" for end in (".onnx", "_slim.onnx", ".xml"))
        model = MODELS[name]()
        for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
            dim.dim_value = size
        onnx.save(model, source)
        prunecvt.slim(source, path, ratio=ratio, **QUICK)
        convert_file(path, fixed, False, True, 600.0, batch=1)
        yield f"{name}, {size} px, {ratio:g} cut: batch of the IR fixed", path, fixed


CASES: dict[str, Callable[[Path], Iterator[Case]]] = {
    "shortcuts": shortcuts,
    "blocks": blocks,
    "picks": picks,
    "form": form,
    "batch": batch,
}


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default=",".join(CASES))
    options = parser.parse_args()
    print("| model | onnxruntime | OpenVINO |\n|---|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        for kind in options.cases.split(","):
            for name, before, after in CASES[kind](Path(folder)):
                _, ((*rows,),) = bench_files([before, after], "both", {}, None)
                cells = [
                    f"{row.ratio:.3f} ({row.ratio_ci95[0]:.3f} to {row.ratio_ci95[1]:.3f})"
                    for row in rows
                ]
                print(f"| {name} | {' | '.join([''] * (2 - len(cells)) + cells)} |", flush=True)


if __name__ == "__main__":
    main()
