"""Cuts through a normalisation or a mean: which groups they touch, and how the oracle takes them.

What normalises over channels computes something else once channels are gone, so no zeros in the
original equal such a cut. It is verified all the same: the oracle computes these nodes on the kept
channels alone, and everything around them on all of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import onnx

from prunecvt_passes.budget import Removal
from prunecvt_passes.channels import Narrowed
from prunecvt_passes.graph import replace_nodes, taken_names, unused_mark
from prunecvt_passes.groups import Bools, Groups
from prunecvt_passes.model import Array, Model


def compute_on_kept(model: Model, narrowed: Sequence[Narrowed], kept: Bools) -> None:
    """Has the nodes that lose channels work on the kept ones: a Gather before and a Gather behind.

    A removed channel gets the value of a kept one behind the node: it is set to zero where it is
    read.

    Args:
        model: edited.
        narrowed: the nodes; found again by what they make.
        kept: label -> whether it stays.
    """
    indices: dict[str, Array] = {}
    mark = unused_mark("__kept", taken_names(model.proto.graph))

    def gather(source: str, made: str, axis: int, picked: Array) -> onnx.NodeProto:
        listed = f"{made}__from_{source}__{axis}"
        indices[listed] = picked.astype(np.int64)
        return onnx.helper.make_node("Gather", [source, listed], [made], axis=axis)

    by_output: dict[str, list[Narrowed]] = defaultdict(list)
    for each in narrowed:
        by_output[next(filter(None, each.node.outputs))].append(each)

    def around(_: int, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        name = next(filter(None, node.output), "")
        before: list[onnx.NodeProto] = []
        after: list[onnx.NodeProto] = []
        for each in by_output.get(name, ()):
            for place, axis, labels in each.inputs:
                if not kept[labels].all():
                    own, picked = f"{name}{mark}_{place}_{axis}", np.flatnonzero(kept[labels])
                    before.append(gather(node.input[place], own, axis, picked))
                    node.input[place] = own
            for place, axis, labels in each.outputs:
                if not kept[labels].all():
                    own, back = f"{name}{mark}_made_{place}_{axis}", np.cumsum(kept[labels]) - 1
                    after.insert(0, gather(own, node.output[place], axis, np.maximum(back, 0)))
                    node.output[place] = own
        return [*before, node, *after]

    replace_nodes(model.proto.graph, around)
    model.set_weights(indices)


def narrowed_nodes(groups: Groups, removal: Removal) -> tuple[str, ...]:
    """Titles of the nodes that a removal leaves fewer channels to work across."""
    removed = removal.removed[groups.class_of]
    found = {
        each.node.index: each.node.title
        for each in groups.channels.narrowed
        if any(removed[labels].any() for _, _, labels in each.inputs)
    }
    return tuple(found.values())


def inexact_nodes(groups: Groups) -> dict[int, tuple[str, ...]]:
    """Group id -> titles of the nodes that would work on fewer channels if the group is cut."""
    found: dict[int, list[str]] = defaultdict(list)
    for each in groups.channels.narrowed:
        classes = np.concatenate([groups.class_of[labels] for _, _, labels in each.inputs])
        for group in np.unique(groups.group_of[classes]):
            if group >= 0:
                found[int(group)].append(each.node.title)
    return {group: tuple(dict.fromkeys(titles)) for group, titles in found.items()}
