"""torch's two exporters, and the module they export, run and left as it was."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from prunecvt.bridge.tensors import DTYPES, array_of
from prunecvt.errors import PrunecvtError, UnsupportedError, UsageError
from prunecvt.loading.refusal import one_line
from prunecvt_passes.graph import unused
from prunecvt_passes.model import Array

_TRACED_BATCH = 2  # of 1 exporters make a constant


@dataclass(frozen=True)
class Input:
    """An input of a module: its name, its sizes without the batch, its type."""

    name: str
    sizes: tuple[int, ...]
    dtype: Any


@dataclass(frozen=True)
class Job:
    """A module in evaluation mode, ready to be exported.

    Attributes:
        title: how messages call it.
        module: the module.
        inputs: its inputs in order.
        outputs: names of its outputs in order.
        seed: of random inputs.
    """

    title: str
    module: Any
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    seed: int

    @staticmethod
    @contextlib.contextmanager
    def open(factory: str | Callable[[], Any], shapes: list[str], seed: int) -> Iterator[Job]:
        """Makes the module and puts it back into its own mode afterwards.

        Raises:
            UsageError: E202 or E253.
            UnsupportedError: E442, it does not run on such inputs, or gives out no tensors.
        """
        title = factory if isinstance(factory, str) else getattr(factory, "__name__", "module")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = _module(factory, title)
        modes = {part: part.training for part in module.modules()}
        inputs = _inputs(module, shapes)
        try:
            module.eval()
            with _reported(title, "make inputs of these shapes"):
                sample = _sample(inputs, _TRACED_BATCH, seed, _device(module))
            with _reported(title, "run the module"), torch.no_grad():
                made = [name for name, _ in _named(module(*sample), title)]
            yield Job(title, module, inputs, _distinct(made, inputs), seed)
        finally:
            for part, mode in modes.items():
                part.training = mode

    def run(self, batch: int) -> tuple[dict[str, Array], list[Array]]:
        """Random inputs of a batch, by name, and the module's outputs in order."""
        sample = self._given(batch)
        with _reported(self.title, f"run the module at a batch of {batch}"), torch.no_grad():
            made = [array_of(value) for _, value in _named(self.module(*sample), self.title)]
        names = [each.name for each in self.inputs]
        return dict(zip(names, map(array_of, sample), strict=True)), made

    def torchscript(self, opset: int) -> onnx.ModelProto:
        """Exports by tracing; what is in evaluation mode stays as it is, unfused."""
        sample, file = self._given(_TRACED_BATCH), io.BytesIO()
        with torch.no_grad():
            made = [value for _, value in _named(self.module(*sample), self.title)]
        opened = [each.name for each in self.inputs]
        opened += [
            name
            for name, value in zip(self.outputs, made, strict=True)
            if value.ndim and value.shape[0] == _TRACED_BATCH
        ]
        with _reported(self.title, "export the module (torchscript)"), _quiet():
            torch.onnx.export(
                self.module,
                sample,
                file,
                opset_version=opset,
                training=torch.onnx.TrainingMode.PRESERVE,
                do_constant_folding=False,
                input_names=[each.name for each in self.inputs],
                output_names=list(self.outputs),
                dynamic_axes={name: {0: "batch"} for name in opened},
                dynamo=False,
            )
        return onnx.load_from_string(file.getvalue())

    def dynamo(self, opset: int) -> onnx.ModelProto:
        """Exports through ``torch.export``; BatchNormalization stays.

        The exporter's optimiser folds it, so it is off. Of its parts only the folding of constants
        is run: without it biases of zero are computed by the graph.
        """
        from onnxscript import optimizer

        batch = torch.export.Dim("batch")
        with _reported(self.title, "export the module (dynamo)"), _quiet():
            program = torch.onnx.export(
                self.module,
                self._given(_TRACED_BATCH),
                opset_version=opset,
                input_names=[each.name for each in self.inputs],
                output_names=list(self.outputs),
                dynamic_shapes=tuple({0: batch} for _ in self.inputs),
                optimize=False,
                verbose=False,
                dynamo=True,
            )
            optimizer.fold_constants(program.model)
            optimizer.remove_unused_nodes(program.model)
            return program.model_proto

    def _given(self, batch: int) -> tuple[Tensor, ...]:
        with _reported(self.title, f"make inputs of a batch of {batch}"):
            return _sample(self.inputs, batch, self.seed + batch, _device(self.module))


