"""The bridge to torch: an ONNX model as a trainable module, and its new weights back in the model.

>>> from prunecvt import bridge
>>> module = bridge.to_module("model.onnx", train=True)  # a torch.nn.Module
>>> ...  # train it
>>> tuned = bridge.with_weights("model.onnx", module).to_proto()

Needs ``pip install "prunecvt[torch]"``. Importing this package does not import torch: that happens
when one of its functions is called. See docs/bridge.md.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from prunecvt.errors import UsageError

if TYPE_CHECKING:
    from prunecvt.bridge.module import GraphModule
    from prunecvt.loading.load import Loadable
    from prunecvt_passes.model import Model

_WAITING = "OMP_WAIT_POLICY"

__all__ = ["require_torch", "to_module", "with_weights"]


def require_torch() -> None:
    """Says how to get torch where it is not installed.

    Raises:
        UsageError: E250.
    """
    try:
        with _patient_threads():
            importlib.import_module("torch")
    except ImportError as error:
        raise UsageError(
            "E250",
            "this needs torch, which is not installed",
            where=str(error).partition("\n")[0],
            help='pip install "prunecvt[torch]"',
        ) from error


@contextmanager
def _patient_threads() -> Iterator[None]:
    """Has OpenMP's threads sleep while they wait, unless the environment says otherwise.

    It reads the environment once, when it is loaded. Spinning threads take the time that others
    need on a busy machine: two on two cores took eight times the CPU time for a step of training.
    """
    chosen = _WAITING in os.environ
    os.environ.setdefault(_WAITING, "PASSIVE")
    try:
        yield
    finally:
        if not chosen:
            del os.environ[_WAITING]


def to_module(model: Loadable | Model, *, train: bool = False) -> GraphModule:
    """Makes a ``torch.nn.Module`` that computes what the model does.

    Args:
        model: a path, bytes, a ``ModelProto``, a graphsurgeon graph or a loaded ``Model``; it is
            left untouched, and the module has weights of its own.
        train: gives the module in training mode, and refuses models with weights that no gradient
            reaches. ``module.train()`` and ``module.eval()`` switch later.

    Returns:
        The module; its parameters and buffers are named like the model's initializers.

    Raises:
        UsageError: E250, torch is not installed.
        UnsupportedError: E440, an operator or a type has no counterpart; E441, no gradient.
        PrunecvtError: as ``prunecvt.loading.load``.
    """
    require_torch()
    from prunecvt.bridge.gradients import check_gradients
    from prunecvt.bridge.module import GraphModule
    from prunecvt.bridge.weights import loaded

    taken = loaded(model)
    module = GraphModule(taken)
    if train:
        check_gradients(module.graph, module.roles)
    module.train(train)
    return module


def with_weights(model: Loadable | Model, module: GraphModule) -> Model:
    """Gives the model with the module's weights in the place of its own; all else stays.

    Args:
        model: what the module was made from; it is left untouched.
        module: of ``to_module``, trained or not.

    Returns:
        A model with the same graph, names, order, types and metadata; ``to_proto()`` makes it
        complete.

    Raises:
        UsageError: E250, torch is not installed; E251, the module is not of this model.
    """
    require_torch()
    from prunecvt.bridge.weights import loaded, replaced

    return replaced(loaded(model), module.weights())
