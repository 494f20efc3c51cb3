"""Tiny graphs built in code, and the oracle that every rule is held against."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from prunecvt_passes import oracle, runtime
from prunecvt_passes.budget import Budget, Removal
from prunecvt_passes.choose import choose
from prunecvt_passes.flow import trace
from prunecvt_passes.groups import Groups, solve
from prunecvt_passes.model import Array, Model
from prunecvt_passes.normalise import Dense, Source, normalise
from prunecvt_passes.plan import write_down
from prunecvt_passes.rules import RULES
from prunecvt_passes.samples import probes, random_inputs
from prunecvt_passes.score import Criterion, score
from prunecvt_passes.slice import remove
from prunecvt_passes.units import Units

Value = str | Array | None
Dim = int | str | None
WIDTH = 8  # channels of ``Net.first``
SIDE = 6  # its rows and columns


class Net:
    """A graph in the making; weights are random and seeded."""

    def __init__(self, opset: int = 17, seed: int = 0) -> None:
        self.opset, self.ir, self.dtype = opset, 8, np.dtype(np.float32)
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.weights: dict[str, Array] = {}
        self.domains: dict[str, int] = {}
        self.functions: list[onnx.FunctionProto] = []
        self.count = 0

    @property
    def type(self) -> int:
        return int(helper.np_dtype_to_tensor_dtype(self.dtype))

    def fresh(self, stem: str = "t") -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def input(self, *shape: Dim, name: str = "x", type: int | None = None) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, type or self.type, shape))
        return name

    def constant(self, values: Any, name: str = "") -> str:
        name = name or self.fresh("w")
        self.weights[name] = np.asarray(values)
        return name

    def random(self, *shape: int, name: str = "", scale: float = 1.0) -> str:
        values = self.rng.standard_normal(shape) * scale
        return self.constant(values.astype(self.dtype), name)

    def positive(self, *shape: int) -> str:
        return self.constant((self.rng.random(shape) + 0.5).astype(self.dtype))

    def add(self, op: str, *inputs: Value, name: str = "", domain: str = "", **attrs: Any) -> str:
        return self.many(op, *inputs, outputs=[name or self.fresh()], domain=domain, **attrs)[0]

    def many(
        self, op: str, *inputs: Value, outputs: Sequence[str] | int, domain: str = "", **attrs: Any
    ) -> list[str]:
        names = [i if isinstance(i, str) else "" if i is None else self.constant(i) for i in inputs]
        made = [self.fresh() for _ in range(outputs)] if isinstance(outputs, int) else list(outputs)
        self.nodes.append(helper.make_node(op, names, made, domain=domain, **attrs))
        if domain:
            self.domains[domain] = 1
        return made

    def conv(
        self, x: str, inputs: int, outputs: int, kernel: int | Sequence[int] = 1, **attrs: Any
    ) -> str:
        """A convolution with same padding; ``bias=False`` leaves its bias out."""
        bias, name, group = attrs.pop("bias", True), attrs.pop("name", ""), attrs.get("group", 1)
        rank = attrs.pop("rank", 2)
        sizes = [kernel] * rank if isinstance(kernel, int) else list(kernel)
        fan = inputs // group * int(np.prod(sizes))
        weight = self.random(outputs, inputs // group, *sizes, scale=fan**-0.5)
        attrs.setdefault("pads", [k // 2 for k in sizes] * 2)
        operands = [x, weight, *([self.random(outputs)] if bias else [])]
        return self.add("Conv", *operands, name=name, kernel_shape=sizes, **attrs)

    def norm(self, x: str, channels: int, **attrs: Any) -> str:
        scale, shift, mean = self.positive(channels), self.random(channels), self.random(channels)
        return self.add(
            "BatchNormalization", x, scale, shift, mean, self.positive(channels), **attrs
        )

    def first(self, channels: int = WIDTH, batch: Dim = "N") -> str:
        """The convolution ``first``, which makes what a rule is tried on."""
        return self.conv(self.input(batch, 3, SIDE, SIDE), 3, channels, 3, name="first")

    def last(self, x: str, channels: int = WIDTH) -> str:
        """The convolution that reads what a rule made, and whose output is the graph's."""
        return self.output(self.conv(x, channels, 4, name="last"), shape=[None] * 4)

    def head(self, x: str, features: int) -> str:
        """The same for a matrix of features."""
        return self.output(self.add("MatMul", x, self.random(features, 4), name="last"))

    def output(self, name: str, type: int | None = None, shape: Sequence[Dim] | None = None) -> str:
        """Makes ``name`` a graph output; its shape is inferred where it is not given."""
        self.outputs.append(helper.make_tensor_value_info(name, type or self.type, shape))
        return name

    def proto(self) -> onnx.ModelProto:
        tensors = [onnx.numpy_helper.from_array(v, n) for n, v in self.weights.items()]
        graph = helper.make_graph(self.nodes, "tiny", self.inputs, self.outputs, tensors)
        opsets = [helper.make_opsetid("", self.opset)]
        opsets += [helper.make_opsetid(d, v) for d, v in self.domains.items()]
        model = helper.make_model(graph, opset_imports=opsets, functions=self.functions)
        model.ir_version = self.ir
        inferred = onnx.shape_inference.infer_shapes(model)
        del model.graph.output[:]
        model.graph.output.extend(inferred.graph.output)
        return model


