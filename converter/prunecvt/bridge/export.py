"""Exports a torch module to ONNX in the form that pruning likes, and proves that it is the same.

BatchNormalization stays (folded, its scale tells nothing of channels any more), the batch is open,
and onnxruntime's outputs are held against torch's at batches of 1 to 3.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import onnx

from prunecvt.bridge import require_torch
from prunecvt.errors import PrunecvtError, UnsupportedError, UsageError, VerifyError
from prunecvt.loading.load import load
from prunecvt.loading.versions import newest_ir
from prunecvt.options import RTOL
from prunecvt.writing.serialize import onnx_parts, weights_file
from prunecvt.writing.write import check_targets, write_set
from prunecvt_passes import oracle, runtime
from prunecvt_passes.graph import unused
from prunecvt_passes.model import Array, Model

if TYPE_CHECKING:
    from prunecvt.bridge.exporters import Job

log = logging.getLogger("prunecvt")
Exporter = Literal["auto", "torchscript", "dynamo"]
Shapes = Sequence[str | Sequence[int]] | Mapping[str, Sequence[int]]
BATCHES = (1, 2, 3)
_SEEDS = 1 << 63  # torch takes no more, and a batch is added
_OPSETS = 1000  # which of them there are is the exporter's to say
USUAL_OPSETS = {"torchscript": 17, "dynamo": 20}


@dataclass(frozen=True)
class ExportOptions:
    """How a module is exported.

    Attributes:
        exporter: of torch: the older one that traces (``torchscript``), the newer one
            (``dynamo``), or ``auto``: the first, and where it or the check of what it made fails
            the second.
        opset: version of the operator set; the exporter's usual one where None.
        force: replaces an existing file.
        seed: of random weights and inputs.
        rtol: largest difference to torch's outputs, relative to their scale.
    """

    exporter: Exporter = "auto"
    opset: int | None = None
    force: bool = False
    seed: int = 0
    rtol: float = RTOL

    @staticmethod
    def of(given: Mapping[str, Any]) -> ExportOptions:
        """Reads options by name.

        Raises:
            UsageError: E201, one is unknown, or its value is; E212, one is out of range.
        """
        known = [field.name for field in fields(ExportOptions)]
        for name in given:
            if name not in known:
                raise UsageError(
                    "E201", f"there is no option '{name}'", help=f"known are {', '.join(known)}"
                )
        options = ExportOptions(**given)
        if options.exporter not in ("auto", "torchscript", "dynamo"):
            raise UsageError(
                "E201",
                f"there is no exporter '{options.exporter}'",
                help="use auto, torchscript or dynamo",
            )
        _check_number("seed", options.seed, 0, _SEEDS)
        if options.opset is not None:
            _check_number("opset", options.opset, 1, _OPSETS)
        return options


def _check_number(name: str, value: Any, least: int, end: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError("E201", f"{name} is {value!r}", help="give a whole number")
    if not least <= value < end:
        raise UsageError(
            "E212",
            f"--{name} {value} is out of range",
            help=f"give a whole number from {least} to below {end}",
        )


@dataclass(frozen=True)
class Exported:
    """What an export made.

    Attributes:
        model: the model, graph and weights apart; ``to_proto()`` makes it complete.
        path: the file, None where none was written.
        exporter: the one that made it.
        batch_norms: how many BatchNormalization nodes it has.
        differences: batch -> difference of onnxruntime's outputs to torch's.
    """

    model: Model
    path: Path | None
    exporter: str
    batch_norms: int
    differences: dict[int, oracle.Difference]


def export(
    factory: str | Callable[[], Any],
    out: str | Path | None = None,
    *,
    shapes: Shapes,
    **options: Any,
) -> Exported:
    """Exports a torch module to ONNX.

    Args:
        factory: ``package.module:name`` of a module or of a function that makes one; or the module
            or the function itself. A module is put back into the mode it was in.
        out: the ONNX file; nothing is written where None.
        shapes: of the inputs in order, the batch first: ``"1,3,224,224"``, ``"NAME:1,3,224,224"``,
            with a type after another colon where it is not float32 (``"ids:1,16:int64"``), or the
            numbers; or name -> numbers.
        options: as ``ExportOptions`` names them.

    Raises:
        UsageError: E202, a shape cannot be read; E205, ``out`` has the wrong ending; E250 or E254,
            torch or onnxscript is not installed; E253, the factory gives no module.
        UnsupportedError: E442, torch cannot export the module, or its outputs are no tensors.
        VerifyError: E510, the model does not run or gives other outputs than torch.
        OutputError: E7xx, the file cannot be written.
    """
    chosen = ExportOptions.of(options)
    path = None if out is None else Path(out)
    if path is not None:
        _check_output(path, chosen.force)
    require_torch()
    from prunecvt.bridge.exporters import Job

    with Job.open(factory, _texts(shapes), chosen.seed) as job:
        done = _exported(job, chosen)
    if path is not None:
        write_set(onnx_parts(done.model, path), force=chosen.force)
    return replace(done, path=path)


def _check_output(path: Path, force: bool) -> None:
    if path.suffix != ".onnx":
        raise UsageError(
            "E205",
            f"the output '{path}' does not end in .onnx",
            help="name it like out/model.onnx",
        )
    check_targets([path, weights_file(path)], force=force)


def _texts(shapes: Shapes) -> list[str]:
    """Shapes in the form of the command line."""
    if isinstance(shapes, Mapping):
        return [f"{name}:{','.join(map(str, sizes))}" for name, sizes in shapes.items()]
    each = [shapes] if isinstance(shapes, str) or _is_shape(shapes) else shapes
    return [text if isinstance(text, str) else ",".join(map(str, text)) for text in each]


def _is_shape(shapes: Sequence[Any]) -> bool:
    return bool(shapes) and all(isinstance(size, int) for size in shapes)


def _exported(job: Job, options: ExportOptions) -> Exported:
    """Exports with the wished exporter, or with the first whose model passes the check."""
    if options.exporter != "auto":
        return _made(job, options.exporter, options)
    try:
        return _made(job, "torchscript", options)
    except (UnsupportedError, VerifyError) as error:
        if importlib.util.find_spec("onnxscript") is None:
            raise
        log.info("torchscript: %s %s; trying dynamo", error.message, error.where)
        try:
            return _made(job, "dynamo", options)
        except (UnsupportedError, VerifyError) as second:
            log.info("dynamo: %s %s", second.message, second.where)
            if isinstance(error, VerifyError):  # that one came further
                raise error from second
            raise


def _made(job: Job, exporter: str, options: ExportOptions) -> Exported:
    """Exports with one exporter, and checks what it made."""
    model = _checked_form(_with(job, exporter, options.opset), job.title)
    differences = _compare(job, model, options.rtol)
    norms = sum(node.op_type == "BatchNormalization" for node in model.proto.graph.node)
    return Exported(model, None, exporter, norms, differences)


def _with(job: Job, exporter: str, opset: int | None) -> onnx.ModelProto:
    if exporter == "dynamo" and importlib.util.find_spec("onnxscript") is None:
        raise UsageError(
            "E254",
            "the dynamo exporter needs onnxscript, which is not installed",
            help='pip install "prunecvt[torch]", or use --exporter torchscript',
        )
    version = USUAL_OPSETS[exporter] if opset is None else opset
    return job.torchscript(version) if exporter == "torchscript" else job.dynamo(version)


def _checked_form(proto: onnx.ModelProto, title: str) -> Model:
    """The exported model as others read it: an IR version onnxruntime knows, vectors apart."""
    proto.ir_version = min(proto.ir_version, newest_ir())
    _part_vectors(proto.graph)
    try:
        model = load(proto, allow_nonfinite=True)
    except PrunecvtError as error:
        raise UnsupportedError(
            "E442",
            "what torch exported is no valid model",
            where=f"{title}: {error.code} {error.message}: {error.where}",
            help="try the other exporter with --exporter",
        ) from error
    return Model(model.proto, model.weights, title)


def _part_vectors(graph: onnx.GraphProto) -> None:
    """Gives vectors that the exporter merged for being equal values of their own again.

    It reads the second through an Identity. Before a training all scales are one and all means
    zero; what is equal then is not shared.
    """
    held = {tensor.name: tensor for tensor in graph.initializer}
    taken = set(held)
    for node in list(graph.node):
        source = held.get(node.input[0]) if node.op_type == "Identity" else None
        if source is None or len(source.dims) != 1:
            continue
        name = unused(node.output[0], taken)
        graph.initializer.add().CopyFrom(source)
        graph.initializer[-1].name = name
        graph.node.remove(node)


def _compare(job: Job, model: Model, rtol: float) -> dict[int, oracle.Difference]:
    """Runs torch and onnxruntime at every batch.

    Raises:
        VerifyError: E510.
    """
    found: dict[int, oracle.Difference] = {}
    for batch in BATCHES:
        inputs, expected = job.run(batch)
        made = _run(job, model, inputs, batch)
        wanted = dict(zip(made, expected, strict=False))
        same = len(made) == len(expected) and all(made[k].shape == wanted[k].shape for k in made)
        if not same:
            raise _differing(job, batch, "outputs of other shapes than torch's")
        found[batch] = oracle.difference(wanted, made)
        if not found[batch].relative <= rtol:
            raise _differing(job, batch, f"outputs that differ by {found[batch].relative:.2e}")
    return found


def _run(job: Job, model: Model, inputs: dict[str, Array], batch: int) -> dict[str, Array]:
    try:
        return runtime.run(model, inputs)
    except UnsupportedError as error:
        raise _differing(job, batch, f"no outputs: {error.where}") from error


def _differing(job: Job, batch: int, what: str) -> VerifyError:
    return VerifyError(
        "E510",
        f"the exported model gives {what}",
        where=f"{job.title}: at a batch of {batch}",
        help="try the other exporter with --exporter; a module must not compute with its batch",
    )
