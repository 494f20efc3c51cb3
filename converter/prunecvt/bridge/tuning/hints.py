"""Which inner activations of the slimmed model are held to the original's."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Optional

import torch
from torch import Tensor

from prunecvt.bridge.module import GraphModule
from prunecvt.errors import UsageError
from prunecvt_passes import oracle
from prunecvt_passes.graph import Graph, index
from prunecvt_passes.model import Model

MOST = 32
_JOINS = ("Add", "Sum", "Concat")
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_AT_ONCE = 16  # tensors whose shapes are seen at once
_BYTES = 1 << 28  # of the original's tensors that channels are told by
_ALIKE = 0.5  # correlation of a channel with itself, before and after the cut
_GONE = "no tensor of that name in the slimmed model"
_UNTRAINED = "no trained weight comes before, or inside of a function"
_NO_CHANNELS = "no floating-point numbers with an axis of channels"
_UNLIKE = "other axes in the slimmed model"
_UNCLEAR = "not clear which channels stayed"
_Feed = dict[str, Tensor]
Places = Optional[tuple[int, ...]]  # noqa: UP045


@dataclass(frozen=True)
class Hints:
    """What is compared, and what was wanted and is not.

    Attributes:
        taken: name -> the original's channels (axis 1) that stayed, None where that is all.
        dropped: name -> why it is not compared.
    """

    taken: dict[str, Places] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)


def hints_of(teacher: Model, student: Model, feed: _Feed, patterns: Sequence[str]) -> Hints:
    """The activations that are compared; only such are looked at as may come to be.

    Args:
        teacher, student: the models.
        feed: some samples, 2 or more.
        patterns: of names; as for ``chosen_hints``.

    Raises:
        UsageError: E262, a pattern matches nothing that both have.
    """
    graph = index(student)
    names = shared_names(teacher, student)
    if patterns:
        matched = [name for name in names if _matches(name, patterns)]
        common, dropped = _seen(teacher, student, feed, matched)
        if not all(fnmatch.filter(common, pattern) for pattern in patterns):
            common = common_tensors(teacher, student, feed, names)  # for the message
        dropped = {**_absent(teacher, graph, names, patterns), **dropped}
        return Hints(chosen_hints(graph, common, patterns, dropped), dropped)
    dropped = {}
    for operators in (_JOINS, _LAYERS):
        some = [n for n in names if graph.producer[n].op in operators]
        common, unlike = _seen(teacher, student, feed, some)
        dropped.update(unlike)
        if common:
            taken = chosen_hints(graph, common, ())
            spread = f"{MOST} are taken, evenly spread"
            dropped.update({name: spread for name in common if name not in taken})
            return Hints(taken, dropped)
    return Hints({}, dropped)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _absent(
    teacher: Model, student: Graph, shared: Sequence[str], patterns: Sequence[str]
) -> dict[str, str]:
    """Inner tensors of the original that patterns match and that cannot be compared at all."""
    graph, there = index(teacher), set(shared)
    return {
        name: _UNTRAINED if name in student.producer else _GONE
        for name in graph.producer
        if _matches(name, patterns) and name not in there and name not in graph.outputs
    }


def shared_names(teacher: Model, student: Model) -> list[str]:
    """Inner tensors that both make, in the student's order, without those that no trained weight
    lies before: they are the same anyway; and without those inside of functions."""
    first, second = index(teacher), index(student)
    both = first.producer.keys() & second.producer.keys()
    return [n for n in _trained(GraphModule(student)) if n in both and n not in first.outputs]


def common_tensors(
    teacher: Model, student: Model, feed: _Feed, names: Sequence[str] | None = None
) -> dict[str, Places]:
    """Inner activations that both models have, in the student's order, and which channels it has.

    A cut takes names along, so what has one name is made in the same place. Two samples tell
    shapes; where these are the same, nothing more is needed. All samples are only run for the
    others, as many of them at once as fill ``_BYTES``.

    Args:
        teacher, student: the models.
        feed: some samples, on which shapes and channels are seen.
        names: of ``shared_names``; None for all.

    Returns:
        Name -> the teacher's channels (axis 1) that the student kept, None where that is all.
    """
    names = shared_names(teacher, student) if names is None else list(names)
    return _seen(teacher, student, feed, names)[0]


def _seen(
    teacher: Model, student: Model, feed: _Feed, names: Sequence[str]
) -> tuple[dict[str, Places], dict[str, str]]:
    """As ``common_tensors``; and of the others why they are none."""
    few = {name: values[:2] if values.ndim else values for name, values in feed.items()}
    found: dict[str, Places] = {}
    dropped: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for start in range(0, len(names), _AT_ONCE):
        for name, (one, other) in _made(teacher, student, few, names[start:][:_AT_ONCE]).items():
            if not (one.is_floating_point() and other.is_floating_point() and one.ndim > 1):
                dropped[name] = _NO_CHANNELS
            elif one.shape == other.shape:
                found[name] = None
            elif one.ndim == other.ndim:
                sizes[name] = one.nbytes // 2
            else:
                dropped[name] = _UNLIKE
    for count, some in _portions(sizes, max(len(v) for v in feed.values() if v.ndim)):
        part = {name: values[:count] if values.ndim else values for name, values in feed.items()}
        for name, (one, other) in _made(teacher, student, part, some).items():
            if (kept := kept_channels(one, other)) is not None:
                found[name] = kept
            else:
                dropped[name] = _UNCLEAR
    return {name: found[name] for name in names if name in found}, dropped


def _made(
    teacher: Model, student: Model, feed: _Feed, names: Sequence[str]
) -> dict[str, tuple[Tensor, Tensor]]:
    if not names:
        return {}
    made = []
    with torch.no_grad():
        for model in (teacher, student):
            made.append(GraphModule(oracle.showing(model, list(names))).eval()(feed))
    return {name: (made[0][name], made[1][name]) for name in names}


def _portions(sizes: Mapping[str, int], count: int) -> Iterator[tuple[int, list[str]]]:
    """Names that are seen at once, and on how many samples; ``sizes`` are of one sample."""
    names: list[str] = []
    held = 0
    for name, size in sizes.items():
        if names and (held + size) * count > _BYTES:
            yield max(2, min(count, _BYTES // max(held, 1))), names
            names, held = [], 0
        names.append(name)
        held += size
    if names:
        yield max(2, min(count, _BYTES // max(held, 1))), names


def kept_channels(whole: Tensor, left: Tensor) -> tuple[int, ...] | None:
    """Which channels of a tensor another one has, by correlation; None where that is not clear.

    It is clear where each channel has a partner with which it correlates by a half or more, and
    partners come in order, as slicing leaves them.

    Args:
        whole: [N, channels, ...] of the original.
        left: [N, fewer channels, ...] of what was slimmed.
    """
    others = (0, *range(2, whole.ndim))
    if whole.ndim != left.ndim or any(whole.shape[k] != left.shape[k] for k in others):
        return None
    rows = []
    for values in (left, whole):
        flat = values.movedim(1, 0).flatten(1).double()
        flat = flat - flat.mean(1, keepdim=True)
        rows.append(flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-12))
    best = (rows[0] @ rows[1].T).max(1)
    clear = bool((best.values >= _ALIKE).all()) and bool((best.indices.diff() > 0).all())
    return tuple(best.indices.tolist()) if clear else None


def _trained(module: GraphModule) -> list[str]:
    """Tensors that trained weights lie before, without the outputs."""
    reached = set(module.roles.trainable)
    found = []
    for node in module.graph.nodes:
        if any(name in reached for name in node.inputs):
            made = [name for name in node.outputs if name]
            reached.update(made)
            found += [name for name in made if name not in module.graph.outputs]
    return [name for name in found if name not in module.roles.values]


def chosen_hints(
    student: Graph,
    common: Mapping[str, Places],
    patterns: Sequence[str],
    dropped: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Places]:
    """The activations that are compared.

    Args:
        student: the slimmed model.
        common: of ``common_tensors``.
        patterns: of names; without any, the sums that end residual blocks and joins of branches
            are taken, and where there are none what layers make; the last ones, of many.
        dropped: what patterns match and why it is not in ``common``, for the message.

    Raises:
        UsageError: E262, a pattern matches nothing that both have.
    """
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in common):
            more = f" and {len(common) - 5} more" if len(common) > 5 else ""
            why = [f"{n}: {dropped[n]}; " for n in dropped if fnmatch.fnmatchcase(n, pattern)]
            raise UsageError(
                "E262",
                f"--layer {pattern} matches no activation that both models have alike",
                where=f"{''.join(why[:1])}they share {', '.join(list(common)[:5]) or 'none'}{more}",
                help="give the name of a tensor that both have, or leave it out",
            )
    if patterns:
        return {name: common[name] for name in common if _matches(name, patterns)}
    of = {name: student.producer[name].op for name in common}
    joins = [name for name in common if of[name] in _JOINS]
    layers = [name for name in common if of[name] in _LAYERS]
    return {name: common[name] for name in _spread(joins or layers)}


def _spread(names: list[str]) -> list[str]:
    """Up to ``MOST`` of them, evenly spread, the last one among them."""
    taken = min(len(names), MOST)
    return [names[(k + 1) * len(names) // taken - 1] for k in range(taken)]
