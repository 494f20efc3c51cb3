"""One trial: a network, a random cut of it, and everything that must hold of the two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from models import check_contract
from networks import Grown
from networks.choices import Choices
from networks.double import run_double
from prunecvt_passes import oracle, runtime
from prunecvt_passes.budget import Budget, Removal
from prunecvt_passes.choose import choose
from prunecvt_passes.cost import parameters
from prunecvt_passes.flow import trace
from prunecvt_passes.groups import Groups, solve
from prunecvt_passes.model import Model
from prunecvt_passes.normalise import Dense, Source, normalise
from prunecvt_passes.oracle import Difference
from prunecvt_passes.plan import Plan, replay, write_down
from prunecvt_passes.rules import RULES
from prunecvt_passes.samples import dimensions, graph_inputs, random_inputs
from prunecvt_passes.score import Criterion, score
from prunecvt_passes.slice import remove
from prunecvt_passes.units import Units

TOLERANCE = 1e-5
UNDECIDED = 1e-4  # what the command line allows
EXACT = 1e-7  # relative difference of two runs in double precision that say the same
_CRITERIA = ("random", "l1", "l2", "product", "share", "fpgm", "lamp")


class WrongCutError(AssertionError):
    """A slimmed model or a normal form that is not what it must be."""


class UnrunnableError(Exception):
    """onnxruntime does not run the network itself: no fault of what is tested here."""


@dataclass(frozen=True)
class Passed:
    """What became of a network that passed.

    Attributes:
        groups, removal: what was cut.
        doubted: comparisons that float32 could not decide and float64 did.
        undecided: comparisons that float64 could not decide either.
    """

    groups: Groups
    removal: Removal
    doubted: int
    undecided: int


def drawn_units(c: Choices) -> Units:
    return Units(
        attention=c.pick("head", "channel"),
        grouped=c.pick("channel", "group"),
        inexact=c.pick(False, False, False, True),
    )


def drawn_removal(groups: Groups, c: Choices) -> Removal:
    """A removal by a random plan, or any subset of the classes."""
    criterion = Criterion(c.pick(*_CRITERIA), c.below(1000))
    if c.chance(25):
        return _any_subset(groups, criterion.seed)
    ratio, scope = 0.1 * c.pick(5, 1, 2, 3, 4, 6, 7, 8, 9), c.pick("layer", "global")
    scores = score(groups, criterion)
    removal, more = (
        choose(groups, scores, _budget(share, scope, step))
        for step in [c.pick(1, 1, 1, 4)]
        for share in (ratio, min(0.9, ratio + 0.2))
    )
    if scope == "layer" and not (more.removed | ~removal.removed).all():
        _check_more(groups, removal, more)
    return removal


def _budget(ratio: float, scope: Any, step: int) -> Budget:
    return Budget(ratio=ratio, scope=scope, round_to=step, min_channels=1)


def _check_more(groups: Groups, removal: Removal, more: Removal) -> None:
    """Removing a larger share must not leave more parameters."""
    left = [parameters(remove(groups, r)) for r in (removal, more)]
    if left[1] > left[0]:
        raise WrongCutError(f"a larger ratio leaves {left[1]} parameters instead of {left[0]}")


def _any_subset(groups: Groups, seed: int) -> Removal:
    """Any subset of each group's classes that leaves every labelled axis a channel."""
    rng = np.random.default_rng(seed)
    removed = np.zeros(groups.total, bool)
    for group in groups.groups:
        removed[group.classes] = rng.random(group.size) < rng.random()
    for axes in groups.channels.axes.values():
        for labels in axes:
            if labels is not None and removed[groups.class_of[labels]].all():
                removed[groups.class_of[labels[0]]] = False
    return Removal(removed, {})


def check(grown: Grown) -> Passed:
    """Cuts the network and checks the result.

    Raises:
        WrongCutError: it is not what it must be.
        UnrunnableError: onnxruntime does not run the network as it was grown.
    """
    proto = grown.proto
    model = Model.from_proto(proto)
    original = _opened(model)
    sizes = _first_sizes(model, grown)
    _run_original(original, random_inputs(model, sizes))
    dense = normalise(Source(model, grown.stated))
    groups = solve(trace(dense.graph, RULES, drawn_units(grown.plan)))
    removal = drawn_removal(groups, grown.plan)
    slimmed = remove(groups, removal)
    written = slimmed.to_proto()
    _check_written(proto, written, dense, groups, removal)
    masked = oracle.masked(groups, removal)
    doubted = undecided = 0
    pairs = (
        ("normal form", original, proto, dense.graph.model),
        ("slimmed model", runtime.session(masked, threads=1), masked.to_proto(), slimmed),
    )
    for kind, expected, expected_proto, found in pairs:
        opened = runtime.session(found, threads=1)
        for inputs in _inputs(model, dense, grown):
            try:
                wanted = runtime.run_session(expected, inputs)
            except Exception:  # a size that the network itself does not run at
                continue
            gap = oracle.difference(wanted, runtime.run_session(opened, inputs))
            if gap.relative < TOLERANCE:
                continue
            verdict = _in_double(expected_proto, found.to_proto(), inputs)
            if verdict is None and gap.relative < UNDECIDED:
                undecided += 1
            elif verdict is None:
                raise WrongCutError(f"{kind} differs: float32 {gap}, undecided in float64")
            elif verdict.relative > EXACT:
                raise WrongCutError(f"{kind} differs: float32 {gap}, float64 {verdict}")
            doubted += 1
    return Passed(groups, removal, doubted, undecided)


