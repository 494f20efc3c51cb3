"""Every operator between two projections: onnx's own node test cases, made into nets that can lose.

An input of a case comes out of a MatMul that makes the channels of one of its axes, and every
output is summed over with random weights, so that channels can go on either side. The MatMul's
weight is a permutation with signs and powers of two: what it makes is the case's own data, exactly.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.loader import load_model_tests

import operator_cases_bodies
import operator_cases_microsoft
import operator_cases_own
from models import noise, random_removal
from prunecvt_passes import oracle, runtime
from prunecvt_passes.errors import PrunecvtError
from prunecvt_passes.flow import trace
from prunecvt_passes.groups import solve
from prunecvt_passes.model import Array, Model
from prunecvt_passes.normalise import Dense, Source, normalise
from prunecvt_passes.plan import write_down
from prunecvt_passes.rules import RULES
from prunecvt_passes.slice import remove
from prunecvt_passes.units import Units

Others = Literal["constant", "fed", "made", "open", "shared"]
OTHERS: tuple[Others, ...] = ("constant", "fed", "made", "open", "shared")
MADE = "made"  # what the projection under test makes
OPSETS = (28, 26, 24, 21, 17)  # tried in turn where onnxruntime does not know a case's own
LIMIT, LARGEST = 1e-4, 1 << 16  # relative difference; elements of an input
Feeds = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One of onnx's node tests: its model (of one node, unless expanded) and its data."""

    name: str
    model: onnx.ModelProto
    inputs: Feeds

    @property
    def operators(self) -> list[str]:
        return [f"{n.domain}:{n.op_type}".lstrip(":") for n in self.model.graph.node]


@dataclass(frozen=True)
class Setting:
    """Which axis of which input is made by a projection, and what the other inputs become.

    ``constant`` initializers, ``fed`` graph inputs, ``made`` by projections of their own along a
    matching axis, ``open`` initializers while the sizes of the projection's input are left open,
    ``shared`` the very same tensor where they have the same type and shape.
    """

    case: str
    place: int
    axis: int
    others: Others

    def __str__(self) -> str:
        return f"{self.case}:{self.place}:{self.axis}:{self.others}"

    @staticmethod
    def parsed(text: str) -> Setting:
        name, place, axis, others = text.split(":")
        return Setting(name, int(place), int(axis), others)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Finding:
    """What became of a setting: cut (in a body), pinned, wrong, or not run; why of the pins."""

    status: Literal["cut", "inside", "pinned", "wrong", "not run"]
    reasons: tuple[tuple[str, str], ...] = ()
    detail: str = ""


