"""Torch-Pruning on the trained classifiers: cut to a share of the MACs, BatchNorm re-estimated."""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch_pruning as tp
from torch import Tensor, nn

import trained
from rival_case import Case, Pictures, Way
from trained import BATCH, Floats32, Ints, _normalised
from trained_nets import Shortcut, load, outer_layers

CRITERIA: dict[str, Callable[[], tp.importance.Importance]] = {
    "L2": lambda: tp.importance.MagnitudeImportance(p=2),
    "BN scale": tp.importance.BNScaleImportance,
    "FPGM": tp.importance.FPGMImportance,
}
PASSES = 2  # over the augmented images
_BATCH = 128
_SHOWN = 25  # images at once, where nothing depends on it
_PADDING = 4
_TOLERANCE = 1e-4
_TRACED = 32  # pixels; Torch-Pruning keeps what it traced, and widths do not depend on the size


def ways(case: Case) -> Iterator[Way[nn.Module]]:
    """Each criterion, each layer alone and all at once, inside the blocks and everywhere."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module, size = load(case.path), case.examples.images.shape[-1]
    _check(case, module, size)
    remedies = {"plain": functools.partial(reestimated, pictures=case.pictures, augment=False)}
    if case.name.startswith("cifar10"):
        remedies["augmented"] = functools.partial(reestimated, pictures=case.pictures, augment=True)
    for criterion, everywhere, inner in itertools.product(CRITERIA, (False, True), (True, False)):
        scope = f"{'global' if everywhere else 'per layer'}, {'inner' if inner else 'all'}"
        yield Way(
            ("Torch-Pruning", criterion, scope),
            functools.partial(cut, module, criterion, inner, everywhere),
            functools.partial(macs, size=size),
            functools.partial(answers, images=case.examples.images),
            remedies,
        )


def _check(case: Case, module: nn.Module, size: int) -> None:
    """Ends the run unless the module computes and costs what the ONNX file does."""
    images = case.examples.images[:BATCH]
    known, found = trained.logits(case.dense.graph.model, images), logits(module, images)
    apart = abs(known - found).max() / abs(known).max()
    if apart > _TOLERANCE or macs(module, size) != case.macs:
        raise SystemExit(f"{case.name}: the torch module is not the model, {apart:.1e} apart")


class ShortcutPruner(tp.pruner.function.BasePruningFunc):  # type: ignore[misc]
    """Tells Torch-Pruning how a zero-padded shortcut loses channels on either side."""

    def prune_out_channels(self, layer: Shortcut, idxs: Sequence[int]) -> nn.Module:
        layer.selection = _without(layer.selection, idxs, 0)
        return layer

    def prune_in_channels(self, layer: Shortcut, idxs: Sequence[int]) -> nn.Module:
        layer.selection = _without(layer.selection, idxs, 1)
        return layer

    def get_out_channels(self, layer: Shortcut) -> int:
        return layer.selection.shape[0]

    def get_in_channels(self, layer: Shortcut) -> int:
        return layer.selection.shape[1]


def _without(tensor: Tensor, gone: Sequence[int], axis: int) -> Tensor:
    kept = sorted(set(range(tensor.shape[axis])) - set(gone))
    return tensor.index_select(axis, torch.tensor(kept))


def cut(
    module: nn.Module, criterion: str, inner: bool, everywhere: bool, ratio: float
) -> nn.Module:
    """A copy without ``ratio`` of the channels.

    Args:
        module: what is cut.
        criterion: one of ``CRITERIA``.
        inner: only widths inside one block, not the residual stream.
        everywhere: one ranking over all layers, else each layer loses the same share.
        ratio: the share of the channels.
    """
    made = copy.deepcopy(module)
    kept = [layer for layer in made.modules() if isinstance(layer, nn.Linear)]
    pruner = tp.pruner.BasePruner(
        made,
        torch.zeros(1, 3, _TRACED, _TRACED),
        importance=CRITERIA[criterion](),
        global_pruning=everywhere,
        pruning_ratio=ratio,
        ignored_layers=kept + (outer_layers(made) if inner else []),
        customized_pruners={Shortcut: ShortcutPruner()},
    )
    pruner.step()
    return made


def macs(module: nn.Module, size: int) -> int:
    """Multiply-accumulates of all convolutions and linear layers for one image."""
    counts: list[int] = []

    def count(layer: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        counts.append(made.numel() * layer.get_parameter("weight")[0].numel())

    layers = [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    logits(module, np.zeros((1, 3, size, size), np.float32))
    for hook in hooks:
        hook.remove()
    return sum(counts)


def logits(module: nn.Module, images: Floats32) -> Floats32:
    """What the module answers."""
    batches = torch.from_numpy(images).split(_SHOWN)
    with torch.inference_mode():
        return torch.cat([module(batch) for batch in batches]).numpy()


def answers(module: nn.Module, images: Floats32) -> Ints:
    """The class that the module gives each image."""
    return logits(module, images).argmax(axis=1).astype(np.int64)


def reestimated(module: nn.Module, pictures: Pictures, augment: bool) -> nn.Module:
    """A copy whose BatchNormalization has the moments of ``pictures``, mean over all batches."""
    made = copy.deepcopy(module)
    for layer in made.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None
    made.train()
    draw = functools.partial(augmented, draws=np.random.default_rng(0))
    with torch.inference_mode():
        for _ in range(PASSES if augment else 1):
            images = _normalised(draw(pictures) if augment else pictures)
            for batch in torch.from_numpy(images).split(_BATCH):
                made(batch)
    return made.eval()


def augmented(pictures: Pictures, draws: np.random.Generator) -> Pictures:
    """As in training on CIFAR: 4 black pixels around, cropped at random, half of them mirrored."""
    count, rows, columns = pictures.shape[:3]
    wide = ((0, 0), (_PADDING, _PADDING), (_PADDING, _PADDING), (0, 0))
    padded, made = np.pad(pictures, wide), np.empty_like(pictures)
    for k, (top, left) in enumerate(draws.integers(0, 2 * _PADDING + 1, (count, 2))):
        made[k] = padded[k, top : top + rows, left : left + columns]
    mirrored = draws.random(count) < 0.5
    made[mirrored] = made[mirrored][:, :, ::-1]
    return made
