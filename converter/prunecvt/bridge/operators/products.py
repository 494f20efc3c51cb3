"""Products of matrices."""

from __future__ import annotations

import torch
from torch import Tensor

from prunecvt.bridge.operators.step import Step, Values, given


def gemm(step: Step, values: Values) -> Tensor:
    """Gemm: alpha A B + beta C."""
    left = values[0].T if step.get("transA", 0) else values[0]
    right = values[1].T if step.get("transB", 0) else values[1]
    alpha, beta, bias = step.get("alpha", 1.0), step.get("beta", 1.0), given(values, 2)
    if bias is not None and alpha == beta == 1.0:
        return torch.addmm(bias, left, right)
    made = left @ right
    made = made if alpha == 1.0 else made * alpha
    return made if bias is None else made + bias * beta


def matmul(step: Step, values: Values) -> Tensor:
    """MatMul."""
    return torch.matmul(values[0], values[1])


def einsum(step: Step, values: Values) -> Tensor:
    """Einsum."""
    return torch.einsum(step.attributes["equation"].replace(" ", ""), *values)
