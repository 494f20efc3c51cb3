"""Holds what was trained against what is written."""

from __future__ import annotations

import torch

from prunecvt.bridge.module import GraphModule
from prunecvt.calibration.feeds import Feed
from prunecvt.errors import VerifyError
from prunecvt_passes import oracle, runtime
from prunecvt_passes.graph import DEFAULT_DOMAINS
from prunecvt_passes.model import Model
from prunecvt_passes.precision import feed_in_single


def check_only_weights_changed(before: Model, after: Model) -> None:
    """Holds that two models are the same but for the values of their constants.

    Raises:
        VerifyError: E512, they are not.
    """
    if _bare(before) == _bare(after) and _shapes(before) == _shapes(after):
        return
    raise VerifyError(
        "E512",
        "tuning changed more than weights",
        where=after.source,
        help="this is a bug in prunecvt: please report it",
    )


def check_torch(model: Model, feed: Feed, rtol: float, trained: bool = True) -> float:
    """Runs a model in onnxruntime and in torch, where it is trained; half precision in float32.

    Args:
        model: what to run.
        feed: its inputs.
        rtol: how far the outputs may be apart.
        trained: whether its weights are those that training made, or those that were given.

    Returns:
        The largest difference, relative to each output's peak.

    Raises:
        VerifyError: E511, it is more than ``rtol``.
    """
    single = runtime.comparable(model)
    if single is not model:
        model, feed = single, feed_in_single(feed)
    with torch.no_grad():
        module = GraphModule(model).eval()
        made = module({name: torch.from_numpy(values) for name, values in feed.items()})
    expected = {name: values.numpy() for name, values in made.items()}
    gap = oracle.difference(expected, runtime.run(model, feed)).relative
    if gap > rtol:
        kind = "tuned" if trained else "slimmed"
        raise VerifyError(
            "E511",
            f"onnxruntime gives other outputs of the {kind} model than torch: "
            f"they differ by {gap:.2e}",
            where=f"{model.source}: more than {rtol:.0e}",
            help="allow more with --rtol and --resume, and please report it"
            if trained
            else "it was not trained yet; it is sensitive to rounding: allow more with --rtol",
        )
    return gap


def _bare(model: Model) -> bytes:
    proto = type(model.proto)()
    proto.CopyFrom(model.proto)
    for node in proto.graph.node:
        if node.op_type == "Constant" and node.domain in DEFAULT_DOMAINS:
            for attribute in node.attribute:
                dims, kind = list(attribute.t.dims), attribute.t.data_type
                attribute.ClearField("t")
                attribute.ClearField("f")
                attribute.doc_string = f"{kind} {dims} {len(attribute.floats)}"
                attribute.ClearField("floats")
    for tensor in proto.graph.initializer:
        name = tensor.name
        tensor.Clear()
        tensor.name = name
    return bytes(proto.SerializeToString(deterministic=True))


def _shapes(model: Model) -> dict[str, tuple[object, ...]]:
    return {name: (values.shape, values.dtype) for name, values in model.weights.items()}
