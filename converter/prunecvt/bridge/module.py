"""An ONNX graph as a ``torch.nn.Module``: a walk over its nodes, one function per operator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from prunecvt.bridge.operators import operator_of
from prunecvt.bridge.operators.step import Context, Step
from prunecvt.bridge.roles import Roles, roles_of
from prunecvt.bridge.tensors import array_of, tensor_of
from prunecvt.bridge.weights import stored_names
from prunecvt.errors import UsageError
from prunecvt_passes.graph import Graph, index
from prunecvt_passes.model import Array, Model
from prunecvt_passes.normalise import inline_functions
from prunecvt_passes.samples import dimensions, graph_inputs


class GraphModule(nn.Module):
    """Computes what an ONNX graph does, and can be trained.

    Weights are parameters, running statistics and other floating-point constants are buffers; both
    have the names of the initializers (``layer1.0.conv.weight`` lies in submodules ``layer1`` and
    ``0``, as torch names it), so ``state_dict()`` is keyed by initializer. Integer constants are
    kept aside, on the CPU: they are sizes and axes, which torch wants there.

    ``train()`` makes BatchNormalization use the batch and update its statistics, and Dropout drop;
    ``eval()`` gives the ONNX model's outputs. The batch may be of any size, also where the graph
    states one: Reshape targets that repeat the stated batch follow the real one.

    What Dropout drops comes from a generator of the module's own, which starts at 0: the same runs
    in the same order drop the same. ``seed_dropout`` starts it anew.

    Attributes:
        graph: the index of the graph that is walked.
        roles: what its constants are.
        places: initializer -> name in ``state_dict()``, for all parameters and buffers; the two
            differ only where torch cannot take the name.
        input_names, output_names: of the graph, in order.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        inlined = inline_functions(model)
        self.graph: Graph = index(inlined)
        self.roles: Roles = roles_of(self.graph, stored_names(model))
        self.input_names = tuple(value.name for value in graph_inputs(inlined))
        self.output_names = self.graph.outputs
        self.context = Context(stated=_stated_batch(inlined))
        self.steps = [
            Step(node, operator_of(node, model.source), self.graph.opset, self.context)
            for node in self.graph.nodes
            if not (node.op == "Constant" and node.outputs[0] in self.roles.values)
        ]
        for step in self.steps:
            step.fixed = step.node.index in self.roles.fixed_norms
        self.places: dict[str, str] = {}
        self.integers: dict[str, Tensor] = {}
        self._homes: dict[str, tuple[nn.Module, str]] = {}
        self._released = _last_reads(self.steps, self.output_names)
        self._register(model.source)

    def forward(
        self, *inputs: Tensor | Mapping[str, Tensor]
    ) -> Tensor | tuple[Tensor, ...] | dict[str, Tensor]:
        """Runs the graph.

        Args:
            inputs: the tensors in the graph's order, or one dict of them by name.

        Returns:
            The output where there is one, else a tuple of them; a dict by name for a dict.

        Raises:
            UsageError: E252, inputs are missing or too many.
        """
        by_name = len(inputs) == 1 and isinstance(inputs[0], Mapping)
        given = dict(inputs[0]) if by_name else dict(zip(self.input_names, inputs, strict=False))
        if given.keys() != set(self.input_names) or (not by_name and len(given) != len(inputs)):
            raise UsageError(
                "E252",
                f"the graph has {len(self.input_names)} inputs, {len(inputs)} were given",
                help=f"give {', '.join(self.input_names)}",
            )
        found = self._walk(given)
        if by_name:
            return dict(zip(self.output_names, found, strict=True))
        return found[0] if len(found) == 1 else found

    def weights(self) -> dict[str, Array]:
        """Copies of what training changes, by initializer: parameters and running statistics."""
        names = (*self.roles.trainable, *self.roles.statistics)
        return {name: array_of(self.tensor(name)) for name in names}

    def seed_dropout(self, seed: int) -> None:
        """Starts the numbers anew that Dropout draws in training mode; torch's own stay."""
        self.context.generator.manual_seed(seed)

    def tensor(self, name: str) -> Tensor:
        """The parameter or buffer of an initializer, or its constant tensor of integers."""
        if name in self.integers:
            return self.integers[name]
        home, leaf = self._homes[name]
        return getattr(home, leaf)

    def _walk(self, given: dict[str, Any]) -> tuple[Tensor, ...]:
        """Runs the steps in order; lets go of tensors that no later step reads."""
        known: dict[str, Tensor] = {name: self.tensor(name) for name in self._homes}
        known.update(self.integers)
        known.update(given)
        self.context.training = self.training
        first = given.get(self.input_names[0]) if self.input_names else None
        self.context.fed = first.shape[0] if first is not None and first.ndim else None
        for step, released in zip(self.steps, self._released, strict=True):
            made = step.run([known[name] if name else None for name in step.node.inputs])
            for name, value in zip(step.node.outputs, made, strict=False):
                if name:
                    known[name] = value
            for name in released:
                known.pop(name, None)
        return tuple(known[name] for name in self.output_names)

    def _register(self, source: str) -> None:
        trainable = set(self.roles.trainable)
        for name, array in self.roles.values.items():
            tensor = tensor_of(array, f"{source}: initializer '{name}'")
            if tensor is None:
                continue  # texts: refused only if a node reads them, by its operator
            if not tensor.is_floating_point():
                self.integers[name] = tensor
                continue
            home, leaf, path = _place(self, name)
            if name in trainable:
                home.register_parameter(leaf, nn.Parameter(tensor))
            else:
                home.register_buffer(leaf, tensor)
            self._homes[name], self.places[name] = (home, leaf), path


def _place(root: nn.Module, name: str) -> tuple[nn.Module, str, str]:
    """Where a tensor of this name is registered: its module, its name there, its full name.

    A dotted name goes into submodules. One that torch cannot take (an empty part, or a part that
    is an attribute of modules) is registered whole, with its dots replaced.
    """
    parts = name.split(".")
    if all(parts):
        home = root
        for part in parts[:-1]:
            if part not in home._modules:
                if hasattr(home, part):
                    break
                home.add_module(part, nn.Module())
            home = home._modules[part]
        else:
            if not hasattr(home, parts[-1]):
                return home, parts[-1], name
    flat = "initializer_" + name.replace(".", "_")
    while hasattr(root, flat):
        flat += "_"
    return root, flat, flat


def _stated_batch(model: Model) -> int | None:
    """The batch of the first input, where the graph states a number."""
    for value in graph_inputs(model)[:1]:
        declared = dimensions(value) or ()
        if len(declared) > 1 and isinstance(declared[0], int):
            return declared[0]
    return None


def _last_reads(steps: list[Step], outputs: tuple[str, ...]) -> list[tuple[str, ...]]:
    """For each step, what no later step reads."""
    seen = set(outputs)
    found: list[tuple[str, ...]] = []
    for step in reversed(steps):
        names = {name for name in (*step.node.inputs, *step.node.outputs) if name} - seen
        seen |= names
        found.append(tuple(sorted(names)))
    return found[::-1]
