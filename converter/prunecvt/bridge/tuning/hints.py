"""Which inner activations of the slimmed model are held to the original's."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

import torch
from torch import Tensor

from prunecvt.bridge.module import GraphModule
from prunecvt.errors import UsageError
from prunecvt_passes import oracle
from prunecvt_passes.graph import Graph
from prunecvt_passes.model import Model

MOST = 32
_JOINS = ("Add", "Sum", "Concat")
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_Feed = dict[str, Tensor]


def common_tensors(teacher: Model, student: Model, feed: _Feed) -> list[str]:
    """Inner activations that both models have alike, in the student's order.

    A cut takes names along: what has another width in the slimmed model is not comparable, and
    what has the same is made by nodes that stand in the same place. Left out is what no trained
    weight lies before: it is the same anyway.

    Args:
        teacher, student: the models.
        feed: a few samples, on which shapes are seen.
    """
    first, second = GraphModule(teacher).graph, GraphModule(student)
    names = [n for n in _trained(second) if n in first.producer and n not in first.outputs]
    if not names:
        return []
    made = []
    with torch.no_grad():
        for model in (teacher, student):
            made.append(GraphModule(oracle.showing(model, names)).eval()(feed))
    return [n for n in names if _alike(made[0][n], made[1][n])]


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


def _alike(one: object, other: object) -> bool:
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)):
        return False
    floats = one.is_floating_point() and other.is_floating_point()
    return floats and one.shape == other.shape and one.ndim > 1


def chosen_hints(student: Graph, common: Sequence[str], patterns: Sequence[str]) -> tuple[str, ...]:
    """The activations that are compared.

    Args:
        student: the slimmed model.
        common: what both have alike.
        patterns: of names; without any, the sums that end residual blocks and joins of branches
            are taken, and where there are none what layers make; the last ones, of many.

    Raises:
        UsageError: E262, a pattern matches nothing that both have.
    """
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in common):
            more = f" and {len(common) - 5} more" if len(common) > 5 else ""
            raise UsageError(
                "E262",
                f"--layer {pattern} matches no activation that both models have alike",
                where=f"they share {', '.join(common[:5]) or 'none'}{more}",
                help="give the name of a tensor that has one shape in both, or leave it out",
            )
    if patterns:
        return tuple(n for n in common if any(fnmatch.fnmatchcase(n, p) for p in patterns))
    of = {name: student.producer[name].op for name in common}
    joins = [name for name in common if of[name] in _JOINS]
    return tuple(_spread(joins or [name for name in common if of[name] in _LAYERS]))


def _spread(names: list[str]) -> list[str]:
    """Up to ``MOST`` of them, evenly spread, the last one among them."""
    taken = min(len(names), MOST)
    return [names[(k + 1) * len(names) // taken - 1] for k in range(taken)]