def _module(factory: str | Callable[[], Any], title: str) -> Any:
    """The module that a factory is, makes, or names."""
    found: Any = factory
    try:
        if isinstance(factory, str):
            found = _named_object(factory)
        made = found if isinstance(found, nn.Module) else found()
    except PrunecvtError:
        raise
    except (Exception, SystemExit) as error:  # somebody else's code raises whatever it likes
        raise _no_module(title, f"{type(error).__name__}: {error}") from error
    if not isinstance(made, nn.Module):
        raise _no_module(title, f"it gives a {type(made).__name__}")
    return made


def _named_object(text: str) -> Any:
    place, colon, name = text.partition(":")
    if not (place and colon and name):
        raise _no_module(text, "it is not of the form package.module:name")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())  # the command line's own folder, as python -m has it
    found: Any = importlib.import_module(place)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _no_module(title: str, why: str) -> UsageError:
    return UsageError(
        "E253",
        "the factory gives no torch.nn.Module",
        where=one_line(f"{title}: {why}"),
        help="name a module, or a function without arguments that makes one: package.module:name",
    )


def _inputs(module: Any, shapes: list[str]) -> tuple[Input, ...]:
    """Inputs as stated, those without a name called as ``forward`` calls them."""
    parameters = [
        parameter.name
        for parameter in inspect.signature(module.forward).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    found: list[Input] = []
    for place, text in enumerate(shapes):
        usual = parameters[place] if place < len(parameters) else f"input_{place}"
        found.append(_input(text, usual))
    if not found or len({each.name for each in found}) < len(found):
        raise _unreadable(" ".join(shapes))
    return tuple(found)


def _input(text: str, usual: str) -> Input:
    """Reads ``1,3,224,224``, ``NAME:1,3,224,224`` or ``NAME:1,16:int64``."""
    *names, kind = text.split(":")
    dtype: Any = getattr(torch, kind, None)
    if not isinstance(dtype, torch.dtype):
        names, dtype = [*names, kind], torch.float32
    *stated, sizes = names or [""]
    try:
        shape = tuple(int(size) for size in sizes.split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1 or dtype not in DTYPES.values():
        raise _unreadable(text)
    return Input(":".join(stated) or usual, shape[1:], dtype)


def _unreadable(text: str) -> UsageError:
    return UsageError(
        "E202",
        f"--shape {text} cannot be read",
        help="write 1,3,224,224 or NAME:1,3,224,224, for each input once; a type behind another "
        "colon is a real or whole one, or bool",
    )


def _sample(inputs: tuple[Input, ...], batch: int, seed: int, device: Any) -> tuple[Tensor, ...]:
    """Normal numbers, or 0 and 1 for whole ones."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for each in inputs:
        shape = (batch, *each.sizes)
        if each.dtype.is_floating_point:
            values = torch.randn(shape, generator=generator)
        else:
            values = torch.randint(0, 2, shape, generator=generator)
        made.append(values.to(each.dtype).to(device))
    return tuple(made)


def _device(module: Any) -> Any:
    return next((p.device for p in module.parameters()), torch.device("cpu"))


def _named(made: Any, title: str) -> list[tuple[str, Tensor]]:
    """The tensors that a module gives out, in the exporters' order, with names.

    Raises:
        UnsupportedError: E442, something else is among them.
    """
    flat = list(_flat(made, "", title))
    if len(flat) == 1:
        return [(flat[0][0] or "output", flat[0][1])]
    return [(name or f"output_{place}", value) for place, (name, value) in enumerate(flat)]


def _distinct(names: list[str], inputs: tuple[Input, ...]) -> tuple[str, ...]:
    """Names of outputs, none of them twice or an input's too."""
    taken = {each.name for each in inputs}
    return tuple(unused(name, taken) for name in names)


def _flat(made: Any, name: str, title: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(made, Tensor):
        yield name, made
    elif isinstance(made, Mapping):
        for key, value in made.items():
            yield from _flat(value, f"{name}_{key}" if name else str(key), title)
    elif isinstance(made, list | tuple):
        for place, value in enumerate(made):
            yield from _flat(value, f"{name}_{place}" if name else "", title)
    else:
        raise UnsupportedError(
            "E442",
            f"the module gives out a {type(made).__name__}",
            where=title,
            help="export a module that gives out tensors, in tuples, lists or dicts",
        )


@contextlib.contextmanager
def _reported(title: str, what: str) -> Iterator[None]:
    """Turns whatever torch raises into an error of ours."""
    try:
        yield
    except PrunecvtError:
        raise
    except (Exception, SystemExit) as error:  # torch's exceptions share no base class
        first = next(iter(str(error).strip().splitlines()), "")
        raise UnsupportedError(
            "E442",
            f"torch cannot {what}",
            where=one_line(f"{title}: {type(error).__name__}: {first}"),
            help="check --shape; try the other exporter with --exporter; --debug shows all",
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporters' own talk from the terminal: what matters is checked afterwards."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