@functools.cache
def cases() -> dict[str, Case]:
    """All node tests by name."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        loaded = load_model_tests(kind="node")
    found = {}
    for test in loaded:
        names = [value.name for value in test.model.graph.input]
        data = test.data_sets[0][0] if test.data_sets else ["none"]
        values = [
            numpy_helper.to_array(v) if isinstance(v, TensorProto) else np.asarray(v)
            for v in data
            if isinstance(v, np.ndarray | np.generic | TensorProto)
        ]
        if len(values) == len(data):  # no sequences
            found[test.name] = Case(test.name, test.model, dict(zip(names, values, strict=False)))
    rows = [*operator_cases_own.ROWS, *operator_cases_microsoft.ROWS]
    own = operator_cases_own.models(rows) | operator_cases_bodies.models()
    return found | {name: Case(name, *built) for name, built in own.items()}


def settings(case: Case, others: tuple[Others, ...] = OTHERS) -> Iterator[Setting]:
    """Every axis of every input that could carry channels."""
    for place, value in enumerate(case.inputs.values()):
        if _holds_numbers(value) and value.size <= LARGEST:
            for axis, size in enumerate(value.shape):
                if size > 1:
                    for kind in others:
                        if kind != "shared" or _sharing(case, place):
                            yield Setting(case.name, place, axis, kind)


def _sharing(case: Case, place: int) -> list[str]:
    """The inputs that can read the same tensor as input ``place``."""
    target, value = list(case.inputs.items())[place]
    alike = [name for name, v in case.inputs.items() if v.shape == value.shape and name != target]
    return [name for name in alike if case.inputs[name].dtype == value.dtype]


def _holds_numbers(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind not in "OSU"


class _Embedding:
    """The net in the making."""

    def __init__(self, case: Case, setting: Setting, opset: int) -> None:
        self.case, self.setting, self.opset = case, setting, opset
        self.rng = np.random.default_rng(len(case.name))
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.weights: dict[str, Array] = {}
        self.feeds: Feeds = {}

    def add(self, op: str, *names: str, out: str = "", **attributes: Any) -> str:
        made = out or f"e{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(names), [made], **attributes))
        return made

    def constant(self, values: Any) -> str:
        name = f"c{len(self.weights)}"
        self.weights[name] = np.asarray(values)
        return name

    def give(self, name: str, value: Any, declared: onnx.ValueInfoProto) -> None:
        """Makes an input what the setting says of the others."""
        if not isinstance(value, np.ndarray) or self.setting.others == "fed":
            self.inputs.append(declared)
            self.feeds[name] = value
        else:
            self.weights[name] = value

    def project(self, name: str, value: Array, axis: int, made: str) -> None:
        """Makes ``value`` by a MatMul whose columns are the indices of ``axis``."""
        wide = np.float64 if value.dtype.itemsize > 2 and value.dtype.name != "float32" else "f4"
        data = np.nan_to_num(np.moveaxis(value.astype(wide), axis, -1), posinf=3.0, neginf=-3.0)
        size = data.shape[-1]
        order = self.rng.permutation(size)
        factors = self.rng.choice([-2.0, -1.0, 0.5, 1.0], size).astype(wide)
        weight, source = np.zeros((size, size), wide), np.empty_like(data)
        weight[order, np.arange(size)] = factors
        source[..., order] = data / factors
        dims: list[Any] = list(source.shape)
        if self.setting.others == "open":
            dims[:-1] = [f"D{k}" for k in range(len(dims) - 1)]
        kind = helper.np_dtype_to_tensor_dtype(source.dtype)
        self.inputs.append(helper.make_tensor_value_info(f"{made}_source", kind, dims))
        self.feeds[f"{made}_source"] = source
        x = self.add("MatMul", f"{made}_source", self.constant(weight), out=made)
        if value.dtype == np.bool_:
            x = self.add("Greater", x, self.constant(np.array(0.5, wide)))
        elif value.dtype != data.dtype:
            x = self.add("Cast", x, to=helper.np_dtype_to_tensor_dtype(value.dtype))
        back = list(range(value.ndim - 1))
        back.insert(axis, value.ndim - 1)
        self.add("Transpose", x, out=name, perm=back)

    def read(self, name: str, value: Any, declared: onnx.ValueInfoProto) -> None:
        """Sums over an output with three arrays of weights; what holds no numbers goes out."""
        if not _holds_numbers(value) or value.size == 0:
            self.outputs.append(declared)
            return
        x = self.add("Cast", name, to=TensorProto.FLOAT)
        if value.dtype.name != "float32" and value.dtype.itemsize > 2:
            x = name
        other = self.setting.others == "shared"  # then the values are not those that the case has
        if value.dtype.kind == "f" and (other or not np.isfinite(value).all()):
            five = self.constant(np.array(5, value.dtype if x == name else np.float32))
            x = self.add("Where", self.add("IsNaN", x), five, x)
            x = self.add("Where", self.add("IsInf", x), five, x)
        x = self.add("Cast", x, to=TensorProto.DOUBLE)
        for k in range(3):
            shares = self.rng.uniform(0.5, 1.5, value.shape)
            product = self.add("Mul", x, self.constant(shares))
            self.add("ReduceSum", product, out=f"{name}__sum{k}", keepdims=0)
            self.outputs.append(
                helper.make_tensor_value_info(f"{name}__sum{k}", TensorProto.DOUBLE, [])
            )

    def proto(self) -> onnx.ModelProto:
        tensors = [numpy_helper.from_array(v, n) for n, v in self.weights.items()]
        graph = helper.make_graph(self.nodes, "embedded", self.inputs, self.outputs, tensors)
        return helper.make_model(graph, opset_imports=_opsets(self.case, self.opset), ir_version=10)


def _opsets(case: Case, opset: int) -> list[onnx.OperatorSetIdProto]:
    found = {o.domain: o.version for o in case.model.opset_import} | {"": opset}
    return [helper.make_opsetid(*pair) for pair in found.items()]


def _matching(value: Any, rank: int, axis: int, size: int) -> int | None:
    """The axis of another input that meets ``axis``: the one it broadcasts with, or one as long."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fV" or value.size > LARGEST:
        return None
    alike = [k for k, n in enumerate(value.shape) if n == size]
    aligned = axis - rank + value.ndim
    return aligned if aligned in alike else alike[0] if alike else None


