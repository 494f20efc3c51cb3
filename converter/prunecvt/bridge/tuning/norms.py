"""BatchNormalization that was folded into its layers, put back for the time of training.

Layers behind which the activations are normalised learn faster and at higher rates (Ioffe and
Szegedy, 2015). A slimmed model has its normalisations folded; here each comes back with the mean
and the deviation of what its layer makes, so that nothing changes to begin with, and is folded
again when training is done: the file's graph stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
import torch

from prunecvt.bridge.module import GraphModule
from prunecvt.bridge.tuning.samples import Samples
from prunecvt.bridge.weights import replaced
from prunecvt.pace import Progress, silent
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
_SAMPLES = 256  # that means and deviations are taken of
_BYTES = 1 << 28  # of activations at once
_NO_SAMPLES = "what it makes has no axis of samples first"
_NOT_FOLDED = "its weights in the file cannot hold what folding would make of them"
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
        left_out: layers that were meant to be normalised and are not, and why.
    """

    model: Model
    biases: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, float] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)

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
    original: Model, slim: Model, where: str, samples: Samples, say: Progress = silent
) -> Norms:
    """Puts BatchNormalization behind layers of the slimmed model; computes what it did.

    Args:
        original: tells which layers had it, by the names of what its normalisations make.
        slim: left untouched.
        where: ``original``: where the original has it; ``all``: behind all convolutions but those
            that make an output; ``none``: nowhere.
        samples: that means and deviations are taken of, of the model's inputs; the models are
            run on their device.
        say: called before they are.
    """
    if where == "none":
        return Norms(slim)
    graph, whole = index(slim), index(inline_functions(original))
    layers = _layers(whole, graph, where)
    left_out = dict(_lost(whole, graph)) if where == "original" else {}
    left_out |= {name: why for name, node in layers.items() if (why := _hindrance(graph, node))}
    layers = {name: node for name, node in layers.items() if name not in left_out}
    if layers:
        say("tune: looking at what layers make", lasting=True)
    taken = samples.spread(_SAMPLES)
    moments = _moments(slim, list(layers), taken)
    left_out.update({name: _NO_SAMPLES for name in layers if name not in moments})
    layers = {name: node for name, node in layers.items() if name in moments}
    made = _with_norms(slim, layers, moments)
    able = set(_foldable(index(made), slim, layers))
    if able != layers.keys():
        left_out.update({name: _NOT_FOLDED for name in layers if name not in able})
        layers = {name: node for name, node in layers.items() if name in able}
        made = _with_norms(slim, layers, moments)
    known = [name for name in layers if name in whole.producer]
    sizes = _sizes(index(made), _moments(whole.model, known, taken))
    return Norms(made, {n: node.inputs[2] for n, node in layers.items()}, dict(sizes), left_out)


def _sizes(graph: Graph, whole: Mapping[str, Moments]) -> Iterator[tuple[str, float]]:
    for name, (mean, variance) in whole.items():
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


def _layers(whole: Graph, graph: Graph, where: str) -> dict[str, Node]:
    """The layers that are meant to get a normalisation, by what they make."""
    wanted = {node.outputs[0] for node in whole.nodes if node.op == "BatchNormalization"}
    return {
        node.outputs[0]: node
        for node in graph.nodes
        if node.op in _LAYERS
        and node.domain in DEFAULT_DOMAINS
        and (node.outputs[0] in wanted if where == "original" else _is_inner(graph, node))
    }


def _lost(whole: Graph, graph: Graph) -> Iterator[tuple[str, str]]:
    """What the original's normalisations make and no layer of the slimmed model does, and why."""
    for node in whole.nodes:
        if node.op == "BatchNormalization":
            maker = graph.producer.get(node.outputs[0])
            if maker is None:
                yield node.outputs[0], "the slimmed model has no tensor of that name"
            elif maker.op not in (*_LAYERS, "BatchNormalization"):
                yield node.outputs[0], f"{maker.op} makes it there, which none is folded into"


def _hindrance(graph: Graph, node: Node) -> str:
    """Why a normalisation cannot be put behind a layer; "" where it can."""
    if graph.opset < _OPSET:
        return f"operator set {graph.opset}, and {_OPSET} is the first that is known here"
    if node.scope:
        return "it lies in the body of another operator"
    for name in (node.input(1), node.input(2)):
        if not name or not graph.is_initializer(name) or graph.only_reader(name) is None:
            return "it has no weight or no bias of its own to fold it into"
    return "" if graph.model.weights[node.input(2)].ndim == 1 else _NOT_FOLDED


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


def _moments(model: Model, names: Sequence[str], samples: Samples) -> dict[str, Moments]:
    """Mean and variance of each channel (axis 1) of these tensors, of those with samples first."""
    if not names:
        return {}
    device = next(iter(samples.inputs.values())).device
    module = GraphModule(oracle.showing(model, names)).to(device).eval()
    sums: dict[str, list[torch.Tensor]] = {}
    start, count = 0, 1
    with torch.no_grad():
        while start < len(samples):
            places = torch.arange(start, min(start + count, len(samples)))
            found = module(samples.at(places.to(device)).inputs)
            for name in names:
                values = found[name]
                if values.shape[0] != len(places):  # 1 is told from others by the second run
                    sums.pop(name, None)
                elif start == 0 or name in sums:
                    sums[name] = _added(sums.get(name), values)
            start += len(places)
            each = sum(found[name].nbytes for name in names) / len(places)
            count = int(max(1 + (start == 1), min(64, _BYTES // max(each, 1))))
    return {name: _of_sums(*parts) for name, parts in sums.items()}


def _added(sums: list[torch.Tensor] | None, values: torch.Tensor) -> list[torch.Tensor]:
    """Sums of values and of their squares by channel, and how many there are."""
    over = [axis for axis in range(values.ndim) if axis != 1]
    size = torch.tensor(values.numel() / values.shape[1], dtype=torch.float64)
    wide = torch.float64
    parts = [values.sum(over, dtype=wide), values.square().sum(over, dtype=wide), size]
    return parts if sums is None else [a + b for a, b in zip(sums, parts, strict=True)]


def _of_sums(total: torch.Tensor, squares: torch.Tensor, size: torch.Tensor) -> Moments:
    mean = total.cpu() / size
    return mean.numpy(), (squares.cpu() / size - mean.square()).clamp_min(0).numpy()


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
