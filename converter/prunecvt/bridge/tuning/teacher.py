"""The original, which knows the answers: through onnxruntime or as a module, and remembered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnxruntime
import torch
from torch import Tensor

from prunecvt.bridge.module import GraphModule
from prunecvt.bridge.tuning.samples import Samples
from prunecvt_passes import oracle
from prunecvt_passes.model import Model
from prunecvt_passes.samples import dimensions, graph_inputs

Answer = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
REMEMBERED_BYTES = 1 << 30
_AT_ONCE = 128
_PROTOBUF_BYTES = 2_000_000_000


def teacher_of(model: Model, names: Sequence[str], device: torch.device, threads: int) -> Answer:
    """A function from inputs to the original's tensors of these names.

    On the CPU onnxruntime is the faster of the two by a third; where the model has a fixed batch
    or more than fits a protobuf, or on a GPU, it is a module.
    """
    shown = oracle.showing(model, list(names))
    firsts = [dimensions(value) for value in graph_inputs(model)]
    fixed = any(dims and isinstance(dims[0], int) for dims in firsts)
    if device.type == "cpu" and not fixed and model.nbytes < _PROTOBUF_BYTES:
        return _of_onnxruntime(shown, names, threads)
    module = GraphModule(shown).to(device).eval()

    def answer(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        with torch.no_grad():
            found = module(inputs)
        return {name: found[name] for name in names}

    return answer


def _of_onnxruntime(model: Model, names: Sequence[str], threads: int) -> Answer:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    opened = onnxruntime.InferenceSession(
        model.to_proto().SerializeToString(), options, providers=["CPUExecutionProvider"]
    )

    def answer(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        feed = {name: values.numpy() for name, values in inputs.items()}
        found = opened.run(list(names), feed)
        return {n: torch.from_numpy(v) for n, v in zip(names, found, strict=True)}

    return answer


def answers(
    teacher: Answer, samples: Samples, names: Sequence[str] | None = None
) -> dict[str, Tensor]:
    """Tensors of a teacher for all samples, batch by batch; only ``names`` are kept, or all."""
    parts = []
    for places in torch.arange(len(samples)).split(_AT_ONCE):
        made = teacher(samples.at(places).inputs)
        parts.append({name: made[name] for name in (made if names is None else names)})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def remembered(teacher: Answer, samples: Samples) -> dict[str, Tensor] | None:
    """The answers for all samples; None where they would fill more than ``REMEMBERED_BYTES``,
    or have no sample axis first."""
    few = teacher(samples.at(torch.arange(2)).inputs)
    if any(values.ndim == 0 or len(values) != 2 for values in few.values()):
        return None
    size = sum(values.nbytes for values in few.values()) / 2 * len(samples)
    return answers(teacher, samples) if size <= REMEMBERED_BYTES else None