def limit(case: Case) -> float:
    """The relative difference allowed: 1e-4, or what the narrowest floats of a case round to."""
    widest = {TensorProto.FLOAT16: 2e-3, TensorProto.BFLOAT16: 2e-2}
    values = [*case.model.graph.input, *case.model.graph.output]
    kinds = {v.type.tensor_type.elem_type for v in values}
    kinds |= {a.i for n in case.model.graph.node for a in n.attribute if a.name == "to"}
    return max(LIMIT, *(widest.get(kind, 0.0) for kind in kinds))


@functools.cache
def standing(case_name: str) -> tuple[int, dict[str, Any]] | str:
    """The opset at which onnxruntime runs the case as it is, and its outputs; else why it fails."""
    case = cases()[case_name]
    own = max((o.version for o in case.model.opset_import if not o.domain), default=13)
    problem = ""
    for opset in [max(own, 13), own, *OPSETS]:
        proto = onnx.ModelProto()
        proto.CopyFrom(case.model)
        del proto.opset_import[:]
        proto.opset_import.extend(_opsets(case, opset))
        proto.ir_version = 10
        try:
            session = runtime.session(Model.from_proto(proto), threads=1)
            first, again = (runtime.run_session(session, case.inputs) for _ in range(2))
        except (PrunecvtError, ValueError, onnx.checker.ValidationError) as error:
            problem = str(getattr(error, "where", error)).splitlines()[0][:200]
            continue
        if oracle.difference(_arrays(first), _arrays(again)).absolute > 0:
            return "what it gives is random"
        return opset, first
    return problem


def _arrays(results: dict[str, Any]) -> dict[str, Array]:
    return {name: value for name, value in results.items() if isinstance(value, np.ndarray)}


def embedded(case: Case, setting: Setting) -> tuple[onnx.ModelProto, Feeds]:
    """The net of a setting and what to feed it; the case has to run as it stands."""
    run = standing(case.name)
    if isinstance(run, str):
        raise ValueError(run)
    opset, results = run
    net = _Embedding(case, setting, opset)
    target = list(case.inputs)[setting.place]
    shape = case.inputs[target].shape
    declared = {v.name: v for v in (*case.model.graph.input, *case.model.graph.output)}
    shared = _sharing(case, setting.place) if setting.others == "shared" else []
    for name, value in case.inputs.items():
        if name in shared:
            continue
        axis: int | None = setting.axis if name == target else None
        if name != target and setting.others == "made":
            axis = _matching(value, len(shape), setting.axis, shape[setting.axis])
        if axis is None:
            net.give(name, value, declared[name])
        else:
            net.project(name, value, axis, MADE if name == target else f"{name}__made")
    for tensor in case.model.graph.initializer:
        net.weights[tensor.name] = numpy_helper.to_array(tensor)
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in case.model.graph.node]
    for node in nodes:
        node.input[:] = [target if name in shared else name for name in node.input]
    net.nodes.extend(nodes)
    for name, value in results.items():
        net.read(name, value, declared[name])
    return net.proto(), net.feeds


