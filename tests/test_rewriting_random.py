"""Clean-ups before writing, on random chains of what picks, computes and contracts."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest

from models import Net
from prunecvt_passes import oracle, runtime
from prunecvt_passes.model import Model
from prunecvt_passes.normalise import Source, normalise
from prunecvt_passes.rewriting.rewrite import Cleaning, Rewritten, rewrite
from prunecvt_passes.samples import random_inputs
from test_rewriting import END, pad, slice_

SEEDS = 150
FUNCTIONS = ("Relu", "Sigmoid", "Abs", "Neg", "Tanh", "Softplus")  # none that overflows


class Grown:
    """A random network of one tensor ``x`` of ``channels``, now and then read twice."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.net = Net(int(self.rng.choice([9, 11, 13, 17, 18])), seed)
        self.channels = int(self.rng.integers(2, 7))
        rows = int(self.rng.integers(4, 7))
        self.rows = [rows, "W" if self.rng.random() < 0.3 else rows + 1]
        self.x = self.net.input("N", self.channels, *self.rows)
        for _ in range(int(self.rng.integers(2, 9))):
            step = self.rng.choice([self.gather, self.cut, self.pad, self.function, self.scale])
            (self.conv if self.rng.random() < 0.25 else step)()
            if self.rng.random() < 0.1:
                self.net.output(self.net.add("GlobalMaxPool", self.x), shape=[None] * 4)
            if self.rng.random() < 0.1:
                self.net.output(self.x, shape=[None] * 4)
        self.conv()
        self.net.output(self.x, shape=[None] * 4)

    def conv(self) -> None:
        made = int(self.rng.integers(2, 7))
        if self.rng.random() < 0.3:  # a block with what came before beside it
            y, before = self.net.conv(self.x, self.channels, self.channels + 2), self.x
            x = pad(self.net, before, [0, 1, 0, 0, 0, 1, 0, 0])
            self.x, self.channels = self.net.add("Add", y, x), self.channels + 2
            return
        self.x, self.channels = self.net.conv(self.x, self.channels, made), made

    def gather(self) -> None:
        if self.rng.random() < 0.7:
            places = self.rng.permutation(self.channels)
        else:
            places = self.rng.integers(-self.channels, self.channels, self.rng.integers(1, 6))
        self.x = self.net.add("Gather", self.x, places, axis=1)
        self.channels = len(places)

    def cut(self) -> None:
        steps = (1, 2, -1) if self.net.opset >= 10 else (1,)
        axis, step = int(self.rng.choice([1, 2, 3])), int(self.rng.choice(steps))
        start, end = (-1, -END) if step < 0 else (0, END)
        if axis == 1:
            start = start if self.rng.random() < 0.5 else self.channels // 2
            self.channels = len(range(*slice(start, end, step).indices(self.channels)))
        bounds = {"starts": (start,), "ends": (end,), "axes": (axis,)}
        if self.net.opset >= 10:
            bounds["steps"] = (step,)
        self.x = slice_(self.net, self.x, **bounds)

    def pad(self) -> None:
        before, after = (int(n) for n in self.rng.integers(0, 3, 2))
        value = float(self.rng.choice([0.0, 0.0, 1.0]))
        self.x = pad(self.net, self.x, [0, before, 0, 0, 0, after, 0, 0], value)
        self.channels += before + after

    def function(self) -> None:
        self.x = self.net.add(str(self.rng.choice(FUNCTIONS)), self.x)

    def scale(self) -> None:
        shape = [(self.channels, 1, 1), (1, self.channels, 1, 1), (1, 1, 1), ()]
        constant = self.net.positive(*shape[int(self.rng.integers(4))])
        kind = str(self.rng.choice(["Add", "Sub", "Mul", "Div"]))
        first = kind == "Div" or self.rng.random() < 0.7
        self.x = self.net.add(kind, *((self.x, constant) if first else (constant, self.x)))


def cleaned(seed: int) -> Rewritten:
    """Cleans a network up, and asserts that it gives the same at several sizes."""
    model = Model.from_proto(Grown(seed).net.proto())
    dense = normalise(Source(model))
    found = rewrite(dense, dense.graph.model, Cleaning())
    onnx.checker.check_model(found.model.to_proto(), full_check=True)
    for batch, more in ((1, 0), (3, 2)):
        sizes = {"x": tuple(dense.sizes["x"])}
        dims = model.proto.graph.input[0].type.tensor_type.shape.dim
        sizes["x"] = (batch, *sizes["x"][1:3], sizes["x"][3] + (more if dims[3].dim_param else 0))
        inputs = random_inputs(model, sizes, seed)
        gap = oracle.difference(runtime.run(model, inputs), runtime.run(found.model, inputs))
        assert gap.relative < 1e-5
    return found


@pytest.mark.parametrize("part", range(10))
def test_random_chains_give_the_same(part: int) -> None:
    for seed in range(part, SEEDS, 10):
        cleaned(seed)


def test_every_rule_is_met() -> None:
    counts: Counter[str] = Counter()
    for seed in range(60):
        counts.update({done.rule: len(done.nodes) for done in cleaned(seed).done})
    assert len(+counts) == 5
    assert min(counts.values()) >= 3