def _opened(model: Model) -> Any:
    try:
        onnx.checker.check_model(model.to_proto())
        return runtime.session(model, threads=1)
    except Exception as error:
        raise UnrunnableError(str(error)) from error


def _run_original(session: Any, inputs: dict[str, Any]) -> None:
    try:
        runtime.run_session(session, inputs)
    except Exception as error:
        raise UnrunnableError(str(error)) from error


def _first_sizes(model: Model, grown: Grown) -> dict[str, tuple[int, ...]]:
    return {
        value.name: grown.stated.get(value.name)
        or tuple(d if isinstance(d, int) else 2 for d in dimensions(value) or ())
        for value in graph_inputs(model)
    }


def _inputs(model: Model, dense: Dense, grown: Grown) -> Iterator[dict[str, Any]]:
    """Inputs at the probed sizes, and where sizes are open at a batch of 1 and of 3."""
    yield random_inputs(model, dense.sizes)
    open_axes = {
        value.name: [not isinstance(d, int) for d in dimensions(value) or ()]
        for value in graph_inputs(model)
    }
    if not any(any(axes) for axes in open_axes.values()):
        return
    for batch, factor in ((1, 1), (3, 2)):
        sizes = {
            name: tuple(
                size if not opened else batch if axis == 0 else factor * size
                for axis, (size, opened) in enumerate(
                    zip(dense.sizes[name], open_axes[name], strict=True)
                )
            )
            for name in dense.sizes
        }
        yield random_inputs(model, sizes, seed=batch)


def _check_written(
    proto: onnx.ModelProto,
    written: onnx.ModelProto,
    dense: Dense,
    groups: Groups,
    removal: Removal,
) -> None:
    onnx.checker.check_model(written)
    check_contract(proto, written)
    # not bytes: constants that state sizes may be parted, and tiny networks then grow
    before, after = parameters(dense.graph.model), parameters(Model.from_proto(written))
    if (after < before) != bool(removal.removed.any()):
        gone = int(removal.removed.sum())
        raise WrongCutError(f"{gone} classes go, and {after} of {before} parameters stay")
    plan = Plan.from_json(write_down(groups, removal, "").to_json())
    again = remove(groups, replay(groups, plan)).to_proto()
    if _bytes(again) != _bytes(written):
        raise WrongCutError("the plan, replayed, gives another model")


def _bytes(proto: onnx.ModelProto) -> bytes:
    return proto.SerializeToString(deterministic=True)


def _in_double(
    expected: onnx.ModelProto, found: onnx.ModelProto, inputs: dict[str, Any]
) -> Difference | None:
    """The difference in double precision; None where the reference does not run the model."""
    try:
        runs = [run_double(proto, inputs) for proto in (expected, found)]
    except Exception:
        return None
    return oracle.difference(*runs)


def features(grown: Grown, passed: Passed) -> dict[str, bool]:
    """Operators, steps and forms of a network, and whether a channel was cut through each."""
    channels, removed = passed.groups.channels, passed.removal.removed
    cut = {
        name
        for name, axes in channels.axes.items()
        if any(
            labels is not None and removed[passed.groups.class_of[labels]].any() for labels in axes
        )
    }
    found: dict[str, bool] = {}
    for node in channels.graph.nodes:
        touched = not cut.isdisjoint((*node.inputs, *node.outputs))
        found[node.op] = touched or found.get(node.op, False)
    for step, names in grown.steps.items():
        found[f"step {step}"] = not cut.isdisjoint(names)
    graph, units = channels.graph, channels.units
    for form in (
        f"opset {graph.opset}",
        f"unit of attention {units.attention}",
        f"unit of grouped {units.grouped}",
        *(["unit inexact"] if units.inexact else []),
        "space open" if grown.stated else "space fixed",
    ):
        found[form] = bool(removed.any())
    return found
