"""Slices the removed channels out of every weight and rewrites what states a size.

Surgery only: what goes was decided before.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnx

from prunecvt_passes.budget import Removal
from prunecvt_passes.clean import drop_dead
from prunecvt_passes.flow import Count
from prunecvt_passes.graph import every_node, taken_names, unused
from prunecvt_passes.groups import Bools, Groups
from prunecvt_passes.model import Array, Model


def remove(groups: Groups, removal: Removal) -> Model:
    """Returns the model without the removed channels; the very same where none go.

    Args:
        groups: labels and classes of the model.
        removal: which classes go.
    """
    graph = groups.channels.graph
    if not removal.removed.any():
        return graph.model
    kept = ~removal.removed[groups.class_of]
    model = graph.model.copy()
    model.set_weights(_sliced(groups, kept))
    _rewrite_counts(model, groups, kept)
    _rewrite_indices(model, groups, kept)
    _write_settings(model, groups, kept)
    drop_dead(model)
    return model


def _sliced(groups: Groups, kept: Bools) -> dict[str, Array]:
    """Every initializer that loses channels, cut along all of its axes."""
    channels = groups.channels
    found = {}
    for name, values in channels.graph.model.weights.items():
        cut = values
        for axis, labels in enumerate(channels.axes.get(name, ())):
            if labels is not None:
                keep = kept[labels]
                if not keep.all():
                    cut = np.compress(keep, cut, axis=axis)
        if cut is not values:
            found[name] = np.ascontiguousarray(cut)
    return found


def _rewrite_counts(model: Model, groups: Groups, kept: Bools) -> None:
    """Writes the numbers of kept channels into the parameters that state them."""
    parameters: dict[tuple[int, int | str], list[Count]] = defaultdict(list)
    for count in groups.channels.counts:
        parameters[count.node.index, count.slot].append(count)
    added: dict[str, Array] = {}
    nodes, taken = every_node(model.proto.graph), taken_names(model.proto.graph)
    for (index, slot), counts in parameters.items():
        values = list(counts[0].values)
        for count in counts:
            values[count.position] = int(kept[count.labels].sum())
        node = nodes[index]
        if tuple(values) == counts[0].values and (not counts[0].unless or _all_kept(counts, kept)):
            continue
        if counts[0].unless:
            _drop_attribute(node, counts[0].unless)
        if isinstance(slot, str):
            _set_attribute(node, slot, values)
            continue
        own = unused(f"{node.output[0]}__{slot}", taken)
        while len(node.input) <= slot:
            node.input.append("")
        old = model.weights.get(node.input[slot])
        dtype = np.int64 if old is None else old.dtype
        node.input[slot] = own
        added[own] = np.array(values, dtype)
    model.set_weights(added)


def _all_kept(counts: list[Count], kept: Bools) -> bool:
    return all(bool(kept[count.labels].all()) for count in counts)


def _drop_attribute(node: onnx.NodeProto, name: str) -> None:
    for attribute in [a for a in node.attribute if a.name == name]:
        node.attribute.remove(attribute)


def _set_attribute(node: onnx.NodeProto, name: str, values: list[int]) -> None:
    """Writes integers; one where the attribute is a plain integer, which it then says already."""
    plain = any(a.name == name and a.type == onnx.AttributeProto.INT for a in node.attribute)
    _drop_attribute(node, name)
    node.attribute.append(onnx.helper.make_attribute(name, values[0] if plain else values))


def _write_settings(model: Model, groups: Groups, kept: Bools) -> None:
    """Writes down what was left out and followed from a number of channels that is now another."""
    nodes = every_node(model.proto.graph)
    for setting in groups.channels.settings:
        if not kept[setting.labels].all():
            node = nodes[setting.node.index]
            _drop_attribute(node, setting.name)
            node.attribute.append(onnx.helper.make_attribute(setting.name, setting.value))


def _rewrite_indices(model: Model, groups: Groups, kept: Bools) -> None:
    """Renumbers constant indices into an axis that lost channels."""
    added: dict[str, Array] = {}
    nodes, taken = every_node(model.proto.graph), taken_names(model.proto.graph)
    for remap in groups.channels.remaps:
        keep = kept[remap.labels]
        if keep.all():
            continue
        node = nodes[remap.node.index]
        indices = model.weights[node.input[remap.place]]
        indices = np.where(indices < 0, indices + keep.size, indices)
        places = np.cumsum(keep) - 1
        own = unused(f"{node.output[0]}__{remap.place}", taken)
        added[own] = places[indices[keep[indices]]].astype(indices.dtype)
        node.input[remap.place] = own
    model.set_weights(added)
