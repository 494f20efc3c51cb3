"""Are two nets connected that differ in the order of samples from step k on? (Frankle et al., 2020)

    python benchmarks/recipe_connectivity.py --data digits
    python benchmarks/recipe_connectivity.py --shared ../shared --device cuda

A ResNet with BatchNormalization; the barrier is the highest test error on the straight line between
two ends of training, above the mean of both ends. Statistics of BatchNormalization on the line are
interpolated like the weights, or estimated anew on training images.
"""

from __future__ import annotations

from mask_recipes import Setting, asked, compare, mean, spread, table, verdict
from prunecvt.bridge.methods.connectivity import along_line, barrier, branches
from prunecvt.bridge.methods.training import Checkpoints, Training
from prunecvt.bridge.module import GraphModule

RATE = 0.1
POINTS = 11
SHARES = (0.0, 0.1, 0.5)  # of training, at which the two runs part
Barriers = dict[tuple[str, float], list[float]]  # of a net's statistics and a share


def measure(
    setting: Setting, module: GraphModule, training: Training, share: float, found: Barriers
) -> None:
    """Barriers of a pair of runs that part at a share of training."""
    first = int(share * training.schedule.steps)
    early = Checkpoints(module, {first})
    training.run(module, early, last=first)
    seeds = [100 * training.schedule.seed + copy for copy in (1, 2)]
    start = early.states[first]
    left, right = branches(module, training, start, first, seeds)
    for way, images in (("interpolated", None), ("estimated anew", training.examples.images)):
        errors = along_line(
            module,
            (left, right),
            lambda net: 100 - setting.score(net),
            points=POINTS,
            images=None if images is None else images[:500],
        )
        found.setdefault((way, share), []).append(barrier(errors))
        ends = found.setdefault((f"error at the ends, {way}", share), [])
        ends.append((errors[0] + errors[-1]) / 2)


def main() -> None:
    options = asked(__doc__, 8, 12)
    setting, found = options.setting, Barriers()
    for seed in setting.seeds:
        for share in SHARES:
            module = setting.module(setting.normed, seed, "he")
            training = setting.training(RATE, seed, warmup=0.05)
            measure(setting, module, training, share, found)
    heads = ("barrier, percent points", *(f"part at {share:.0%}" for share in SHARES))
    ways = dict.fromkeys(way for way, _ in found)
    table(heads, [(way, *(spread(found[way, share]) for share in SHARES)) for way in ways])
    for way in ("interpolated", "estimated anew"):
        at_start, late = (mean(found[way, share]) for share in (SHARES[0], SHARES[-1]))
        title = f"statistics {way}"
        verdict(
            f"{title}: a barrier (> 5) between runs that part at the start", at_start > 5, options
        )
        start, end = (found[way, share] for share in (SHARES[0], SHARES[-1]))
        compare(f"{title}: the barrier falls where they part late", start, end, options)
        verdict(f"{title}: none (< 2) where they part late", late < 2, options)


if __name__ == "__main__":
    main()
