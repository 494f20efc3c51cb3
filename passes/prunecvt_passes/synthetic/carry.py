"""Carries what was fitted on the matched model back to the real one.

A folded weight is W gamma / sigma, row by row: real and matched rows differ by one factor each. A
fit that takes a matched row w to w' and its bias b to b' takes the real row f w to f w', and its
bias to b_real + f (b' - b).
"""

from __future__ import annotations

import numpy as np

from prunecvt_passes.graph import Graph, index
from prunecvt_passes.model import Model
from prunecvt_passes.recovery.aim import Aim, aim_of, bias_values
from prunecvt_passes.recovery.edit import matrix_of, set_bias, set_matrix
from prunecvt_passes.recovery.linear import linear_nodes
from prunecvt_passes.recovery.normal import Floats


def carry_back(real: Graph, matched: Graph, fitted: Graph) -> Model:
    """Returns the real model with the changes that a fit made to the matched one.

    Args:
        real, matched: the cut models, alike but for the statistics; with shapes.
        fitted: ``matched`` after the fit.
    """
    found = index(real.model.copy(), real.shapes)
    before = {linear.weight: aim_of(matched, linear) for linear in linear_nodes(matched)}
    after = {linear.weight: aim_of(fitted, linear) for linear in linear_nodes(fitted)}
    for linear in linear_nodes(found):
        if linear.weight not in before or linear.weight not in after:
            continue
        aim, old, new = aim_of(found, linear), before[linear.weight], after[linear.weight]
        factor = _factors(matrix_of(found, aim), matrix_of(matched, old))
        if fitted.model.weights[linear.weight] is not matched.model.weights[linear.weight]:
            set_matrix(found, aim, matrix_of(fitted, new) * factor[..., None])
        shift = _bias(fitted, new, factor) - _bias(matched, old, factor)
        if shift.any():
            set_bias(found, aim, (_bias(found, aim, factor) + factor * shift).ravel())
    return found.model


def _factors(real: Floats, matched: Floats) -> Floats:
    """[g, o]: what each matched row is multiplied by to be the real one; 1 for rows of zeros."""
    squares = np.einsum("god,god->go", matched, matched)
    products = np.einsum("god,god->go", real, matched)
    return np.where(squares > 0, products / np.where(squares > 0, squares, 1.0), 1.0)


def _bias(graph: Graph, aim: Aim, like: Floats) -> Floats:
    values = bias_values(graph, aim)
    if values is None:
        return np.zeros_like(like)
    return np.broadcast_to(values.astype(np.float64), like.size).reshape(like.shape)