@dataclass(frozen=True)
class Outcome:
    """What became of a model that the oracle was run on."""

    dense: Dense
    groups: Groups
    removal: Removal
    slimmed: Model

    @property
    def lost(self) -> dict[str, int]:
        """Producing tensor -> channels it lost, where it lost any."""
        plan = write_down(self.groups, self.removal, "")
        return {c.tensor: c.width - len(c.kept) for c in plan.channels if c.width > len(c.kept)}

    @property
    def codes(self) -> dict[str, set[str]]:
        """Producing tensor -> codes of why channels of it must stay."""
        found: dict[str, set[str]] = {}
        for fixed in self.groups.fixed:
            found.setdefault(fixed.producer.tensor, set()).add(fixed.code)
        return found


def grouped(proto: onnx.ModelProto, units: Units | None = None) -> tuple[Dense, Groups]:
    """The normal form and the groups of a model."""
    dense = normalise(Source(Model.from_proto(proto)))
    return dense, solve(trace(dense.graph, RULES, units))


def random_removal(groups: Groups, ratio: float, seed: int = 0, scope: str = "layer") -> Removal:
    budget = Budget(ratio=ratio, round_to=1, scope=scope)  # type: ignore[arg-type]
    return choose(groups, score(groups, Criterion("random", seed)), budget)


def check_oracle(
    proto: onnx.ModelProto,
    *,
    ratio: float = 0.5,
    scope: str = "layer",
    decide: Callable[[Groups], Removal] | None = None,
    tolerance: float = 1e-4,
    units: Units | None = None,
) -> Outcome:
    """Asserts that removing channels is multiplying them by zero, and that nothing else changed."""
    dense, groups = grouped(proto, units)
    removal = decide(groups) if decide else random_removal(groups, ratio, scope=scope)
    slimmed = remove(groups, removal)
    written = slimmed.to_proto()
    onnx.checker.check_model(written, full_check=_infers(proto))
    check_contract(proto, written)
    assert (slimmed.nbytes < dense.graph.model.nbytes) == bool(removal.removed.any())
    normal, masked = dense.graph.model, oracle.masked(groups, removal)
    models = (Model.from_proto(proto), normal, masked, slimmed)
    # its optimiser quantises filters that stand between DequantizeLinear and QuantizeLinear
    sessions = [runtime.session(model, threads=1) for model in models]
    for sizes in run_sizes(dense):
        for inputs in either_way(random_inputs(normal, sizes)):
            results = [runtime.run_session(session, inputs) for session in sessions]
            for kind, (expected, found) in enumerate((results[:2], results[2:])):
                gap = oracle.difference(expected, found)
                agrees = gap.relative < tolerance or gap.absolute <= 3 * noise(sessions[0], inputs)
                assert agrees, f"{('normalised', 'slimmed')[kind]} differs at {sizes}: {gap}"
    return Outcome(dense, groups, removal, slimmed)


