"""Every operator of the bridge's table against onnxruntime, on onnx's own node tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from operator_cases import Case, cases  # noqa: E402
from prunecvt.bridge.module import GraphModule  # noqa: E402
from prunecvt.bridge.operators import OPERATORS  # noqa: E402
from prunecvt.bridge.tensors import array_of  # noqa: E402
from prunecvt_passes import runtime  # noqa: E402
from prunecvt_passes.errors import UnsupportedError  # noqa: E402
from prunecvt_passes.model import Array, Model  # noqa: E402

LEFT_OUT = (
    "training_dropout",  # random in both
    "empty_set",  # torch has no maximum of nothing
    *("uint16", "uint32", "uint64"),  # torch has no kernels for them
)
NO_CASE = {"GlobalLpPool"}  # onnxruntime has no kernel for the opset of its case
REFUSED = {"Cast", "MaxPool", "ScatterND"}  # to 8-bit floats; storage_order; reductions
TOLERANCES = {"float64": 1e-5, "float32": 1e-5, "float16": 2e-3, "bfloat16": 2e-2}


def single_cases() -> dict[str, list[Case]]:
    """The node tests of one node that the table knows and whose inputs torch has types for."""
    found: dict[str, list[Case]] = defaultdict(list)
    for case in cases().values():
        if len(case.operators) == 1 and case.operators[0] in OPERATORS:
            kinds = {value.dtype.name for value in case.inputs.values()}
            plain = not any(name in case.name for name in LEFT_OUT)
            if plain and not kinds & {"object", "uint16", "uint32", "uint64"}:
                found[case.operators[0]].append(case)
    return dict(found)


CASES = single_cases()


def gap(found: Array, expected: Array) -> float:
    """Largest difference, over the scale of what is expected."""
    a, b = found.astype(np.float64), expected.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    finite = np.abs(np.where(np.isfinite(b), b, 0))
    largest = float(finite.max(initial=0))
    return float(np.abs(np.where(same, 0, a - b)).max(initial=0)) / max(largest, 1e-6)


def agree(found: Array, expected: Array) -> bool:
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    if found.dtype.kind in "fV":
        return gap(found, expected) <= TOLERANCES[found.dtype.name]
    return bool(np.array_equal(found, expected))


@pytest.mark.parametrize("operator", sorted(CASES))
def test_operator_computes_what_onnxruntime_does(operator: str) -> None:
    tried = 0
    for case in CASES[operator]:
        model = Model.from_proto(case.model, case.name)
        try:
            expected = runtime.run(model, case.inputs)
        except UnsupportedError:
            continue  # onnxruntime has no kernel for it
        try:
            module = GraphModule(model).eval()
            with torch.no_grad():
                found = module({k: torch.from_numpy(np.array(v)) for k, v in case.inputs.items()})
        except UnsupportedError:
            assert operator in REFUSED, case.name
            continue
        wrong = [k for k, v in expected.items() if not agree(array_of(found[k]), v)]
        assert not wrong, case.name
        tried += 1
    assert tried or operator in NO_CASE


def test_every_operator_of_the_table_has_a_case() -> None:
    assert set(OPERATORS) - CASES.keys() == set()
    assert len(OPERATORS) > 140


def test_strided_kernels_of_one_tap_on_few_channels_train() -> None:
    """oneDNN wrote beyond its memory here, and the process crashed: so in one of its own."""
    code = """if True:
        import numpy as np, torch
        from models import Net
        from prunecvt.bridge import to_module
        from prunecvt_passes.model import Model

        net = Net()
        weight = net.random(22, 6, 1, 1)
        net.output(net.add("Conv", net.input("N", 6, 32, 32), weight, strides=[2, 2]))
        module = to_module(Model.from_proto(net.proto()), train=True)
        module = module.to(memory_format=torch.channels_last)
        (name,) = dict(module.named_parameters())
        own = module.get_parameter(name)
        x = torch.randn(64, 6, 32, 32, generator=torch.Generator().manual_seed(0))
        for _ in range(5):
            given = x.contiguous(memory_format=torch.channels_last).requires_grad_()
            own.grad = None
            module(given).square().sum().backward()
        plain = own.detach().double().contiguous().requires_grad_()
        double = x.double().requires_grad_()
        torch.nn.functional.conv2d(double, plain, stride=2).square().sum().backward()
        assert torch.allclose(own.grad.double(), plain.grad, rtol=1e-4, atol=1e-3)
        assert torch.allclose(given.grad.double(), double.grad, rtol=1e-4, atol=1e-4)
        print("done")
    """
    command = [sys.executable, "-c", code]
    here = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=here)
    assert done.stdout == "done\n", (done.returncode, done.stderr)
