"""Replaces Pad(Slice(x)) of a residual branch with a 1x1 convolution of zeros and ones.

The shortcut of ResNet on CIFAR (option A of He et al., "Deep Residual Learning for Image
Recognition", 2016): every other pixel, and zero channels beside the old ones. It has no weights,
but onnxruntime leaves its blocked layout for it, and runs the Add and the activation after it by
themselves. As a convolution it stays in the layout, and takes the Add in. Exact for finite numbers:
each output is a channel times one and others times zero.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from prunecvt_passes.graph import DEFAULT_DOMAINS, Graph, Node, taken_names, unused
from prunecvt_passes.model import Array
from prunecvt_passes.rewriting.changes import Changes
from prunecvt_passes.rewriting.picks import PADDING, Chain, chains

# Measured (docs/latency.md): with 32 channels and fewer it wins in onnxruntime and loses nothing
# in OpenVINO, with 64 neither, with more its products cost more than the layout.
MOST_CHANNELS = 32
_CHANNELS, _RANK = 1, 4


def convolve_shortcuts(graph: Graph) -> Changes:
    """Makes convolutions of zero-padded shortcuts where that is quicker."""
    changes = Changes()
    taken = taken_names(graph.model.proto.graph)
    for chain in chains(graph):
        if not chain.pick.pads or not _joins_convolution(graph, chain):
            continue
        reason = _reason(graph, chain)
        strides = _strides(graph, chain)
        if reason or strides is None:
            changes.left.append(f"{chain.title}: {reason or 'it picks pixels unevenly'}")
            continue
        name = unused(f"{chain.result}__selection", taken)
        changes.weights[name] = _selection(graph, chain)
        changes.drop(chain.nodes)
        changes.nodes[chain.nodes[-1].index] = [
            helper.make_node(
                "Conv",
                [chain.source, name],
                [chain.result],
                name=chain.nodes[-1].name,
                kernel_shape=[1, 1],
                strides=strides,
            )
        ]
        changes.done.append(chain.title)
    return changes


def _joins_convolution(graph: Graph, chain: Chain) -> bool:
    """Whether the chain is a branch of a sum whose other branch ends in a convolution."""
    reader = graph.only_reader(chain.result)
    if reader is None or reader[0].op != "Add" or reader[0].domain not in DEFAULT_DOMAINS:
        return False
    other: Node | None = graph.producer.get(reader[0].inputs[1 - reader[1]])
    if other is not None and other.op == "BatchNormalization":
        other = graph.producer.get(other.inputs[0])
    return other is not None and other.op == "Conv" and other.domain in DEFAULT_DOMAINS


def _reason(graph: Graph, chain: Chain) -> str:
    """Why a chain is left; "" where nothing speaks against a convolution."""
    sizes = graph.shape(chain.source) or ()
    if len(sizes) != _RANK or graph.shapes.dtypes.get(chain.source) != TensorProto.FLOAT:
        return "it is no float32 image"
    if set(chain.pick.places) - {1, 2, 3} or set(chain.pick.strides) - {2, 3}:
        return "it picks from the batch"
    if sizes[_CHANNELS] > MOST_CHANNELS:
        return f"of {sizes[_CHANNELS]} channels it is no slower than a convolution"
    return ""


def _strides(graph: Graph, chain: Chain) -> list[int] | None:
    """Of rows and columns; None where these are not picked evenly from the first to the last."""
    found = []
    for axis in (2, 3):
        places, stride = chain.pick.places.get(axis), chain.pick.strides.get(axis, 1)
        if places is not None:
            stride = int(places[1] - places[0]) if len(places) > 1 else 1
            size = (graph.shape(chain.source) or ())[axis]
            if stride < 1 or not np.array_equal(places, np.arange(0, size, stride)):
                return None
        found.append(stride)
    return found


def _selection(graph: Graph, chain: Chain) -> Array:
    """The filter, shape [channels out, channels in, 1, 1]."""
    places = chain.pick.places[_CHANNELS]
    matrix = np.zeros((len(places), (graph.shape(chain.source) or ())[_CHANNELS]), np.float32)
    kept = np.flatnonzero(places != PADDING)
    matrix[kept, places[kept]] = 1
    return matrix[:, :, None, None]