def examine(setting: Setting, units: Units | None = None, seeds: int = 1) -> Finding:
    """Removes half of the channels at random and holds the slimmed net against the masked one."""
    case = cases()[setting.case]
    try:
        proto, feeds = embedded(case, setting)
        model = Model.from_proto(proto)
        session = runtime.session(model, threads=1)
        before = runtime.run_session(session, feeds)
    except (PrunecvtError, ValueError, TypeError) as error:
        return Finding("not run", detail=str(getattr(error, "where", error)).splitlines()[0][:200])
    try:
        dense, groups = _grouped(model, feeds, units)
    except PrunecvtError as error:
        return Finding("not run", detail=f"{error.code} {error.where}"[:200])
    except Exception as error:  # a model that onnxruntime runs must not end in a traceback
        return Finding("wrong", detail=repr(error)[:200])
    reasons = {f.code: f.reason for f in groups.fixed if f.producer.tensor == MADE}
    status: Literal["cut", "inside", "pinned"] = "pinned"
    for seed in range(seeds):
        removal = random_removal(groups, 0.5, seed + OTHERS.index(setting.others))
        if not removal.removed.any():
            break
        plan = write_down(groups, removal, "")
        lost = {c.tensor for c in plan.channels if c.width > len(c.kept)}
        if MADE in lost:
            status = "cut"
        elif status == "pinned" and not lost.isdisjoint(_inner(proto)):
            status = "inside"
        try:
            slimmed = runtime.run(remove(groups, removal), feeds)
            expected = runtime.run(oracle.masked(groups, removal), feeds)
            normal = runtime.run(dense.graph.model, feeds)
        except Exception as error:  # whatever it is, a cut that does not run is a finding
            where = str(getattr(error, "where", repr(error)))
            return Finding("wrong", tuple(reasons.items()), where[:200])
        gaps = {"normal form": _gap(before, normal), "slimmed": _gap(expected, slimmed)}
        for kind, gap in gaps.items():
            if gap.relative >= limit(case) and not gap.absolute <= 3 * _noise(session, feeds):
                detail = f"{kind} differs by {gap.relative:.1e}"
                return Finding("wrong", tuple(reasons.items()), detail)
    return Finding(status, tuple(reasons.items()))


def _inner(proto: onnx.ModelProto) -> set[str]:
    """What is made in bodies of nodes."""
    bodies = [a.g for node in proto.graph.node for a in node.attribute]
    return {name for body in bodies for node in body.node for name in node.output}


def opens(setting: Setting, units: Units) -> bool:
    """Whether any of the channels under test may go with these units."""
    try:
        proto, feeds = embedded(cases()[setting.case], setting)
        groups = _grouped(Model.from_proto(proto), feeds, units)[1]
    except (PrunecvtError, ValueError, TypeError):
        return False
    return any(MADE in group.members for group in groups.groups)


def _grouped(model: Model, feeds: Feeds, units: Units | None) -> tuple[Dense, Any]:
    stated = {n: v.shape for n, v in feeds.items() if isinstance(v, np.ndarray) and v.ndim}
    dense = normalise(Source(model, stated))
    return dense, solve(trace(dense.graph, RULES, units))


def _noise(session: Any, feeds: Feeds) -> float:
    arrays = {n: v for n, v in feeds.items() if isinstance(v, np.ndarray)}
    return noise(session, arrays) if len(arrays) == len(feeds) else 0.0


def _gap(expected: dict[str, Any], found: dict[str, Any]) -> oracle.Difference:
    """The difference of the sums over each output, relative to the largest of the three."""

    def joined(results: dict[str, Any]) -> dict[str, Array]:
        parts: dict[str, list[Array]] = {}
        for name, value in results.items():
            if isinstance(value, np.ndarray):
                parts.setdefault(name.split("__sum")[0], []).append(value)
        return {n: np.stack(p) if p[0].ndim == 0 else p[0] for n, p in parts.items()}

    return oracle.difference(joined(expected), joined(found))
