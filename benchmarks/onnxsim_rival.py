"""onnxsim's structured pruning on the trained classifiers' ONNX files."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import onnx
import onnxsim

import trained
from prunecvt_passes.model import Model
from prunecvt_passes.recovery.reach import amount
from rival_case import Case, Way
from trained import Floats32, Ints, _normalised

Batches = list[dict[str, Floats32]]
_BATCH = 32
MOMENTS = "moments of the original"


def ways(case: Case) -> Iterator[Way[onnx.ModelProto]]:
    """Both criteria, each layer alone and all at once.

    The scope is onnxsim's own choice: plain chains, and sums that it sees through (zero-padded
    shortcuts it does not); ranked at once, plain chains only.
    """
    images, name = _normalised(case.pictures), case.dense.graph.inputs[0]
    batches = [{name: images[k : k + _BATCH]} for k in range(0, len(images), _BATCH)]
    original = onnx.load(case.path)
    cuts: dict[str, Callable[..., onnx.ModelProto]] = {
        "L2": onnxsim.apply_structured_pruning_cpp,
        "Wanda": functools.partial(
            onnxsim.apply_structured_wanda_pruning_cpp, calibration_data=batches
        ),
    }
    for criterion, prune in cuts.items():
        for everywhere in (False, True):
            alike = cuts["L2"] if not everywhere else prune
            yield Way(
                ("onnxsim", criterion, f"{'global' if everywhere else 'per layer'}, its own"),
                functools.partial(cut, original, prune, everywhere),
                lambda model: amount(case.dense, _taken(model), "macs", False),
                functools.partial(answers, case),
                {MOMENTS: functools.partial(restored, original, batches)},
                functools.partial(cut, original, alike, everywhere),
            )


def cut(
    original: onnx.ModelProto,
    prune: Callable[..., onnx.ModelProto],
    everywhere: bool,
    ratio: float,
) -> onnx.ModelProto:
    """The model, simplified (BatchNormalization folded) and cut."""
    simplified, _ = onnxsim.simplify(original)
    return prune(simplified, sparsity=ratio, global_sparsity=everywhere)


def answers(case: Case, model: onnx.ModelProto) -> Ints:
    """The class that the model gives each test image."""
    return trained.answers(_taken(model), case.examples.images)


def _taken(model: onnx.ModelProto) -> Model:
    """A copy in our own form: taking a model empties it."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    return Model.take(made, "onnxsim")


def restored(
    original: onnx.ModelProto, batches: Batches, model: onnx.ModelProto
) -> onnx.ModelProto:
    """A BatchNormalization behind each Conv of full width, with the original's mean and variance.

    What onnxsim offers against the loss. Behind a narrower Conv there is no original to match.
    """
    simplified, _ = onnxsim.simplify(original)
    wide, narrow = _widths(simplified), _widths(model)
    whole = [name for name, width in narrow.items() if wide.get(name) == width]
    return onnxsim.recover_batch_norm(
        model, conv_output_names=whole, calibration_data=batches, target_model=simplified
    )


def _widths(model: onnx.ModelProto) -> dict[str, int]:
    sizes = {tensor.name: [*tensor.dims, 0][0] for tensor in model.graph.initializer}
    return {n.output[0]: sizes[n.input[1]] for n in model.graph.node if n.op_type == "Conv"}
