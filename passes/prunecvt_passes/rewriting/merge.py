"""Drops chains of Slice, Gather and Pad that do nothing, and makes one node of several."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper

from prunecvt_passes.graph import Graph, taken_names, unused
from prunecvt_passes.model import Array
from prunecvt_passes.rewriting.changes import Changes
from prunecvt_passes.rewriting.picks import BOUNDS_BY_INPUTS, Chain, Places, chains

_END = np.iinfo(np.int64).max


def drop_idle(graph: Graph) -> Changes:
    """Leaves out what gives out just what it reads."""
    changes = Changes()
    for chain in chains(graph):
        if chain.pick.is_nothing:
            if chain.result not in graph.ends and chain.result not in graph.sealed:
                changes.names[chain.result] = chain.source
            elif not _made_instead(graph, chain, changes):
                changes.left.append(f"{chain.title} does nothing, but it makes an output")
                continue
            changes.drop(chain.nodes)
            changes.done.append(chain.title)
    return changes


def _made_instead(graph: Graph, chain: Chain, changes: Changes) -> bool:
    """Lets what makes the chain's source make its result, where nothing else reads the source."""
    maker = graph.producer.get(chain.source)
    if maker is None or maker.scope or graph.only_reader(chain.source) is None:
        return False
    place = maker.outputs.index(chain.source)
    changes.edited(maker).output[place] = chain.result
    return True


def merge(graph: Graph) -> Changes:
    """Makes one Slice or one Gather of what several do one after another."""
    changes = Changes()
    taken = taken_names(graph.model.proto.graph)
    for chain in chains(graph, pads=False):
        if len(chain.nodes) < 2 or chain.pick.is_nothing:
            continue
        made = _as_slice(graph, chain, changes.weights, taken) or _as_gather(
            chain, changes.weights, taken
        )
        if made is None:
            changes.left.append(f"{chain.title}: no one node does what these do")
            continue
        changes.drop(chain.nodes)
        changes.nodes[chain.nodes[-1].index] = [made]
        changes.done.append(chain.title)
    return changes


def _as_slice(
    graph: Graph, chain: Chain, weights: dict[str, Array], taken: set[str]
) -> onnx.NodeProto | None:
    """One Slice; None where the places of an axis are not evenly spaced."""
    bounds: dict[int, tuple[int, int, int]] = {
        a: (0, _END, n) for a, n in chain.pick.strides.items()
    }
    for axis, places in chain.pick.places.items():
        bound = _bounds(places, (graph.shape(chain.source) or ())[axis])
        if bound is None:
            return None
        bounds[axis] = bound
    rows = [(start, end, axis, step) for axis, (start, end, step) in sorted(bounds.items())]
    given: dict[str, Any] = dict(
        zip(("starts", "ends", "axes", "steps"), zip(*rows, strict=True), strict=True)
    )
    name, names = chain.nodes[-1].name, list[str]()
    if graph.opset < BOUNDS_BY_INPUTS:
        if set(given.pop("steps")) != {1}:
            return None
        return helper.make_node("Slice", [chain.source], [chain.result], name=name, **given)
    for kind, values in given.items():
        names.append(unused(f"{chain.result}__{kind}", taken))
        weights[names[-1]] = np.array(values, np.int64)
    return helper.make_node("Slice", [chain.source, *names], [chain.result], name=name)


def _bounds(places: Places, size: int) -> tuple[int, int, int] | None:
    """Start, end and step that give out ``places`` of ``size``; None where none do."""
    steps = np.diff(places)
    step = int(steps[0]) if steps.size else 1
    if step == 0 or (steps != step).any():
        return None
    end = int(places[-1]) + (1 if step > 0 else -1)
    return int(places[0]), end if end >= 0 else -size - 1, step


def _as_gather(chain: Chain, weights: dict[str, Array], taken: set[str]) -> onnx.NodeProto | None:
    """One Gather; None where more than one axis is picked from."""
    if len(chain.pick.places) != 1 or chain.pick.strides:
        return None
    ((axis, places),) = chain.pick.places.items()
    name = unused(f"{chain.result}__indices", taken)
    weights[name] = places
    return helper.make_node(
        "Gather", [chain.source, name], [chain.result], name=chain.nodes[-1].name, axis=axis
    )
