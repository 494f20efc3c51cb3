"""Runs a model part by part over many batches, keeping what is still needed between the parts.

Refitting node after node asks for the input of each node once everything before it has changed. A
walk computes every node once: it stops where it is told, and holds the tensors that later nodes
read, and those that somebody asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType

import onnx

from prunecvt_passes import runtime
from prunecvt_passes.graph import Graph, Node, captured_names, captures
from prunecvt_passes.model import Array, Model
from prunecvt_passes.recovery.calibration import Feed
from prunecvt_passes.recovery.store import LIMIT, Store


class Walk:
    """A model on its way over some batches; ``at`` is the index of the node that comes next."""

    def __init__(
        self, graph: Graph, feeds: Sequence[Feed], wanted: Iterable[str] = (), limit: int = LIMIT
    ) -> None:
        """Starts in front of the first node.

        Args:
            graph: the model; weights that change are read when a part runs.
            feeds: one mapping (graph input -> array) per batch.
            wanted: tensors to keep until they are released as often as they are named here.
            limit: bytes of tensors held in memory.
        """
        self.graph = graph
        self.batches = len(feeds)
        self.at = 0
        self.store = Store(limit)
        self._last = _last_readers(graph)
        self._wanted = Counter(wanted)
        for batch, feed in enumerate(feeds):
            for name in graph.inputs:
                if name in feed:
                    self.store.put(batch, name, feed[name])

    def __enter__(self) -> Walk:
        """Itself; leaving it forgets everything it holds."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        """Forgets everything it holds."""
        self.store.close()

    def to(self, index: int) -> None:
        """Runs up to, not including, the node of that index."""
        if index <= self.at:
            return
        nodes = [node for node in self.graph.nodes[self.at : index] if node.scope == 0]
        made = [name for node in nodes for name in node.outputs if name]
        keep = [n for n in made if self._last.get(n, -1) >= index or self._wanted[n] > 0]
        if keep:
            self._run(nodes, keep)
        self.at = index
        self._forget()

    def past(self, tensor: str) -> None:
        """Runs until ``tensor`` is made."""
        maker = self.graph.producer.get(tensor)
        if maker is not None:
            self.to(maker.index + 1)

    def get(self, batch: int, tensor: str) -> Array:
        """A tensor that is wanted, or that is yet to be read."""
        return self.store.get(batch, tensor)

    def release(self, names: Iterable[str]) -> None:
        """Takes back one wish for each name; what nobody wants or reads any more is forgotten."""
        self._wanted.subtract(names)
        self._forget()

    def rest(self, edited: Graph) -> list[dict[str, Array]]:
        """The outputs of every batch if the graph went on as ``edited``; stays where it is.

        Args:
            edited: the graph with other weights, or other inputs of its nodes, from here on.
        """
        nodes = [node for node in edited.nodes[self.at :] if node.scope == 0]
        made = {name for node in nodes for name in node.outputs}
        weights, found = edited.model.weights, []
        keep = [name for name in edited.outputs if name in made]
        results = [values for _, values in self._results(edited, nodes, keep)] if keep else []
        for batch in range(self.batches):
            values = {name: weights[name] for name in edited.outputs if name in weights}
            values.update(results[batch] if keep else {})
            held = (name for name in edited.outputs if name not in values)
            values.update({name: self.store.get(batch, name) for name in held})
            found.append({name: values[name] for name in edited.outputs})
        return found

    def _run(self, nodes: Sequence[Node], keep: Sequence[str]) -> None:
        for batch, results in self._results(self.graph, nodes, keep):
            for name, values in results.items():
                self.store.put(batch, name, values)

    def _results(
        self, graph: Graph, nodes: Sequence[Node], keep: Sequence[str]
    ) -> Iterator[tuple[int, dict[str, Array]]]:
        """Runs nodes of a graph on what is held, batch by batch."""
        part = part_of(graph.model, [node.proto for node in nodes], keep)
        reads = {name for node in part.proto.graph.node for name in node.input}
        reads |= captured_names(part.proto.graph)
        given = sorted(reads & self.store.names())
        for name in given:
            values = self.store.get(0, name)
            kind = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
            part.proto.graph.input.append(
                onnx.helper.make_tensor_value_info(name, kind, [None] * values.ndim)
            )
        opened = runtime.session(part)
        for batch in range(self.batches):
            inputs = {name: self.store.get(batch, name) for name in given}
            yield batch, runtime.run_session(opened, inputs, keep)

    def _forget(self) -> None:
        self.store.drop(
            name
            for name in self.store.names()
            if self._last.get(name, -1) < self.at and self._wanted[name] <= 0
        )


def _last_readers(graph: Graph) -> dict[str, int]:
    """Tensor -> index of the last node of the main graph that needs it; the outputs' is the end."""
    last: dict[str, int] = {}
    for node in graph.nodes:
        if node.scope == 0:
            inside = [name for body in node.subgraphs for name in captures(body)]
            last.update(dict.fromkeys((*node.inputs, *inside), node.index))
    last.update(dict.fromkeys(graph.outputs, len(graph.nodes)))
    return last


def part_of(model: Model, nodes: Sequence[onnx.NodeProto], outputs: Sequence[str]) -> Model:
    """The nodes as a model of their own; inputs are added by the caller."""
    proto = onnx.ModelProto()
    proto.ir_version = model.proto.ir_version
    proto.opset_import.extend(model.proto.opset_import)
    proto.functions.extend(model.proto.functions)
    proto.graph.name = "part"
    proto.graph.node.extend(nodes)
    read = dict.fromkeys(name for node in nodes for name in node.input)
    read.update(dict.fromkeys(captured_names(proto.graph)))
    part = Model(proto, {}, model.source)
    part.set_weights({name: model.weights[name] for name in read if name in model.weights})
    for name in outputs:
        proto.graph.output.add(name=name)
    return part
