"""Top-1 and top-5 of the original and of the slimmed model, on the same samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prunecvt.calibration.source import Calibration, data_name
from prunecvt.errors import UsageError
from prunecvt.evaluation.intervals import paired_difference, wilson
from prunecvt.evaluation.labels import labelled_feeds
from prunecvt.report.schema import Accuracy, TopK
from prunecvt_passes import runtime
from prunecvt_passes.model import Array, Model
from prunecvt_passes.normalise import Source
from prunecvt_passes.samples import dimensions

Hits = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class EvaluationRequest:
    """The labelled data to judge on."""

    source: Calibration


def measure_accuracy(source: Source, model: Model, request: EvaluationRequest) -> Accuracy:
    """Runs original and slimmed model over labelled data, batch by batch.

    Raises:
        UsageError: E230 to E238, the data cannot be read or does not fit; E239, no output of the
            model gives scores of classes.
    """
    output = _scores_output(source.model)
    data = labelled_feeds(source.model, request.source)
    opened = [runtime.session(runtime.comparable(each)) for each in (source.model, model)]
    ranks: list[list[npt.NDArray[np.int64]]] = [[], []]
    start = classes = 0
    for feed in data.feeds:
        for found, session in zip(ranks, opened, strict=True):
            given = runtime.run_session(session, feed, [output], source.model.source)[output]
            scores = given.reshape(len(given), -1)
            labels = data.labels[start : start + len(scores)]
            classes = scores.shape[1]
            _check(labels, len(scores), classes, request)
            found.append(_rank(scores, labels))
        start += len(labels)
    before, after = (np.concatenate(found) for found in ranks)
    return Accuracy(
        data=data_name(request.source.data) or "",
        samples=before.size,
        classes=classes,
        preprocessing=data.feeds.preprocessing,
        top1=_top(before, after, 1),
        top5=_top(before, after, 5) if classes > 5 else None,
        notes=list(data.feeds.notes),
    )


def check_evaluation(source: Source, request: EvaluationRequest) -> None:
    """Reads labelled data and runs the original on the first batch, so that what fails does so
    before hours of work.

    Raises:
        UsageError: E230 to E239, as ``measure_accuracy`` does.
    """
    output = _scores_output(source.model)
    data = labelled_feeds(source.model, request.source)
    opened = runtime.session(runtime.comparable(source.model))
    feed = data.feeds[0]
    given = runtime.run_session(opened, feed, [output], source.model.source)[output]
    scores = given.reshape(len(given), -1)
    _check(data.labels[: len(scores)], len(scores), scores.shape[1], request)
    _check(data.labels, len(data.labels), scores.shape[1], request)


def _scores_output(model: Model) -> str:
    """The first output of [samples, classes], with axes of one after that or none."""
    for value in model.proto.graph.output:
        dims = dimensions(value) or ()
        floats = value.type.tensor_type.elem_type in (1, 10, 11, 16)
        wide = len(dims) >= 2 and dims[1] != 1
        if floats and wide and all(dim == 1 for dim in dims[2:]):
            return str(value.name)
    shapes = "; ".join(f"{v.name} {list(dimensions(v) or ())}" for v in model.proto.graph.output)
    raise UsageError(
        "E239",
        "accuracy needs an output of [samples, classes]",
        where=f"{model.source}: {shapes}",
        help="leave --eval out: drift is measured on --calib",
    )


def _check(labels: Array, rows: int, classes: int, request: EvaluationRequest) -> None:
    if len(labels) == rows and labels.max(initial=0) < classes:
        return
    raise UsageError(
        "E238",
        f"labelled data: class {labels.max(initial=0)} is out of range, the model has {classes}"
        if len(labels) == rows
        else f"labelled data: the model gives {rows} rows for {len(labels)} samples",
        where=data_name(request.source.data) or "",
        help="number the classes from 0, in the order of the model's output",
    )


def _rank(scores: Array, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Place of each sample's class among its scores, 0 the best; ties go to the lower class.

    Args:
        scores: [samples, classes]; a sample with a NaN has its class last.
        labels: [samples].
    """
    own = np.take_along_axis(scores, labels[:, None], 1)
    lower = np.arange(scores.shape[1]) < labels[:, None]
    ranks: npt.NDArray[np.int64] = ((scores > own) | ((scores == own) & lower)).sum(1)
    ranks[np.isnan(scores).any(1)] = scores.shape[1]
    return ranks


def _top(before: npt.NDArray[np.int64], after: npt.NDArray[np.int64], k: int) -> TopK:
    first, second = before < k, after < k
    return TopK(
        before=float(first.mean()),
        after=float(second.mean()),
        before_ci95=wilson(float(first.mean()), first.size),
        after_ci95=wilson(float(second.mean()), second.size),
        change_ci95=paired_difference(first, second),
    )
