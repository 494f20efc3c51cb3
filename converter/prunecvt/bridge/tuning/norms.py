"""BatchNormalization that was folded into its layers, put back for the time of training.

Layers behind which the activations are normalised learn faster and at higher rates (Ioffe and
Szegedy, 2015). A slimmed model has its normalisations folded; here each comes back with the mean
and the deviation of what its layer makes, so that nothing changes to begin with, and is folded
again when training is done: the file's graph stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
import torch

from prunecvt.bridge.module import GraphModule
from prunecvt.bridge.tuning.samples import Samples
from prunecvt.bridge.weights import replaced
from prunecvt_passes import oracle
from prunecvt_passes.fold import folded_weights, foldings
from prunecvt_passes.graph import (
    DEFAULT_DOMAINS,
    Graph,
    Node,
    index,
    replace_nodes,
    taken_names,
    unused,
)
from prunecvt_passes.model import Array, Model
from prunecvt_passes.normalise import inline_functions

_LAYERS = ("Conv", "ConvTranspose", "Gemm")
_PARAMETERS = ("scale", "shift", "mean", "variance")
_EPSILON = 1e-5
_OPSET = 9  # the first without modes of its own
_SAMPLES = 512  # that means and deviations are taken of
_BYTES = 1 << 28  # of activations at once
Moments = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Norms:
    """A model to train, and the way back from its weights.

    Attributes:
        model: with BatchNormalization put back.
        biases: what a normalised layer makes -> the initializer of its bias in the file, which the
            layer has not in ``model``: the normalisation would take it off again.
        sizes: scale or shift -> its size in the original, the root mean square of deviations or
            means there. Where a cut left next to nothing of them, steps in shares of what is left
            would be too short.
    """

    model: Model
    biases: Mapping[str, str]
    sizes: Mapping[str, float] = field(default_factory=dict)

    def folded(self, weights: Mapping[str, Array]) -> dict[str, Array]:
        """Weights of the file from those of ``model``, as ``GraphModule.weights`` gives them."""
        if not self.biases:
            return dict(weights)
        graph = index(replaced(self.model, weights))
        found = dict(weights)
        for folding in foldings(graph):
            made = folding.batch_norm.outputs[0]
            if made in self.biases:
                pair = folded_weights(graph, folding)
                found[folding.maker.inputs[1]], found[self.biases[made]] = pair
                for name in folding.batch_norm.inputs[1:]:
                    found.pop(name, None)
        return found


def norms_put_back(
    original: Model, slim: Model, where: str, samples: Samples, device: torch.device
) -> Norms:
    """Puts BatchNormalization behind layers of the slimmed model; computes what it did.

    Args:
        original: tells which layers had it, by the names of what its normalisations make.
        slim: left untouched.
        where: ``original``: where the original has it; ``all``: behind all convolutions but those
            that make an output; ``none``: nowhere.
        samples: that means and deviations are taken of, of the model's inputs.
        device: where the model is run.
    """
    graph = index(slim)
    layers = {} if where == "none" or graph.opset < _OPSET else _layers(original, graph, where)
    if not layers:
        return Norms(slim, {})
    taken = samples.spread(_SAMPLES)
    moments = dict(_moments(slim, list(layers), taken, device))
    made = _with_norms(slim, layers, moments)
    able = set(_foldable(index(made), slim, layers))
    if able != layers.keys():
        layers = {name: node for name, node in layers.items() if name in able}
        made = _with_norms(slim, layers, moments)
    known = index(original).producer
    whole = _moments(original, [name for name in layers if name in known], taken, device)
    biases = {name: node.inputs[2] for name, node in layers.items()}
    return Norms(made, biases, dict(_sizes(index(made), whole)))


def _sizes(graph: Graph, whole: Iterable[tuple[str, Moments]]) -> Iterator[tuple[str, float]]:
    for name, (mean, variance) in whole:
        scale, shift = graph.producer[name].inputs[1:3]
        yield scale, float(np.sqrt(variance.mean()))
        yield shift, float(np.sqrt(np.square(mean).mean()))


def _foldable(graph: Graph, slim: Model, layers: Mapping[str, Node]) -> Iterator[str]:
    """The layers whose weights in the file can hold what folding makes."""
    for folding in foldings(graph):
        made = folding.batch_norm.outputs[0]
        if made in layers:
            _, bias = folded_weights(graph, folding)
            if bias.shape == slim.weights[layers[made].inputs[2]].shape:
                yield made


def _layers(original: Model, graph: Graph, where: str) -> dict[str, Node]:
    """The layers that get a normalisation, by what they make."""
    wanted = {
        node.outputs[0]
        for node in index(inline_functions(original)).nodes
        if node.op == "BatchNormalization"
    }
    return {
        node.outputs[0]: node
        for node in graph.nodes
        if _can_have(graph, node)
        and (node.outputs[0] in wanted if where == "original" else _is_inner(graph, node))
    }


def _can_have(graph: Graph, node: Node) -> bool:
    """Whether a layer's weight and bias are its own, so that a normalisation can be folded in."""
    if node.op not in _LAYERS or node.domain not in DEFAULT_DOMAINS or node.scope:
        return False
    return all(
        name and graph.is_initializer(name) and graph.only_reader(name) is not None
        for name in (node.input(1), node.input(2))
    )


