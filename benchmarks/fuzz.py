"""Cuts random networks at random and checks each against the oracle; shrinks what fails.

    python benchmarks/fuzz.py --count 20000 --jobs 2 > docs/fuzz.md
    python benchmarks/fuzz.py --again fuzz_failures/wrong-17.json

Network n is grown from seed S + n: the same seeds always give the same networks, cuts and verdicts,
however many jobs share them. Differences that float32 cannot decide are decided in float64 by
onnx's reference implementation. Every failure is shrunk and kept as an .onnx file with the choices
it was grown from. Exits 1 if anything failed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from networks import grow
from networks.choices import Genome, random_genome, shrink
from networks.trial import UnrunnableError, WrongCutError, check, features

PAGE = """# Generated networks

Written by `python benchmarks/fuzz.py --count {count} --seed {first}`. Networks are composed at
random of all rules and cut at random: criterion, scope, ratio, rounding and units vary. Each is
checked against the oracle (1e-5 in float32; what differs by more is decided in float64 by onnx's
reference implementation), at batches of one and three, by onnx's checker, for its inputs and
outputs, and its plan is replayed to the same bytes. Below: in how many networks an operator or a
structure stood, and in how many of these channels were cut.
"""
SECONDS = 60  # for one network; what takes longer hangs
CHUNK = 20
SHRUNK = 20  # failures that are shrunk; the others are only counted


@dataclass(frozen=True)
class Fate:
    """What became of one network: passed, wrong, crashed or unrunnable, and why."""

    verdict: str
    reason: str = ""
    found: dict[str, bool] = field(default_factory=dict)
    cut: bool = False
    doubted: int = 0
    undecided: int = 0

    @property
    def failed(self) -> bool:
        return self.verdict in ("wrong", "crashed")

    @property
    def kind(self) -> str:
        """What shrinking must not change: where it went wrong, without names and numbers."""
        return f"{self.verdict} {self.reason.split(':')[0]}"


def _expired(*_: object) -> None:
    raise TimeoutError(f"it took more than {SECONDS} s")


def tried(genome: Genome) -> Fate:
    """Grows, cuts and checks one network; whatever goes wrong is a verdict."""
    signal.signal(signal.SIGALRM, _expired)
    signal.alarm(SECONDS)
    try:
        grown = grow(genome)
        passed = check(grown)
        cut = bool(passed.removal.removed.any())
        found = features(grown, passed)
        return Fate("passed", "", found, cut, passed.doubted, passed.undecided)
    except WrongCutError as error:
        return Fate("wrong", str(error))
    except UnrunnableError as error:
        return Fate("unrunnable", str(error))
    except Exception as error:
        return Fate("crashed", f"{type(error).__name__}: {error}")
    finally:
        signal.alarm(0)


def tried_seeds(seeds: range) -> list[tuple[int, Fate]]:
    return [(seed, tried(random_genome(seed))) for seed in seeds]


def fates(first: int, count: int, jobs: int) -> Iterator[tuple[int, Fate]]:
    """The fate of every seed, in order."""
    end = first + count
    chunks = [range(start, min(start + CHUNK, end)) for start in range(first, end, CHUNK)]
    if jobs == 1:
        for chunk in chunks:
            yield from tried_seeds(chunk)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        for results in pool.map(tried_seeds, chunks):
            yield from results


def kept(seed: int, fate: Fate, genome: Genome, folder: Path) -> str:
    """Shrinks a failure and writes it down; returns the line that reproduces it."""

    def fails(candidate: Genome) -> Genome | None:
        again = tried(candidate)
        if again.kind != fate.kind:
            return None
        try:
            return grow(candidate).genome
        except Exception:  # a network that cannot even be grown is as small as its choices
            return candidate

    small = shrink(genome, fails)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{fate.verdict}-{seed}.json"
    document = {"seed": seed, "reason": tried(small).reason, "genome": small}
    path.write_text(json.dumps(document) + "\n")
    try:
        onnx.save(grow(small).proto, str(path.with_suffix(".onnx")))
    except Exception as error:
        print(f"  the network cannot be written: {error}")
    return f"python benchmarks/fuzz.py --again {path}"


def table(fate_of: list[tuple[int, Fate]]) -> Iterator[str]:
    """Lines: how many networks had a feature, and in how many it lost channels."""
    met: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    for _, fate in fate_of:
        met.update(fate.found.keys())
        lost.update(name for name, cut in fate.found.items() if cut)
    yield f"{'networks':>9} {'cut':>7}  with"
    for name, count in sorted(met.items(), key=lambda pair: (" " in pair[0], -pair[1], pair[0])):
        yield f"{count:9,} {lost[name]:7,}  {name}"


def summary(fate_of: list[tuple[int, Fate]], seconds: float) -> str:
    verdicts = Counter(fate.verdict for _, fate in fate_of)
    cut, doubted, undecided = (
        sum(int(getattr(fate, name)) for _, fate in fate_of)
        for name in ("cut", "doubted", "undecided")
    )
    return (
        f"{len(fate_of):,} networks in {seconds:.0f} s ({len(fate_of) / seconds:.1f}/s): "
        f"{verdicts['passed']:,} passed ({cut:,} cut), {verdicts['wrong']} wrong, "
        f"{verdicts['crashed']} crashed, {verdicts['unrunnable']} that onnxruntime does not run; "
        f"{doubted} comparisons went to float64, {undecided} of them undecided"
    )


def run(count: int, first: int, jobs: int, folder: Path) -> int:
    """Runs and reports; returns the number of failures."""
    start, seen, failures = time.perf_counter(), [], []
    for seed, fate in fates(first, count, jobs):
        seen.append((seed, fate))
        if fate.failed:
            failures.append((seed, fate))
            told(f"seed {seed} {fate.verdict}: {fate.reason[:300]}")
        if len(seen) % 1000 == 0:
            told(summary(seen, time.perf_counter() - start))
    print(PAGE.format(count=count, first=first))
    print(summary(seen, time.perf_counter() - start))
    for seed, fate in failures[:SHRUNK]:
        print(kept(seed, fate, random_genome(seed), folder), flush=True)
    print("\n```")
    for line in table(seen):
        print(line)
    print("```", flush=True)
    return len(failures)


def told(text: str) -> None:
    """Progress, beside the page on stdout."""
    sys.stderr.write(f"{text}\n")


def parsed(arguments: list[str] | None = None) -> Any:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1000, help="networks")
    parser.add_argument("--seed", type=int, default=0, help="of the first network")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--keep", type=Path, default=Path("fuzz_failures"), help="for failures")
    parser.add_argument("--again", type=Path, help="one failure that was kept")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parsed(arguments)
    if options.again:
        fate = tried(json.loads(options.again.read_text())["genome"])
        print(f"{fate.verdict} {fate.reason}")
        return int(fate.failed)
    return int(run(options.count, options.seed, options.jobs, options.keep) > 0)


if __name__ == "__main__":
    sys.exit(main())
