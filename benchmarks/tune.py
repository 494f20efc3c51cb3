"""What distillation wins: slim, tune without labels, and test, for trained CIFAR-10 classifiers."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import onnx

import prunecvt
from prunecvt_passes.model import Model
from trained import Examples, answers, calibration_for, examples_for

MODELS = "cifar10_resnet20.tsbn,cifar10_resnet56.tsbn"


def top1(model: onnx.ModelProto, examples: Examples) -> float:
    found = answers(Model.from_proto(model), examples.images)
    return 100 * float((found == examples.labels).mean())


def row(path: Path, options: argparse.Namespace) -> str:
    """Slims, tunes and tests a model."""
    calib = calibration_for(path, options.shared, options.images)
    examples = examples_for(path, options.shared, 10000)
    if examples is None:
        raise SystemExit(f"there are no test images for {path.name}")
    original = onnx.load(path)
    started = time.process_time()
    slim = prunecvt.slim(
        original,
        target=f"macs={options.macs}",
        calib=calib,
        calib_count=1024,
        round_to=options.round_to,
        fold_bn=not options.no_fold_bn,
        threads=1,
    )
    slimming = time.process_time() - started
    tuned = prunecvt.tune(
        original,
        slim.model,
        calib=calib,
        calib_count=options.images,
        augment=options.augment,
        minutes=options.minutes,
        threads=options.threads,
        hint=options.hint,
        temperature=options.temperature,
        norms=options.norms,
        rate=options.rate,
        optimiser=options.optimiser,
        progress=_told,
    )
    if tuned is None or tuned.report.tune is None:
        raise SystemExit("this process only helps")
    found = tuned.report.tune
    scores = [top1(each, examples) for each in (original, slim.model, tuned.model)]
    agree = [100 * (each.top1_agree or 0.0) for each in (found.before, found.after)]
    cells = [
        path.name.removesuffix(".onnx"),
        f"{slim.report.totals.macs.ratio:.3f}",
        *(f"{score:.2f}" for score in scores),
        f"{found.before.loss:.3f} -> {found.after.loss:.3f}",
        f"{agree[0]:.1f} -> {agree[1]:.1f}",
        f"{found.steps}",
        f"{slimming / 60:.1f}",
        f"{found.minutes:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def _told(what: str, share: float | None = None, left: float | None = None, **more: bool) -> None:
    if more.get("lasting"):
        print(what, flush=True)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--macs", type=float, default=0.5)
    parser.add_argument("--round-to", type=int, default=1)
    parser.add_argument("--no-fold-bn", action="store_true", help="tune with BatchNormalization")
    parser.add_argument("--images", type=int, default=4096, help="to tune on, without labels")
    parser.add_argument("--augment", default="flip,crop")
    parser.add_argument("--minutes", type=float, default=30.0, help="of CPU time, to tune")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--hint", type=float, default=1.0)
    parser.add_argument("--temperature", type=float, default=4.0)
    parser.add_argument("--norms", default="original")
    parser.add_argument("--rate", type=float)
    parser.add_argument("--optimiser", default="adamw")
    options = parser.parse_args()
    rows = [
        row(options.shared / "models" / f"{n}.onnx", options) for n in options.models.split(",")
    ]
    print("| model | MACs left | dense | slimmed | tuned | divergence | agreement | steps ", end="")
    print("| CPU min slim | CPU min tune |")
    print("|---|--:|--:|--:|--:|---|---|--:|--:|--:|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