def _is_inner(graph: Graph, node: Node) -> bool:
    """Whether a layer is a convolution, makes no output and has no normalisation behind it."""
    made = node.outputs[0]
    readers = [reader.op for reader, _ in graph.readers.get(made, [])]
    return (
        node.op != "Gemm"
        and bool(readers)
        and made not in graph.outputs
        and not any(op.endswith("Normalization") for op in readers)
    )


def _moments(
    slim: Model, names: list[str], samples: Samples, device: torch.device
) -> Iterator[tuple[str, Moments]]:
    """Mean and variance of each channel (axis 1) of these tensors."""
    module = GraphModule(oracle.showing(slim, names)).to(device).eval()
    sums: dict[str, list[torch.Tensor]] = {}
    start, count = 0, 2
    with torch.no_grad():
        while start < len(samples):
            places = torch.arange(start, min(start + count, len(samples)))
            found = module(samples.at(places).on(device).inputs)
            for name in names:
                channels = found[name].movedim(1, 0).flatten(1).double()
                parts = [channels.sum(1), channels.square().sum(1)]
                parts.append(parts[0].new_full((), channels.shape[1]))
                known = sums.get(name)
                sums[name] = [a + b for a, b in zip(known, parts, strict=True)] if known else parts
            start += len(places)
            each = sum(found[name].nbytes for name in names) / len(places)
            count = int(max(2, min(64, _BYTES // max(each, 1))))
    for name, (total, squares, size) in sums.items():
        mean = total / size
        variance = (squares / size - mean.square()).clamp_min(0)
        yield name, (mean.cpu().numpy(), variance.cpu().numpy())


def _with_norms(slim: Model, layers: Mapping[str, Node], moments: Mapping[str, Moments]) -> Model:
    made, taken = slim.copy(), taken_names(slim.proto.graph)
    chosen = {node.index: name for name, node in layers.items()}
    weights: dict[str, Array] = {}

    def changed(place: int, node: onnx.NodeProto) -> tuple[onnx.NodeProto, ...]:
        if place not in chosen:
            return (node,)
        name = chosen[place]
        mean, variance = moments[name]
        bias = slim.weights[node.input[2]].astype(np.float64)
        # scaled by their deviation and moved by their mean again: the values stay
        values = (np.sqrt(variance + _EPSILON), mean, mean - bias, variance)
        names = [unused(f"{name}__{kind}", taken) for kind in _PARAMETERS]
        kind = slim.weights[node.input[1]].dtype
        weights.update(zip(names, (each.astype(kind) for each in values), strict=True))
        node.output[0] = unused(f"{name}__raw", taken)
        del node.input[2:]
        inputs = [node.output[0], *names]
        norm = onnx.helper.make_node("BatchNormalization", inputs, [name], epsilon=_EPSILON)
        return node, norm

    replace_nodes(made.proto.graph, changed)
    made.set_weights(weights)
    return made