def either_way(inputs: dict[str, Array]) -> Iterator[dict[str, Array]]:
    """The inputs, and the same with every flag the other way, so that each branch is taken."""
    yield inputs
    if any(values.dtype == bool for values in inputs.values()):
        yield {name: np.asarray(~v) if v.dtype == bool else v for name, v in inputs.items()}


def noise(session: Any, inputs: dict[str, Array]) -> float:
    """How far the outputs move when the inputs are rounded a little otherwise.

    Quantisation steps and differences of near-equal numbers make more of a rounding error than the
    oracle allows for; a wrong channel makes more still.
    """
    rng, here = np.random.default_rng(1), runtime.run_session(session, inputs)
    moved = []
    for share in (1e-6, 1e-6, 1e-6, 1e-5, 1e-5, 1e-5):
        nudged = {
            name: np.asarray(v * (1 + share * rng.standard_normal(v.shape))).astype(v.dtype)
            if v.dtype.kind == "f"
            else v
            for name, v in inputs.items()
        }
        moved.append(oracle.difference(here, runtime.run_session(session, nudged)).absolute)
    return max(moved)


def _infers(proto: onnx.ModelProto) -> bool:
    """Whether onnx can check the shapes of the model as it came (it has no function for some)."""
    try:
        onnx.checker.check_model(proto, full_check=True)
    except onnx.shape_inference.InferenceError:
        return False
    return True


def run_sizes(dense: Dense) -> Iterator[dict[str, tuple[int, ...]]]:
    """The sizes that were probed, and one beyond them."""
    pairs = (pair for pair in probes(dense.graph.model, {}) if pair[0] == dense.sizes)
    first, second = next(pairs)
    yield first
    if second != first:
        yield second
        yield {
            name: tuple(2 * b - a for a, b in zip(first[name], second[name], strict=True))
            for name in first
        }


def check_contract(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    """Asserts that names, types and dimensions of inputs and outputs are what they were."""
    constants = {t.name for t in before.graph.initializer}
    assert list(after.graph.input) == [v for v in before.graph.input if v.name not in constants]
    assert list(after.graph.output) == list(before.graph.output)
    assert list(after.opset_import) == list(before.opset_import)


@dataclass
class Rows:
    """Rows of a table of cases: a builder, what it must lose, and what must stay and why."""

    cases: list[Any] = field(default_factory=list)

    def __call__(
        self,
        lost: dict[str, int] | None = None,
        pinned: dict[str, str] | None = None,
        opsets: Sequence[int] = (17,),
        **options: Any,
    ) -> Callable[[Callable[[Net], Any]], Callable[[Net], Any]]:
        def register(build: Callable[[Net], Any]) -> Callable[[Net], Any]:
            for opset in opsets:
                name = build.__name__ + (f"-opset{opset}" if len(opsets) > 1 else "")
                case = (build, opset, lost or {}, pinned or {}, options)
                self.cases.append(pytest.param(case, id=name))
            return build

        return register


def check_row(case: Any) -> Outcome:
    """Builds a row's graph, runs the oracle, and compares what was lost and what was pinned."""
    build, opset, lost, pinned, options = case
    net = Net(opset=opset)
    build(net)
    outcome = check_oracle(net.proto(), **options)
    found = {k: v for k, v in outcome.lost.items() if k in lost or k in pinned}
    assert found == lost, f"lost {found}, expected {lost}; {outcome.codes}"
    for name, code in pinned.items():
        assert code in outcome.codes.get(name, set()), outcome.codes
    return outcome


FLOAT = TensorProto.FLOAT
INT64 = TensorProto.INT64
